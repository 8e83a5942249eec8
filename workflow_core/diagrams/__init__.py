"""Draws programs, and the positions of instances in them."""
