"""Runs the processes, and gives them requests and tasks to serve, as the cloud does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from random import Random
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.ports import Task
from tests.simulation.actors import CURRENT, Actor, Delivery, Killed, Operator
from tests.simulation.disturbances import SETTLING_SECONDS
from tests.simulation.model.violations import Violation
from tests.simulation.processes import Process
from tests.simulation.requests import LOST, Call
from tests.simulation.traffic import check_traffic

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWER_SECONDS_MAX = 20.0
"""How long an answer takes at most, beside ``max_wait``, where nothing disturbs it: some calls, and those of others."""

TASK_SECONDS_MAX = 1_000.0
"""How long a task takes at most then, with the user code that it runs, but without its heartbeats."""

BEAT_SECONDS_MAX = 1.0
"""How long a heartbeat takes at most then, on the average of those of an activity."""

LOOK_SECONDS_MAX = 2.0
"""How long it takes at most then to look for a kept event and to decide it, on the average."""


class Hosting:
    """The processes of a run.

    Attributes:
        processes: the last one that was started, by number; it may be dead, and another will be started soon.
        all_processes: those that were replaced, too.
        routes: draws where a task goes.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.settings
        self.routes, self._starts = world.scenario.stream("routes"), world.scenario.stream("starts")
        self.processes: dict[int, Process] = {}
        self.all_processes: list[Process] = []

    def begin(self) -> None:
        """Starts the first processes."""
        count = self.world.scenario.choice("processes", (1, 1, 2, 3))
        for number in range(max(count, 2) if self.settings.is_renamed else count):
            self.start(number)

    def start(self, number: int) -> None:
        revision = self.world.disturbances.deployed
        if not self.settings.is_renamed:
            revision = self._starts.randrange(self.world.definitions.bad_revision)
        if number in self.world.disturbances.badly_deployed:
            revision = self.world.definitions.bad_revision
        skew = self._starts.uniform(-self.settings.skew, self.settings.skew)
        rng = self.world.scenario.stream(f"engine {len(self.all_processes)}")
        process = self.processes[number] = Process(self.world, f"p{number}", revision, skew, rng)
        self.all_processes.append(process)
        self.world.say("%s starts with revision %d, its clock %+.1f s off", process.name, revision, skew)

    def killed(self, process: Process) -> None:
        number = int(process.name[1:])
        self.world.timeline.after(self._starts.uniform(0, 30) if self.world.faults.on else 1, self.start, number)

    def any_process(self, rng: Random) -> Process | None:
        process = self.processes[rng.randrange(len(self.processes))]
        return None if process.dead else process

    def serve(self, actor: Actor, perform: Callable[[], Awaitable[Any]], answered: Callable[[Any], None]) -> None:
        """Lets a process serve a request; ``answered`` gets what it returned, the error it raised, or ``LOST``."""
        process = actor.process

        def arrive() -> None:
            if process.dead:
                answered(LOST)
            elif process.paused_until > self.world.timeline.now:
                self.world.timeline.at(process.paused_until, arrive)
            else:
                context = copy_context()
                context.run(CURRENT.set, actor)
                process.actors[actor] = None
                if process.has_wrong_clock:
                    actor.disturb()
                actor.task = self.world.loop.create_task(work(), context=context)

        async def work() -> None:
            arrived = self.world.timeline.now
            try:
                answer = await perform()
            except (Killed, asyncio.CancelledError):
                answer = LOST
                actor.running.clear()
            except Exception as error:
                answer = error
            if process.dead:
                answer = LOST
            self._check_patience(actor, self.world.timeline.now - arrived)
            try:
                check_traffic(actor)
            except Violation as violation:
                self.world.violated(violation)
            process.actors.pop(actor, None)
            if actor.running and not process.dead:
                self.world.violated(Violation(f"{actor.name} has ended, and its user code goes on"))
            fault, _ = self.world.faults.draw()
            self.world.timeline.after(self.world.durations.latency(), answered, LOST if fault == "lost" else answer)

        self.world.timeline.after(self.world.durations.latency(), arrive)

    def _check_patience(self, actor: Actor, seconds: float) -> None:
        """Checks that no request waits long without a fault."""
        calm_since = 0.0 if self.settings.is_peaceful else self.settings.quiet_at + SETTLING_SECONDS
        if self.world.timeline.now - seconds < calm_since:
            return
        is_task = not isinstance(actor, (Call, Operator))
        most = self.settings.options.max_wait.total_seconds() + (TASK_SECONDS_MAX if is_task else ANSWER_SECONDS_MAX)
        most += actor.traffic.beats * BEAT_SECONDS_MAX + actor.traffic.looked * LOOK_SECONDS_MAX
        if seconds > most:
            self.world.violate(f"{actor.name} was served for {seconds:.0f} s")

    def deliver(self, task: Task, ended: Callable[[Outcome | None], None]) -> None:
        """Lets a process do what a task asks for."""
        process = self.any_process(self.routes)
        if process is None:
            ended(None)
            return
        self.world.activities.delivered(task)
        actor = Delivery(process, f"{process.name} {task.path} {task.name[:6]}", delivered=task)

        def answered(answer: Any) -> None:
            if isinstance(answer, Exception):
                self.world.violated(answer)
            outcome = answer if isinstance(answer, Outcome) else None
            self.world.say("%s: %s", actor.name, outcome)
            ended(outcome)

        self.serve(actor, lambda: run_task(process.engine, task.path, task.body), answered)
