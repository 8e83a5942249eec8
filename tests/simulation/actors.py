"""The actors of a simulation: processes, and the requests that they serve. A process can be killed or paused, and its
clock can be wrong. Each of its calls to the outside can fail in every way in which a real call can fail.

This file does not know what a call means.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import Unavailable
from cloud_adapter.ports import Task
from tests.core.generate import FirstError
from tests.simulation.store import SimulatedStore
from workflow_core import ActivityContext, AttemptOver
from workflow_core.wait_types import AnyTimedWait

if TYPE_CHECKING:
    from tests.simulation.world import World


class Killed(BaseException):
    """The process is dead: nothing that it was about to do happens."""


class SimulatedFailure(Exception):
    """The error that a step, a setup or a teardown raises to simulate a failure."""


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
        entries: how many entries of inboxes it has read.
        recovered: how many tasks the instances and inboxes need that it has found to be overdue.
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
    entries: int = 0
    recovered: int = 0

    def returned(self, name: str, result: Any) -> None:
        """A call has succeeded."""
        if name == "inbox":
            self.entries += len(result)
        elif name == "uncollected":
            self.recovered += len(result)
        elif name == "due":
            for instance in result:
                waits = [wait for thread in instance.execution.threads for wait in thread.waits]
                self.recovered += 1 + sum(isinstance(wait, AnyTimedWait) for wait in waits)


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
        run = Run(self, kind, id, key, attempt, *world.user_code())
        world.say("%s runs a %s of %s, attempt %s", self.name, kind, id, attempt)
        world.began(run)
        self.running.append(run)
        return run


class Operator(Actor):
    """A request of an operator."""


@dataclass(eq=False, kw_only=True)
class Delivery(Actor):
    """A task that was delivered."""

    delivered: Task


@dataclass(eq=False)
class Run:
    """User code that runs."""

    actor: Actor
    kind: str
    id: str
    key: str
    attempt: int
    seconds: float
    fails: bool
    error: Exception | None = None

    def perform(self, action: Callable[[], object]) -> None:
        """What the code does to the fields; it may fail by itself, at its end."""
        try:
            action()
        except FirstError as error:
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
        hangs, is_stubborn, seconds = world.life(self.seconds, limit_seconds)
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
        """Sends a heartbeat. It must be accepted unless there is a reason."""
        actor = self.actor
        model = actor.process.world.models[context.workflow_id]
        began, commits = actor.process.world.timeline.now, model.commits
        actor.beating = actor.beating or (self, actor.process.now())
        actor.traffic.beats += 1
        try:
            await context.heartbeat()
        except AttemptOver as error:
            actor.process.world.say("%s is told %r", actor.name, error)
            model.activities.check_over(context, began)
            raise
        model.activities.check_heard(self, began, commits)

    def end(self) -> None:
        self.actor.process.alive()
        self.actor.running.remove(self)
        has_failed = self.fails or self.error is not None
        self.actor.done[self.kind, self.key] = self.attempt, has_failed
        world = self.actor.process.world
        world.done[self.kind, self.key, self.attempt, has_failed] = world.timeline.now
        if self.fails:
            raise SimulatedFailure("as was to be")
        if self.error is not None:
            raise self.error


class Process:
    """A process that runs the engine, with a clock of its own."""

    calls_max = 20

    def __init__(self, world: World, name: str, revision: int, skew: float, rng: Random) -> None:
        self.world = world
        self.name = name
        self.revision = revision
        self.skew = self._right_skew = timedelta(seconds=skew)
        self.dead = False
        self.has_jumped = False
        self.paused_until = 0.0
        self._waiting: dict[Any, None] = {}
        self.actors: dict[Actor, None] = {}
        self.itself = Actor(self, f"{name} itself")
        self.engine = Engine(
            [world.flows[revision], world.children[revision]],
            SimulatedStore(world.database, self.call, world.written, world.sends),
            self,
            clock=self,
            options=world.options,
            rng=rng,
            run_sync=_inline,
        )

    # --- the ports: the clock and the queue ----------------------------------------------

    def now(self) -> datetime:
        return self.world.now + self.skew

    async def sleep(self, seconds: float) -> None:
        await self._wait(lambda future: self.world.timeline.after(seconds, self._resolve, future, None, None))

    async def create(self, task: Task) -> None:
        sent = replace(task, body=json.loads(json.dumps(task.body)))
        await self.call("create task", lambda: self.world.queue.create(sent), drags=self.world.queue_drags)

    async def delete(self, name: str) -> None:
        await self.call("delete task", lambda: self.world.queue.delete(name), drags=self.world.queue_drags)

    # --- what can happen to it -----------------------------------------------------------

    def alive(self) -> None:
        if self.dead:
            raise Killed

    def kill(self) -> None:
        """Ends it immediately. Calls that it has already sent may still take effect."""
        if self.dead:
            return
        self.world.say("%s is killed", self.name)
        self.dead = True
        for actor in self.actors:
            actor.running.clear()
        for future in list(self._waiting):
            if not future.done():
                future.set_exception(Killed())
        self.world.killed(self)

    def pause(self, seconds: float) -> None:
        """Suspends it for a time, like a process without CPU."""
        self.world.say("%s stands still for %.1f s", self.name, seconds)
        self.paused_until = max(self.paused_until, self.world.timeline.now + seconds)
        for actor in self.actors:
            actor.disturb()

    @property
    def has_wrong_clock(self) -> bool:
        return self.skew != self._right_skew

    def latest(self) -> datetime:
        """The time that its clock shows, or would show if it had not jumped back: what was decided before may come
        later."""
        return self.world.now + max(self.skew, self._right_skew)

    def turn_clock_back(self, seconds: float) -> None:
        """Its clock jumps back. It is wrong until it is set."""
        self.world.say("the clock of %s jumps back by %.1f s", self.name, seconds)
        self.skew -= timedelta(seconds=seconds)
        self.has_jumped = True
        for actor in self.actors:
            actor.disturb()

    def set_clock(self) -> None:
        """Its clock is right again."""
        if self.has_wrong_clock:
            self.world.say("the clock of %s is set", self.name)
            self.skew = self._right_skew
            for actor in self.actors:
                actor.disturb()

    # --- calls to the outside ------------------------------------------------------------

    async def call(self, name: str, land: Callable[[], Any], *, drags: bool = False) -> Any:
        """Makes a call that takes effect when ``land`` is called, if it ever is.

        Args:
            drags: it takes up to half a lease.
        """
        self.alive()
        world, actor = self.world, CURRENT.get(self.itself)
        traffic = actor.traffic
        traffic.calls[name] += 1
        fault, size = world.faults.draw()
        there, back = world.latency(), world.latency()
        if fault is not None:
            self._disturb(actor, LANE.get())
            world.say("%s: %s meets the fault %r (%.2f)", actor.name, name, fault, size)
        lease = world.options.lease.total_seconds()
        if drags:
            actor.drags += 1
            there += size * lease / 2
        unavailable = Unavailable(f"the simulation cut {name}") if fault in ("refused", "lost", "late") else None
        match fault:
            case "lost":
                back += size**2 * world.weather.silence_seconds
            case "late":
                back, there = back + size**2 * world.weather.silence_seconds, size * 60
            case "slow":
                there = size * 2 * lease
            case "slow reply":
                back = size * 2 * lease
            case "pause":
                self.pause(size * 2 * lease)
            case "cancelled" if actor.task is not None:
                actor.task.cancel()
            case "killed before":
                self.kill()
        self.alive()

        def send(future: Any) -> None:
            timeline = world.timeline
            if unavailable is not None:
                timeline.after(back, self._resolve, future, None, unavailable)
            if fault != "refused":
                timeline.after(there, arrive, future)

        def arrive(future: Any) -> None:
            result, error = world.on_behalf(actor, name, land)
            if fault == "killed after":
                self.kill()
            elif unavailable is None:
                world.timeline.after(back, self._resolve, future, result, error)

        if fault == "killed during":
            world.timeline.after(there, world.on_behalf, actor, name, land)
            self.kill()
            raise Killed
        try:
            result = await self._wait(send)
        except Exception as error:
            traffic.failed[name] += 1
            traffic.lost[name] += isinstance(error, Unavailable)
            raise
        traffic.returned(name, result)
        return result

    @staticmethod
    def _disturb(actor: Actor, lane: Any) -> None:
        """Records that a fault has affected an actor, and all requests in the lane for which it acts."""
        actor.disturb()
        if lane is not None:
            lane.is_disturbed = True
            for item in lane.line.items:
                item.context[CURRENT].disturb()

    async def _wait(self, begin: Callable[[Any], None]) -> Any:
        self.alive()
        future = self.world.loop.create_future()
        self._waiting[future] = None
        begin(future)
        try:
            return await future
        finally:
            del self._waiting[future]

    def _resolve(self, future: Any, result: Any, error: Exception | None) -> None:
        if future.done():
            return
        if self.paused_until > self.world.timeline.now:
            self.world.timeline.at(self.paused_until, self._resolve, future, result, error)
        elif error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)


async def _inline(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)
