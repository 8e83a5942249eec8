"""What a definition compiles to."""
