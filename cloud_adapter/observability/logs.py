"""Structured logs: one JSON line for each transition, with the field names of Cloud Logging and Error Reporting.

In a terminal, logs are text.

The engine calls ``transition`` and ``about``, programs call ``configure``. A library never configures logging itself.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from cloud_adapter.observability import telemetry, trace_context
from workflow_core.printable import escaped
from workflow_core.times import rfc3339

logger = logging.getLogger("gorchestrate")

_LABELS = {"workflow": "workflow", "id": "instance"}
"""The fields that are also labels, because Cloud Logging indexes labels."""

_about: ContextVar[Mapping[str, Any] | None] = ContextVar("gorchestrate_about", default=None)


def transition(
    kind: str, workflow: str, id: str, *, level: int = logging.INFO, raised: BaseException | None = None, **details: Any
) -> None:
    """Logs a transition of an instance.

    Args:
        raised: an error that is logged with its stack trace.
        details: ``thread``, ``statement``, ``pc``, ``duration_ms``, ``error``; empty values are omitted.
    """
    if logger.isEnabledFor(level):
        fields = {"kind": kind, "workflow": workflow, "id": id, **_given(details)}
        if raised is not None:
            # As a field, because ``exc_info`` is for unexpected errors of gorchestrate itself.
            fields["exception"] = "".join(traceback.format_exception(raised))
        text = details.get("statement", "")
        logger.log(level, "%s %s/%s %s", kind, workflow, id, text, extra={"fields": fields})


class about:  # noqa: N801 - as a function with ``contextmanager``, it would take twice as long
    """Adds these fields to everything that is logged in the body, including logs of user code.

    Args:
        details: ``thread``, ``statement``, ``attempt``; empty values are omitted, but not before something is logged.
    """

    __slots__ = ("_fields", "_token")

    def __init__(self, workflow: str, id: str, **details: Any) -> None:
        self._fields = {"workflow": workflow, "id": id, **details}

    def __enter__(self) -> None:
        self._token = _about.set(self._fields)

    def __exit__(self, *_: object) -> None:
        _about.reset(self._token)


def leave() -> None:
    """Removes the fields that ``about`` has added, in the current context."""
    _about.set(None)


def _fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """Returns the fields of a line: those that ``about`` has added, and its own."""
    return {**_given(_about.get() or {}), **getattr(record, "fields", {})}


def _given(details: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value not in ("", None)}


class JsonFormatter(logging.Formatter):
    """Formats one JSON object for each line: ``severity``, ``time``, ``message``, ``logger``, the fields and the trace.

    Args:
        project: the Google Cloud project of the traces. If empty, ``logging.googleapis.com/trace`` is the bare id.
    """

    def __init__(self, project: str = "") -> None:
        super().__init__()
        self.traces = f"projects/{project}/traces/" if project else ""

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields_of(record)
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "message": record.getMessage().rstrip(),
            "logger": record.name,
            **fields,
            **self._trace(),
        }
        if labels := {label: str(fields[name]) for name, label in _LABELS.items() if name in fields}:
            line["logging.googleapis.com/labels"] = labels
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        # Also escapes what is not valid Unicode, such as a file name, and could not be written.
        return escaped(json.dumps(line, ensure_ascii=False, default=str))

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
    """Formats text for a terminal: the local time, the event and the instance, followed by stack traces.

    Stack traces are indented and other line breaks are escaped, so that a text from a client cannot look like an entry.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = _fields_of(record)
        parts = [f"{datetime.fromtimestamp(record.created):%H:%M:%S}"]
        if record.levelno != logging.INFO:
            parts.append(record.levelname)
        parts.append(record.getMessage().strip())
        if "kind" not in fields and "id" in fields:
            parts.append(f"({fields['workflow']}/{fields['id']})")
        if "error" in fields:
            parts.append(f"- {fields['error']}")
        if "error_id" in fields:
            parts.append(f"[{fields['error_id']}]")
        trace = ""
        if record.exc_info and record.exc_info[0] is not None:
            trace = self.formatException(record.exc_info)
        elif "exception" in fields:
            trace = fields["exception"].rstrip()
        lines = (f"  {line}" for line in trace.split("\n") if line)
        return "\n".join(escaped(line, keep="\t") for line in (" ".join(parts), *lines))


class _OfWorkflows(logging.Filter):
    """Passes everything from gorchestrate and from workflow code. Of other libraries, and at other times, only warnings
    pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        is_ours = record.name == logger.name or record.name.startswith(f"{logger.name}.")
        return is_ours or _about.get() is not None or record.levelno >= logging.WARNING


def configure(level: str = "INFO", project: str = "", *, text: bool = False) -> None:
    """Sends the logs of gorchestrate and of the workflows' code to standard error, as JSON lines.

    Changes nothing if the program has configured logging: if the root logger or the logger ``gorchestrate`` has a
    handler. Lines of gorchestrate reach the handlers of the root logger as all others do. Levels that the program has
    set stay.

    Args:
        text: write text instead of JSON.
    """
    root = logging.getLogger()
    handlers = [*root.handlers, *logger.handlers]
    if not all(_is_of_framework(handler) for handler in handlers):
        return
    if handlers:
        _enable_all()
    else:
        handlers = [logging.StreamHandler(sys.stderr)]
        root.addHandler(handlers[0])
    for handler in handlers:
        handler.setFormatter(TextFormatter() if text else JsonFormatter(project))
        handler.addFilter(_OfWorkflows())
    if root.level == logging.WARNING:  # the default
        root.setLevel(level)


def _is_of_framework(handler: logging.Handler) -> bool:
    """Whether functions-framework has added the handler, as it does if ``LOG_EXECUTION_ID`` is set. It then adds the id
    of the execution to each JSON line."""
    framework = sys.modules.get("functions_framework.execution_id")
    return framework is not None and getattr(handler, "stream", None) is getattr(framework, "logging_stream", handler)


def _enable_all() -> None:
    """Enables the loggers that functions-framework has disabled: all that existed when it added its handler."""
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).disabled = False
