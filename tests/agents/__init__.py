"""Tests of the adapters of agent libraries."""
