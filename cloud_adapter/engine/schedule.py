"""When something is due in an instance, and what its tasks are known by. Pure: it creates no task and reads no clock.

Theory of operation. An instance is woken by three things: a lease that expires, work that ``resume`` has to do
(``due``), and timeouts. Each of these moments has a task, which ``plan.py`` creates before the commit that stores the
moment. The first of them is also stored, as ``wake_at``, by which recovery finds the instance if the task was lost.

Each piece of work in ``due`` has a name of its own, made of what identifies it in the state. As long as name and time
are the same, it is the same piece of work and keeps its task. So a name must change when the work is done and comes
again: those of threads hold the pc, those of waits and teardowns the wait's id, which is never used again.

A new kind of work in the machine must be added to ``due``: else nothing wakes the instance for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cloud_adapter.document import Lease
from workflow_core import Execution, ThreadStatus, WaitStatus
from workflow_core.wait_types import ActivityWait, AnyTimedWait, ChildWait, EventWait, HandlerWait

Timer = tuple[str, str, str]
"""What the task of a timeout is known by: the id of its wait, the name of its event, and its fence. One task is for the
deadlines of all attempts that a commit has scheduled: it has neither wait nor event."""

Due = tuple[tuple[object, ...], datetime | None]
"""A piece of work by a name of its own, and when it is due; None: now."""


def due(execution: Execution) -> Iterator[Due]:
    """Each piece of work that ``resume`` has to do, by a name of its own, and when; None: now."""
    for teardown in execution.teardowns:
        if teardown.status is WaitStatus.PENDING_TEARDOWN or teardown.retry_at is not None:
            yield (("teardown", teardown.id, teardown.event), teardown.retry_at)
    parent = execution.parent
    if parent is not None and not parent.told and execution.ended:
        yield (("tell", parent.wait_id), parent.retry_at)
    if not execution.live:
        return
    buffered = {kept.event for kept in execution.buffer}
    for thread in execution.threads:
        if thread.status in (ThreadStatus.EXECUTING, ThreadStatus.RESUMING):
            yield (("thread", thread.id, thread.pc), thread.retry_at)
        for wait in thread.waits:
            # Not while another event of the thread is still to be set up: that comes first, at its time.
            if isinstance(wait, EventWait):
                if wait.buffered and wait.event in buffered and thread.status is ThreadStatus.WAITING:
                    yield (("buffered", wait.id, wait.event), None)
            elif isinstance(wait, HandlerWait | ChildWait) and wait.is_pending():
                yield (("setup", wait.id, wait.event), wait.retry_at)


def _timeouts(execution: Execution) -> Iterator[AnyTimedWait]:
    for thread in execution.threads:
        for wait in thread.waits:
            if isinstance(wait, AnyTimedWait):
                yield wait


def open_timeouts(execution: Execution) -> Iterator[AnyTimedWait]:
    """The timeouts and attempts that have no task yet."""
    return (wait for wait in _timeouts(execution) if wait.task is None)


def fenced(execution: Execution, fence: str) -> Iterator[AnyTimedWait]:
    """The timeouts and attempts whose tasks the commit with that fence has created, as far as they are waited for."""
    return (wait for wait in _timeouts(execution) if wait.task == fence)


def timers(execution: Execution) -> Iterator[Timer]:
    """The timeouts and attempts that have a task, by what that is known by."""
    return (timer_of(wait, wait.task) for wait in _timeouts(execution) if wait.task is not None)


def timer_of(wait: AnyTimedWait, task: str) -> Timer:
    """What the task of a timeout is known by."""
    if isinstance(wait, ActivityWait):
        return "", "", task
    return wait.id, wait.known_as or wait.event, task


def attempts(execution: Execution, fence: str) -> list[ActivityWait]:
    """The attempts of activities that the commit with that fence has scheduled, as far as they are still waited for."""
    return [wait for wait in fenced(execution, fence) if isinstance(wait, ActivityWait)]


def resume_at(execution: Execution, lease: Lease | None, now: datetime) -> datetime | None:
    """When ``resume`` has something to do next; what a live lease's holder does counts from the lease's end."""
    if lease is not None:
        return lease.expires_at
    return min((at or now for _, at in due(execution)), default=None)


def wake_at(execution: Execution, lease: Lease | None, now: datetime) -> datetime | None:
    """When the next thing is due, a timeout included."""
    times = [] if not execution.live else [wait.deadline for wait in _timeouts(execution) if wait.deadline is not None]
    resume = resume_at(execution, lease, now)
    return min([*times, *([] if resume is None else [resume])], default=None)


def due_timeouts(execution: Execution, before: datetime) -> list[AnyTimedWait]:
    """The timeouts whose deadline is not after ``before``."""
    if not execution.live:
        return []
    return [wait for wait in _timeouts(execution) if wait.deadline is not None and wait.deadline <= before]


def stop_before(at: datetime, now: datetime, horizon: timedelta) -> datetime:
    """When a task comes for what is due at ``at``: then, or if that is beyond the horizon, at a stop on the way there,
    where a task for the rest of the way is made.

    Stops are half a horizon apart, counted back from ``at``: so they are the same ones whoever counts, and the next one
    is never that at which a task has just come, whatever its clock.
    """
    beyond = at - (now + horizon)
    if beyond <= timedelta():
        return at
    half = horizon / 2
    return at - half * -(-beyond // half)
