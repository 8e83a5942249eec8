"""What disturbs a run at certain times, whatever its calls do: processes end, stop and are replaced, clocks jump, tasks
are lost. Recovery, which sets it right, is here too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Unpause
from cloud_adapter.ports import ShardedStore
from tests.simulation.actors import Actor, Operator
from tests.simulation.damage import Damage
from tests.simulation.weather import CLOCK_JUMP_SECONDS_MAX

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.world import World

SETTLING_SECONDS = 240.0
"""How long what faults have begun may last."""


class Disturbances:
    """Plans them, and lets them happen.

    Attributes:
        deployed: the newest revision, if revisions replace each other.
        badly_deployed: the numbers of the processes that are to have the revision which knows no statement.
        recovered_at: when the first recovery has ended after all is quiet.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.settings
        self.deployed = 0
        self.badly_deployed: set[int] = set()
        self.was_badly_deployed = False
        self.recovered_at: float | None = None
        self._lazy_at = 0.0
        self.damage = Damage(world)
        stream = world.scenario.stream
        self._kills, self._pauses, self._losses = map(stream, ("kills", "pauses", "lost tasks"))
        self._deployments, self._jumps = stream("deployments"), stream("clocks that jump")

    def plan(self) -> None:
        """Plans all, in the order in which it happens if it happens at once."""
        timeline, quiet_at = self.world.timeline, self.settings.quiet_at
        pauses_max = 0 if self.settings.prompt else 2
        for happens, stream, most in (
            (self._kill_one, self._kills, 3),
            (self._pause_one, self._pauses, pauses_max),
            (self._lose_one, self._losses, 12),
        ):
            for _ in range(stream.randrange(most + 1)):
                timeline.at(stream.uniform(0, quiet_at), happens)
        for _ in self.world.definitions.flows[1:] if self.settings.is_renamed else ():
            timeline.at(self._deployments.uniform(5, 60), self._deploy)
        if self.settings.loses_tasks and self.world.scenario.chance("purges", 0.5):
            for second in range(20, int(quiet_at), 20):
                timeline.at(second, self._purge)
        if self.settings.recovers:
            for second in range(45, int(quiet_at + SETTLING_SECONDS) + 120, 60):
                timeline.at(second, self.recover)
        timeline.at(quiet_at, self._end_faults)
        timeline.at(quiet_at + SETTLING_SECONDS, self._become_quiet)
        self.settings.weather.plan(self)
        self.damage.plan()
        if self.settings.has_bad_deployment:
            rng = self.world.scenario.stream("bad deployment")
            begin = rng.uniform(5, quiet_at / 2)
            timeline.at(begin, self._deploy_badly, rng.random() < 0.5)
            timeline.at(rng.uniform(begin, quiet_at), self._roll_back)

    def _kill_one(self) -> None:
        if self.world.faults.planned() and (process := self.world.hosting.any_process(self._kills)) is not None:
            process.kill()

    def _deploy(self) -> None:
        """The next revision replaces the processes one after another."""
        self.deployed += 1
        self.world.say("revision %d is deployed", self.deployed)
        for number in self.world.hosting.processes:
            self.world.timeline.after(self._deployments.uniform(0, 120), self._replace, number, self.deployed)

    def _deploy_badly(self, everywhere: bool) -> None:
        """The first process, or each, gets a revision that knows no statement of any instance."""
        self.world.say("a bad revision is deployed")
        self.was_badly_deployed = True
        self.world.queue.has_lost = True  # it acknowledges tasks that it cannot carry out
        for number in [*self.world.hosting.processes] if everywhere else [0]:
            self.badly_deployed.add(number)
            self.world.hosting.processes[number].kill()

    def _roll_back(self) -> None:
        self.world.say("the bad revision is rolled back")
        for number in sorted(self.badly_deployed):
            self.badly_deployed.remove(number)
            self.world.hosting.processes[number].kill()

    def _replace(self, number: int, revision: int) -> None:
        process = self.world.hosting.processes[number]
        if process.revision < revision:
            process.kill()

    def _pause_one(self) -> None:
        if self.world.faults.planned() and (process := self.world.hosting.any_process(self._pauses)) is not None:
            process.pause(self._pauses.uniform(0, 2) * self.settings.options.lease.total_seconds())

    def _lose_one(self) -> None:
        if self.settings.loses_tasks and self.world.faults.planned():
            self.world.queue.lose(all=self._losses.random() < 0.5)

    def _purge(self) -> None:
        if self.world.faults.planned():
            self.world.queue.lose(all=True)

    def pause_queue(self, until: float) -> None:
        """The queue delivers nothing for a while."""
        if self.world.faults.planned():
            self.world.say("the queue is paused until %.0f", until)
            self.world.queue.paused_until = max(self.world.queue.paused_until, until)

    def fall_out(self, until: float) -> None:
        """Nothing outside of the processes answers for a while."""
        if self.world.faults.planned():
            self.world.say("an outage begins, until %.0f", until)
            self.world.faults.is_out = True
            self.world.timeline.at(until, self._fall_in)

    def _fall_in(self) -> None:
        self.world.say("the outage ends")
        self.world.faults.is_out = False

    def turn_clock_back(self, size: float) -> None:
        """The clock of a process jumps back. By more than clocks may differ only where a recovery comes, since what
        such a process posts may belong to a task that has already run."""
        process = self.world.hosting.any_process(self._jumps)
        if process is not None and self.world.faults.planned():
            most = 3 * self.settings.options.lease.total_seconds() if self.settings.recovers else CLOCK_JUMP_SECONDS_MAX
            process.turn_clock_back(size * most)
            self.world.queue.has_lost = True

    def recover_overdue(self) -> None:
        """Recovers what is overdue because its task was lost. A recovery comes every minute only until the faults have
        settled, since a run may last for months."""
        overdue = self.world.now - timedelta(seconds=2 * self.settings.skew)
        if self.world.queue.has_lost and any(
            one.wake_at and one.wake_at <= overdue for one in self.world.database.all()
        ):
            self.recover()

    def recover_lazy(self) -> None:
        """Recovers each minute while a lazy timer waits for its task."""
        at = self.world.now - timedelta(seconds=2 * self.settings.skew)
        wakeful = [one for one in self.world.database.all() if one.wake_at is not None and one.wake_at <= at]
        if any(self.world.models[one.id].tasks.lazy for one in wakeful) and self._lazy_at <= self.world.timeline.now:
            self._lazy_at = self.world.timeline.now + 60
            self.world.timeline.at(self._lazy_at, self.recover_lazy)
            self.recover()

    def recover(self) -> None:
        process = self.world.hosting.any_process(self.world.hosting.routes)
        if process is not None:
            actor = Actor(process, f"{process.name} recovery")
            was_quiet, limit = self.world.is_quiet, self.settings.limits.recovered_max

            def answered(answer: Any) -> None:
                if isinstance(answer, int) and answer >= limit:
                    self.world.timeline.after(60, self.recover)  # there may be more
                elif was_quiet and isinstance(answer, int) and self.recovered_at is None:
                    self.recovered_at = self.world.timeline.now

            # What was repaired while the faults lasted is tried again, as new processes do.
            are_over = self.world.timeline.now >= self.settings.quiet_at
            self.world.hosting.serve(actor, lambda: recover(process.engine, limit, are_over), answered)

    def _end_faults(self) -> None:
        self.world.say("the faults end")
        self.world.faults.on = False
        for process in self.world.hosting.processes.values():
            process.set_clock()

    def _become_quiet(self) -> None:
        self.world.is_quiet = True
        for model in self.world.models.values():
            if model.parent is not None:
                self._unpause(self.world.models[model.parent.id])

    def _unpause(self, model: Model) -> None:
        """Unpauses a parent. Otherwise its child would try forever to notify it."""
        process = self.world.hosting.any_process(self.world.hosting.routes)
        if process is None:
            self.world.timeline.after(1, self._unpause, model)
        elif model.executor.paused:
            engine = process.engine
            operator = Operator(process, f"{process.name} unpause at the end")
            self.world.hosting.serve(
                operator, lambda: engine.operate(model.workflow, model.id, Unpause()), lambda answer: None
            )


async def recover(engine: Engine, limit: int, try_postponed: bool) -> int:
    """Recovers as the scheduler's call and its tasks do, for each shard by itself if there are several."""
    store = engine.store
    shards = [tuple(shard) for shard in store.shards] if isinstance(store, ShardedStore) else []
    if len(shards) < 2:
        return await engine.recover(limit=limit, try_postponed=try_postponed)
    found = await engine.recovery.run(timedelta(), limit, 3600, try_postponed, shards[0])
    return max([found, *[await engine.recovery.run_shard(shard, limit, 3600) for shard in shards[1:]]])
