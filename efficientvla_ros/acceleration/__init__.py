"""What makes the policies faster, and the arithmetic of what they cost."""
