"""Input of every kind, against the running application."""
