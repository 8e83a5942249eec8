"""Whether two steps of an instance ran at the same time, by the lines that they have left outside."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """A step began, or was left; ``process`` is the group of processes that it ran in, ``at`` is in seconds."""

    what: str
    id: str
    key: str
    at: float
    process: int


@dataclass(frozen=True)
class Trouble:
    """When a process was killed, or stood still."""

    process: int
    since: float
    until: float


def read(file: Path) -> Sequence[Line]:
    return [Line(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def overlaps(lines: Iterable[Line], troubles: Sequence[Trouble], lease_left: float) -> Sequence[str]:
    """Steps that began while another one of their instance ran, which had begun less than ``lease_left`` ago in a
    process that was in no trouble since: nobody may have taken its lease."""
    found = []
    running: dict[tuple[str, str, int], Line] = {}
    for line in sorted(lines, key=lambda one: one.at):
        if line.what == "end":
            running.pop((line.id, line.key, line.process), None)
            continue
        for other in running.values():
            in_trouble = any(
                trouble.process == other.process and trouble.since <= line.at and trouble.until >= other.at
                for trouble in troubles
            )
            if other.id == line.id and line.at - other.at < lease_left and not in_trouble:
                found.append(
                    f"{line.id}: a step began in process {line.process} at {line.at:.3f}, another one had begun in "
                    f"process {other.process} at {other.at:.3f} and was running"
                )
        running[line.id, line.key, line.process] = line
    return found
