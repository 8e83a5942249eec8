"""Structured logs: one JSON line a transition, with the field names that Cloud Logging and Error Reporting know.

In a terminal they are text.

The engine calls ``transition`` and ``about``, programs call ``configure``. A library never configures logging itself.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from cloud_adapter.observability import telemetry, trace_context

logger = logging.getLogger("gorchestrate")

_LABELS = {"workflow": "workflow", "id": "instance"}
"""The fields that are labels too: Cloud Logging has an index of these."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_about: ContextVar[Mapping[str, Any] | None] = ContextVar("gorchestrate_about", default=None)


def transition(
    kind: str, workflow: str, id: str, *, level: int = logging.INFO, raised: BaseException | None = None, **details: Any
) -> None:
    """Logs that an instance has moved.

    Args:
        raised: logged with its stack trace.
        details: ``thread``, ``statement``, ``pc``, ``duration_ms``, ``error``; empty ones are left out.
    """
    if logger.isEnabledFor(level):
        fields = {"kind": kind, "workflow": workflow, "id": id, **_given(details)}
        if raised is not None:
            # As a field: ``exc_info`` is for what gorchestrate itself did not expect.
            fields["exception"] = "".join(traceback.format_exception(raised))
        text = details.get("statement", "")
        logger.log(level, "%s %s/%s %s", kind, workflow, id, text, extra={"fields": fields})


@contextmanager
def about(workflow: str, id: str, **details: Any) -> Iterator[None]:
    """Whatever is logged inside, by the user's code too, bears these fields.

    Args:
        details: ``thread``, ``statement``, ``attempt``; empty ones are left out.
    """
    token = _about.set({"workflow": workflow, "id": id, **_given(details)})
    try:
        yield
    finally:
        _about.reset(token)


def _given(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value not in ("", None)}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``severity``, ``time``, ``message``, ``logger``, what it is about, and in which trace.

    Args:
        project: the Google Cloud project of the traces; without one, ``logging.googleapis.com/trace`` is the bare id.
    """

    def __init__(self, project: str = "") -> None:
        super().__init__()
        self.traces = f"projects/{project}/traces/" if project else ""

    def format(self, record: logging.LogRecord) -> str:
        fields = {**(_about.get() or {}), **getattr(record, "fields", {})}
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage().rstrip(),
            "logger": record.name,
            **fields,
            **self._trace(),
        }
        if labels := {label: str(fields[name]) for name, label in _LABELS.items() if name in fields}:
            line["logging.googleapis.com/labels"] = labels
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        # What is no Unicode, as a file's name may be, must not cost the line.
        return json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()

    def _trace(self) -> dict[str, Any]:
        request = trace_context.served.get()
        trace = telemetry.current_trace() or (request and request.trace)
        if not trace:
            return {}
        fields: dict[str, Any] = {"logging.googleapis.com/trace": f"{self.traces}{trace.trace_id}"}
        if trace.span_id:
            fields["logging.googleapis.com/spanId"] = trace.span_id
        return fields | {"logging.googleapis.com/trace_sampled": trace.sampled}


class TextFormatter(logging.Formatter):
    """For a person at a terminal: the local time, what has happened to which instance, and stack traces below it."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {**(_about.get() or {}), **getattr(record, "fields", {})}
        parts = [f"{datetime.fromtimestamp(record.created):%H:%M:%S}"]
        if record.levelno != logging.INFO:
            parts.append(record.levelname)
        parts.append(record.getMessage().strip())
        if "kind" not in fields and "id" in fields:
            parts.append(f"({fields['workflow']}/{fields['id']})")
        if "error" in fields:
            parts.append(f"- {fields['error']}")
        lines = [" ".join(parts)]
        if record.exc_info and record.exc_info[0] is not None:
            lines.append(self.formatException(record.exc_info))
        elif "exception" in fields:
            lines.append(fields["exception"].rstrip())
        # Texts of clients must not command the terminal.
        text = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], "\n".join(lines))
        return text.encode("utf-8", "backslashreplace").decode()


class _OfWorkflows(logging.Filter):
    """Of other loggers, what is logged while a workflow's code runs; of the rest only what is worth a warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        return _about.get() is not None or record.levelno >= logging.WARNING


def configure(level: str = "INFO", project: str = "", *, text: bool = False) -> None:
    """Sends the logs of gorchestrate, and those of the workflows' code, to standard error, as JSON lines.

    A program that has given the root logger a handler keeps its own way with what is not gorchestrate's.

    Args:
        text: as text for a person instead.
    """
    formatter = TextFormatter() if text else JsonFormatter(project)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
    root = logging.getLogger()
    if not root.handlers:
        others = logging.StreamHandler(sys.stderr)
        others.setFormatter(formatter)
        others.addFilter(_OfWorkflows())
        root.addHandler(others)
        root.setLevel(level)
