"""Tests of plain definitions: ``async def run``."""
