"""What runs a queue: when it looks at its rules again, what it lets run meanwhile, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import datetime, timedelta
from itertools import groupby

import pytest

from cloud_adapter.ports import Task
from cloud_adapter.queues.local import LocalQueue
from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.runner import SENT_AT_A_TIME
from gorchestrate.testing.clock import ManualClock
from tests.contract.queue_contract import Receiver, task

SECOND = timedelta(seconds=1)


def run(
    scenario: Callable[[LocalQueue, Receiver, ManualClock], Awaitable[None]], limits: RateLimits | None = None
) -> None:
    async def main() -> None:
        clock = ManualClock()
        receiver = Receiver(clock.now)
        queue = LocalQueue(receiver, clock, limits=limits or RateLimits())
        await queue.start()
        await clock.settle()
        try:
            await scenario(queue, receiver, clock)
        finally:
            await queue.close(grace_seconds=0)

    asyncio.run(asyncio.wait_for(main(), 10))


def test_time_that_passes_while_tasks_are_sent_does_not_delay_the_next() -> None:
    async def main() -> None:
        clock, times, end = ManualClock(), dict[str, datetime](), asyncio.Event()
        start = clock.now()

        async def deliver(delivered: Task, _: int) -> bool:
            times[delivered.name] = clock.now()
            if delivered.name.startswith("at-once"):
                clock.jump(5 / SENT_AT_A_TIME)
                await end.wait()  # so that its end wakes nobody
            return True

        queue = LocalQueue(deliver, clock)
        for number in range(SENT_AT_A_TIME):
            await queue.create(task(f"at-once-{number}"))
        for seconds in (4, 6):
            await queue.create(task(f"after-{seconds}", start + seconds * SECOND))
        await queue.start()
        await clock.settle()
        assert times["after-4"] == start + 5 * SECOND
        await clock.advance(1)
        assert times["after-6"] == start + 6 * SECOND
        end.set()
        await queue.close()

    asyncio.run(main())


def test_other_work_gets_its_turn_between_the_deliveries_of_many_tasks() -> None:
    async def main() -> None:
        clock, seen = ManualClock(), list[str]()

        async def deliver(_: Task, __: int) -> bool:
            seen.append("delivery")
            return True

        async def other_work() -> None:
            while seen.count("delivery") < 20:
                seen.append("other")
                await asyncio.sleep(0)

        queue = LocalQueue(deliver, clock)
        for number in range(20):
            await queue.create(task(f"{number}"))
        working = asyncio.create_task(other_work())
        await queue.start()
        await working
        await queue.close()
        longest = max(len(list(group)) for what, group in groupby(seen) if what == "delivery")
        assert longest <= SENT_AT_A_TIME

    asyncio.run(main())


def test_deliveries_do_not_belong_to_the_request_that_started_the_queue() -> None:
    request: ContextVar[str] = ContextVar("request", default="none")

    async def main() -> None:
        clock, seen = ManualClock(), list[str]()

        async def deliver(_: Task, __: int) -> bool:
            seen.append(request.get())
            return True

        queue = LocalQueue(deliver, clock)
        request.set("the first")
        await queue.start()
        await queue.create(task("a"))
        await clock.settle()
        await queue.close()
        assert seen == ["none"]

    asyncio.run(main())


def test_nothing_of_a_canceled_delivery_runs_after_the_queue_is_closed() -> None:
    cleaned: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()

        async def deliver(delivered: Task, _: int) -> bool:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                for _ in range(20):
                    await asyncio.sleep(0)
                cleaned.append(delivered.name)
            return True

        queue = LocalQueue(deliver, ManualClock())
        await queue.create(task("slow"))
        await queue.start()
        await begun.wait()
        await queue.close(grace_seconds=0)
        assert cleaned == ["slow"]

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("turns", range(8))
def test_a_queue_can_be_closed_while_its_last_delivery_ends(turns: int) -> None:
    async def main() -> None:
        clock, ending = ManualClock(), asyncio.Event()

        async def deliver(_: Task, __: int) -> bool:
            await ending.wait()
            for _turn in range(turns):
                await asyncio.sleep(0)
            return True

        queue = LocalQueue(deliver, clock)
        await queue.start()
        await queue.create(task("a"))
        await clock.settle()
        ending.set()
        await queue.close()
        assert queue.tasks() == []

    asyncio.run(main())


# --- idle -----------------------------------------------------------------------------------


def test_idle_ends_when_the_queue_stops_before_it_has_sent_what_is_due() -> None:
    async def scenario(queue: LocalQueue, receiver: Receiver, clock: ManualClock) -> None:
        await queue.create(task("a", clock.now() + SECOND))
        await clock.settle()
        clock.jump(1)  # it is due, and the queue sleeps on
        idle = asyncio.create_task(queue.idle())
        await clock.settle()
        assert not idle.done()
        await queue.close()
        await idle
        assert receiver.names == []

    run(scenario)


def test_idle_ends_when_what_is_due_is_deleted() -> None:
    async def scenario(queue: LocalQueue, receiver: Receiver, clock: ManualClock) -> None:
        await queue.create(task("a", clock.now() + SECOND))
        await clock.settle()
        clock.jump(1)
        idle = asyncio.create_task(queue.idle())
        await clock.settle()
        await queue.delete("a")
        await idle
        assert receiver.names == []

    run(scenario)


@pytest.mark.parametrize("limits", [RateLimits(max_concurrent_dispatches=1), RateLimits(max_burst_size=1)])
def test_idle_waits_for_what_waits_for_a_place_or_a_token(limits: RateLimits) -> None:
    async def scenario(queue: LocalQueue, receiver: Receiver, clock: ManualClock) -> None:
        receiver.hold("0")
        for number in range(3):
            await queue.create(task(f"{number}"))
        idle = asyncio.create_task(queue.idle())
        await clock.advance(1)
        assert not idle.done()
        receiver.release("0")
        await clock.advance(1)
        await idle
        assert sorted(receiver.acknowledged) == ["0", "1", "2"]

    run(scenario, limits)


# --- errors ---------------------------------------------------------------------------------


class StoppedClock(ManualClock):
    """A clock that cannot wait."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], object]:
        raise OSError("no timer")


def test_an_error_of_the_queue_itself_is_logged_and_does_not_hang_its_caller(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        clock = StoppedClock()
        receiver = Receiver(clock.now)
        queue = LocalQueue(receiver, clock)
        await queue.start()
        await queue.create(task("a"))
        await queue.create(task("later", clock.now() + SECOND))
        await clock.settle()
        clock.jump(1)
        await queue.idle()
        await queue.close()
        assert receiver.names == ["a"]

    asyncio.run(asyncio.wait_for(main(), 10))
    (record,) = caplog.records
    assert record.getMessage() == "the queue has stopped: this is a defect of gorchestrate"
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], OSError)
