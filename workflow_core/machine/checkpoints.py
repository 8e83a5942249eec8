"""The kinds of transitions, as callers of ``resume`` see them. The state may be saved after each of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CheckpointKind(StrEnum):
    """A kind of transition: what is due, and what ``resume`` tells its checkpoint callback was done."""

    RESUME = "resume"
    """A thread was started, or started anew, and came to rest."""
    CONDITION = "condition"
    """A thread waited for a condition that holds now, or for threads that have ended, and moved on."""
    TEARDOWN = "teardown"
    SETUP = "setup"
    EVENT = "event"
    """An event that was buffered was delivered."""
    ACTIVITY = "activity"
    """An activity was run, by a caller that has nobody else to run it."""
    STEP = "step"
    TELL = "tell"
    """The parent of an instance that has ended was told."""


Checkpoint = Callable[[CheckpointKind], object]
"""Called each time the state should be saved."""
