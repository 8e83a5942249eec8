"""Puts an engine, a store, a queue and the HTTP application together, and runs them."""
