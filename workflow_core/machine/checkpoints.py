"""The kinds of transitions that callers of ``resume`` see. The state may be saved after each of them."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CheckpointKind(StrEnum):
    """A kind of transition. ``resume`` passes it to its checkpoint callback."""

    RESUME = "resume"
    """A thread was started or restarted, and came to rest."""
    CONDITION = "condition"
    """A thread moved on because its condition became true or its branches ended."""
    TEARDOWN = "teardown"
    SETUP = "setup"
    EVENT = "event"
    """A buffered event was delivered."""
    ACTIVITY = "activity"
    """An activity was run by the caller itself."""
    STEP = "step"
    TELL = "tell"
    """The parent was notified that the instance has ended."""


Checkpoint = Callable[[CheckpointKind], object]
"""Called each time the state should be saved."""
