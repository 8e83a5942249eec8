"""Whether anything was lost or done twice: pure functions of what was recorded, to a list of broken promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Mark:
    """A line that a step wrote outside; ``process`` is the group of processes that it ran in, ``at`` in seconds."""

    what: str
    id: str
    step: str
    thread: str
    key: str
    attempt: int
    process: int
    at: float


@dataclass
class Record:
    """What became of one instance.

    Attributes:
        status: of the instance, at the end.
        state: its fields, at the end.
        expected: the fields that do not depend on who won a race.
        won: the rounds that an event was answered for by success.
        sent: the rounds that an event was sent for.
    """

    workflow: str
    id: str
    status: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    expected: dict[str, Any] = field(default_factory=dict)
    won: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)


def violations(
    records: Iterable[Record],
    marks: Sequence[Mark],
    kills: Sequence[tuple[int, float]],
    tasks_left: Sequence[str],
    lease_left: float,
) -> list[str]:
    """All promises that were broken.

    Args:
        kills: groups of processes and times.
        lease_left: for how many seconds a step has the lease at least when it begins.
    """
    by_instance: dict[str, list[Mark]] = defaultdict(list)
    for mark in marks:
        by_instance[mark.id].append(mark)
    found = [f"the task {name} is left" for name in tasks_left]
    for record in records:
        found += (f"{record.id}: {what}" for what in _end(record))
        if record.workflow == "assembly":
            mine = sorted(by_instance[record.id], key=lambda one: one.at)
            found += (f"{record.id}: {what}" for what in [*_races(record), *_steps(record, mine)])
            found += (f"{record.id}: {what}" for what in _overlaps(mine, kills, lease_left))
    return found


def _end(record: Record) -> list[str]:
    found = [] if record.status == "finished" else [f"its status is {record.status!r}: it was not carried to its end"]
    for name, value in record.expected.items():
        if record.state.get(name) != value:
            found.append(f"{name} is {record.state.get(name)!r}, and was to be {value!r}")
    return found


def _races(record: Record) -> list[str]:
    """Checks that in each round either the event or the timer has won, and that the client was told so."""
    found = []
    races = record.state.get("races", [])
    for round, outcome in enumerate(races):
        if outcome not in (f"event {round}", f"timer {round}"):
            found.append(f"round {round} has the outcome {outcome!r}")
        if round in record.won and outcome != f"event {round}":
            found.append(f"the event of round {round} was answered by success, and has not won")
        if outcome.startswith("event") and round not in record.sent:
            found.append(f"nobody sent the event of round {round}")
    return found


def _steps(record: Record, marks: Sequence[Mark]) -> list[str]:
    """Each effect is there once, of a step that was run, under one key."""
    found = []
    done = Counter(record.state.get("done", []))
    found += [f"the effect of {key[:6]} is there {count} times" for key, count in done.items() if count > 1]
    ended = {mark.key for mark in marks if mark.what == "end"}
    started = {mark.key for mark in marks if mark.what == "start"}
    found += [f"the effect of {key[:6]} is there, and it was never run to its end" for key in done if key not in ended]
    found += [f"{key[:6]} was run, and its effect is lost" for key in sorted(started) if key not in done]
    names: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for mark in marks:
        names[mark.key].add((mark.step, mark.thread))
    found += [f"{key[:6]} is the key of {sorted(steps)}" for key, steps in names.items() if len(steps) > 1]
    return found


def _overlaps(marks: Sequence[Mark], kills: Sequence[tuple[int, float]], lease_left: float) -> list[str]:
    """No step begins while another one runs, unless that one's process was killed, or was so slow that it may have lost
    its lease."""
    found = []
    running: dict[tuple[str, int], Mark] = {}
    for mark in marks:
        if mark.what == "end":
            running.pop((mark.key, mark.process), None)
            continue
        for other in list(running.values()):
            if any(process == other.process and at <= mark.at for process, at in kills):
                del running[other.key, other.process]
            elif mark.at - other.at < lease_left:
                found.append(f"{mark.step!r} began while {other.step!r} was running in another process")
        running[mark.key, mark.process] = mark
    found += [
        f"{mark.step!r} was begun and never ended, and nobody killed its process"
        for mark in running.values()
        if not any(process == mark.process for process, _ in kills)
    ]
    return found
