"""What the policy node says about itself: status, diagnostics, logs."""
