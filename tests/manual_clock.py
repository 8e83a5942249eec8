"""The clock of the tests."""

from gorchestrate.testing.clock import START, ManualClock

__all__ = ["START", "ManualClock"]
