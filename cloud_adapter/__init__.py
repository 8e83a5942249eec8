"""Runs workflows: the engine, its ports and their adapters, the HTTP application and the command line."""
