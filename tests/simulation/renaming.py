"""Names that change from revision to revision, and what they are called in the model.

Revision 1 has other names for steps, waits, timeouts and activities than revision 0, and revision 2 has others again. A
deployment replaces the processes one after another, so two revisions run side by side. The model knows the first names
only: whatever it is told is translated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.history import HistoryEntry
from tests.simulation.acts import Act
from workflow_core import (
    Activity,
    Child,
    Do,
    Done,
    Execution,
    Fail,
    If,
    On,
    Section,
    Select,
    Sleep,
    Statement,
    Step,
    Timeout,
    Try,
    WaitFor,
    When,
)
from workflow_core.statements.control import Branch, Case, Default
from workflow_core.statements.failures import Except

NEW = "new "
"""What a revision puts before the names of the one before it."""

RENAMED = (Step, Do, Select, WaitFor, Sleep, Activity, Fail, Timeout, Try, Except, If)
"""Not what threads and children are named after: the model computes their ids from the names."""

_NODES = (Statement, On, Timeout, When, Done, Except, Branch, Case, Default)


def renamed(definition: Section, times: int) -> Section:
    """The same definition with other names, that knows all former ones."""
    for _ in range(times):
        definition = _renamed(definition)
    return definition


def _renamed(node: Any) -> Any:
    if isinstance(node, tuple):
        return tuple(_renamed(one) for one in node)
    if not isinstance(node, _NODES) or not is_dataclass(node) or isinstance(node, Child):
        return node
    changed = {one.name: _renamed(getattr(node, one.name)) for one in fields(node)}
    if isinstance(node, RENAMED) and "renamed_from" in changed:
        changed |= {"renamed_from": (changed["name"], *changed["renamed_from"]), "name": NEW + changed["name"]}
    if isinstance(node, (Section, Except, Branch)):
        return replace(node, **changed)
    other = object.__new__(type(node))
    for name, value in changed.items():
        object.__setattr__(other, name, value)
    return other


def first_name(text: str) -> str:
    return text.replace(NEW, "")


def translated(instance: Instance) -> Instance:
    """The instance by its first names."""
    return replace(
        instance,
        execution=Execution.from_json(first_name(instance.execution.to_json())),
        fields=first_name(instance.fields),
        entries=tuple(map(_translated_entry, instance.history)),
    )


def translated_acts(acts: Sequence[Act]) -> list[Act]:
    """The acts by the first names of what they are about."""
    return [
        replace(
            act,
            entry=act.entry and _translated_entry(act.entry),
            attempt=act.attempt and (act.attempt[0], first_name(act.attempt[1]), act.attempt[2]),
        )
        for act in acts
    ]


def _translated_entry(entry: HistoryEntry) -> HistoryEntry:
    return replace(
        entry, statement=first_name(entry.statement), select=first_name(entry.select), error=first_name(entry.error)
    )
