"""The page of an instance, without its forms: one piece of HTML for each part, so that each can be replaced.

Reads only a ``View``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup
from starlette.requests import Request

from cloud_adapter.engine.view import View
from cloud_adapter.history import HistoryEntry
from cloud_adapter.http import progress
from cloud_adapter.http.pages.rendering import fragment
from cloud_adapter.http.prefixes import prefix_of
from cloud_adapter.http.views import view_data
from cloud_adapter.json_texts import readable
from workflow_core.diagrams import svg
from workflow_core.execution import Execution, Status, Thread, ThreadStatus, is_hidden
from workflow_core.wait_types import (
    ActivityWait,
    AnyWait,
    ChildWait,
    ConditionWait,
    EventWait,
    HandlerWait,
    TimerWait,
    WaitStatus,
)

PARTS = ("status", "diagram", "waits", "fields", "timeline", "raw")
"""The parts of the page that are updated automatically, in order."""


@dataclass(frozen=True, slots=True)
class Due:
    """Something that an instance waits for other than an event."""

    what: str
    name: str
    thread: str
    due: datetime | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """A stored field. A short value is shown in the line, a long value as a block."""

    name: str
    text: str
    is_long: bool


def parts(request: Request, view: View, now: datetime) -> dict[str, Markup]:
    """Returns each part of the page as HTML."""
    program = type(view.workflow).__program__
    instance, execution = view.instance, view.instance.execution
    leased_until = instance.lease.expires_at if instance.lease else None
    values: dict[str, Any] = {
        "instance": instance,
        "execution": execution,
        "problem": view.problem,
        "now": now,
        "standing": _standing(execution) if view.operator else [],
        "is_idle": not view.operator and not view.accepted,
        "waits": _waits(execution, leased_until, now) if view.operator else [],
        # The drawing is a tree of XML, which escapes its texts.
        "picture": Markup(svg.draw(program, progress.live(program, instance), style=False)),  # nosec B704
        "fields": [_shown(name, value) for name, value in view.state.items()],
        "locals": _locals(execution) if view.operator else [],
        "entries": [(entry, _title(entry)) for entry in reversed(instance.history)] if view.operator else [],
        "raw": readable(view_data(view, prefix_of(request))),
    }
    return {name: fragment(request, f"instance/{name}.html", **values) for name in PARTS}


def title(view: View) -> str:
    """Returns the title of the page."""
    return f"{view.instance.id}: {view.instance.execution.status}"


def version(view: View) -> str:
    """Returns a version that differs after every change."""
    execution, lease = view.instance.execution, view.instance.lease
    token = "" if lease is None else lease.token[:8]
    return f"{execution.pc}-{execution.updated_at and execution.updated_at.timestamp()}-{execution.status}-{token}"


def _standing(execution: Execution) -> list[tuple[str, str, str]]:
    """Each thread with its statement and what it does there."""
    words = {
        ThreadStatus.RESUMING: "about to move",
        ThreadStatus.EXECUTING: "at its step",
        ThreadStatus.SETTING_UP: "setting up",
        ThreadStatus.WAITING: "waiting",
    }
    return [(thread.id, thread.step or "its first statement", words[thread.status]) for thread in execution.threads]


def _waits(execution: Execution, leased_until: datetime | None, now: datetime) -> list[Due]:
    result: list[Due] = []
    for thread in execution.threads if execution.status is not Status.FAILED else ():
        if thread.status is ThreadStatus.EXECUTING:
            result.append(_step(thread, leased_until, now))
        for wait in thread.waits:
            due = _wait(thread, wait)
            if due is not None:
                result.append(due)
    for teardown in execution.teardowns:
        error = teardown.error or ""
        result.append(Due("Tear-down", teardown.event, teardown.id.rpartition("@")[0], teardown.retry_at, error))
    result += [Due("Buffered event", event.event, "", event.at) for event in execution.buffer]
    return result


def _step(thread: Thread, leased_until: datetime | None, now: datetime) -> Due:
    if thread.attempt:
        error = "" if thread.error is None else thread.error.text
        return Due(f"Step, attempt {thread.attempt + 1}", thread.step, thread.id, thread.retry_at, error)
    running = leased_until is not None and leased_until > now
    return Due("Step, running" if running else "Step, due", thread.step, thread.id)


def _wait(thread: Thread, wait: AnyWait) -> Due | None:
    match wait:
        case EventWait():
            return None
        case HandlerWait():
            if wait.status is WaitStatus.SET_UP:
                return None
            what = "Set-up of the event, failed" if wait.status is WaitStatus.SETUP_ERROR else "Set-up of the event"
            return Due(what, wait.event, thread.id, wait.retry_at, wait.error or "")
        case TimerWait():
            return Due("Timer", wait.event, thread.id, wait.deadline)
        case ConditionWait():
            return Due("Condition", wait.event or thread.step, thread.id)
        case ActivityWait():
            what = f"Activity, attempt {wait.attempt + 1}" if wait.attempt else "Activity"
            if wait.progress is not None:
                what += f", progress: {_brief(wait.progress)}"
            return Due(what, wait.event, thread.id, wait.retry_at, wait.error or "")
        case ChildWait():
            return Due("Child", wait.event, thread.id, wait.retry_at, wait.error or "")


def _brief(data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _locals(execution: Execution) -> list[tuple[str, Shown]]:
    """The stored locals of a plain definition, each with its thread."""
    return [
        (thread.id, _shown(name, value))
        for thread in execution.threads
        for name, value in thread.locals.items()
        if not is_hidden(name)
    ]


def _shown(name: str, value: Any) -> Shown:
    if isinstance(value, str) and value:
        text = value
    elif isinstance(value, (dict, list)) and value:
        text = readable(value)
    else:
        text = json.dumps(value, ensure_ascii=False)
    return Shown(name, text, "\n" in text or len(text) > 120)


def _title(entry: HistoryEntry) -> str:
    return f"{entry.kind} {entry.statement}" if entry.statement else entry.kind
