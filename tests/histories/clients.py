"""Clients that use instances at the same time, over HTTP, and record what they ask, when, and what they are answered.

A client gives up on an answer after ``ANSWER_SECONDS_MAX``: then it does not know whether its call took effect. It
repeats most such calls under their idempotency key, at any process, at once or later.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from tests.deployment import Slot
from tests.histories.checker import BUSY, LOST, Operation
from tests.histories.register import (
    ENDED,
    LIVE,
    Absent,
    Accepted,
    Answer,
    Call,
    Cancel,
    Create,
    Get,
    List,
    Refused,
    Row,
    Seen,
    Send,
)

ANSWER_SECONDS_MAX = 2.5
INSTANCES_AT_A_TIME = 3
INSTANCES_MAX = 150
"""Fewer than a list shows."""
CALLS = (20, 120)
"""How many calls an instance gets."""
CALLS_AFTER_THE_END = 8
PAUSE_SECONDS = 0.02

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_STATUS = {"running": LIVE, "waiting": LIVE}


@dataclass
class Recorder:
    """What was asked and answered.

    Attributes:
        histories: the operations of each instance, without lists.
        lists: the lists, each with its rows by instance; None if the answer was lost.
    """

    histories: dict[str, list[Operation]] = field(default_factory=lambda: defaultdict(list))
    lists: list[tuple[Operation, Mapping[str, Row] | None]] = field(default_factory=list)

    def history(self, id: str) -> Sequence[Operation]:
        """The operations of an instance, with what the lists tell about it."""
        told = [replace(one, answer=rows.get(id, Absent()) if rows is not None else None) for one, rows in self.lists]
        return sorted([*self.histories[id], *told], key=lambda one: one.start)

    def count(self) -> int:
        return len(self.lists) + sum(map(len, self.histories.values()))

    def lost(self) -> int:
        return sum(one.end == LOST for history in self.histories.values() for one in history)


@dataclass
class Instance:
    """An instance that clients use now."""

    id: str
    calls_left: int
    is_known: bool = False
    words: int = 0
    sent: list[Send] = field(default_factory=list)


class Door:
    """Asks the processes, and records it."""

    def __init__(self, http: httpx.AsyncClient, cohort: str, recorder: Recorder) -> None:
        self.http = http
        self.cohort = cohort
        self.recorder = recorder

    async def ask(self, client: str, slot: Slot, id: str, call: Call) -> Answer | None:
        """Makes a call at a process; None if the answer is lost. What a list tells is only recorded."""
        method, path, options = self._request(id, call)
        operation = Operation(client, call, time.monotonic(), process=slot.name)
        try:
            response = await self.http.request(method, slot.url + path, **options)
        except _NOT_SENT:
            return None
        except httpx.HTTPError:
            self._record(id, operation, None)
            return None
        answer: Answer | None = _refusal(response)
        rows: Mapping[str, Row] | None = None
        if response.is_success and isinstance(call, List):
            rows = {one["id"]: _row(one) for one in response.json()["instances"]}
        elif response.is_success:
            answer = Accepted(tuple(response.json())) if isinstance(call, Send) else _seen(response.json())
        if answer is not None or rows is not None:
            operation = replace(operation, end=time.monotonic(), answer=answer)
        self._record(id, operation, rows)
        return answer

    def _record(self, id: str, operation: Operation, rows: Mapping[str, Row] | None) -> None:
        if not isinstance(operation.call, List) or operation.answer is not None:  # a refused list counts for one
            self.recorder.histories[id].append(operation)
        else:
            self.recorder.lists.append((operation, rows))

    def _request(self, id: str, call: Call) -> tuple[str, str, dict[str, Any]]:
        path = f"/wf/register/{id}"
        match call:
            case Create(owner, key):
                return "POST", path, {"json": {"cohort": self.cohort, "owner": owner}} | _header(key)
            case Send(word, key, is_last):
                return "POST", f"{path}/{'Close' if is_last else 'Add'}", {"json": word} | _header(key)
            case Cancel():
                return "POST", f"{path}/cancel", {}
            case Get():
                return "GET", path, {}
            case List(status, last):
                wanted = {"status": {LIVE: "waiting"}.get(status or "", status), "search.last": last}
                params = {"search.cohort": self.cohort, "limit": 200}
                params |= {name: value for name, value in wanted.items() if value is not None}
                return "GET", "/wf/register", {"params": params}


def _header(key: str | None) -> dict[str, Any]:
    return {} if key is None else {"headers": {"Idempotency-Key": key}}


def _refusal(response: httpx.Response) -> Refused | None:
    if response.is_success:
        return None
    problem = response.json() if "json" in response.headers.get("content-type", "") else {}
    match response.status_code, problem.get("title"):
        case 404, "Instance not found":
            return Refused("missing")
        case 409, "Instance exists":
            return Refused("exists")
        case 409, "Instance ended":
            return Refused("ended")
        case 409, "Event not accepted" if problem["instance_status"] in ENDED:
            return Refused("ended")
        case 503, "Busy":
            return Refused(BUSY)
        case 503, _:
            return None  # it is not known whether it took effect
    return Refused(f"{response.status_code} {problem.get('detail', response.text)}")


def _seen(shown: Mapping[str, Any]) -> Seen:
    state, status = shown["state"], shown["meta"]["status"]
    return Seen(_STATUS.get(status, status), state["owner"], tuple(state["words"]), tuple(state["booked"]))


def _row(shown: Mapping[str, Any]) -> Row:
    status, search = shown["status"], shown["search"]
    return Row(_STATUS.get(status, status), search["owner"], search["last"])


class Board:
    """The instances that clients use at a time; one that has ended, or was used enough, gives way to a new one."""

    def __init__(self, cohort: str, rng: random.Random) -> None:
        self.cohort = cohort
        self.rng = rng
        self.count = 0
        self.instances = [self._new() for _ in range(INSTANCES_AT_A_TIME)]

    def _new(self) -> Instance:
        self.count += 1
        return Instance(f"{self.cohort}-{self.count}", self.rng.randint(*CALLS))

    def one(self, rng: random.Random) -> Instance:
        place = rng.randrange(len(self.instances))
        if self.instances[place].calls_left <= 0 and self.count < INSTANCES_MAX:
            self.instances[place] = self._new()
        self.instances[place].calls_left -= 1
        return self.instances[place]


class Client:
    """Makes one call after the other."""

    def __init__(self, name: str, door: Door, board: Board, slots: Sequence[Slot], seed: int) -> None:
        self.name = name
        self.door = door
        self.board = board
        self.slots = slots
        self.rng = random.Random(f"{seed} {name}")
        self.again: list[tuple[Instance, Call]] = []

    async def work(self, until: float) -> None:
        """Makes calls until that time, by ``time.monotonic``."""
        while time.monotonic() < until:
            await asyncio.sleep(self.rng.expovariate(1 / PAUSE_SECONDS))
            if self.again and self.rng.random() < 0.4:
                instance, call = self.again.pop(self.rng.randrange(len(self.again)))
            else:
                instance = self.board.one(self.rng)
                call = self._call(instance)
            answer = await self.door.ask(self.name, self.rng.choice(self.slots), instance.id, call)
            self._learn(instance, call, answer)

    def _call(self, instance: Instance) -> Call:
        kinds = {"send": 52.0, "get": 20, "repeat": 8, "list": 7, "create": 3, "close": 1, "cancel": 1}
        if not instance.is_known:
            kinds = {"create": 6, "send": 1, "get": 1, "list": 1, "cancel": 0.3}
        (kind,) = self.rng.choices(list(kinds), list(kinds.values()))
        number = instance.words
        key = f"{self.name}-{number}-{self.rng.randrange(10**6)}" if self.rng.random() < 0.7 else None
        match kind:
            case "send" | "close":
                instance.words += 1
                send = Send(f"{instance.id}.{number}", key, kind == "close")
                instance.sent.append(send)
                return send
            case "repeat" if keyed := [send for send in instance.sent if send.key is not None]:
                return self.rng.choice(keyed[-10:])
            case "list":
                status = self.rng.choice([None, None, LIVE, *ENDED])
                last = f"{instance.id}.{max(number - 1, 0)}" if status is None and self.rng.random() < 0.7 else None
                return List(status, last)
            case "create":
                return Create(self.name, key)
            case "cancel":
                return Cancel()
        return Get()

    def _learn(self, instance: Instance, call: Call, answer: Answer | None) -> None:
        instance.is_known = instance.is_known or isinstance(answer, Seen | Accepted)
        if answer == Refused("ended") or (isinstance(answer, Seen) and answer.status in ENDED):
            instance.calls_left = min(instance.calls_left, CALLS_AFTER_THE_END)
        is_lost = answer is None or answer == Refused(BUSY)
        if is_lost and isinstance(call, Create | Send) and call.key is not None and self.rng.random() < 0.9:
            self.again.append((instance, call))
