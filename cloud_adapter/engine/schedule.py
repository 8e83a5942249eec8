"""When work is due in an instance, and how its tasks are identified. Pure: creates no tasks and reads no clock.

Theory of operation. Three things wake an instance: a lease that expires, work that ``resume`` has to do (``due``), and
timeouts. Each of these times has a task, which ``plan.py`` creates before the commit that stores the time. The first of
these times is also stored as ``wake_at``. Recovery uses it to find the instance if the task was lost.

Each piece of work in ``due`` has its own name, which consists of what identifies it in the state. As long as the name
and the time stay the same, it is the same piece of work and keeps its task. A name must therefore change when the work
is done and becomes due again. Names of threads contain the pc. Names of waits and teardowns contain the wait's id,
which is never used again.

A new kind of work in the machine must be added to ``due``. Otherwise nothing wakes the instance for it.

A timer that is due much later may be *lazy* (``EngineOptions.lazy_after``): most timers end before they are due, so
the commit that stores it creates no task. Its fence says so. ``wake_at`` is then ``LAZY_AHEAD`` before the deadline:
at that time, recovery has to look at the instance, and creates the task under the name that the commit would have given
it. A lazy timer therefore depends on recovery, which must run every minute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from cloud_adapter.document import Lease
from cloud_adapter.engine.tasks import FENCE_LENGTH
from workflow_core import Execution, ThreadStatus, WaitKind, WaitStatus
from workflow_core.parked import active
from workflow_core.wait_types import ActivityWait, AnyTimedWait, ChildWait, EventWait, HandlerWait, TimedWait, TimerWait

LAZY_AHEAD = timedelta(minutes=2)
"""How long before its deadline recovery creates the task of a lazy timer. Recovery runs every minute, so the task is in
time even if one run is missed."""

_LAZY = "z"
"""The first character of the fence of a lazy timer. Tokens are hexadecimal."""

# An instance may have thousands of threads, and each commit looks at all of them several times. Looking up a member of
# an enum class takes as long as everything else that is done for a thread, so the members are bound once.
_EXECUTING, _RESUMING, _WAITING = ThreadStatus.EXECUTING, ThreadStatus.RESUMING, ThreadStatus.WAITING
_EVENT = WaitKind.EVENT

Timer = tuple[str, str, str]
"""Identifies the task of a timeout: the id of its wait, the name of its event, and its fence. One task serves the
deadlines of all attempts that a commit has scheduled. It has neither a wait nor an event."""

Due = tuple[tuple[object, ...], datetime | None]
"""The name of a piece of work, and when it is due; None: now."""


def due(execution: Execution) -> Iterator[Due]:
    """Yields the name of each piece of work that ``resume`` has to do, and when it is due; None: now."""
    for teardown in execution.teardowns:
        if teardown.status is WaitStatus.PENDING_TEARDOWN or teardown.retry_at is not None:
            yield (("teardown", teardown.id, teardown.event), teardown.retry_at)
    parent = execution.parent
    if parent is not None and not parent.told and execution.ended:
        yield (("tell", parent.wait_id), parent.retry_at)
    if not execution.live:
        return
    buffered = {kept.event for kept in execution.buffer} if execution.buffer else ()
    for thread in active(execution.threads):
        status = thread.status
        if status is _EXECUTING or status is _RESUMING:
            yield (("thread", thread.id, thread.pc), thread.retry_at)
        for wait in thread.waits:
            if wait.needs_setup:
                if isinstance(wait, HandlerWait | ChildWait) and wait.is_pending():
                    yield (("setup", wait.id, wait.event), wait.retry_at)
            # Not while another event of the thread still has to be set up. The setup comes first, at its own time.
            elif (
                buffered
                and status is _WAITING
                and isinstance(wait, EventWait)
                and wait.buffered
                and wait.event in buffered
            ):
                yield (("buffered", wait.id, wait.event), None)


def _timeouts(execution: Execution) -> list[AnyTimedWait]:
    return [
        wait
        for thread in active(execution.threads)
        for wait in thread.waits
        if wait.kind is not _EVENT and isinstance(wait, AnyTimedWait)
    ]


def open_timeouts(execution: Execution) -> list[AnyTimedWait]:
    """Returns the timeouts and attempts that have no task yet."""
    return [wait for wait in _timeouts(execution) if wait.task is None]


def fenced(execution: Execution, fence: str) -> list[AnyTimedWait]:
    """Returns the timeouts and attempts whose tasks the commit with that fence has created, if they are still waits."""
    return [wait for wait in _timeouts(execution) if wait.task == fence]


def fence_of(wait: TimedWait, token: str, now: datetime, lazy_after: timedelta | None) -> str:
    """Returns the fence with which the commit of that token stores a wait.

    Only timers are lazy: the end of an attempt moves with heartbeats, and an attempt seldom takes so long.
    """
    is_far = lazy_after is not None and wait.deadline is not None and wait.deadline > now + lazy_after
    return _LAZY + token[1:] if is_far and isinstance(wait, TimerWait) else token


def is_lazy(fence: str | None) -> bool:
    """Whether a fence is the one of a lazy timer."""
    return fence is not None and len(fence) == FENCE_LENGTH and fence.startswith(_LAZY)


def timers(execution: Execution) -> dict[Timer, datetime | None]:
    """Returns the identities of the tasks of all timeouts and attempts that have a fence. For a lazy timer, the value
    is the time at which its task is created; for others, it is None."""
    return {timer_of(wait, wait.task): _created_at(wait) for wait in _timeouts(execution) if wait.task is not None}


def _created_at(wait: AnyTimedWait) -> datetime | None:
    return wait.deadline - LAZY_AHEAD if wait.deadline is not None and is_lazy(wait.task) else None


def timer_of(wait: AnyTimedWait, task: str) -> Timer:
    """Returns the identity of the task of a timeout."""
    if isinstance(wait, ActivityWait):
        return "", "", task
    return wait.id, wait.known_as or wait.event, task


def attempts(execution: Execution, fence: str) -> list[ActivityWait]:
    """Returns the attempts of activities that the commit with that fence has scheduled, and that are still waits."""
    return [wait for wait in fenced(execution, fence) if isinstance(wait, ActivityWait)]


def resume_at(
    execution: Execution, lease: Lease | None, now: datetime, work: Iterable[Due] | None = None
) -> datetime | None:
    """Returns when ``resume`` has work next. With a lease, this is the end of the lease.

    Args:
        work: what ``due`` yields for the execution, if it is known.
    """
    if lease is not None:
        return lease.expires_at
    return min([at or now for _, at in (due(execution) if work is None else work)], default=None)


def wake_at(
    execution: Execution, lease: Lease | None, now: datetime, work: Iterable[Due] | None = None
) -> datetime | None:
    """Returns when the next work is due, including timeouts. A lazy timer counts from the time at which recovery has to
    create its task. For ``work``, see ``resume_at``."""
    resume = resume_at(execution, lease, now, work)
    waits = _timeouts(execution) if execution.live else ()
    times = [_created_at(wait) or wait.deadline for wait in waits if wait.deadline is not None]
    if not times:
        return resume
    return min(times if resume is None else [*times, resume])


def due_timeouts(execution: Execution, before: datetime) -> list[AnyTimedWait]:
    """Returns the timeouts whose deadline is not after ``before``."""
    if not execution.live:
        return []
    return [wait for wait in _timeouts(execution) if wait.deadline is not None and wait.deadline <= before]


def recoverable_timeouts(execution: Execution, now: datetime, before: datetime) -> list[AnyTimedWait]:
    """Returns the timeouts for which recovery creates tasks: those that are due by ``before``, and the lazy ones whose
    time has come."""
    waits = due_timeouts(execution, max(before, now + LAZY_AHEAD))
    return [wait for wait in waits if is_lazy(wait.task) or (wait.deadline is not None and wait.deadline <= before)]


def stop_before(at: datetime, now: datetime, horizon: timedelta) -> datetime:
    """Returns when to schedule the task for work that is due at ``at``: at that time, or, if it is beyond the horizon,
    at an intermediate stop. The task at the stop creates another task for the remaining time.

    Stops are half a horizon apart, counted back from ``at``. Every process therefore computes the same stops, and the
    next stop is never the one at which a task was just delivered, regardless of clock differences.
    """
    beyond = at - (now + horizon)
    if beyond <= timedelta():
        return at
    half = horizon / 2
    return at - half * -(-beyond // half)
