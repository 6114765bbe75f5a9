"""Command line: `efficientvla demo | record | train | evaluate | benchmark`."""
