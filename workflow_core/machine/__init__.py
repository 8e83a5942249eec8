"""Moves one instance in memory, without I/O and without a clock. ``machine.py`` contains the class that callers use;
each other file covers one topic."""
