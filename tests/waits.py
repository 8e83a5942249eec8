"""Picks a wait, or a teardown, of a certain class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from workflow_core.wait_types import AnyTeardown, AnyWait, TimedWait

T = TypeVar("T")


def the(wanted: type[T], waits: Iterable[AnyWait | AnyTeardown]) -> T:
    """The only one of that class."""
    (found,) = [wait for wait in waits if isinstance(wait, wanted)]
    return found


def timed(waits: Iterable[AnyWait]) -> TimedWait:
    """The only one that has a deadline."""
    return the(TimedWait, waits)
