"""Requests that processes serve, with the user code that they run and the calls that they have made.

This file does not know what a call means.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cloud_adapter.ports import Task
from tests.core.generate import FirstError
from workflow_core import ActivityContext, AttemptOver, Execution, Principal
from workflow_core.wait_types import AnyTimedWait

if TYPE_CHECKING:
    pass

if TYPE_CHECKING:
    from tests.simulation.processes import Process


class Killed(BaseException):
    """The process is dead: nothing that it was about to do happens."""


class SimulatedFailure(Exception):
    """The error that a step, a setup or a teardown raises to simulate a failure."""


class MistakeError(Exception):
    """What a function raises by mistake."""


CURRENT: ContextVar[Actor] = ContextVar("CURRENT")
"""On whose behalf the code runs that runs now."""

LANE: ContextVar[Any] = ContextVar("LANE", default=None)
"""The lane for which the code loads and commits."""


@dataclass(eq=False)
class Traffic:
    """What one request has done.

    Attributes:
        calls, failed, lost: how often it has made each call, that has failed, and without an answer.
        decisions: how many decisions it has put in lanes.
        again: how often one of them had to wait, and was to be made again.
        planned, obsolete: how many tasks its commits were to create, and to delete.
        own: how many of the tasks that they created nobody needs if they fail.
        takes: how many leases it has taken.
        works: how many pieces of work it has begun under a lease.
        births, errands: how many of them create a child, and how many need a decision, for another instance or to fail.
        beats: how many heartbeats it has sent.
        in_line: how often it has waited for a thread, and how many heartbeats it has sent meanwhile.
        entries: how many entries of inboxes it has read.
        too_large: how often what it was to post was too large for an inbox.
        kept: how often it has kept an event in an inbox.
        withheld: how often it was about to. It then looks whether the event has taken effect, and may be interrupted.
        looked: how often it has looked for such events.
        unrecorded: how often the refusal of one could not be recorded, or no longer held, so that the instance is read
            once more.
        due: the instances that it has found to be overdue.
        recovered: how many tasks the instances and inboxes need that it has found to be overdue.
        retries: how many retries were to come in an instance that it has seen, at most.
    """

    calls: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    decisions: int = 0
    again: int = 0
    planned: int = 0
    obsolete: int = 0
    own: int = 0
    takes: int = 0
    works: int = 0
    births: int = 0
    errands: int = 0
    beats: int = 0
    in_line: int = 0
    entries: int = 0
    due: set[tuple[str, str]] = field(default_factory=set)
    recovered: int = 0
    too_large: int = 0
    kept: int = 0
    withheld: int = 0
    looked: int = 0
    unrecorded: int = 0
    retries: int = 0

    def returned(self, name: str, result: Any) -> None:
        """A call has succeeded."""
        if name == "inbox":
            self.entries += len(result)
        elif name == "uncollected":
            self.recovered += len(result)
        elif name in ("due", "postponed"):
            self.due |= {(due.workflow, due.id) for due in result}
        elif name == "load":
            execution = result.execution
            waits = [wait for thread in execution.threads for wait in thread.waits]
            if (result.workflow, result.id) in self.due:
                self.recovered += 1 + sum(isinstance(wait, AnyTimedWait) for wait in waits)
            self.saw(execution)

    def saw(self, execution: Execution) -> None:
        """An instance was loaded, or is as it was when this process has seen it last."""
        retried = (each.retry_at is not None for each in (*execution.threads, *execution.teardowns))
        self.retries = max(self.retries, sum(retried))


@dataclass(eq=False)
class Actor:
    """One request that a process serves.

    Attributes:
        disturbances: how often a fault or a pause has affected it, so that its lease or attempt may have expired.
        drags: how many of its calls were so slow that a lease may have expired during a commit.
        running: the user code that it is running.
        done: the results of the user code that it has run to its end, by kind and idempotency key.
        task: the asyncio task that serves the request.
        beating: the activity that sends heartbeats, and since when. They may still arrive after it has ended.
        traffic: what it has done so far.
    """

    process: Process
    name: str
    disturbances: int = 0
    drags: int = 0
    running: list[Run] = field(default_factory=list)
    done: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)
    task: Any = None
    beating: tuple[Run, datetime] | None = None
    traffic: Traffic = field(default_factory=Traffic)

    @property
    def disturbed(self) -> bool:
        return self.disturbances > 0

    def disturb(self) -> None:
        """A fault affects it."""
        self.disturbances += 1

    def begin(self, kind: str, workflow: Any, id: str, key: str, attempt: int = 0) -> Run:
        """User code begins to run."""
        world = self.process.world
        run = Run(self, kind, id, key, attempt, *world.durations.user_code())
        world.say("%s runs a %s of %s, attempt %s", self.name, kind, id, attempt)
        world.began(run)
        self.running.append(run)
        return run


@dataclass(eq=False, kw_only=True)
class Operator(Actor):
    """A request of an operator."""

    principal: Principal | None = None


class Question(Actor):
    """A request for the outcome of an event that was kept."""


class Denied(Actor):
    """A request that must be refused."""


@dataclass(eq=False, kw_only=True)
class Delivery(Actor):
    """A task that was delivered."""

    delivered: Task


@dataclass(eq=False)
class Run:
    """User code that runs.

    Attributes:
        reports: what it has reported.
    """

    actor: Actor
    kind: str
    id: str
    key: str
    attempt: int
    seconds: float
    fails: bool
    error: Exception | None = None
    is_spoilt: bool = False
    reports: list[dict[str, int]] = field(default_factory=list)

    def perform(self, action: Callable[[], object]) -> None:
        """What the code does to the fields; it may fail by itself, at its end."""
        try:
            action()
        except (FirstError, MistakeError) as error:
            self.error = error

    async def take_time(self) -> None:
        try:
            await self.actor.process.sleep(self.seconds)
        except asyncio.CancelledError:
            # Interrupted, as its lease is lost.
            with contextlib.suppress(ValueError):
                self.actor.running.remove(self)
            raise

    async def live(self, context: ActivityContext, limit_seconds: float) -> None:
        """Takes time, and gives signs of life meanwhile, or hangs without one for a while. It may go on to its end
        although its attempt is over."""
        world, sleep = self.actor.process.world, self.actor.process.sleep
        hangs, is_stubborn, seconds = world.durations.life(self.seconds, limit_seconds)
        try:
            if hangs:
                await sleep(2 * limit_seconds)
            while seconds > 0:
                await sleep(min(seconds, limit_seconds / 4))
                seconds -= limit_seconds / 4
                try:
                    await self.beat(context)
                except AttemptOver:
                    if not is_stubborn:
                        raise
        except BaseException:
            with contextlib.suppress(ValueError):
                self.actor.running.remove(self)
            raise

    async def beat(self, context: ActivityContext) -> None:
        """Sends a heartbeat, in some runs with a report. It must be accepted unless there is a reason."""
        actor = self.actor
        model = actor.process.world.models[context.workflow_id]
        began, commits = actor.process.world.timeline.now, model.commits
        actor.beating = actor.beating or (self, actor.process.now())
        actor.traffic.beats += 1
        has_report = (len(self.key) + self.attempt + len(self.reports)) % 3 > 0
        try:
            if has_report:
                self.reports.append({"run": id(self), "number": len(self.reports)})
                await context.report(self.reports[-1])
            else:
                await context.heartbeat()
        except AttemptOver as error:
            actor.process.world.say("%s is told %r", actor.name, error)
            model.activities.check_over(context, began)
            raise
        if not has_report or len(self.reports) == 1:  # further ones may wait for a while
            model.activities.check_heard(self, began, commits)

    def returns(self, *, is_spoilt: bool = False) -> None:
        """Synchronous code returns: it ends, unless its thread takes time. See ``end``."""
        self.is_spoilt = is_spoilt
        settings = self.actor.process.world.settings
        if not settings.has_slow_threads or settings.has_late_threads:
            self.end(is_spoilt=is_spoilt)

    def end(self, *, is_spoilt: bool = False) -> None:
        """It ends; ``is_spoilt``: it counts as failed, because of what it has done or returns."""
        self.actor.process.alive()
        self.actor.running.remove(self)
        has_failed = self.fails or self.error is not None or is_spoilt
        self.actor.done[self.kind, self.key] = self.attempt, has_failed
        world = self.actor.process.world
        world.done[self.kind, self.key, self.attempt, has_failed] = world.timeline.now
        if self.fails:
            raise world.failure()
        if self.error is not None:
            raise self.error
