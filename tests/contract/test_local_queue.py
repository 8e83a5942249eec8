"""The in-process queue: the contract of all queues, and what is its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from cloud_adapter.clock import SystemClock
from cloud_adapter.errors import InvalidRequest, TooLarge, Unavailable
from cloud_adapter.ports import TASK_BYTES_MAX, Clock, Task, TaskQueue
from cloud_adapter.queues import local
from cloud_adapter.queues.local import LOCAL_SHARES, LocalQueue
from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import QueueState
from cloud_adapter.queues.runner import SLEEP_SECONDS_MAX
from gorchestrate.testing.clock import ManualClock
from tests.contract.queue_contract import QueueContract, QueueHarness, Receiver, task


@dataclass
class Harness:
    clock: ManualClock = field(default_factory=ManualClock)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receiver = Receiver(self.clock.now)
        self.queue = LocalQueue(self.receiver, self.clock, **self.options)

    def now(self) -> datetime:
        return self.clock.now()

    async def advance(self, seconds: float = 0) -> None:
        await self.clock.advance(seconds)


class TestContract(QueueContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[QueueHarness]:
        harness = Harness()
        await harness.queue.start()
        yield harness
        await harness.queue.close()


def run(scenario: Callable[[Harness], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        harness = Harness(options=options)
        await harness.queue.start()
        try:
            await scenario(harness)
        finally:
            await harness.queue.close(grace_seconds=0)

    asyncio.run(main())


def test_it_is_the_port() -> None:
    clock: Clock = SystemClock()
    queue: TaskQueue = LocalQueue(Receiver(clock.now), clock)
    assert queue


def test_an_exception_is_a_refusal_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.refuse("a", 2, error=LookupError("no such thing"))
        await h.queue.create(task("a"))
        await h.advance(10)
        assert [delivery.retries for delivery in h.receiver.deliveries] == [0, 1, 2]

    run(scenario)
    records = [record for record in caplog.records if record.name == "gorchestrate.queue"]
    assert [record.getMessage() for record in records] == [
        "attempt 1 of task a (/resume) failed",
        "attempt 2 of task a (/resume) failed",
    ]
    assert all(record.exc_info and isinstance(record.exc_info[1], LookupError) for record in records)


def test_a_delivery_that_cancels_itself_is_a_refusal() -> None:
    async def main() -> None:
        clock, calls = ManualClock(), list[int]()

        async def deliver(_: Task, retries: int) -> bool:
            calls.append(retries)
            if retries == 0:
                raise asyncio.CancelledError
            return True

        queue = LocalQueue(deliver, clock)
        await queue.start()
        await queue.create(task("a"))
        await clock.advance(5)
        await queue.close()
        assert calls == [0, 1]

    asyncio.run(main())


def test_the_intervals_are_those_of_the_retry_config() -> None:
    async def scenario(h: Harness) -> None:
        start = h.now()
        h.receiver.refuse("a", 10)
        await h.queue.create(task("a"))
        await h.advance(120)
        seconds = [round((at - start).total_seconds(), 3) for at in h.receiver.times("a")]
        assert seconds == [0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 22.7, 32.7, 42.7]

    run(scenario)


def test_a_task_is_given_up_after_its_last_attempt(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.refuse("a", 100)
        await h.queue.create(task("a"))
        await h.advance(600)
        assert h.receiver.names == ["a"] * 3

    run(scenario, retry=RetryConfig(max_attempts=3))
    assert caplog.messages == ["task a (/resume) is given up after 3 attempts"]


def test_by_default_a_task_is_given_up_after_100_attempts() -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.refuse("a", 1_000)
        await h.queue.create(task("a"))
        await h.advance(2_000)
        assert h.receiver.names == ["a"] * 100

    run(scenario)


@pytest.mark.parametrize("letter", ["x", "ж", "🍕"])
def test_path_and_body_together_may_have_as_many_bytes_as_the_limit(letter: str) -> None:
    async def scenario(h: Harness) -> None:
        path = "/" + "p" * 999
        size = (TASK_BYTES_MAX - len(path) - len('{"text": ""}')) // len(letter.encode())
        left = "x" * ((TASK_BYTES_MAX - len(path) - len('{"text": ""}')) % len(letter.encode()))
        text = letter * size + left
        await h.queue.create(Task("fits", path, {"text": text}))
        with pytest.raises(TooLarge, match="has 1000001 bytes"):
            await h.queue.create(Task("too-large", path, {"text": text + "x"}))
        await h.advance()
        assert h.receiver.names == ["fits"]
        assert h.receiver.deliveries[0].task.body == {"text": text}

    run(scenario)


def test_a_full_queue_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "QueueState", partial(QueueState, entries_max=2))

    async def scenario(h: Harness) -> None:
        for name in "ab":
            h.receiver.hold(name)
            await h.queue.create(task(name))
        with pytest.raises(Unavailable, match="the queue holds 2 tasks"):
            await h.queue.create(task("c"))
        await h.queue.create(task("a"))  # it is there
        await h.advance()
        h.receiver.release("a")
        await h.advance()
        await h.queue.create(task("c"))
        await h.advance()
        assert h.receiver.names == ["a", "b", "c"]

    run(scenario)


def test_deleting_a_running_task_lets_it_end_and_changes_nothing_else() -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.advance()
        await h.queue.delete("a")
        await h.advance(5)
        assert h.receiver.cancelled == []
        h.receiver.release("a")
        await h.advance(5)
        assert h.receiver.acknowledged == ["a"]
        assert h.receiver.names == ["a"]

    run(scenario)


def test_a_name_can_be_used_again_after_an_hour() -> None:
    async def scenario(h: Harness) -> None:
        await h.queue.create(task("a"))
        await h.advance(3_599)
        await h.queue.create(task("a"))
        await h.advance()
        assert h.receiver.names == ["a"]
        await h.advance(1)
        await h.queue.create(task("a"))
        await h.advance()
        assert h.receiver.names == ["a", "a"]

    run(scenario)


def test_concurrency_is_limited() -> None:
    async def scenario(h: Harness) -> None:
        for name in "abcd":
            h.receiver.hold(name)
            await h.queue.create(task(name))
        await h.advance(10)
        assert h.receiver.names == ["a", "b"]
        h.receiver.release("a")
        await h.advance()
        assert h.receiver.names == ["a", "b", "c"]

    run(scenario, limits=RateLimits(max_concurrent_dispatches=2))


def test_a_group_that_holds_all_its_places_does_not_hold_up_others() -> None:
    async def scenario(h: Harness) -> None:
        for number in range(1_000):
            h.receiver.hold(f"a-{number}")
            await h.queue.create(Task(f"a-{number}", "/activity", {}, group="workflow/a"))
        await h.advance()
        assert len(h.receiver.names) == LOCAL_SHARES.of_group >= 100
        await h.queue.create(Task("b", "/resume", {}, group="workflow/b"))
        await h.advance()
        assert h.receiver.acknowledged == ["b"]
        assert h.receiver.deliveries[-1].task.group == ""
        h.receiver.release("a-0")
        await h.advance()
        assert h.receiver.names[-1] == f"a-{LOCAL_SHARES.of_group}"

    run(scenario)


def test_fan_outs_together_leave_places_for_others() -> None:
    async def scenario(h: Harness) -> None:
        for number in range(900):
            h.receiver.hold(f"{number}")
            await h.queue.create(Task(f"{number}", "/activity", {}, group=f"workflow/{number % 3}"))
        await h.advance()
        await h.queue.create(Task("b", "/resume", {}, group="workflow/b"))
        await h.advance()
        assert h.receiver.acknowledged == ["b"]

    run(scenario)


def test_one_of_20_000_tasks_of_another_group_comes_soon() -> None:
    async def scenario(h: Harness) -> None:
        for number in range(20_000):
            await h.queue.create(Task(f"a-{number}", "/activity", {}, group="workflow/a"))
        await h.queue.create(Task("b", "/resume", {}, group="workflow/b"))
        await h.advance()
        assert h.receiver.names.index("b") <= 2
        assert h.receiver.names[:2] == ["a-0", "b"]

    run(scenario)


def test_the_rate_is_limited() -> None:
    async def scenario(h: Harness) -> None:
        start = h.now()
        for name in "abcde":
            await h.queue.create(task(name))
        await h.advance(10)
        assert [(delivery.at - start).total_seconds() for delivery in h.receiver.deliveries] == [0, 0, 0.5, 1, 1.5]

    run(scenario, limits=RateLimits(max_dispatches_per_second=2, max_burst_size=2))


def test_a_thousand_tasks() -> None:
    async def scenario(h: Harness) -> None:
        start = h.now()
        for number in range(1_000):
            at = start + timedelta(seconds=(number * 7919) % 1_000) if number % 2 else None
            await h.queue.create(task(f"task-{number}", at))
        await h.advance()
        assert len(h.receiver.acknowledged) == 500
        await h.advance(1_000)
        assert sorted(h.receiver.acknowledged) == sorted(f"task-{number}" for number in range(1_000))
        assert all(d.task.at is not None and d.at == d.task.at for d in h.receiver.deliveries)

    run(scenario)


def test_a_far_timer_costs_a_look_every_ten_minutes_and_is_exact() -> None:
    async def scenario(h: Harness) -> None:
        at = h.now() + timedelta(days=30)
        await h.queue.create(task("a", at))
        await h.advance()
        assert h.clock.next_wake == h.now() + timedelta(seconds=SLEEP_SECONDS_MAX)
        await h.clock.advance_to(at + timedelta(days=1))
        assert h.receiver.times("a") == [at]

    run(scenario)


def test_a_queue_with_nothing_to_do_does_not_even_sleep() -> None:
    async def scenario(h: Harness) -> None:
        await h.advance()
        assert h.clock.sleeping == 0
        await h.queue.create(task("a"))
        await h.advance()
        assert h.receiver.names == ["a"]
        assert h.clock.sleeping == 0

    run(scenario)


def test_tasks_wait_for_the_start() -> None:
    async def main() -> None:
        h = Harness()
        await h.queue.create(task("a"))
        await h.queue.idle()
        await h.advance(5)
        assert h.receiver.names == []
        await h.queue.start()
        with pytest.raises(RuntimeError, match="started only once"):
            await h.queue.start()
        await h.queue.idle()
        assert h.receiver.names == ["a"]
        await h.queue.close()
        with pytest.raises(RuntimeError, match="started only once"):
            await h.queue.start()

    asyncio.run(main())


def test_idle_waits_for_what_is_due_and_runs() -> None:
    async def scenario(h: Harness) -> None:
        await h.queue.idle()
        h.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.queue.create(task("later", h.now() + timedelta(seconds=5)))
        idle = asyncio.create_task(h.queue.idle())
        await h.advance(1)
        assert not idle.done()
        h.receiver.release("a")
        await idle
        assert h.receiver.acknowledged == ["a"]
        await h.advance(4)
        await h.queue.idle()
        assert h.receiver.acknowledged == ["a", "later"]

    run(scenario)


def test_idle_sees_a_deletion_and_the_close() -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.advance()
        await h.queue.create(task("b"))
        idle = asyncio.create_task(h.queue.idle())
        await h.advance()
        await h.queue.delete("b")
        await h.queue.close(grace_seconds=0)
        await idle

    run(scenario, limits=RateLimits(max_concurrent_dispatches=1))


def test_close_lets_deliveries_end() -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.advance()
        closing = asyncio.create_task(h.queue.close(grace_seconds=10))
        await h.advance(9)
        await h.queue.create(task("made-by-a"))  # what still runs may create tasks; they are not delivered
        assert not closing.done()
        h.receiver.release("a")
        await closing
        await h.advance(5)
        assert h.receiver.acknowledged == ["a"]
        assert h.receiver.cancelled == []
        assert h.receiver.names == ["a"]
        with pytest.raises(Unavailable, match="closed"):
            await h.queue.create(task("b"))
        await h.queue.delete("made-by-a")
        await h.queue.close()

    run(scenario)


def test_close_cancels_after_the_grace_period(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(h: Harness) -> None:
        for name in "ab":
            h.receiver.hold(name)
            await h.queue.create(task(name))
        await h.queue.create(task("later", h.now() + timedelta(seconds=5)))
        await h.advance()
        closing = asyncio.create_task(h.queue.close(grace_seconds=10))
        await h.advance(9.999)
        assert h.receiver.cancelled == []
        await h.advance(0.001)
        await closing
        assert sorted(h.receiver.cancelled) == ["a", "b"]
        assert h.receiver.names == ["a", "b"]
        assert h.clock.sleeping == 0

    with caplog.at_level(logging.WARNING, logger="gorchestrate.queue"):
        run(scenario)
    assert caplog.messages == ["2 deliveries were still running after the grace period"]


def test_a_queue_that_was_never_started_can_be_closed() -> None:
    async def main() -> None:
        h = Harness()
        await h.queue.close()
        with pytest.raises(Unavailable):
            await h.queue.create(task("a"))

    asyncio.run(main())


def test_a_task_beyond_the_horizon_is_refused() -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(InvalidRequest, match="30 days ahead"):
            await h.queue.create(task("a", h.now() + timedelta(days=30, microseconds=1)))
        await h.advance()
        assert h.receiver.names == []
        await h.queue.create(task("a"))  # nothing refused has taken the name
        await h.advance()
        assert h.receiver.names == ["a"]

    run(scenario)


def test_the_system_clock() -> None:
    clock = SystemClock()
    before = datetime.now(UTC)
    asyncio.run(clock.sleep(-1))
    assert before <= clock.now() <= datetime.now(UTC)
    assert clock.now().utcoffset() == timedelta(0)


def test_it_runs_on_the_system_clock() -> None:
    async def main() -> None:
        attempts, done = list[int](), asyncio.Event()

        async def deliver(_: Task, retries: int) -> bool:
            attempts.append(retries)
            if retries == 2:
                done.set()
            return retries == 2

        queue = LocalQueue(deliver, SystemClock(), retry=RetryConfig(min_backoff=timedelta(milliseconds=1)))
        await queue.start()
        await queue.create(task("a"))
        await done.wait()
        await queue.idle()
        await queue.close()
        assert attempts == [0, 1, 2]

    asyncio.run(asyncio.wait_for(main(), 10))


def test_the_manual_clock_wakes_sleepers_in_order_and_at_their_time() -> None:
    async def main() -> None:
        clock = ManualClock()
        start, woken = clock.now(), list[tuple[str, float]]()

        async def sleeper(name: str, *naps: float) -> None:
            for seconds in naps:
                await clock.sleep(seconds)
                woken.append((name, (clock.now() - start).total_seconds()))

        async def in_thread() -> None:
            await clock.sleep(2.5)
            woken.append((await asyncio.to_thread(lambda: "thread"), (clock.now() - start).total_seconds()))

        tasks = [asyncio.create_task(sleeper("a", 2, 2)), asyncio.create_task(sleeper("b", 1, 2, 0, 5))]
        tasks += [asyncio.create_task(in_thread()), asyncio.create_task(sleeper("cancelled", 1))]
        await clock.settle()
        tasks[-1].cancel()
        await clock.advance(4)
        assert woken == [("b", 1), ("a", 2), ("thread", 2.5), ("b", 3), ("b", 3), ("a", 4)]
        assert clock.sleeping == 1
        assert clock.next_wake == start + timedelta(seconds=8)
        with pytest.raises(ValueError, match="does not go back"):
            await clock.advance(-1)
        await clock.advance(4)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert clock.now() == start + timedelta(seconds=8)

    asyncio.run(main())
