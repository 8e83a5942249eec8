"""Kills the processes of a deployment, and its PostgreSQL server, again and again, while clients use it: what is
recorded is checked at the end.

A seed draws who is killed when; what that meets depends on real time.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.deployment import Deployment, Processes, Slot, deployed, on_postgresql
from tests.kill.check import Mark, Record, violations

SOURCE = Path(__file__).with_name("source.py")
LEASE_SECONDS = 3
LEASE_LEFT_SECONDS = 0.4 * LEASE_SECONDS
"""What a step has left of it when it begins: two thirds, less the time that the beginning takes."""
RECOVER_SECONDS = 4
ASSEMBLIES, PIZZAS = 3, 2
ROUNDS, PARTS = 2, 4
KILL_SECONDS = (0.8, 3.5)
DATABASE_CRASHES = 0.3
"""How often the database crashes instead of a process, if that is ours."""
KILLS_MIN = 2
LONGER_SECONDS_MAX = 60.0
"""For how much longer it kills than asked for, on a slow machine, until it has killed enough."""
DRAIN_SECONDS_MAX = 90.0
ATTEMPT_SECONDS_MAX = 8.0


BACKENDS: dict[str, Callable[..., AbstractAsyncContextManager[Deployment | Processes]]] = {
    "firestore": deployed,
    "postgresql": on_postgresql,
}


class Drained(Exception):
    """There was no answer until the time was up."""


@dataclass
class Report:
    """What a run came to."""

    records: list[Record] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    kills: list[tuple[int, float]] = field(default_factory=list)
    kills_in_a_step: int = 0
    database_crashes: int = 0
    requests: int = 0
    retries: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def is_enough(self) -> bool:
        """Whether so much was killed that the end tells something."""
        return len(self.kills) + self.database_crashes >= KILLS_MIN and self.kills_in_a_step >= 1

    def __str__(self) -> str:
        steps = sum(mark.what == "start" for mark in self.marks)
        again = steps - len({mark.key for mark in self.marks})
        return (
            f"{len(self.kills)} kills, {self.kills_in_a_step} of them in a step; "
            f"{self.database_crashes} crashes of the database; {len(self.records)} instances, "
            f"{self.requests} requests, {self.retries} made again; {steps} steps, {again} run again; "
            f"{len(self.violations)} violations"
        )


class Course:
    """For how long processes are killed: for the seconds asked for, and on until it was enough, but not for ever."""

    def __init__(self, report: Report, seconds: float) -> None:
        self._report = report
        self._until = time.monotonic() + seconds
        self.give_up = self._until + LONGER_SECONDS_MAX + DRAIN_SECONDS_MAX

    @property
    def is_over(self) -> bool:
        now = time.monotonic()
        return now >= self._until + (0 if self._report.is_enough else LONGER_SECONDS_MAX)


class Killer:
    """Kills the processes of a deployment, and starts them again."""

    def __init__(self, deployment: Deployment | Processes, marks: Path, report: Report, seed: int) -> None:
        self.slots = deployment.slots
        self.server = deployment.server if isinstance(deployment, Processes) else None
        self.marks = marks
        self.report = report
        self.random = random.Random(seed)

    async def kill(self, course: Course) -> None:
        while not course.is_over:
            await asyncio.sleep(self.random.uniform(*KILL_SECONDS))
            if self.server is not None and self.random.random() < DATABASE_CRASHES:
                await asyncio.to_thread(self.server.stop, "immediate")
                await asyncio.to_thread(self.server.start)
                self.report.database_crashes += 1
                continue
            slot = await self._in_a_step() if self.random.random() < 0.6 else None
            slot = slot or self.random.choice(self.slots)
            assert slot.process is not None
            process = slot.process.process.pid
            self.report.kills.append((process, time.monotonic()))
            self.report.kills_in_a_step += process in {mark.process for mark in self._running()}
            await slot.kill()
            slot.start()

    async def _in_a_step(self) -> Slot | None:
        """Waits for a worker that runs a step."""
        for _ in range(100):
            for mark in self._running():
                for slot in self.slots:
                    if slot.process is not None and slot.process.process.pid == mark.process:
                        return slot
            await asyncio.sleep(0.01)
        return None

    def _running(self) -> list[Mark]:
        """The steps that have begun and not ended."""
        running: dict[tuple[str, int], Mark] = {}
        for mark in self.read_marks():
            if mark.what == "start":
                running[mark.key, mark.process] = mark
            else:
                running.pop((mark.key, mark.process), None)
        return list(running.values())

    def read_marks(self) -> list[Mark]:
        if not self.marks.exists():
            return []
        return [Mark(**json.loads(line)) for line in self.marks.read_text().splitlines()]


class Client:
    """Makes each request again, under its key, until it is answered."""

    def __init__(
        self, deployment: Deployment | Processes, http: httpx.AsyncClient, report: Report, course: Course
    ) -> None:
        self.urls = [slot.url for slot in deployment.of("api")]
        self.http = http
        self.report = report
        self.course = course

    async def insist(self, method: str, path: str, body: Any = None, *, over: Callable[[], Any] | None = None) -> Any:
        """The response's JSON. ``over`` tells, after a refusal, whether to stop; then None is the answer.

        Raises:
            Drained: there was no answer in time.
        """
        key = f"key-{self.report.requests}"
        self.report.requests += 1
        attempt = 0
        while time.monotonic() < self.course.give_up:
            url = self.urls[(self.report.requests + attempt) % len(self.urls)] + path
            attempt += 1
            self.report.retries += attempt > 1
            with suppress(httpx.HTTPError):
                response = await self.http.request(method, url, json=body, headers={"Idempotency-Key": key})
                if response.is_success:
                    return response.json()
                if response.status_code not in (409, 500, 503):
                    raise AssertionError(f"{method} {path}: {response.status_code} {response.text}")
                if response.status_code == 409 and over is not None and await over():
                    return None
            await asyncio.sleep(0.1)
        raise Drained(path)

    # --- what clients do -----------------------------------------------------------------

    async def assemblies(self, lane: int) -> None:
        number = 0
        while not self.course.is_over:
            record = Record("assembly", f"assembly-{lane}-{number}")
            number += 1
            self.report.records.append(record)
            record.expected = {"received": list(range(PARTS)), "booked": list(range(2, PARTS + 1, 2))}
            with suppress(Drained):
                await self.insist("POST", f"/wf/assembly/{record.id}", {"rounds": ROUNDS, "parts": PARTS})
                await asyncio.gather(self._parts(record), self._races(record))
            await self._end(record)

    async def _parts(self, record: Record) -> None:
        for part in range(PARTS):
            count = await self.insist("POST", f"/wf/assembly/{record.id}/Receive", part)
            assert count == part + 1, f"{record.id}: part {part} is answered by {count}"

    async def _races(self, record: Record) -> None:
        path = f"/wf/assembly/{record.id}"
        for round in range(ROUNDS):

            async def is_over(round: int = round) -> bool:
                state = (await self.insist("GET", path))["state"]
                return len(state["races"]) > round

            async def is_on(round: int = round) -> bool:
                seen = await self.insist("GET", path)
                return await is_over() or any(event["name"] == "Win" for event in seen["events"])

            while not await is_on():
                if time.monotonic() > self.course.give_up:
                    raise Drained(path)
                await asyncio.sleep(0.05)
            if await is_over():
                continue
            record.sent.add(round)
            if await self.insist("POST", f"{path}/Win", round, over=is_over) is not None:
                record.won.add(round)

    async def pizzas(self, lane: int) -> None:
        number = 0
        while not self.course.is_over:
            record = Record("pizza", f"pizza-{lane}-{number}")
            number += 1
            self.report.records.append(record)
            cart = [{"name": "margherita", "qty": 2}, {"name": "marinara", "qty": 1}]
            record.expected = {"cart": cart, "status": "completed", "paid_amount": 21, "courier": "Cai"}
            path = f"/wf/pizza/{record.id}"
            with suppress(Drained):
                await self.insist("POST", path)
                for pizza in cart:
                    await self.insist("POST", f"{path}/AddToCart", pizza)
                for event, body in (
                    ("SubmitCart", None),
                    ("ConfirmOrder", {"manager": "Mia", "amount": 21}),
                    ("Pay", {"amount": 10}),
                    ("StartCooking", None),
                    ("FinishCooking", None),
                    ("TakeDelivery", {"courier": "Cai"}),
                    ("Pay", {"amount": 11}),
                    ("Deliver", None),
                ):
                    await self.insist("POST", f"{path}/{event}", body)
            await self._end(record)

    async def _end(self, record: Record) -> None:
        """Waits for the instance's end, and notes how it looks."""
        with suppress(Drained):
            while record.status != "finished":
                seen = await self.insist("GET", f"/wf/{record.workflow}/{record.id}")
                record.status, record.state = seen["meta"]["status"], seen["state"]
                if time.monotonic() > self.course.give_up:
                    break
                await asyncio.sleep(0.1)


async def run(
    backend: str, folder: Path, seconds: float, seed: int, say: Callable[[str], None] = lambda text: None
) -> Report:
    """Kills for that time, lets everything come to its end, and checks it."""
    report = Report()
    marks = folder / "side-effects.jsonl"
    variables = {"GORCHESTRATE_LEASE_SECONDS": str(LEASE_SECONDS), "SIDE_EFFECTS": str(marks)}
    async with (
        BACKENDS[backend](SOURCE, folder, recover_seconds=RECOVER_SECONDS, variables=variables) as deployment,
        httpx.AsyncClient(timeout=ATTEMPT_SECONDS_MAX) as http,
    ):
        killer = Killer(deployment, marks, report, seed)
        course = Course(report, seconds)
        client = Client(deployment, http, report, course)
        lanes = [client.assemblies(lane) for lane in range(ASSEMBLIES)]
        lanes += [client.pizzas(lane) for lane in range(PIZZAS)]
        progress = asyncio.create_task(_progress(report, say))
        try:
            await asyncio.gather(killer.kill(course), *lanes)
        finally:
            progress.cancel()
        left = await deployment.tasks_left()
        while left and time.monotonic() < course.give_up:
            await asyncio.sleep(0.2)
            left = await deployment.tasks_left()
        report.marks = killer.read_marks()
    report.violations = violations(report.records, report.marks, report.kills, left, LEASE_LEFT_SECONDS)
    return report


async def _progress(report: Report, say: Callable[[str], None]) -> None:
    while True:
        await asyncio.sleep(10)
        say(f"{len(report.kills)} kills, {len(report.records)} instances, {report.requests} requests")
