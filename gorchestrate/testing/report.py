"""Describes where the instances of an environment stand, for the report of a failed test."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from gorchestrate.testing.instances import InstanceHandle
from workflow_core import Status, Workflow
from workflow_core.execution import Thread

ENTRIES_SHOWN = 8
INSTANCES_SHOWN = 10


def describe(instances: Iterable[InstanceHandle[Any]], now: datetime) -> str:
    """Returns a text with each instance: its status, its error, its fields, where it stands and what happened last.
    Failed instances come first, then those whose steps are retried. It never raises: a test has failed already."""
    try:
        handles = sorted(instances, key=_urgency)
        texts = [_shown(handle) for handle in handles[:INSTANCES_SHOWN]]
    except Exception as error:
        return f"the instances cannot be shown: {type(error).__name__}: {error}"
    if len(handles) > INSTANCES_SHOWN:
        texts.append(f"and {len(handles) - INSTANCES_SHOWN} more")
    return "\n".join([f"{now:%Y-%m-%d %H:%M:%S} UTC", *texts]) if handles else ""


def _urgency(handle: InstanceHandle[Workflow]) -> int:
    try:
        execution = handle.execution
    except Exception:
        return 0
    if execution.status == Status.FAILED:
        return 0
    return 1 if any(map(_tries, execution.threads)) else 2


def _shown(handle: InstanceHandle[Workflow]) -> str:
    lines = []
    for describe_part in (_state, _accepted, _fields, _history):
        try:
            lines += describe_part(handle)
        except Exception as error:  # for example, its fields do not fit the code
            lines.append(f"{_name(handle)} cannot be shown: {type(error).__name__}: {error}")
    return "\n  ".join(lines)


def _name(handle: InstanceHandle[Workflow]) -> str:
    return f"{handle.workflow.__workflow_name__} {handle.id!r}"


def _state(handle: InstanceHandle[Workflow]) -> list[str]:
    execution = handle.execution
    lines = [f"{_name(handle)} is {execution.status}"]
    if execution.error is not None:
        lines.append(f"error in {execution.error.statement!r}: {execution.error.text}")
    for thread in execution.threads:
        lines.append(f"thread {thread.id!r} stands at {thread.step!r} ({thread.status})")
        lines += _tries(thread)
    return lines


def _tries(thread: Thread) -> list[str]:
    """Returns a line for each step, activity or setup of a thread that has failed and is tried again."""
    lines = []
    parts: list[tuple[str, Any]] = [(thread.step, thread), *((wait.event, wait) for wait in thread.waits)]
    for name, part in parts:
        if (retry_at := getattr(part, "retry_at", None)) is not None:
            error = getattr(part.error, "text", part.error)
            lines.append(f"{name!r} has failed {part.attempt} times: {error}; next at {retry_at:%Y-%m-%d %H:%M:%S}")
    return lines


def _accepted(handle: InstanceHandle[Workflow]) -> list[str]:
    accepted = sorted(handle.accepted_events)
    return [f"accepts: {', '.join(accepted)}"] if accepted else []


def _fields(handle: InstanceHandle[Workflow]) -> list[str]:
    return [f"fields: {handle.fields!r}"]


def _history(handle: InstanceHandle[Workflow]) -> list[str]:
    return [f"history: {kind} {statement}" for kind, statement in handle.history[-ENTRIES_SHOWN:]]
