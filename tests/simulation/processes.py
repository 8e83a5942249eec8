"""Processes that run the engine. One can be killed or paused, and its clock can be wrong. Each of its calls to the
outside can fail in every way in which a real call can fail.

This file does not know what a call means.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import Unavailable
from cloud_adapter.ports import Task
from tests.simulation.actors import CURRENT, LANE, Actor, Killed
from tests.simulation.store import LocalSimulatedStore, SimulatedStore
from tests.simulation.threads import simulated_pools
from tests.simulation.vault import SimulatedCodec

if TYPE_CHECKING:
    from tests.simulation.world import World


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
        threads_max = world.settings.threads_max
        self.pools = simulated_pools(self, threads_max) if threads_max else None
        in_thread = self._in_thread if world.settings.has_slow_threads else _inline
        store = LocalSimulatedStore if world.settings.is_local else SimulatedStore
        self.engine = Engine(
            [world.definitions.flows[revision], world.definitions.children[revision]],
            store(world.database, self.call, world.written, world.sends, lambda: world.sharding.of(self.name)),
            self,
            clock=self,
            options=world.settings.options,
            rng=rng,
            run_sync=self.pools.steps if self.pools else in_thread,
            run_activity_sync=self.pools.activities if self.pools else None,
            codec=SimulatedCodec(self) if world.settings.has_codec else None,
        )

    # --- the ports: the clock and the queue ----------------------------------------------

    def now(self) -> datetime:
        return self.world.now + self.skew

    async def sleep(self, seconds: float) -> None:
        await self._wait(lambda future: self.world.timeline.after(seconds, self._resolve, future, None, None))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], object]:
        async def later() -> None:
            with suppress(Killed):  # nothing of a killed process goes on
                await self.sleep(seconds)
                callback()

        return asyncio.ensure_future(later()).cancel

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
        if self.pools is not None:
            self.pools.close()
        self.world.hosting.killed(self)

    def pause(self, seconds: float) -> None:
        """Suspends it for a time, like a process without CPU."""
        self.world.say("%s stands still for %.1f s", self.name, seconds)
        self.paused_until = max(self.paused_until, self.world.timeline.now + seconds)
        for actor in self.actors:
            actor.disturb()

    @property
    def knows_none(self) -> bool:
        """Whether it knows no statement of any instance."""
        return self.revision == self.world.definitions.bad_revision

    @property
    def has_mistakes(self) -> bool:
        """Whether its code has mistakes; see ``mistakes.py``."""
        settings = self.world.settings
        mistaken = settings.has_mistakes and (settings.is_mistaken_everywhere or self.name == "p0")
        return mistaken and self.world.timeline.now < settings.quiet_at

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

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        """Runs synchronous code, which has its effects at once, and then takes time."""
        actor = CURRENT.get()
        before = list(actor.running)
        result = function(*args)
        for run in [run for run in actor.running if run not in before]:
            await run.take_time()
            call(partial(run.end, is_spoilt=run.is_spoilt))
        return result

    # --- calls to the outside ------------------------------------------------------------

    async def call(self, name: str, land: Callable[[], Any], *, drags: bool = False, share: float = 1.0) -> Any:
        """Makes a call that takes effect when ``land`` is called, if it ever is.

        Args:
            drags: it takes up to half a lease.
            share: how long it takes without that, of what others take.
        """
        self.alive()
        world, actor = self.world, CURRENT.get(self.itself)
        traffic = actor.traffic
        traffic.calls[name] += 1
        fault, size = world.faults.draw()
        there, back = share * world.durations.latency(), share * world.durations.latency()
        if fault is not None:
            self._disturb(actor, LANE.get())
            world.say("%s: %s meets the fault %r (%.2f)", actor.name, name, fault, size)
        lease = world.settings.options.lease.total_seconds()
        if drags:
            actor.drags += 1
            there += size * lease / 2
        unavailable = Unavailable(f"the simulation cut {name}") if fault in ("refused", "lost", "late") else None
        match fault:
            case "lost":
                back += size**2 * world.settings.weather.silence_seconds
            case "late":
                back, there = back + size**2 * world.settings.weather.silence_seconds, size * 60
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
