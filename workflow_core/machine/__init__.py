"""Moves one instance in memory. No I/O, no clock."""
