"""A round: clients use instances while processes are disturbed; then all that they were answered is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.deployment import Slot
from tests.histories.backends import LEASE_SECONDS, RUNS, Site
from tests.histories.checker import Operation, explanation, is_linearizable
from tests.histories.clients import ANSWER_SECONDS_MAX, Board, Client, Door, Recorder
from tests.histories.disturbances import Disturber
from tests.histories.register import LIVE, Answer, Get, List, Refused, Seen
from tests.histories.shrinking import shrunk
from tests.histories.source import BOOKED_TOGETHER
from tests.histories.steps import Line, overlaps, read

CLIENTS = 5
REST_SECONDS_MAX = 60
"""How long instances may take to come to rest once nothing disturbs them."""
LEASE_LEFT_SECONDS = 0.4 * LEASE_SECONDS
"""A step begins with two thirds of its lease left."""
OVERLAPS_SHOWN = 3


@dataclass
class Report:
    """What a round came to."""

    seed: int
    instances: int = 0
    operations: int = 0
    lost: int = 0
    steps: int = 0
    disturbances: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        disturbed = ", ".join(f"{count} {kind}" for kind, count in sorted(self.disturbances.items()))
        return (
            f"seed {self.seed}: {self.instances} instances, {self.operations} operations ({self.lost} answers lost), "
            f"{self.steps} runs of steps; {disturbed or 'undisturbed'}; {len(self.violations)} violations"
        )


async def run(site: Site, seconds: float, seed: int, kinds: Sequence[str]) -> Report:
    """Runs a round.

    Args:
        kinds: what disturbs the processes; see ``DISTURBANCES``.
    """
    report = Report(seed)
    cohort = f"r{seed}"
    recorder = Recorder()
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS_MAX, limits=limits) as http:
        board, door = Board(cohort, random.Random(seed)), Door(http, cohort, recorder)
        clients = [Client(f"client-{number}", door, board, site.apis, seed) for number in range(CLIENTS)]
        disturber = Disturber(site, http, random.Random(f"{seed} disturbances"))
        await asyncio.gather(disturber.disturb(kinds, until), *(client.work(until) for client in clients))
    async with httpx.AsyncClient(timeout=20) as http:
        door.http = http
        report.violations += disturber.found
        report.violations += [text async for text in _rest(door, site.apis)]
    report.instances, report.operations = len(recorder.histories), recorder.count()
    report.lost, report.disturbances = recorder.lost(), dict(disturber.counts)
    lines = _lines(site.folder, cohort)
    report.steps = sum(line.what == "begin" for line in lines)
    if "clock" not in kinds:  # with wrong clocks, two processes may both have a lease
        report.violations += overlaps(lines, disturber.troubles, LEASE_LEFT_SECONDS)[:OVERLAPS_SHOWN]
    report.violations += _unexplained(recorder)
    return report


def _lines(folder: Path, cohort: str) -> Sequence[Line]:
    return [line for line in read(folder / RUNS) if line.id.startswith(f"{cohort}-")]


async def _rest(door: Door, slots: Sequence[Slot]) -> AsyncIterator[str]:
    """Waits until every instance rests, and looks at it through each process; gives what does not come to rest."""
    until = time.monotonic() + REST_SECONDS_MAX
    for id in list(door.recorder.histories):
        while not _rests(seen := await door.ask("end", slots[0], id, Get())):
            if time.monotonic() > until:
                yield f"{id} does not come to rest: {seen}"
                break
            await asyncio.sleep(0.1)
        for slot in slots[1:]:
            await door.ask("end", slot, id, Get())
    for slot in slots:
        for status in (None, "finished", "canceled"):
            await door.ask("end", slot, door.cohort, List(status))


def _rests(answer: Answer | None) -> bool:
    """Whether nothing more happens by itself: fewer words are left than a step books together."""
    if isinstance(answer, Seen):
        return answer.status != LIVE or len(answer.words) < len(answer.booked) + BOOKED_TOGETHER
    return answer == Refused("missing")


def _unexplained(recorder: Recorder) -> Iterator[str]:
    for id in recorder.histories:
        history = recorder.history(id)
        if not is_linearizable(history):
            yield f"{id}: no order of these operations explains their answers:\n" + shown(shrunk(history))


def shown(history: Sequence[Operation]) -> str:
    """A history as a table, one line for each operation: from when to when, by whom, at which process, what, and the
    answer. Without an end, the answer was lost or is not needed for the contradiction. What does not fit is marked."""
    first = min(one.start for one in history)
    explained = explanation(history).order
    rows = []
    for one in history:
        mark = " " if one in explained or one.answer is None else "!"
        end = "" if one.answer is None else f"{one.end - first:.3f}"
        answer = "" if one.answer is None else f"-> {one.answer}"
        rows.append(f"{mark} {one.start - first:8.3f} {end:>8}  {one.client:8} {one.process:8} {one.call} {answer}")
    return "\n".join(rows)
