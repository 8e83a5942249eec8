"""The behavior of a task queue: the rules of Google Cloud Tasks as a state machine on plain values.

It decides which task is sent when, what follows a failed attempt, and which names are taken. The in-process queue and
the emulator of Cloud Tasks both use it. It does no I/O, reads no clock (callers pass the time), and never waits. It
must not depend on what a payload means, how it is delivered, or who calls. The order in which tasks are served is in
``turns``, the limits of a queue are in ``rates``, and those of retries are in ``retries``.

Cloud Tasks also slows a whole queue down when many attempts fail. This is not implemented, because no document
specifies it.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Generic, TypeVar

from cloud_adapter.queues.rates import RateLimits, TokenBucket
from cloud_adapter.queues.retries import TASK_LIFE_MAX, RetryConfig
from cloud_adapter.queues.turns import Shares, Turns
from workflow_core.records import record

P = TypeVar("P")

TASK_NAME = re.compile(r"[A-Za-z0-9_-]{1,500}")
SCHEDULE_AHEAD_MAX = timedelta(days=30)
"""How far in the future a task may be scheduled."""
DEADLINE_MIN, DEADLINE_MAX = timedelta(seconds=15), timedelta(minutes=30)
"""The shortest and the longest time limit of a request that Cloud Tasks accepts."""
ENTRIES_MAX = 100_000
"""How many entries a queue holds by default."""
TOMBSTONES_MAX = 100_000
"""How many names of past tasks a queue remembers by default. The oldest are forgotten first."""
RETENTION = timedelta(hours=1)
"""How long the name of a past task stays taken by default."""


class QueueFull(Exception):
    """The queue has reached its limit of tasks."""


class Outcome(StrEnum):
    """The effect of the end of an attempt on its task."""

    ACKNOWLEDGED = "acknowledged"
    RETRY = "retry"
    DROPPED = "dropped"
    IGNORED = "ignored"


@record(frozen=True, slots=True)
class Attempt:
    """One attempt. ``response_time`` is None while it runs, and if it got no response."""

    schedule_time: datetime
    dispatch_time: datetime
    response_time: datetime | None = None


@record(frozen=True, slots=True, eq=False)
class Entry(Generic[P]):
    """The state of a task at one time. Every change creates a new entry, and an entry equals only itself.

    Attributes:
        sequence: the number of the task in the queue, in the order of creation.
        schedule_time: when it is due, or due again.
        dispatch_count: the number of attempts, including a running one.
        response_count: the number of attempts that got a response.
        running: whether an attempt runs.
        retry: the task's own retry configuration; None: the one of the queue.
        group: due tasks of different groups take turns. Tasks of one group are sent in the order of time.
    """

    name: str
    payload: P
    sequence: int
    create_time: datetime
    schedule_time: datetime
    dispatch_count: int = 0
    response_count: int = 0
    first_dispatch_time: datetime | None = None
    last_attempt: Attempt | None = None
    running: bool = False
    retry: RetryConfig | None = None
    group: str = ""


def checked_time(name: str, at: datetime | None, now: datetime) -> datetime:
    """Returns when a task is due, in UTC.

    Args:
        at: when it is due; None or a time in the past: now.

    Raises:
        ValueError: the name is not 1 to 500 of ``A-Za-z0-9_-``, or ``at`` is naive or more than 30 days ahead.
    """
    if TASK_NAME.fullmatch(name) is None:
        raise ValueError(f"{name[:100]!r} cannot be a task's name: give 1 to 500 of the characters A-Za-z0-9_-")
    if at is not None and at.tzinfo is None:
        raise ValueError(f"task {name} is due at {at}, without a time zone: give an aware datetime")
    at = now if at is None else max(at.astimezone(UTC), now)
    if at - now > SCHEDULE_AHEAD_MAX:
        raise ValueError(
            f"task {name} is due at {at}: give a time at most {SCHEDULE_AHEAD_MAX.days} days ahead, "
            "and schedule it again then"
        )
    return at


class QueueState(Generic[P]):
    """One queue. Its runner calls ``dispatchable``, makes the attempts, and reports the end of each to ``finished``. It
    calls ``dispatchable`` again at ``next_event``, and after any other call.

    ``retry`` and ``limits`` may be replaced at any time. Times are aware datetimes.

    Attributes:
        turns: the order in which the waiting tasks are served.

    Args:
        shares: how many of the concurrent dispatches a group may use; None: all. Cloud Tasks has no groups. Without
            groups, only the time decides the order.
    """

    def __init__(
        self,
        *,
        retry: RetryConfig | None = None,
        limits: RateLimits | None = None,
        shares: Shares | None = None,
        retention: timedelta = RETENTION,
        entries_max: int = ENTRIES_MAX,
        tombstones_max: int = TOMBSTONES_MAX,
    ) -> None:
        self.retry = retry or RetryConfig()
        self.limits = limits or RateLimits()
        self.paused = False
        self._retention = retention
        self._entries_max = entries_max
        self._tombstones_max = tombstones_max
        self._sequence = 0
        self._bucket = TokenBucket()
        self._entries: dict[str, Entry[P]] = {}
        self._running: set[Entry[P]] = set()
        self.turns: Turns[Entry[P]] = Turns(shares)
        self._tombstones: OrderedDict[str, datetime] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def running(self) -> int:
        """The number of running attempts, including those of deleted tasks."""
        return len(self._running)

    def create(
        self,
        name: str,
        payload: P,
        at: datetime | None,
        now: datetime,
        *,
        retry: RetryConfig | None = None,
        group: str = "",
    ) -> Entry[P] | None:
        """Adds a task. Returns None if the name is taken by a task, or by one that ended less than the retention ago.

        Args:
            at: when it is due; None or a time in the past: now.
            retry: its own retry configuration; None: the one of the queue.

        Raises:
            ValueError: the name is not 1 to 500 of ``A-Za-z0-9_-``, or ``at`` is naive or more than 30 days ahead.
            QueueFull: the queue has reached its limit of tasks.
        """
        now = now.astimezone(UTC)
        at = checked_time(name, at, now)
        if name in self._entries or self.remembers(name, now):
            return None
        if len(self._entries) >= self._entries_max:
            raise QueueFull(f"the queue holds {self._entries_max} tasks, which is its limit: try again later")
        self._sequence += 1
        entry = Entry(name, payload, self._sequence, create_time=now, schedule_time=at, retry=retry, group=group)
        return self._put(entry, now)

    def remembers(self, name: str, now: datetime) -> bool:
        """Whether a task of that name ended less than the retention ago."""
        self._bury(now)
        return name in self._tombstones

    def get(self, name: str) -> Entry[P] | None:
        """Returns the task of that name, running or not; None if there is none."""
        return self._entries.get(name)

    def entries(self, *, after: int = 0, limit: int = 1_000) -> list[Entry[P]]:
        """Returns up to ``limit`` tasks whose ``sequence`` is greater than ``after``, in the order of their
        creation."""
        return list(islice((entry for entry in self._entries.values() if entry.sequence > after), limit))

    def delete(self, name: str, now: datetime) -> bool:
        """Deletes a task. Returns whether it existed. A running attempt continues and still counts as a concurrent
        dispatch, but its end changes nothing."""
        if name not in self._entries:
            return False
        self._remove(name, now)
        return True

    def purge(self, now: datetime) -> int:
        """Deletes all tasks. Returns how many there were."""
        names = list(self._entries)
        for name in names:
            self._remove(name, now)
        return len(names)

    def pause(self) -> None:
        """Stops dispatching. Running attempts continue, and tasks can still be created."""
        self.paused = True

    def resume(self) -> None:
        """Continues dispatching after ``pause``."""
        self.paused = False

    def dispatchable(self, now: datetime) -> list[Entry[P]]:
        """Returns the tasks to send now, as the limits of rate and concurrency allow. Groups take turns, and within a
        group, the task that is due longest comes first. The tasks count as running from now on. Pass each of them to
        ``finished`` exactly once."""
        sent: list[Entry[P]] = []
        while self._may_dispatch() and self._bucket.ready_at(self.limits, now) <= now:
            entry = self.turns.next(now)
            if entry is None:
                break
            self._bucket.take(self.limits, now)
            sent.append(self._start(entry, now))
        return sent

    def run(self, name: str, now: datetime) -> Entry[P] | None:
        """Returns a task to send now, even if it is not due, already runs, or the queue is paused or at its limits;
        None if there is no such task. Pass the entry to ``finished`` exactly once.

        If a task has several attempts at a time, the first acknowledged one ends the task. If attempts fail, only the
        one that was started last is followed by another attempt.
        """
        entry = self._entries.get(name)
        return entry and self._start(entry, now)

    def finished(self, entry: Entry[P], acknowledged: bool, now: datetime, *, responded: bool = True) -> Outcome:
        """Records the end of the attempt that began when ``dispatchable`` or ``run`` returned this entry.

        Args:
            acknowledged: whether the task is done. If not, it is retried after a backoff, or dropped.
            responded: whether there was any response.

        Raises:
            ValueError: the entry is not a running attempt of this queue.
        """
        if entry not in self._running:
            raise ValueError(f"task {entry.name} has no such running attempt: report each attempt once")
        self._running.remove(entry)
        self.turns.ended(entry)
        current = self._entries.get(entry.name)
        if current is None or current.sequence != entry.sequence:
            return Outcome.IGNORED
        if acknowledged:
            self._remove(entry.name, now)
            return Outcome.ACKNOWLEDGED
        if current is not entry:
            return Outcome.IGNORED
        assert entry.first_dispatch_time is not None and entry.last_attempt is not None
        retry = entry.retry or self.retry
        at = now + retry.backoff(entry.dispatch_count)
        if retry.spent(entry.dispatch_count, entry.first_dispatch_time, now) or (
            at - entry.create_time > TASK_LIFE_MAX
        ):
            self._remove(entry.name, now)
            return Outcome.DROPPED
        self._put(
            replace(
                entry,
                schedule_time=at,
                response_count=entry.response_count + responded,
                last_attempt=replace(entry.last_attempt, response_time=now if responded else None),
                running=False,
            ),
            now,
        )
        return Outcome.RETRY

    def next_event(self, now: datetime) -> datetime | None:
        """Returns when ``dispatchable`` will return a task, not before ``now``; None: not before another call changes
        the queue."""
        if not self._may_dispatch() or (at := self.turns.next_at(now)) is None:
            return None
        return max(at, self._bucket.ready_at(self.limits, now))

    def _may_dispatch(self) -> bool:
        return not self.paused and len(self._running) < self.limits.max_concurrent_dispatches

    def _start(self, entry: Entry[P], now: datetime) -> Entry[P]:
        started = replace(
            entry,
            dispatch_count=entry.dispatch_count + 1,
            first_dispatch_time=entry.first_dispatch_time or now,
            last_attempt=Attempt(entry.schedule_time, now),
            running=True,
        )
        self._entries[entry.name] = started
        self._running.add(started)
        self.turns.started(entry)
        return started

    def _put(self, entry: Entry[P], now: datetime) -> Entry[P]:
        self._entries[entry.name] = entry
        self.turns.add(entry, now)
        return entry

    def _remove(self, name: str, now: datetime) -> None:
        self.turns.remove(self._entries.pop(name))
        self._tombstones[name] = now + self._retention
        self._bury(now)

    def _bury(self, now: datetime) -> None:
        """Forgets tombstones that are too old, and the oldest ones if there are too many."""
        while self._tombstones:
            name = next(iter(self._tombstones))
            if self._tombstones[name] > now and len(self._tombstones) <= self._tombstones_max:
                break
            del self._tombstones[name]
