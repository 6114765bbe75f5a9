"""Networks as the checkpoints hold them, and what surrounds them: images, text, statistics."""
