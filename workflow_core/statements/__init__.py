"""The statements of definitions."""
