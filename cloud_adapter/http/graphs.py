"""Draws the diagrams of definitions and instances in each format. Loads no instance."""

from __future__ import annotations

import json
from enum import StrEnum

from cloud_adapter.errors import InvalidRequest
from workflow_core.diagrams import describe, mermaid, svg
from workflow_core.diagrams.live import Live
from workflow_core.program.program import Program


class Format(StrEnum):
    """The formats of diagrams."""

    SVG = "svg"
    MERMAID = "mermaid"
    JSON = "json"
    """The tree of statements, for custom drawings."""

    @classmethod
    def of(cls, text: str) -> Format:
        """Returns the format of that name; raises ``InvalidRequest`` if it is unknown."""
        try:
            return cls(text)
        except ValueError:
            raise InvalidRequest(f"unknown format {text[:100]!r}. Available: {', '.join(cls)}") from None

    @property
    def media_type(self) -> str:
        return {"svg": "image/svg+xml", "mermaid": "text/plain", "json": "application/json"}[self]


def draw(program: Program, format: Format, live: Live | None = None) -> str:
    """Returns the diagram of a definition or, with ``live``, of an instance."""
    match format:
        case Format.SVG:
            return svg.draw(program, live)
        case Format.MERMAID:
            return mermaid.draw(program, live)
    statements = describe.statements(program) if live is None else live.statements
    return json.dumps(statements, ensure_ascii=False, separators=(",", ":"))
