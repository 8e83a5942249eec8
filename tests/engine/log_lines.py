"""Keeps the log of the engine. Holds no test."""

from __future__ import annotations

import json
import logging
from typing import Any

from cloud_adapter.observability import logs


class Lines(logging.Handler):
    """Keeps the log as lines of JSON, formatted where they are made."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, Any]] = []
        self.formatter = logs.JsonFormatter()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))

    def traces(self, kind: str) -> list[str]:
        """The traces of the lines of a kind, in their order."""
        return [line["logging.googleapis.com/trace"][-32:] for line in self.lines if line.get("kind") == kind]
