"""Groups of tasks take turns: what each group gets, and what no sequence of operations may break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import Entry, Outcome, QueueState
from cloud_adapter.queues.turns import Shares, Turns

START = datetime(2030, 1, 1, tzinfo=UTC)
FAST: dict[str, Any] = {"max_dispatches_per_second": 100_000, "max_burst_size": 100_000}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def queue_of(groups: str, shares: Shares | None = None, concurrent: int = 1_000, **options: Any) -> QueueState[None]:
    """A queue with one task for each letter, which is its group; the first task of ``a`` is ``a1``."""
    limits = RateLimits(**FAST, max_concurrent_dispatches=concurrent)
    queue: QueueState[None] = QueueState(limits=limits, shares=shares, **options)
    add(queue, groups)
    return queue


def add(queue: QueueState[None], groups: str, now: datetime = START) -> None:
    for group in groups:
        number = sum(entry.group == group for entry in queue.entries()) + 1
        assert queue.create(f"{group}{number}", None, None, now, group=group)


def names(entries: Sequence[Entry[Any]]) -> str:
    return " ".join(entry.name for entry in entries)


@dataclass(frozen=True, eq=False)
class Waiting:
    group: str
    schedule_time: datetime
    sequence: int


def test_groups_take_turns_and_within_a_group_the_order_is_by_time() -> None:
    queue = queue_of("")
    for name, seconds in [("a1", 3.0), ("a2", 1.0), ("a3", 2.0), ("b1", 5.0), ("b2", 4.0), ("c1", 6.0)]:
        queue.create(name, None, at(seconds), START, group=name[0])
    assert queue.next_event(START) == at(1)
    assert names(queue.dispatchable(at(2))) == "a2 a3"
    assert queue.next_event(at(2)) == at(3)
    queue.create("a4", None, None, at(7), group="a")
    assert names(queue.dispatchable(at(7))) == "a1 b2 c1 a4 b1"


def test_without_groups_the_order_is_by_time() -> None:
    queue: QueueState[None] = QueueState(shares=Shares(of_group=2, beyond_first=9))
    for name, seconds in [("a", 3.0), ("b", 1.0), ("c", 2.0)]:
        queue.create(name, None, at(seconds), START)
    assert names(queue.dispatchable(at(9))) == "b c"  # tasks without a group are one group


def test_a_fan_out_of_20_000_tasks_does_not_delay_another_instance() -> None:
    queue = queue_of("", Shares(of_group=200, beyond_first=350), concurrent=400)
    for number in range(20_000):
        queue.create(f"a{number}", None, None, START, group="a")
    running = queue.dispatchable(START)
    assert len(running) == 200
    assert queue.next_event(START) is None
    queue.create("b", None, None, START, group="b")
    assert queue.next_event(START) == START
    (b,) = queue.dispatchable(START)
    assert b.name == "b"
    queue.finished(b, True, START)
    for number in range(5):
        queue.create(f"b{number}", None, None, START, group="b")
        queue.finished(running.pop(), True, START)
    sent = queue.dispatchable(START)
    assert sorted(entry.group for entry in sent) == ["a"] * 5 + ["b"] * 5
    assert max(index for index, entry in enumerate(sent) if entry.group == "b") < 10


def test_without_shares_another_group_is_served_next() -> None:
    queue = queue_of("a" * 50, concurrent=1)
    (running,) = queue.dispatchable(START)
    add(queue, "b")
    order = []
    for _ in range(3):
        queue.finished(running, True, START)
        (running,) = queue.dispatchable(START)
        order.append(running.group)
    assert order == ["b", "a", "a"]


def test_places_are_kept_for_groups_with_nothing_running() -> None:
    queue = queue_of("aaaaabbbbbb", Shares(of_group=4, beyond_first=5), concurrent=10)
    running = queue.dispatchable(START)
    assert Counter(entry.group for entry in running) == {"a": 4, "b": 3}  # 5 beyond the first ones
    add(queue, "ccdd")
    assert names(queue.dispatchable(START)) == "c1 d1"
    assert queue.next_event(START) is None
    queue.finished(next(entry for entry in running if entry.name == "b1"), True, START)
    assert names(queue.dispatchable(START)) == "b4"  # it has waited longest
    queue.finished(next(entry for entry in running if entry.name == "a1"), True, START)
    assert names(queue.dispatchable(START)) == "c2"


@pytest.mark.parametrize("order", ["first begun first", "last begun first", "one group after the other"])
def test_places_are_given_back_in_whatever_order_dispatches_end(order: str) -> None:
    queue = queue_of("", Shares(of_group=3, beyond_first=2), concurrent=10)
    for turn in range(4):
        for number, group in enumerate("abbbccc"):
            queue.create(f"{group}-{turn}-{number}", None, None, START, group=group)
        running = queue.dispatchable(START)
        assert Counter(entry.group for entry in running) == {"a": 1, "b": 2, "c": 2}, "two beyond the first ones"
        if order == "last begun first":
            running.reverse()
        elif order == "one group after the other":
            running.sort(key=lambda entry: entry.group)
        while running:
            queue.finished(running.pop(0), True, START)
            running += queue.dispatchable(START)
            of_group = Counter(entry.group for entry in running)
            assert max(of_group.values(), default=0) <= 3
            assert len(running) - len(of_group) <= 2
        assert len(queue) == 0


def test_a_failed_attempt_gives_its_place_back_and_waits_for_its_time() -> None:
    queue = queue_of("aaa", Shares(of_group=2, beyond_first=9))
    first, second = queue.dispatchable(START)
    assert queue.finished(first, False, START) is Outcome.RETRY
    assert names(queue.dispatchable(START)) == "a3"
    queue.finished(second, True, START)
    assert queue.next_event(START) == at(0.1)
    assert names(queue.dispatchable(at(0.1))) == "a1"


def test_a_task_that_is_deleted_while_it_runs_keeps_its_place_until_it_ends() -> None:
    queue = queue_of("aa", Shares(of_group=1, beyond_first=0), retention=timedelta())
    (running,) = queue.dispatchable(START)
    queue.delete("a1", START)
    assert queue.dispatchable(START) == []
    assert queue.finished(running, True, START) is Outcome.IGNORED
    assert names(queue.dispatchable(START)) == "a2"


def test_deleted_tasks_lose_their_group_its_turn() -> None:
    queue = queue_of("aabb")
    for name in ("a1", "a2"):
        queue.delete(name, START)
    assert names(queue.dispatchable(START)) == "b1 b2"
    assert queue.next_event(START) is None


def test_purge_and_pause_with_groups() -> None:
    queue = queue_of("aab", Shares(of_group=1, beyond_first=0))
    queue.pause()
    assert queue.dispatchable(START) == []
    queue.resume()
    running = queue.dispatchable(START)
    assert names(running) == "a1 b1"
    assert queue.purge(START) == 3
    assert [queue.finished(entry, False, START) for entry in running] == [Outcome.IGNORED] * 2
    assert queue.next_event(START) is None
    assert queue.turns.kept == 0
    assert not queue.turns.groups


def test_a_task_that_is_run_by_hand_counts_in_its_group() -> None:
    queue = queue_of("aab", Shares(of_group=1, beyond_first=0))
    entry = queue.run("a2", START)
    assert entry is not None
    again = queue.run("a2", START)
    assert again is not None
    assert names(queue.dispatchable(START)) == "b1"
    queue.finished(entry, True, START)
    assert queue.dispatchable(START) == []
    queue.finished(again, True, START)
    assert names(queue.dispatchable(START)) == "a1"


def test_a_retry_at_the_very_time_of_an_attempt_that_was_run_by_hand() -> None:
    queue = queue_of("aa", retry=RetryConfig(min_backoff=timedelta()))
    entry = queue.run("a2", START)
    assert entry is not None
    assert queue.finished(entry, False, START) is Outcome.RETRY
    assert names(queue.dispatchable(START)) == "a1 a2"


def test_a_clock_that_is_set_back_does_not_hold_up_what_was_due() -> None:
    turns: Turns[Waiting] = Turns()
    late, new = Waiting("a", at(60), 1), Waiting("b", START, 2)
    turns.add(late, START)
    assert turns.next(at(61)) is late
    turns.add(new, START)
    assert turns.next(START) is late
    turns.started(late)
    assert turns.next(START) is new


def test_what_shares_cannot_be() -> None:
    for of_group, beyond_first in ((0, 1), (1, -1)):
        with pytest.raises(ValueError, match="the minimum is 1 and 0"):
            Shares(of_group=of_group, beyond_first=beyond_first)


SHARES = Shares(of_group=5, beyond_first=7)
GROUPS = st.sampled_from("abcd")


class AnyOrder(RuleBasedStateMachine):
    """Whatever is done in whatever order, each dispatch is allowed and in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: Turns[Waiting] = Turns(SHARES)
        self.now = START
        self.latest = START
        self.sequence = 0
        self.waiting: list[Waiting] = []
        self.running: list[Waiting] = []
        self.passed: dict[str, Counter[str]] = {}
        """For each group that could be served: how often others were since."""

    def due(self, group: str) -> list[Waiting]:
        due = [task for task in self.waiting if task.group == group and task.schedule_time <= self.latest]
        return sorted(due, key=lambda task: (task.schedule_time, task.sequence))

    def may_run(self, group: str) -> bool:
        running = Counter(task.group for task in self.running)
        if not running[group]:
            return True
        return running[group] < SHARES.of_group and len(self.running) - len(running) < SHARES.beyond_first

    def servable(self) -> set[str]:
        return {group for group in "abcd" if self.due(group) and self.may_run(group)}

    @rule(seconds=st.integers(0, 5))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.latest = max(self.latest, self.now)

    @rule(group=GROUPS, seconds=st.sampled_from([0, 0, 0, 1, 2, 10]), number=st.integers(1, 6))
    def add(self, group: str, seconds: int, number: int) -> None:
        for _ in range(number):
            self.sequence += 1
            task = Waiting(group, self.now + timedelta(seconds=seconds), self.sequence)
            self.turns.add(task, self.now)
            self.waiting.append(task)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.waiting))
        self.turns.remove(task)
        self.turns.remove(task)
        self.waiting.remove(task)

    @rule(number=st.integers(1, 5))
    def dispatch(self, number: int) -> None:
        for _ in range(number):
            servable = self.servable()
            task = self.turns.next(self.now)
            assert (task is None) == (not servable)
            if task is None:
                return
            assert task.group in servable
            assert task is self.due(task.group)[0]
            self.passed.pop(task.group, None)
            for group in servable - {task.group}:
                passed = self.passed.setdefault(group, Counter())
                passed[task.group] += 1
                # Once for each of the two lines, as a group may change from one to the other while it waits.
                assert passed[task.group] <= 2, f"{group} is passed over"
            self.start(task)

    @precondition(lambda self: self.waiting or self.running)
    @rule(data=st.data())
    def run_by_hand(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.waiting + self.running))
        self.start(task)

    def start(self, task: Waiting) -> None:
        self.turns.started(task)
        if task in self.waiting:
            self.waiting.remove(task)
        self.running.append(task)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.running))
        self.turns.ended(task)
        self.running.remove(task)

    @invariant()
    def the_time_is_right(self) -> None:
        servable = self.servable()
        later = [task.schedule_time for task in self.waiting if task.schedule_time > self.latest]
        assert self.turns.next_at(self.now) == (self.now if servable else min(later, default=None))

    @invariant()
    def who_cannot_be_served_is_not_passed_over(self) -> None:
        servable = self.servable()
        self.passed = {group: passed for group, passed in self.passed.items() if group in servable}

    @invariant()
    def nothing_is_left_behind(self) -> None:
        assert set(self.turns.groups) <= {task.group for task in self.waiting + self.running}
        assert self.turns.kept >= len(self.waiting)


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=50)
TestAnyOrder = pytest.mark.slow(AnyOrder.TestCase)
