"""Draws programs, and where an instance stands in one."""
