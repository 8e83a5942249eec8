"""Draws the diagrams of definitions and instances in each format. Loads no instance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

from cloud_adapter.errors import InvalidRequest
from workflow_core.diagrams import describe
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


def headers(format: Format) -> Mapping[str, str] | None:
    """Returns the headers of a diagram that is opened by its own URL, in addition to its type."""
    if format is not Format.SVG:
        return None
    from workflow_core.diagrams.svg import STYLE_SOURCE

    # It is a document: only its own style sheet may apply, nothing else may load.
    return {
        "Content-Security-Policy": f"default-src 'none'; style-src {STYLE_SOURCE}",
        "X-Content-Type-Options": "nosniff",
    }


def draw(program: Program, format: Format, live: Live | None = None) -> str:
    """Returns the diagram of a definition or, with ``live``, of an instance."""
    match format:
        case Format.SVG:
            from workflow_core.diagrams import svg  # lazily: most processes never draw

            return svg.draw(program, live)
        case Format.MERMAID:
            from workflow_core.diagrams import mermaid

            return mermaid.draw(program, live)
    statements = describe.statements(program) if live is None else live.statements
    return json.dumps(statements, ensure_ascii=False, separators=(",", ":"))
