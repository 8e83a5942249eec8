"""The rules of a queue against numbers worked out by hand, and against a naive model under random operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import Entry, Outcome, QueueFull, QueueState

START = datetime(2030, 1, 1, tzinfo=UTC)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def at(number: float) -> datetime:
    return START + seconds(number)


def names(entries: list[Entry[Any]]) -> list[str]:
    return [entry.name for entry in entries]


def filled(*tasks: str, **options: Any) -> QueueState[str]:
    queue: QueueState[str] = QueueState(**options)
    for name in tasks:
        assert queue.create(name, name.upper(), None, START)
    return queue


# --- backoff ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        # The example of Google's documentation.
        (RetryConfig(min_backoff=seconds(10), max_backoff=seconds(300), max_doublings=3),
         [10, 20, 40, 80, 160, 240, 300, 300]),
        # No doubling: linear from the start.
        (RetryConfig(min_backoff=seconds(1), max_backoff=seconds(4.5), max_doublings=0), [1, 2, 3, 4, 4.5, 4.5]),
        (RetryConfig(min_backoff=seconds(1), max_doublings=2), [1, 2, 4, 8, 12, 16, 20, 24]),
        # The cap is reached while it still doubles.
        (RetryConfig(min_backoff=seconds(3), max_backoff=seconds(20)), [3, 6, 12, 20, 20]),
        (RetryConfig(min_backoff=seconds(5), max_backoff=seconds(5)), [5, 5, 5]),
        (RetryConfig(min_backoff=seconds(0), max_backoff=seconds(5)), [0, 0, 0]),
        (RetryConfig(max_backoff=seconds(10)), [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]),
        # The defaults: 16 doublings would be 6553.6 s, an hour comes first.
        (RetryConfig(), [0.1 * 2**n for n in range(16)] + [3600] * 3),
    ],
)  # fmt: skip
def test_the_intervals(config: RetryConfig, expected: list[float]) -> None:
    assert [config.backoff(failures) for failures in range(1, len(expected) + 1)] == [seconds(n) for n in expected]


def test_the_interval_after_very_many_failures_is_the_longest() -> None:
    config = RetryConfig(max_attempts=-1, max_doublings=64)
    assert config.backoff(10**9) == timedelta(hours=1)
    assert RetryConfig(max_doublings=0).backoff(35_999) == seconds(3599.9)
    assert RetryConfig(max_doublings=0).backoff(36_001) == seconds(3600)


@pytest.mark.parametrize(
    ("attempts_max", "duration", "attempts", "age", "spent"),
    [
        (3, 0, 2, 9_999, False),
        (3, 0, 3, 0, True),
        (3, 60, 3, 59, False),  # both have to be spent
        (3, 60, 2, 61, False),
        (3, 60, 3, 60, True),
        (3, 60, 7, 60, True),
        (-1, 60, 9_999, 59, False),
        (-1, 60, 1, 60, True),
        (-1, 0, 9_999, 9_999_999, False),
    ],
)
def test_a_task_is_dropped_when_both_limits_are_spent(
    attempts_max: int, duration: int, attempts: int, age: int, spent: bool
) -> None:
    config = RetryConfig(max_attempts=attempts_max, max_retry_duration=seconds(duration))
    assert config.spent(attempts, START, at(age)) is spent


def fail_until_dropped(queue: QueueState[str], begin: float = 0) -> list[float]:
    """When each attempt was made, in seconds after the start."""
    moments, now = list[float](), at(begin)
    for _ in range(1_000):
        (entry,) = queue.dispatchable(now)
        moments.append((now - START).total_seconds())
        if queue.finished(entry, False, now) is Outcome.DROPPED:
            assert queue.next_event(now) is None
            return moments
        now = queue.next_event(now) or pytest.fail("a task that waits for its retry is an event")
    pytest.fail("never dropped")


def test_attempts_until_a_task_is_dropped() -> None:
    one_second: dict[str, Any] = {"min_backoff": seconds(1), "max_backoff": seconds(1)}
    by_count = filled("a", retry=RetryConfig(max_attempts=3, **one_second))
    assert fail_until_dropped(by_count) == [0, 1, 2]
    assert by_count.create("a", "", None, at(3)) is None
    by_time = filled("a", retry=RetryConfig(max_attempts=-1, max_retry_duration=seconds(5), **one_second))
    assert fail_until_dropped(by_time, begin=100) == [100, 101, 102, 103, 104, 105]
    by_both = filled("a", retry=RetryConfig(max_attempts=2, max_retry_duration=seconds(4), **one_second))
    assert fail_until_dropped(by_both) == [0, 1, 2, 3, 4]
    once = filled("a", retry=RetryConfig(max_attempts=1))
    assert fail_until_dropped(once) == [0]


def test_no_task_lives_longer_than_31_days() -> None:
    day = timedelta(days=1)
    queue = filled("a", retry=RetryConfig(max_attempts=-1, min_backoff=10 * day, max_backoff=10 * day))
    assert fail_until_dropped(queue) == [0, 10 * 86_400, 20 * 86_400, 30 * 86_400]
    queue = filled("a", retry=RetryConfig(max_attempts=-1, min_backoff=31 * day, max_backoff=31 * day))
    assert fail_until_dropped(queue) == [0, 31 * 86_400]


def test_the_life_of_a_task_begins_with_its_creation() -> None:
    day = timedelta(days=1)
    queue: QueueState[str] = QueueState(retry=RetryConfig(max_attempts=-1, min_backoff=day, max_backoff=day))
    queue.create("a", "", START + 29 * day, START)
    assert fail_until_dropped(queue, begin=29 * 86_400) == [29 * 86_400, 30 * 86_400, 31 * 86_400]


# --- the life of a task ----------------------------------------------------------------------


def test_an_entry_tells_its_story() -> None:
    queue: QueueState[str] = QueueState()
    created = queue.create("a", "payload", at(5), START)
    assert created is not None
    assert (created.name, created.payload, created.create_time, created.schedule_time) == ("a", "payload", START, at(5))
    assert (created.dispatch_count, created.response_count, created.last_attempt, created.running) == (
        0,
        0,
        None,
        False,
    )
    assert queue.dispatchable(at(4.999999)) == []
    assert queue.next_event(START) == at(5)

    (sent,) = queue.dispatchable(at(6))
    assert queue.get("a") is sent
    assert created.dispatch_count == 0  # an entry does not change
    assert (sent.dispatch_count, sent.response_count, sent.first_dispatch_time, sent.running) == (1, 0, at(6), True)
    assert queue.dispatchable(at(7)) == []
    assert queue.next_event(at(7)) is None

    assert queue.finished(sent, False, at(8)) is Outcome.RETRY
    waiting = queue.get("a")
    assert waiting is not None
    assert waiting.last_attempt is not None
    assert (waiting.schedule_time, waiting.response_count, waiting.running) == (at(8.1), 1, False)
    assert (waiting.last_attempt.schedule_time, waiting.last_attempt.dispatch_time) == (at(5), at(6))
    assert waiting.last_attempt.response_time == at(8)

    (sent,) = queue.dispatchable(at(9))
    assert (sent.dispatch_count, sent.first_dispatch_time) == (2, at(6))
    assert queue.finished(sent, False, at(9), responded=False) is Outcome.RETRY
    waiting = queue.get("a")
    assert waiting is not None
    assert waiting.last_attempt is not None
    assert (waiting.schedule_time, waiting.response_count) == (at(9.2), 1)
    assert waiting.last_attempt.response_time is None

    (sent,) = queue.dispatchable(at(10))
    assert queue.finished(sent, True, at(11)) is Outcome.ACKNOWLEDGED
    assert queue.get("a") is None
    assert len(queue) == 0
    assert queue.next_event(at(11)) is None


def test_the_order_is_by_time_then_by_creation() -> None:
    queue: QueueState[None] = QueueState()
    for name, due in [("c", 2.0), ("past", -5.0), ("d", 2.0), ("b", 1.0), ("now", 0.0)]:
        queue.create(name, None, at(due), START)
    assert names(queue.entries()) == ["c", "past", "d", "b", "now"]
    assert names(queue.dispatchable(at(3))) == ["past", "now", "b", "c", "d"]


def test_a_task_due_in_the_past_is_due_at_its_creation_and_overtakes_none() -> None:
    queue: QueueState[None] = QueueState()
    for name, due in [("now", 0.0), ("past", -5.0), ("long past", -(10.0**6))]:
        entry = queue.create(name.replace(" ", "-"), None, at(due), START)
        assert entry is not None
        assert entry.schedule_time == START
    assert names(queue.dispatchable(START)) == ["now", "past", "long-past"]


def test_entries_come_in_pages() -> None:
    queue = filled("a", "b", "c", "d")
    queue.delete("b", START)
    first = queue.entries(limit=2)
    assert names(first) == ["a", "c"]
    assert names(queue.entries(after=first[-1].sequence)) == ["d"]


def test_times_of_other_zones_are_understood() -> None:
    queue: QueueState[None] = QueueState()
    zone = timezone(timedelta(hours=2))
    entry = queue.create("a", None, at(60).astimezone(zone), START.astimezone(zone))
    assert entry is not None
    assert (entry.schedule_time, entry.schedule_time.tzinfo, entry.create_time.tzinfo) == (at(60), UTC, UTC)


def test_the_end_of_an_attempt_is_told_once() -> None:
    queue = filled("a")
    (entry,) = queue.dispatchable(START)
    queue.finished(entry, False, START)
    with pytest.raises(ValueError, match="report each attempt once"):
        queue.finished(entry, True, START)
    waiting = queue.get("a")
    assert waiting is not None
    with pytest.raises(ValueError, match="has no such running attempt"):
        queue.finished(waiting, True, START)


def test_the_end_of_a_deleted_attempt_is_ignored() -> None:
    queue = filled("a", retention=seconds(0), limits=RateLimits(max_concurrent_dispatches=1))
    (old,) = queue.dispatchable(START)
    assert queue.delete("a", START)
    assert not queue.delete("a", START)
    assert (len(queue), queue.running) == (0, 1)
    assert queue.create("a", "new", None, START)
    assert queue.dispatchable(START) == []  # what was deleted still runs, and holds its place
    assert queue.finished(old, True, at(1)) is Outcome.IGNORED
    (new,) = queue.dispatchable(at(1))
    assert (new.payload, new.dispatch_count) == ("new", 1)
    assert queue.finished(new, True, at(1)) is Outcome.ACKNOWLEDGED


def test_a_task_can_have_a_retry_config_of_its_own() -> None:
    queue = filled("a")
    assert queue.create("b", "B", None, START, retry=RetryConfig(max_attempts=1))
    assert queue.create("c", "C", None, START, retry=RetryConfig(min_backoff=seconds(7)))
    outcomes = [queue.finished(entry, False, START) for entry in queue.dispatchable(START)]
    assert outcomes == [Outcome.RETRY, Outcome.DROPPED, Outcome.RETRY]
    assert [(entry.name, entry.schedule_time) for entry in queue.entries()] == [("a", at(0.1)), ("c", at(7))]


# --- run -------------------------------------------------------------------------------------


def test_run_does_not_wait_for_the_time_nor_the_limits_nor_the_pause() -> None:
    queue = filled("a", limits=RateLimits(max_concurrent_dispatches=1, max_burst_size=1))
    queue.create("later", "", at(60), START)
    queue.dispatchable(START)
    queue.pause()
    entry = queue.run("later", at(1))
    assert entry is not None
    assert (entry.dispatch_count, entry.running, queue.running) == (1, True, 2)
    assert queue.finished(entry, False, at(2)) is Outcome.RETRY
    again = queue.get("later")
    assert again is not None
    assert again.schedule_time == at(2.1)
    assert queue.run("never-there", at(2)) is None


def test_of_two_attempts_of_a_task_one_that_is_acknowledged_ends_it() -> None:
    queue = filled("a")
    (first,) = queue.dispatchable(START)
    second = queue.run("a", START)
    assert second is not None
    assert second.dispatch_count == 2
    assert queue.finished(first, True, at(1)) is Outcome.ACKNOWLEDGED
    assert queue.finished(second, False, at(1)) is Outcome.IGNORED
    assert (len(queue), queue.running) == (0, 0)


def test_of_two_attempts_that_fail_the_last_one_counts() -> None:
    queue = filled("a")
    (first,) = queue.dispatchable(START)
    second = queue.run("a", START)
    assert second is not None
    assert queue.finished(first, False, at(1)) is Outcome.IGNORED
    assert queue.next_event(at(1)) is None
    assert queue.finished(second, False, at(2)) is Outcome.RETRY
    assert queue.next_event(at(2)) == at(2.2)


# --- names -----------------------------------------------------------------------------------


def test_a_name_is_remembered() -> None:
    queue = filled("a")
    assert not queue.remembers("a", START)
    queue.delete("a", START)
    assert queue.remembers("a", at(3_599))
    assert not queue.remembers("a", at(3_600))


def test_a_name_stays_taken_for_the_retention() -> None:
    queue = filled("done", "deleted", "purged", retention=seconds(60))
    assert queue.create("done", "", None, START) is None
    for entry in queue.dispatchable(START):
        if entry.name == "done":
            queue.finished(entry, True, at(10))
    queue.delete("deleted", at(20))
    assert queue.purge(at(30)) == 1
    for name, end in [("done", 10), ("deleted", 20), ("purged", 30)]:
        assert queue.create(name, "", None, at(end + 59.999999)) is None
        assert queue.create(name, "", None, at(end + 60)) is not None


def test_the_number_of_tombstones_is_bounded() -> None:
    queue = filled("a", "b", "c", tombstones_max=2)
    for name in "abc":
        queue.delete(name, START)
    assert queue.create("b", "", None, START) is None
    assert queue.create("c", "", None, START) is None
    assert queue.create("a", "", None, START) is not None


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a\n", "é", "x" * 501])
def test_a_bad_name(name: str) -> None:
    with pytest.raises(ValueError, match="A-Za-z0-9_-"):
        filled(name)


def test_what_else_cannot_be_created() -> None:
    queue = filled("a", "b", entries_max=2)
    with pytest.raises(QueueFull, match="2 tasks"):
        queue.create("c", "", None, START)
    assert queue.create("a", "", None, START) is None
    queue.delete("a", START)
    with pytest.raises(ValueError, match="aware"):
        queue.create("c", "", datetime(2030, 1, 1), START)
    with pytest.raises(ValueError, match="30 days"):
        queue.create("c", "", START + timedelta(days=30, seconds=1), START)
    assert queue.create("c", "", START + timedelta(days=30), START)


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"max_attempts": -2},
        {"max_retry_duration": seconds(-1)},
        {"min_backoff": seconds(-1)},
        {"min_backoff": seconds(2), "max_backoff": seconds(1)},
        {"max_backoff": timedelta(days=32)},
        {"max_doublings": -1},
        {"max_doublings": 65},
    ],
)
def test_a_wrong_retry_config(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is .*: give"):
        RetryConfig(**options)


@pytest.mark.parametrize("field_name", ["max_dispatches_per_second", "max_burst_size", "max_concurrent_dispatches"])
@pytest.mark.parametrize("value", [0, -1, 100_001])
def test_wrong_rate_limits(field_name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{field_name} is {value}: give"):
        RateLimits(**{field_name: value})


@pytest.mark.parametrize(
    ("slowest", "fastest"),
    [({"max_dispatches_per_second": 1e-6}, {"max_dispatches_per_second": 100_000})]
    + [({name: 1}, {name: 100_000}) for name in ("max_burst_size", "max_concurrent_dispatches")],
)
def test_rate_limits_at_their_bounds(slowest: dict[str, Any], fastest: dict[str, Any]) -> None:
    for bounds in (slowest, fastest):
        queue = filled("a", limits=RateLimits(**bounds))
        assert names(queue.dispatchable(START)) == ["a"]
    with pytest.raises(ValueError, match=r"give 0\.000001 to 100000"):
        RateLimits(max_dispatches_per_second=9e-7)


# --- rate, concurrency, pause ----------------------------------------------------------------


def test_the_token_bucket() -> None:
    queue = filled(*"abcdefghij", limits=RateLimits(max_dispatches_per_second=4, max_burst_size=3))
    assert names(queue.dispatchable(START)) == ["a", "b", "c"]
    assert queue.next_event(START) == at(0.25)
    assert queue.dispatchable(at(0.249999)) == []
    assert names(queue.dispatchable(at(0.25))) == ["d"]
    # Half a token is left over at 0.625, and counts for the next one.
    assert names(queue.dispatchable(at(0.625))) == ["e"]
    assert queue.next_event(at(0.625)) == at(0.75)
    # However long nothing is sent, the bucket holds three.
    assert names(queue.dispatchable(at(1_000))) == ["f", "g", "h"]
    assert queue.next_event(at(1_000)) == at(1_000.25)


def test_a_rate_below_one_a_second() -> None:
    queue = filled("a", "b", limits=RateLimits(max_dispatches_per_second=0.01, max_burst_size=1))
    assert names(queue.dispatchable(START)) == ["a"]
    assert queue.next_event(at(1)) == at(100)


def test_a_clock_that_is_set_back_does_not_stop_the_queue() -> None:
    queue = filled("a", limits=RateLimits(max_dispatches_per_second=1, max_burst_size=2))
    assert names(queue.dispatchable(at(86_400))) == ["a"]
    queue.create("b", "", None, START)
    assert queue.next_event(START) == at(1)


def test_limits_can_be_changed() -> None:
    queue = filled(*"abcd", limits=RateLimits(max_concurrent_dispatches=1))
    assert names(queue.dispatchable(START)) == ["a"]
    queue.limits = RateLimits(max_concurrent_dispatches=3)
    assert names(queue.dispatchable(START)) == ["b", "c"]


def test_concurrency() -> None:
    queue = filled(*"abcd", limits=RateLimits(max_concurrent_dispatches=2))
    a, b = queue.dispatchable(START)
    assert queue.running == 2
    assert queue.dispatchable(at(100)) == []
    assert queue.next_event(START) is None
    queue.finished(a, True, at(1))
    assert queue.next_event(at(1)) == at(1)
    assert names(queue.dispatchable(at(1))) == ["c"]
    queue.finished(b, False, at(1))
    assert names(queue.dispatchable(at(5))) == ["d"]


def test_pause_and_resume() -> None:
    queue = filled("a", "b", limits=RateLimits(max_concurrent_dispatches=1))
    (a,) = queue.dispatchable(START)
    queue.pause()
    assert queue.finished(a, False, START) is Outcome.RETRY
    assert queue.create("c", "", None, START)
    assert queue.next_event(at(5)) is None
    assert queue.dispatchable(at(5)) == []
    queue.resume()
    assert queue.next_event(at(5)) == at(5)
    assert names(queue.dispatchable(at(5))) == ["b"]


def test_purge() -> None:
    queue = filled("a", "b")
    running = queue.dispatchable(START)
    queue.create("c", "", at(9), START)
    assert queue.purge(START) == 3
    assert (len(queue), queue.entries(), queue.next_event(START)) == (0, [], None)
    assert [queue.finished(entry, False, START) for entry in running] == [Outcome.IGNORED] * 2
    assert queue.next_event(START) is None
    assert queue.create("d", "", None, START)
    assert names(queue.dispatchable(START)) == ["d"]


def test_ten_thousand_timers_that_are_deleted_leave_no_heap_behind() -> None:
    queue: QueueState[int] = QueueState(tombstones_max=10)
    for number in range(10_000):
        queue.create(f"timer-{number}", number, at(86_400 - number), START)
    for number in range(0, 10_000, 2):
        queue.delete(f"timer-{number}", START)
    assert queue.next_event(START) == at(86_400 - 9_999)
    for number in range(1, 9_999, 2):
        queue.delete(f"timer-{number}", START)
    assert len(queue) == 1
    assert queue.turns.kept < 100
    assert names(queue.dispatchable(at(86_400))) == ["timer-9999"]


# --- against a naive model -------------------------------------------------------------------

RETRY = RetryConfig(
    max_attempts=3, max_retry_duration=seconds(20), min_backoff=seconds(1), max_backoff=seconds(5), max_doublings=1
)
BACKOFFS = [1, 2, 4, 5]
LIMITS = RateLimits(max_dispatches_per_second=0.5, max_burst_size=3, max_concurrent_dispatches=4)
RETENTION_S, TOMBSTONES, ENTRIES = 30, 5, 8


@dataclass
class ModelTask:
    name: str
    due: Fraction
    attempts: int = 0
    first: Fraction | None = None
    running: bool = False
    deleted: bool = False


@dataclass
class Model:
    """The rules once more, in seconds, by lists and fractions, without a thought for speed."""

    now: Fraction = Fraction(0)
    paused: bool = False
    tokens: Fraction = Fraction(3)
    tasks: list[ModelTask] = field(default_factory=list)
    running: list[ModelTask] = field(default_factory=list)
    ended: list[tuple[str, Fraction]] = field(default_factory=list)

    def wait(self, duration: Fraction) -> None:
        self.now += duration
        self.tokens = min(Fraction(3), self.tokens + duration / 2)

    def create(self, name: str, due: Fraction) -> bool | None:
        remembered = [old for old, when in self.ended[-TOMBSTONES:] if self.now < when + RETENTION_S]
        if name in remembered or any(task.name == name for task in self.tasks):
            return False
        if len(self.tasks) >= ENTRIES:
            return None
        self.tasks.append(ModelTask(name, max(due, self.now)))
        return True

    def remove(self, task: ModelTask) -> None:
        self.tasks.remove(task)
        task.deleted = True
        self.ended = [item for item in self.ended if item[0] != task.name]
        self.ended.append((task.name, self.now))

    def waiting(self) -> list[ModelTask]:
        return sorted((task for task in self.tasks if not task.running), key=lambda task: task.due)

    def dispatch(self) -> list[ModelTask]:
        sent = []
        for task in self.waiting():
            if self.paused or task.due > self.now or self.tokens < 1 or len(self.running) >= 4:
                break
            self.tokens -= 1
            task.attempts, task.running, task.first = task.attempts + 1, True, task.first or self.now
            self.running.append(task)
            sent.append(task)
        return sent

    def next_event(self) -> Fraction | None:
        waiting = self.waiting()
        if self.paused or not waiting or len(self.running) >= 4:
            return None
        return max(self.now, waiting[0].due, self.now + (1 - self.tokens) * 2)

    def finish(self, task: ModelTask, acknowledged: bool) -> Outcome:
        self.running.remove(task)
        if task.deleted:
            return Outcome.IGNORED
        task.running = False
        if acknowledged:
            self.remove(task)
            return Outcome.ACKNOWLEDGED
        assert task.first is not None
        if task.attempts >= 3 and self.now - task.first >= 20:
            self.remove(task)
            return Outcome.DROPPED
        task.due = self.now + BACKOFFS[min(task.attempts, 4) - 1]
        return Outcome.RETRY


TASK_NAMES = st.sampled_from("abcdefghijkl")
DURATIONS = st.integers(0, 400).map(lambda tenths: Fraction(tenths, 10))


class AgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: QueueState[str] = QueueState(
            retry=RETRY, limits=LIMITS, retention=seconds(RETENTION_S), entries_max=ENTRIES, tombstones_max=TOMBSTONES
        )
        self.model = Model()
        self.running: list[tuple[Entry[str], ModelTask]] = []

    @property
    def now(self) -> datetime:
        return self.time(self.model.now)

    def time(self, moment: Fraction) -> datetime:
        return START + timedelta(milliseconds=int(moment * 1_000))

    @rule(duration=DURATIONS)
    def wait(self, duration: Fraction) -> None:
        self.model.wait(duration)

    @rule()
    def wait_for_the_next_event(self) -> None:
        moment = self.model.next_event()
        if moment is not None:
            self.model.wait(moment - self.model.now)

    @rule(name=TASK_NAMES, delay=st.integers(-5, 20).map(Fraction))
    def create(self, name: str, delay: Fraction) -> None:
        due = self.model.now + delay
        try:
            created: bool | None = self.queue.create(name, name, self.time(due), self.now) is not None
        except QueueFull:
            created = None
        assert created is self.model.create(name, due)

    @rule(name=TASK_NAMES)
    def delete(self, name: str) -> None:
        found = [task for task in self.model.tasks if task.name == name]
        assert self.queue.delete(name, self.now) is bool(found)
        for task in found:
            self.model.remove(task)

    @rule()
    def dispatch(self) -> None:
        sent, expected = self.queue.dispatchable(self.now), self.model.dispatch()
        assert [(e.name, e.dispatch_count) for e in sent] == [(task.name, task.attempts) for task in expected]
        self.running += zip(sent, expected, strict=True)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 3), acknowledged=st.booleans())
    def finish(self, which: int, acknowledged: bool) -> None:
        entry, task = self.running.pop(which % len(self.running))
        assert self.queue.finished(entry, acknowledged, self.now) is self.model.finish(task, acknowledged)

    @rule()
    def pause_or_resume(self) -> None:
        self.model.paused = not self.model.paused
        (self.queue.pause if self.model.paused else self.queue.resume)()

    @precondition(lambda self: len(self.model.tasks) > 6)
    @rule()
    def purge(self) -> None:
        assert self.queue.purge(self.now) == len(self.model.tasks)
        for task in list(self.model.tasks):
            self.model.remove(task)

    @invariant()
    def both_agree(self) -> None:
        moment = self.model.next_event()
        assert self.queue.next_event(self.now) == (None if moment is None else self.time(moment))
        assert self.queue.running == len(self.model.running) <= 4
        assert {(e.name, e.schedule_time, e.running) for e in self.queue.entries() if not e.running} == {
            (task.name, self.time(task.due), False) for task in self.model.waiting()
        }
        assert len(self.queue) == len(self.model.tasks)


AgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50)
TestAgainstModel = pytest.mark.slow(AgainstModel.TestCase)
