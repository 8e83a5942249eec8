"""Moves one instance in memory. No I/O, no clock. ``machine.py`` is the front; each other file is one topic."""
