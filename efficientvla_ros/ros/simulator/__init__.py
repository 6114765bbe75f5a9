"""The simulated table top and the mock robot as nodes."""
