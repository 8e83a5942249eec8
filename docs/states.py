"""Draws the states of threads and waits in docs/explanation/engine.md, from the table of the machine.

python docs/states.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "engine.md"

sys.path.insert(0, str(ROOT))

from workflow_core.machine.transitions import THREAD_TABLE, WAIT_TABLE, Unstored  # noqa: E402


def diagram(table: Mapping[Any, StrEnum]) -> str:
    """A state diagram in Mermaid, with one arrow from a state to the next; what leads there is written on it."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for (state, happening), following in table.items():
        arrows.setdefault((_name(state), _name(following)), []).append(happening.value)
    lines = [f"    {state} --> {following}: {'<br/>'.join(labels)}" for (state, following), labels in arrows.items()]
    return "\n".join(["stateDiagram-v2", *lines, ""])


def _name(state: StrEnum) -> str:
    return "[*]" if state in (Unstored.START, Unstored.END) else state.value


def drawn(page: str) -> str:
    """The page with the diagrams of the table."""
    for title, text in (("thread", diagram(THREAD_TABLE)), ("wait", diagram(WAIT_TABLE))):
        before, place, rest = page.partition(f"<!-- states of a {title} -->\n```mermaid\n")
        assert place, f"docs/explanation/engine.md has no place for the states of a {title}"
        page = before + place + text + rest[rest.index("```") :]
    return page


if __name__ == "__main__":
    PAGE.write_text(drawn(PAGE.read_text()))
