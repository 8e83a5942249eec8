"""What every TaskQueue must do, tested on each adapter. Knows the port, and of an adapter only its harness.

An adapter's test inherits ``QueueContract`` and says how a harness is opened::

    class TestMyQueue(QueueContract):
        @asynccontextmanager
        async def open(self):
            receiver = Receiver(clock.now)
            ...  # a queue whose deliveries call the receiver; False is a refusal (over HTTP: 500)
            yield MyHarness(queue, receiver, ...)

The queue's backoff must begin between 0.1 and 1 s and double at least twice, and it must let 50 attempts run at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Protocol

import pytest

from cloud_adapter.errors import InvalidRequest, TooLarge
from cloud_adapter.ports import TASK_BYTES_MAX, Task, TaskQueue


@dataclass(frozen=True)
class Delivery:
    """One attempt that reached the receiver."""

    task: Task
    retries: int
    at: datetime


class Receiver:
    """The receiver of the queue's deliveries: records each one, and answers as configured, or acknowledges."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.deliveries: list[Delivery] = []
        self.acknowledged: list[str] = []
        self.cancelled: list[str] = []
        self._now = now
        self._refusals: dict[str, int] = {}
        self._errors: dict[str, Exception] = {}
        self.gates: dict[str, asyncio.Event] = {}

    def refuse(self, name: str, times: int, error: Exception | None = None) -> None:
        """Refuses a task so often (by raising the error, if one is given)."""
        self._refusals[name] = times
        if error is not None:
            self._errors[name] = error

    def hold(self, name: str) -> None:
        """Lets the attempts of a task hang until it is released."""
        self.gates[name] = asyncio.Event()

    def release(self, name: str) -> None:
        self.gates.pop(name).set()

    async def __call__(self, task: Task, retries: int) -> bool:
        self.deliveries.append(Delivery(task, retries, self._now()))
        if task.name in self.gates:
            try:
                await self.gates[task.name].wait()
            except asyncio.CancelledError:
                self.cancelled.append(task.name)
                raise
        if self._refusals.get(task.name, 0) > 0:
            self._refusals[task.name] -= 1
            if task.name in self._errors:
                raise self._errors[task.name]
            return False
        self.acknowledged.append(task.name)
        return True

    @property
    def names(self) -> list[str]:
        """The tasks of the deliveries, in their order."""
        return [delivery.task.name for delivery in self.deliveries]

    def times(self, name: str) -> list[datetime]:
        """When a task was delivered."""
        return [delivery.at for delivery in self.deliveries if delivery.task.name == name]


class QueueHarness(Protocol):
    """A queue that runs, and the means to look at it."""

    @property
    def queue(self) -> TaskQueue: ...

    @property
    def receiver(self) -> Receiver: ...

    def now(self) -> datetime:
        """The queue's time."""
        ...

    async def advance(self, seconds: float = 0) -> None:
        """Lets that time pass; returns when what became due was delivered, and answered unless it is held."""
        ...


def task(name: str, at: datetime | None = None, **body: Any) -> Task:
    return Task(name, "/resume", body, at)


NO_NAMES = ("a b", "a/b", "ü", "a\n", "n" * 501)
"""What no task may be called."""


class QueueContract:
    """The suite. All waiting goes through the harness."""

    def open(self) -> AbstractAsyncContextManager[QueueHarness]:
        raise NotImplementedError

    def run(self, scenario: Callable[[QueueHarness], Awaitable[None]]) -> None:
        async def main() -> None:
            async with self.open() as harness:
                await scenario(harness)

        asyncio.run(main())

    def test_a_task_is_delivered_once_when_it_is_acknowledged(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(Task("a-Z_9", "/callback/timeout", {"id": "ü", "deep": {"list": [1, None, 2.5]}}))
            await h.advance()
            await h.advance(30)
            (delivery,) = h.receiver.deliveries
            assert delivery.retries == 0
            assert (delivery.task.name, delivery.task.path) == ("a-Z_9", "/callback/timeout")
            assert delivery.task.body == {"id": "ü", "deep": {"list": [1, None, 2.5]}}

        self.run(scenario)

    def test_a_body_in_another_script_is_no_longer_than_its_text(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            text = "ж" * 450_000 + "\ud800"  # 0.9 MB in UTF-8; the last one stands for what is no Unicode
            await h.queue.create(task("a", text=text))
            await h.advance()
            assert h.receiver.deliveries[0].task.body["text"] == text

        self.run(scenario)

    def test_the_body_is_the_one_at_creation(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            body = {"list": [1]}
            await h.queue.create(Task("a", "/resume", body, h.now() + timedelta(seconds=2)))
            body["list"].append(2)
            await h.advance(3)
            assert h.receiver.deliveries[0].task.body == {"list": [1]}

        self.run(scenario)

    def test_a_task_waits_until_it_is_due(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            at = h.now() + timedelta(seconds=10)
            await h.queue.create(task("later", at))
            await h.advance(8)
            assert h.receiver.names == []
            await h.advance(4)
            (delivered_at,) = h.receiver.times("later")
            assert at <= delivered_at <= at + timedelta(seconds=2)

        self.run(scenario)

    def test_a_task_due_in_the_past_is_delivered_now(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(task("late", h.now() - timedelta(days=40)))
            await h.advance()
            assert h.receiver.names == ["late"]

        self.run(scenario)

    def test_the_task_that_is_due_first_comes_first(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            start = h.now()
            for seconds in (9, 3, 6, 12):
                await h.queue.create(task(f"after-{seconds}", start + timedelta(seconds=seconds)))
            await h.advance()  # the queue sleeps until 3 now; an earlier task must wake it
            await h.queue.create(task("after-1", start + timedelta(seconds=1)))
            await h.advance(10)
            assert h.receiver.names == ["after-1", "after-3", "after-6", "after-9"]
            await h.advance(5)
            assert h.receiver.names[-1] == "after-12"

        self.run(scenario)

    def test_a_name_is_taken_once(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            at = h.now() + timedelta(seconds=2)
            await h.queue.create(task("a", at, which="first"))
            await h.queue.create(task("a", at, which="second"))
            await h.queue.create(task("a", which="third"))
            await h.advance(5)
            await h.queue.create(task("a", which="after completion"))
            await h.advance(60)
            assert [delivery.task.body["which"] for delivery in h.receiver.deliveries] == ["first"]

        self.run(scenario)

    def test_a_task_without_a_name_is_named_by_the_queue_and_taken_each_time(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            for _ in range(2):
                await h.queue.create(task("", id="x"))
            await h.queue.create(task("", h.now() + timedelta(seconds=2), id="later"))
            await h.advance()
            await h.queue.create(task("", id="x"))
            await h.advance(5)
            assert [delivery.task.body["id"] for delivery in h.receiver.deliveries] == ["x", "x", "x", "later"]
            assert len({name for name in h.receiver.names if name}) == 4

        self.run(scenario)

    def test_a_name_that_the_queue_has_given_is_taken(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(task("", id="x"))
            await h.advance()
            (name,) = h.receiver.names
            await h.queue.create(task(name))
            await h.advance(5)
            assert h.receiver.names == [name]

        self.run(scenario)

    def test_a_name_is_taken_while_its_task_runs(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            h.receiver.hold("a")
            await h.queue.create(task("a"))
            await h.advance()
            await h.queue.create(task("a"))
            await h.advance(1)
            h.receiver.release("a")
            await h.advance(5)
            assert h.receiver.names == ["a"]

        self.run(scenario)

    def test_a_deleted_task_is_not_delivered_and_its_name_stays_taken(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(task("a", h.now() + timedelta(seconds=2)))
            await h.queue.create(task("b", h.now() + timedelta(seconds=2)))
            await h.queue.delete("a")
            await h.queue.create(task("a", h.now() + timedelta(seconds=2)))
            await h.advance(5)
            assert h.receiver.names == ["b"]

        self.run(scenario)

    def test_deleting_a_task_that_is_not_there_is_no_error(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.delete("never-there")
            await h.queue.create(task("done"))
            await h.advance()
            await h.queue.delete("done")
            await h.queue.delete("done")
            await h.queue.create(task("never-there"))
            await h.advance()
            assert h.receiver.names == ["done", "never-there"]

        self.run(scenario)

    def test_a_refused_task_comes_again_at_growing_intervals_until_it_is_acknowledged(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            h.receiver.refuse("a", 3)
            await h.queue.create(task("a", id="x"))
            await h.advance(60)
            assert [delivery.retries for delivery in h.receiver.deliveries] == [0, 1, 2, 3]
            assert {delivery.task.body["id"] for delivery in h.receiver.deliveries} == {"x"}
            times = h.receiver.times("a")
            gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
            assert 0.1 <= gaps[0] < gaps[1] < gaps[2]
            assert h.receiver.acknowledged == ["a"]

        self.run(scenario)

    def test_a_refused_task_that_is_deleted_does_not_come_again(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            h.receiver.refuse("a", 5)
            await h.queue.create(task("a"))
            await h.advance()
            await h.queue.delete("a")
            await h.advance(60)
            assert h.receiver.names == ["a"]

        self.run(scenario)

    def test_a_task_that_is_deleted_while_it_is_refused_does_not_come_again(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            h.receiver.refuse("a", 5)
            h.receiver.hold("a")
            await h.queue.create(task("a"))
            await h.advance()
            await h.queue.delete("a")
            h.receiver.release("a")
            await h.advance(60)
            assert h.receiver.names == ["a"]

        self.run(scenario)

    def test_a_slow_delivery_does_not_hold_up_others(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            h.receiver.hold("slow")
            await h.queue.create(task("slow"))
            await h.advance()
            names = [f"quick-{number}" for number in range(20)]
            for name in names:
                await h.queue.create(task(name))
            await h.queue.create(task("timer", h.now() + timedelta(seconds=1)))
            await h.advance(2)
            assert sorted(h.receiver.acknowledged) == sorted([*names, "timer"])
            h.receiver.release("slow")
            await h.advance()
            assert h.receiver.acknowledged[-1] == "slow"
            assert h.receiver.names.count("slow") == 1

        self.run(scenario)

    def test_many_deliveries_run_at_a_time(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            names = [f"held-{number}" for number in range(50)]
            for name in names:
                h.receiver.hold(name)
                await h.queue.create(task(name))
            await h.advance()
            assert sorted(h.receiver.names) == sorted(names)
            for name in names:
                h.receiver.release(name)
            await h.advance()
            assert sorted(h.receiver.acknowledged) == sorted(names)

        self.run(scenario)

    def test_a_delivery_may_create_and_delete_tasks(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(task("other", h.now() + timedelta(seconds=2)))
            h.receiver.hold("first")
            await h.queue.create(task("first"))
            await h.advance()
            await h.queue.delete("other")
            await h.queue.create(task("next"))
            h.receiver.release("first")
            await h.advance(5)
            assert h.receiver.names == ["first", "next"]

        self.run(scenario)

    @pytest.mark.parametrize("name", NO_NAMES)
    def test_a_name_that_cloud_tasks_would_not_take_is_refused(self, name: str) -> None:
        async def scenario(h: QueueHarness) -> None:
            with pytest.raises(InvalidRequest, match="1 to 500 of the characters"):
                await h.queue.create(task(name))

        self.run(scenario)

    def test_a_task_that_cannot_be_sent_is_refused(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            with pytest.raises(InvalidRequest, match="aware"):
                await h.queue.create(task("a", datetime(2030, 1, 1)))
            with pytest.raises(InvalidRequest, match="JSON"):
                await h.queue.create(task("a", at=None, when=h.now()))
            with pytest.raises(InvalidRequest, match="JSON"):
                await h.queue.create(task("a", number=float("nan")))
            with pytest.raises(TooLarge, match="the limit is 1000000"):
                await h.queue.create(task("a", text="x" * TASK_BYTES_MAX))
            await h.advance()
            assert h.receiver.names == []
            await h.queue.create(task("a"))  # nothing refused has taken the name
            await h.advance()
            assert h.receiver.names == ["a"]

        self.run(scenario)

    def test_the_longest_name_is_taken(self) -> None:
        async def scenario(h: QueueHarness) -> None:
            await h.queue.create(task("n" * 500))
            await h.advance()
            assert h.receiver.names == ["n" * 500]

        self.run(scenario)
