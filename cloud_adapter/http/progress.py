"""Derives the progress of an instance through its definition from its history. Loads no instance."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_adapter.document import Instance
from cloud_adapter.history import HistoryEntry, HistoryKind
from workflow_core.diagrams.live import Live, Place, look
from workflow_core.program.program import Program

_EVENTS = (HistoryKind.EVENT, HistoryKind.EVENT_FAILED)

_OF_STATEMENTS = frozenset(
    (
        *_EVENTS,
        HistoryKind.TIMEOUT,
        HistoryKind.STEP,
        HistoryKind.STEP_FAILED,
        HistoryKind.ACTIVITY,
        HistoryKind.ACTIVITY_FAILED,
        HistoryKind.CHILD,
        HistoryKind.CHILD_FAILED,
    )
)
"""The kinds of entries that show the progress of an instance."""


def live(program: Program, instance: Instance) -> Live:
    """Returns the live state of an instance on its definition, with the progress that its history contains."""
    passed, errors = progress(program, instance.history)
    return look(program, instance.execution, passed, errors)


def progress(program: Program, history: Iterable[HistoryEntry]) -> tuple[set[Place], dict[Place, str]]:
    """Returns the places that were completed, and the errors of places that failed and were not completed later."""
    passed: set[Place] = set()
    errors: dict[Place, str] = {}
    for entry in history:
        kind = entry.kind
        if not isinstance(kind, HistoryKind) or kind not in _OF_STATEMENTS:
            continue
        place = _event(program, entry) if kind in _EVENTS else entry.statement
        if place is None:
            continue
        if kind.failed:
            errors[place] = entry.error
        else:
            passed.add(place)
            errors.pop(place, None)
    return passed, errors


def _event(program: Program, entry: HistoryEntry) -> Place | None:
    """The case of an event; None if several selects have it, and an older release did not record which one it was."""
    selects = [select for select, _ in program.events.get(entry.statement, ())]
    if entry.select in selects:
        return (entry.select, entry.statement)
    return (selects[0], entry.statement) if len(selects) == 1 and not entry.select else None
