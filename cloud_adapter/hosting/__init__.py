"""Assembles an engine, a store, a queue and the HTTP application, and runs them."""
