"""The vocabulary of definitions."""
