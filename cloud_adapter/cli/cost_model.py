"""What the paths through a definition cost: reads, writes and tasks, computed from its statements. Pure.

Theory of operation. The engine pays for commits, not for statements. Control flow, handlers and conditions run in the
commit of what came before them, so they cost nothing. What costs something is a *segment*:

* a segment of a request: an event, a timeout, a result. It reads the document and writes it once.
* a segment of steps: one task, one read, one write for the lease, and one write for each step, up to the next wait.

``paths`` walks through the tree of the statements (``describe.statements``) and follows every branch. Of the paths that
have come to the same point in the same kind of segment, it keeps the cheapest and the most expensive one, so that their
number does not grow. What a section adds to a path depends only on the kind of segment in which it begins, and is
computed once for each, however often loops around it run.

Shards of indexes change nothing: they add no write, and the query of recovery finds the same instances.

It counts an undisturbed run: no retries, no conflicts, no repeated deliveries. A loop runs ``rounds`` times, a race
counts all its branches in full, and a child counts without what it does itself. ``tests/cli/test_cost.py`` compares the
numbers with counted operations of the engine: a change of what the engine does per statement must be made here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final

from cloud_adapter.engine.schedule import stop_before
from cloud_adapter.options import EngineOptions
from workflow_core.diagrams import describe
from workflow_core.program.cases import HandlerCase
from workflow_core.program.program import Program

Node = dict[str, Any]

RECOVERIES: Final = 2
"""How many runs of recovery find a lazy timer before its deadline."""

CHOICES_MAX: Final = 1_000
"""The most choices of a path that are kept, from its beginning."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Numbers of operations.

    Attributes:
        reads, writes: of documents.
        tasks: tasks that are created.
        deletions: tasks that are deleted.
        deliveries: tasks that are delivered.
        requests: requests of clients.
        lines: lines that the engine logs.
    """

    reads: int = 0
    writes: int = 0
    tasks: int = 0
    deletions: int = 0
    deliveries: int = 0
    requests: int = 0
    lines: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __mul__(self, count: int) -> Cost:
        return Cost(*(getattr(self, field.name) * count for field in fields(self)))

    @property
    def dollars(self) -> float:
        """The list price in dollars."""
        return sum(self.prices.values())

    @property
    def prices(self) -> dict[str, float]:
        """The list price of each part, in dollars; see ``PRICES``."""
        handled = self.requests + self.deliveries
        operations = self.tasks + self.deletions + self.deliveries
        log_bytes = self.lines * LINE_BYTES + handled * REQUEST_LOG_BYTES
        amounts = {
            "read": self.reads,
            "write": self.writes,
            "task operation": operations,
            "request": handled,
            "second of an instance": handled * INSTANCE_SECONDS,
            "GiB of logs": log_bytes / 2**30,
        }
        return {name: PRICES[name] * amount for name, amount in amounts.items()}


PRICES: Final = {
    "read": 0.03 / 100_000,
    "write": 0.09 / 100_000,
    "task operation": 0.40 / 1_000_000,
    "request": 0.40 / 1_000_000,
    "second of an instance": 0.000024 + 0.5 * 0.0000025,
    "GiB of logs": 0.50,
}
"""List prices in us-central1, without free quotas: Firestore (Standard), Cloud Tasks, Cloud Run (request-based billing,
1 vCPU and 512 MiB), Cloud Logging. A multi-region of Firestore costs twice as much."""

LINE_BYTES, REQUEST_LOG_BYTES = 600, 1_200
"""About the size of a log line of the engine, and of the line that Cloud Run logs for each request."""

INSTANCE_SECONDS = 0.01
"""The time of an instance that a request is assumed to take. Requests that run at the same time share it."""

READ_AND_WRITE = Cost(reads=1, writes=1)
BEGIN_STEPS = Cost(tasks=1, deliveries=1) + READ_AND_WRITE
"""The task of a segment of steps, and its lease."""
STEP = Cost(writes=1, lines=1)
EVENT = READ_AND_WRITE + Cost(requests=1, lines=1)
TIMEOUT = READ_AND_WRITE + Cost(deliveries=1, lines=1)
TIMER, NO_TIMER = Cost(tasks=1), Cost(deletions=1)
STOP = Cost(reads=1, tasks=1, deliveries=1)
"""A task on the way to a timer that is due beyond the horizon of the queue."""
LAZY = Cost(reads=2 * RECOVERIES, tasks=RECOVERIES)
"""Each run of recovery finds and loads the instance, and asks for the task."""
ATTEMPT = Cost(tasks=1, deliveries=1, reads=1) + READ_AND_WRITE + Cost(lines=1)
END_OF_CHILD = BEGIN_STEPS + STEP + READ_AND_WRITE + Cost(lines=1)
"""The child tells its parent."""
CREATION = Cost(writes=1, requests=1, lines=1)


@dataclass(frozen=True, slots=True)
class _Path:
    """A path up to some point.

    Attributes:
        in_steps: whether it is in a segment of steps.
        has_deadline: whether its last commit has created the task that ends attempts of activities.
        ended: ``break``, ``continue``, ``return`` or ``fail``, if the path has left its section this way.
        rest: ``in_steps`` and ``has_deadline`` when its thread has first come to a wait.
        choices: the branches and cases that it has taken.
    """

    cost: Cost = CREATION
    in_steps: bool = False
    has_deadline: bool = False
    ended: str = ""
    rest: tuple[bool, bool] | None = None
    choices: tuple[str, ...] = ()

    def then(self, more: _Path) -> _Path:
        """It continues with what ``more`` adds."""
        return replace(more, cost=self.cost + more.cost, choices=(self.choices + more.choices)[:CHOICES_MAX])

    def plus(self, cost: Cost) -> _Path:
        return replace(self, cost=self.cost + cost)

    def step(self) -> _Path:
        begin = Cost() if self.in_steps else BEGIN_STEPS
        return replace(self, cost=self.cost + begin + STEP, in_steps=True, has_deadline=False)

    def rested(self, has_deadline: bool | None = None) -> _Path:
        """It has come to a wait."""
        deadline = self.has_deadline if has_deadline is None else has_deadline
        return self if self.rest is not None else replace(self, rest=(self.in_steps, deadline))

    def woken(self, cost: Cost, choice: str = "") -> _Path:
        """It goes on in a segment of a request."""
        choices = (*self.choices, choice) if choice else self.choices
        return replace(self, cost=self.cost + cost, in_steps=False, has_deadline=False, choices=choices)


@dataclass(frozen=True, slots=True)
class CostedPath:
    """A whole path: what it costs, and the branches and cases that it takes, at most ``CHOICES_MAX``."""

    cost: Cost
    choices: Sequence[str]


def paths(program: Program, *, rounds: int = 1, lazy_after: timedelta | None = None) -> tuple[CostedPath, CostedPath]:
    """Returns the cheapest and the most expensive path through a definition.

    Args:
        rounds: how many times each loop runs.
        lazy_after: see ``EngineOptions.lazy_after``.
    """
    walk = _Walk(program, rounds, lazy_after)
    ends = sorted(walk.section(describe.statements(program), [_Path()]), key=lambda path: path.cost.dollars)
    first, last = (CostedPath(path.cost, path.choices) for path in (ends[0], ends[-1]))
    return first, last


class _Walk:
    """The walk through one definition."""

    def __init__(self, program: Program, rounds: int, lazy_after: timedelta | None) -> None:
        self.program = program
        self.rounds = rounds
        self.lazy_after = lazy_after
        self.known: dict[tuple[int, _Path], list[_Path]] = {}

    def section(self, nodes: Sequence[Node], begun: Iterable[_Path]) -> list[_Path]:
        """Returns the paths at the end of a section, of which those that have ``ended`` left it earlier."""
        found: list[_Path] = []
        for path in begun:
            found += [path] if path.ended else map(path.then, self._additions(nodes, path))
        return _pruned(found)

    def _additions(self, nodes: Sequence[Node], path: _Path) -> list[_Path]:
        """Returns what a section may add to a path that begins it."""
        begun = replace(path, cost=Cost(), choices=())
        found = self.known.get((id(nodes), begun))
        if found is None:
            found = [begun]
            for node in nodes:
                after: list[_Path] = []
                for so_far in found:
                    after += [so_far] if so_far.ended else self._node(node, so_far)
                found = _pruned(after)
            self.known[id(nodes), begun] = found
        return found

    def _node(self, node: Node, path: _Path) -> Iterable[_Path]:
        match node["kind"]:
            case "step":
                return [path.step()]
            case "break" | "continue" | "return" | "fail" as ended:
                return [replace(path, ended=ended)]
            case "if" | "switch":
                return self._branches(node, path)
            case "while":
                return self._loop(node["statements"], path)
            case "for_each" if not node["parallel"]:
                return self._loop(node["statements"], path)
            case "go":
                return (replace(end, ended="") for end in self._threads([node["statements"]], path, joins=False))
            case "for_each":
                return self._threads([node["statements"]] * self.rounds, path, joins=True, limit=node["limit"])
            case "parallel" | "race":
                return self._threads(node["branches"], path, joins=True)
            case "try":
                return self._try(node, path)
            case "activity":
                return [self._begin_attempt(path).rested().woken(ATTEMPT + NO_TIMER * (not path.has_deadline))]
            case "child":
                begun = path.step()
                return [begun if node["detached"] else begun.rested().woken(END_OF_CHILD)]
            case "sleep":
                case = node | {"kind": "timeout", "statements": ()}
                return self._select([case], path, "")
            case "select" | "wait_for":
                return self._select(node.get("cases") or [{"kind": "when", "statements": ()}], path, node["name"])
            case "within":
                return self._within(node, path)
        return [path]  # code, which runs in the commit of what came before it

    def _branches(self, node: Node, path: _Path) -> Iterator[_Path]:
        for branch in node["branches"]:
            choice = () if branch["name"] is None else (branch["name"],)
            yield from self.section(branch["statements"], [replace(path, choices=(*path.choices, *choice))])
        if all(branch["name"] is not None for branch in node["branches"]):
            yield path  # none applies

    def _loop(self, body: Sequence[Node], path: _Path) -> list[_Path]:
        found = [path]
        for _ in range(self.rounds):
            ended = self.section(body, found)
            found = _pruned(replace(end, ended="") if end.ended == "continue" else end for end in ended)
        return [replace(end, ended="") if end.ended == "break" else end for end in found]

    def _threads(
        self, bodies: Sequence[Sequence[Node]], path: _Path, *, joins: bool, limit: int | None = None
    ) -> list[_Path]:
        """Starts a thread for each body, one after another: each begins in the segment in which the one before it has
        come to its first wait, or, if ``limit`` threads have begun, has ended. If the path ``joins`` them, it goes on
        in the segment of the last one to end."""
        found, waits = [path], False
        for count, body in enumerate(bodies, 1):
            after = []
            for begun in found:
                for end in self.section(body, [replace(begun, rest=None)]):
                    waits = waits or end.rest is not None
                    at_end = limit is not None and count >= limit
                    in_steps, has_deadline = (not at_end and end.rest) or (end.in_steps, end.has_deadline)
                    after.append(replace(end, in_steps=in_steps, has_deadline=has_deadline, rest=begun.rest, ended=""))
            found = _pruned(after)
        return [end.rested().woken(Cost()) for end in found] if joins and waits else found

    def _try(self, node: Node, path: _Path) -> list[_Path]:
        found: list[_Path] = []
        for end in self.section(node["statements"], [path]):
            if end.ended != "fail" or not node["excepts"]:
                found.append(end)
                continue
            for clause in node["excepts"]:
                found += self.section(clause["statements"], [replace(end, ended="")])
        if node["finally"] is None:
            return found
        cleaned = []
        for end in found:
            after = self.section(node["finally"], [replace(end, ended="")])
            cleaned += [replace(last, ended=last.ended or end.ended) for last in after]
        return cleaned

    def _within(self, node: Node, path: _Path) -> Iterator[_Path]:
        (timer,) = node["cases"]
        near = self._is_near(timer)
        for end in self.section(node["statements"], [path.plus(TIMER * near)]):
            yield end.plus(NO_TIMER * near)

    def _select(self, cases: Sequence[Node], path: _Path, name: str) -> Iterator[_Path]:
        timers = [case for case in cases if case["kind"] == "timeout"]
        near = sum(map(self._is_near, timers))
        handlers = sum(self._has_handler(name, case) for case in cases)
        path = path.plus(TIMER * near)
        for _ in range(handlers):
            path = path.step()  # a setup
        works = [case["work"] for case in cases if case["kind"] == "done"]
        for work in works:
            path = self._begin_attempt(path) if work["kind"] == "activity" else path.step()
        path = path.rested()
        for case in cases:
            yield from self._case(case, path, near, handlers)

    def _case(self, case: Node, path: _Path, near: int, handlers: int) -> list[_Path]:
        """The paths through one case of a select, from the wait on."""
        match case["kind"]:
            case "on":
                woken = path.woken(EVENT + NO_TIMER * near, case["name"])
            case "timeout":
                is_near = self._is_near(case)
                cost = (STOP * self._stops(case) if is_near else LAZY) + TIMEOUT + NO_TIMER * (near - is_near)
                woken = path.woken(cost, case["name"])
            case "done":
                is_activity = case["work"]["kind"] == "activity"
                cost = ATTEMPT + NO_TIMER if is_activity else END_OF_CHILD
                woken = path.woken(cost + NO_TIMER * near, case["name"])
            case _:
                woken = path.woken(NO_TIMER * near)  # in the commit of another thread
        for _ in range(handlers):
            woken = woken.step()  # a teardown
        return self.section(case["statements"], [woken])

    def _begin_attempt(self, path: _Path) -> _Path:
        """One commit creates one task for the ends of all attempts that it begins."""
        return replace(path.plus(TIMER * (not path.has_deadline)), has_deadline=True)

    def _has_handler(self, select: str, case: Node) -> bool:
        if case["kind"] != "on":
            return False
        return isinstance(self.program.select(select).cases[case["name"]], HandlerCase)

    def _is_near(self, timer: Node) -> bool:
        """Whether the commit that begins the wait creates its task. A computed delay counts as short."""
        if self.lazy_after is None or timer["delay"] == "computed":
            return True
        delay = _duration(timer["delay"])
        return delay is not None and delay <= self.lazy_after  # otherwise until a date

    def _stops(self, timer: Node) -> int:
        """How many tasks precede the one that is due with the timer; none if its delay is computed or a date."""
        now, stops = datetime.min, 0
        at = now + min(_duration(timer["delay"]) or timedelta(), _FARTHEST)
        while (now := stop_before(at, now, _HORIZON)) != at:
            stops += 1
        return stops


_HORIZON = EngineOptions().horizon
_FARTHEST = timedelta(days=36_525)


def _duration(text: str) -> timedelta | None:
    """Returns the delay of a timer; None: it is computed, or a date."""
    delay = _DURATION.fullmatch(text)
    if delay is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in delay.groups())
    return timedelta(days, hours=hours, minutes=minutes, seconds=seconds)


_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def _pruned(found: Iterable[_Path]) -> list[_Path]:
    """The cheapest and the most expensive of the paths that continue in the same way."""
    kept: dict[Any, tuple[_Path, _Path]] = {}
    for path in found:
        key = path.in_steps, path.has_deadline, path.ended, path.rest
        low, high = kept.get(key, (path, path))
        price = path.cost.dollars
        kept[key] = (path if price < low.cost.dollars else low), (path if price > high.cost.dollars else high)
    return [path for low, high in kept.values() for path in ([low] if low is high else [low, high])]
