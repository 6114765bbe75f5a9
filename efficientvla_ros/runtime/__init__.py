"""The engine: an observation in, an action chunk out."""
