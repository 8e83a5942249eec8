"""Structured logs: one JSON line a transition, with the field names that Cloud Logging knows.

``transition`` is what the engine calls; ``configure`` is for programs. A library never configures logging itself.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("gorchestrate")


def transition(kind: str, workflow: str, id: str, *, level: int = logging.INFO, **details: Any) -> None:
    """Logs that an instance has moved.

    Args:
        details: ``thread``, ``statement``, ``pc``, ``duration_ms``, ``error``; empty ones are left out.
    """
    if logger.isEnabledFor(level):
        fields = {
            "kind": kind,
            "workflow": workflow,
            "id": id,
            **{k: v for k, v in details.items() if v not in ("", None)},
        }
        logger.log(level, "%s %s/%s %s", kind, workflow, id, details.get("statement", ""), extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``severity``, ``time``, ``message``, ``logger``, and a transition's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "severity": record.levelname,
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "message": record.getMessage().rstrip(),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # What is no Unicode, as a file's name may be, must not cost the line.
        return json.dumps(line, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace").decode()


def configure(level: str = "INFO") -> None:
    """Sends the logs of gorchestrate to standard error, as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)
