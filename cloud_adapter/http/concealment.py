"""Conceals what only operators may see of an instance: texts of errors, inputs, and who did what.

Errors may contain passwords, URLs and paths. Only the texts that a workflow writes for its clients stay: those of
``TerminalError`` and ``EventRejected``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, Final

from cloud_adapter.engine.view import View
from cloud_adapter.history import HistoryEntry
from cloud_adapter.summaries import Summary
from workflow_core import ErrorInfo, EventRejected, TerminalError
from workflow_core.execution import Execution, Thread

CONCEALED: Final = "only operators see the details"

_FOR_CLIENTS = {f"{cls.__module__}.{cls.__qualname__}" for cls in (TerminalError, EventRejected)}

_OF_WAITS: dict[str, Any] = {"input": None, "shown": None, "setup_data": None, "child": {}}
"""What waits have instead of what only operators may see."""


def public_error(error: ErrorInfo) -> ErrorInfo:
    """Returns an error as everyone may see it."""
    return error if not _FOR_CLIENTS.isdisjoint(error.bases) else replace(error, message=CONCEALED)


def _if_any(error: ErrorInfo | None) -> ErrorInfo | None:
    return None if error is None else public_error(error)


def public_view(view: View) -> View:
    """Returns a view that contains nothing that is only for operators; for an operator, the same view."""
    if view.operator:
        return view
    instance = view.instance
    concealed = replace(
        instance,
        execution=_execution(instance.execution),
        entries=tuple(map(_entry, instance.history)),
        lease=None,
        document=None,
    )
    return replace(view, instance=concealed, problem=view.problem and CONCEALED)


def public_summary(summary: Summary) -> Summary:
    """Returns an instance of a list as everyone may see it."""
    return replace(summary, error=_if_any(summary.error))


def _execution(execution: Execution) -> Execution:
    return replace(
        execution,
        error=_if_any(execution.error),
        threads=list(map(_thread, execution.threads)),
        teardowns=[],
        buffer=[],
        parent=None,
    )


def _thread(thread: Thread) -> Thread:
    return replace(
        thread,
        waits=list(map(_wait, thread.waits)),
        error=_if_any(thread.error),
        errors={clause: public_error(error) for clause, error in thread.errors.items()},
        pending={},
        leaving=None,
    )


def _wait(wait: Any) -> Any:
    names = {field.name for field in fields(wait)}
    concealed = {name: value for name, value in _OF_WAITS.items() if name in names}
    if "error" in names and wait.error is not None:
        concealed["error"] = CONCEALED
    return replace(wait, **concealed)


def _entry(entry: HistoryEntry) -> HistoryEntry:
    error = CONCEALED if entry.error else ""
    return replace(entry, error=error, by="", by_id="", claimed="", reason="", detail="")
