"""Many clients, each with an engine and connections of its own, send events to the same instances at once."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import Busy, Unavailable
from tests.emulator.firestore_engine import firestore_engine
from tests.emulator.harness import until
from workflow_core import EventRejected, If, On, S, Select, Step, While, Workflow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CLIENTS = 8
EVENTS = 200
INSTANCES = 50
SECONDS_MAX = 60

REJECTED_EVERY = 7
AUDITED_EVERY = 20


class Ledger(Workflow, name="ledger"):
    """Enters numbers, but for some that it rejects; after some it runs a step, so that events meet leases too."""

    numbers: list[int] = []
    to_audit: list[int] = []
    audited: list[int] = []

    def enter(self, number: int) -> int:
        if number % REJECTED_EVERY == 0:
            raise EventRejected(f"{number} is not wanted")
        self.numbers.append(number)
        if number % AUDITED_EVERY == 0:
            self.to_audit.append(number)
        return len(self.numbers)

    async def audit(self) -> None:
        self.audited += self.to_audit
        self.to_audit.clear()

    definition = S(
        While(
            "open",
            lambda o: True,
            Select("next number", On("Enter", enter)),
            If("to be audited", lambda o: bool(o.to_audit), Step("audit", audit)),
        )
    )


async def enter(engine: Engine, id: str, number: int) -> int | None:
    """Sends a number until it is answered, always with the same key; None if it is rejected."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return int(await engine.handle_event("ledger", id, "Enter", str(number).encode(), key=f"key-{number}"))
        except EventRejected:
            return None
        except (Busy, Unavailable):  # both have waited by themselves
            assert time.monotonic() < deadline, f"{number} was not taken in {SECONDS_MAX} s"


def send_all(project: str, instance_of: Callable[[int], str]) -> None:
    """8 clients send the numbers to the instances; checks what has become of each number."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(firestore_engine(project, Ledger)) for _ in range(CLIENTS)]
            engines = [engine for engine, _ in opened]
            numbers = range(1, EVENTS + 1)
            expected: dict[str, set[int]] = defaultdict(set)
            for number in numbers:
                expected[instance_of(number)] |= {number} if number % REJECTED_EVERY else set()
            for id in expected:
                await engines[0].create("ledger", id)
            answers: dict[int, int | None] = {}

            async def share(first: int) -> None:
                for number in numbers[first::CLIENTS]:
                    answers[number] = await enter(engines[first], instance_of(number), number)

            await asyncio.gather(*(share(first) for first in range(CLIENTS)))

            async def ledger(id: str) -> Ledger:
                workflow = (await engines[0].get("ledger", id)).workflow
                assert isinstance(workflow, Ledger)
                return workflow

            for id, entered in expected.items():

                async def is_audited(id: str = id) -> bool:
                    return not (await ledger(id)).to_audit

                await until(is_audited, poll_seconds=0.02)
                one = await ledger(id)
                assert sorted(one.numbers) == sorted(entered), "each accepted number once, no other one"
                # What a client was told is what happened: its number was that entry.
                assert [answers[number] for number in one.numbers] == list(range(1, len(entered) + 1))
                assert sorted(one.audited) == sorted(n for n in entered if n % AUDITED_EVERY == 0)
            assert [n for n in numbers if answers[n] is None] == [n for n in numbers if n % REJECTED_EVERY == 0]

            # Whoever asks again is told the same, and nothing changes.
            again = [number for number in numbers if number % REJECTED_EVERY][:: EVENTS // 10]
            assert [await enter(engines[-1], instance_of(n), n) for n in again] == [answers[n] for n in again]
            for id, entered in expected.items():
                assert len((await ledger(id)).numbers) == len(entered)

    asyncio.run(main())


def test_200_events_to_1_instance(firestore_project: str) -> None:
    send_all(firestore_project, lambda number: "one")


def test_200_events_to_50_instances(firestore_project: str) -> None:
    # Four clients each meet at an instance, all at the same time.
    send_all(firestore_project, lambda number: f"ledger-{(number - 1) // (EVENTS // INSTANCES)}")
