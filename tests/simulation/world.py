"""One simulated run: everything in it is drawn from one seed, and every promise is checked on the way and at the end.

The engine, the interpreter and the documents are the real ones. The database, the queue, the clocks, the processes and
the clients are simulated, in one thread and without real time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch

from cloud_adapter import document
from cloud_adapter.document import HISTORY_MAX, Instance, KeyRecord
from cloud_adapter.engine import commits, session
from cloud_adapter.engine.inbox import UNCOLLECTED_AFTER
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.operations import Unpause
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from tests.core import generate
from tests.simulation import flows, shapes
from tests.simulation.actors import CURRENT, Actor, Delivery, Killed, Operator, Process, Run
from tests.simulation.acts import Act, Acts
from tests.simulation.clients import LOST, Call, Client
from tests.simulation.ledger import Ledger
from tests.simulation.listings import Lister
from tests.simulation.loop import Loop, Timeline
from tests.simulation.model.instance import Model
from tests.simulation.model.violations import Violation, require
from tests.simulation.operators import Repairer
from tests.simulation.queue import SimulatedQueue
from tests.simulation.renaming import translated, translated_acts
from tests.simulation.store import Database
from tests.simulation.traffic import check_traffic, counted
from tests.simulation.weather import CLOCK_JUMP_SECONDS_MAX, Weather
from workflow_core import Retry, Workflow, WorkflowError
from workflow_core.program.code import ActivityCase, SelectOp
from workflow_core.statements.calls import ACTIVITY_TIMEOUT

START = datetime(2026, 1, 1, tzinfo=UTC)

EVENTS_MAX = 60_000
"""A run that has not come to rest after so many events never will."""

SETTLING_SECONDS = 240.0
"""How long what faults have begun may last."""

ANSWER_SECONDS_MAX = 20.0
"""How long an answer takes at most, beside ``max_wait``, where nothing disturbs it: some calls, and those of others."""

TASK_SECONDS_MAX = 1_000.0
"""How long a task takes at most then, with the user code that it runs, but without its heartbeats."""

BEAT_SECONDS_MAX = 1.0
"""How long a heartbeat takes at most then, on the average of those of an activity."""

Drawn = TypeVar("Drawn")

RATES = (0.0, 0.0, 0.003, 0.01, 0.03, 0.1)
FAULTS = (
    "refused",
    "lost",
    "late",
    "slow",
    "slow reply",
    "pause",
    "cancelled",
    "killed before",
    "killed during",
    "killed after",
)
RARITIES = (
    "repairs",
    "search fields",
    "little room",
    "renaming",
    "slow handlers",
    "short keys",
    "other names",
    "long silence",
    "pauses of the queue",
    "jumps of clocks",
    "lost names remembered",
    "long lives",
)
"""Conditions that only some runs have."""
SLOW = ("late", "slow", "slow reply", "pause")


@dataclass(frozen=True)
class Scenario:
    """What is run: all of it is drawn from the seed, but for what was taken away to find out what a failure needs.

    Attributes:
        suppressed: the numbers of faults that do not happen.
        clients: how many of the clients come.
        requests: how many requests a client makes at most.
        tape: how much of the random bytes is used that the definition is read from.
    """

    seed: int
    suppressed: frozenset[int] = frozenset()
    clients: int = 99
    requests: int = 99
    tape: int = 999

    def stream(self, name: str) -> Random:
        """The random numbers of one topic or actor.

        The streams of a seed are independent of each other: a draw that is added to one, or a new stream, leaves what
        the others give as it was. So each topic draws from a stream of its own, and each setting has one. A new draw
        in an old stream moves the later ones of that stream only, but with them what many seeds find.
        """
        return Random(f"{self.seed} {name}")

    def chance(self, name: str, probability: float) -> bool:
        """Draws whether something is so, from the stream of that name."""
        return self.stream(name).random() < probability

    def has(self, rarity: str) -> bool:
        """Whether this is one of the runs with a rarer condition. Four of ten runs have none, and four have one alone,
        so that each condition leaves most seeds to what the others are for. The rest have several."""
        rng = self.stream("rarities")
        point, only = rng.random(), rng.choice(RARITIES)
        return only == rarity if 0.4 <= point < 0.8 else point >= 0.8 and self.chance(rarity, 0.25)

    def choice(self, name: str, values: Sequence[Drawn]) -> Drawn:
        """Draws one of the values, from the stream of that name."""
        return self.stream(name).choice(values)


class Faults:
    """Decides which fault affects which call."""

    def __init__(self, scenario: Scenario, prompt: bool) -> None:
        self.rng = scenario.stream("faults")
        self.on = True
        self.suppressed = scenario.suppressed
        self.laid: list[int] = []
        kinds = (kind for kind in FAULTS if not (prompt and kind in SLOW))
        self.rates = {kind: scenario.choice(f"rate of {kind}", RATES) for kind in kinds}
        self._count = 0

    def draw(self) -> tuple[str | None, float]:
        """A fault, or None, and its size between 0 and 1."""
        point, size = self.rng.random(), self.rng.random()
        self._count += 1
        if self.on:
            for kind, rate in self.rates.items():
                if point < rate:
                    return (kind, size) if self.happens(self._count) else (None, size)
                point -= rate
        return None, size

    def planned(self) -> bool:
        """Whether a planned fault happens."""
        self._count += 1
        return self.on and self.happens(self._count)

    def happens(self, number: int) -> bool:
        if number in self.suppressed:
            return False
        self.laid.append(number)
        return True


def with_children(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Anything, children included."""
    return generate.definition(data, calm=calm, children=True)


def fan_out(data: bytes, *, calm: bool = False) -> list[generate.Spec]:
    """Many activities, some of them with children before or behind them."""
    return generate.fan_out(data, calm=calm, children=True)


SHAPES = (*(generate.definition, with_children, fan_out) * 2, generate.orders, generate.inbox, generate.cleanups)


@dataclass
class World:
    """The simulation of one scenario.

    Args:
        recording: keep what happens, as text, in ``trace``.
    """

    scenario: Scenario
    recording: bool = False
    trace: list[str] = field(default_factory=list)
    violation: Exception | None = None

    def __post_init__(self) -> None:
        scenario = self.scenario
        self.timeline = Timeline()
        self.loop = Loop.make()
        self.database = Database()
        self.acts = Acts()
        self.sent: Counter[str] = Counter()
        self.acting: Actor | None = None
        self.is_quiet = False
        self.recovered_at: float | None = None
        self.done: dict[tuple[str, str, int, bool], float] = {}
        self.lines = 0
        self.commits = 0
        self._client_tasks: list[Any] = []
        self._draw_settings()
        self._define()

        self.activities = Ledger(self)
        self.faults = Faults(scenario, self.prompt)
        self.faults.on = not self.is_peaceful
        badness, deadline = scenario.choice("bad queue", (0.0, 0.05, 0.3)), 2 * TASK_SECONDS_MAX
        if not self.is_peaceful:
            deadline = scenario.choice("deadline of tasks", (30.0, 30.0, 600.0))
        self.queue = SimulatedQueue(self, scenario.stream("queue"), badness, deadline)
        self._latencies, self._code, self._lives = map(scenario.stream, ("latencies", "user code", "signs of life"))
        self._deployments, self.deployed = scenario.stream("deployments"), 0
        self._handlers = scenario.stream("handlers")
        self._starts, self._kills, self._pauses = map(scenario.stream, ("starts", "kills", "pauses"))
        self._long_lives, self._jumps = map(scenario.stream, ("long lives of activities", "clocks that jump"))
        self._losses, self._routes = map(scenario.stream, ("lost tasks", "routes"))
        self.processes: dict[int, Process] = {}
        self.all_processes: list[Process] = []
        count = scenario.choice("processes", (1, 1, 2, 3))
        for number in range(max(count, 2) if self.is_renamed else count):
            self.start(number)
        self.models: dict[str, Model] = {}
        self.clients: list[Client] = []
        for number in range(scenario.choice("instances", (1, 1, 2))):
            id = f"i-{number}"
            self.models[id] = Model(self, id)
            letters = "abc"[: scenario.choice(f"clients of {id}", (1, 2, 3))]
            self.clients += [Client(self, self.models[id], f"{id}-{letter}") for letter in letters]
            self.clients += [Lister(self, self.models[id])] if self.is_searched else []
            self.clients += [Repairer(self, self.models[id])] if self.is_repaired else []
        self._plan_faults()
        self.weather.plan(self)

    def _define(self) -> None:
        """Draws the definitions of the instances and of their children."""
        scenario, tapes = self.scenario, self.scenario.stream("tape")
        tape = tapes.randbytes(tapes.choice((40, 100, 250)))[: scenario.tape]
        calm = scenario.chance("calm definitions", 0.6)
        shape = scenario.choice("shape", SHAPES)
        if (self.is_repaired or self.is_renamed) and scenario.chance("definition to repair", 0.4):
            shape = shapes.to_repair
        errand = generate.errand(scenario.stream("tape of the child").randbytes(60), calm=calm)
        specs = {"flow": shape(tape, calm=calm), "child": errand}
        search_by = ("x", "y") if self.is_searched else ()
        revisions = range(3 if self.is_renamed else scenario.choice("revisions", (1, 1, 2)))
        self.flows, self.children = (
            [
                flows.build(
                    spec,
                    scenario.stream(f"times of {name}"),
                    revision,
                    name,
                    search_by,
                    slow=self.is_slow,
                    renames=self.is_renamed,
                )
                for revision in revisions
            ]
            for name, spec in specs.items()
        )
        self.least_delays = {
            name: _limits_of(one) for name, (one, *_) in zip(specs, (self.flows, self.children), strict=True)
        }
        self.plain = {name: flows.build_plain(spec, name) for name, spec in specs.items()}

    def _draw_settings(self) -> None:
        choice, chance = self.scenario.choice, self.scenario.chance
        self.is_peaceful = chance("peace", 0.15)
        self.is_repaired = self.scenario.has("repairs") and not self.is_peaceful
        self.is_searched = self.scenario.has("search fields")
        self.has_limit = self.scenario.has("little room")
        self.room = self.scenario.stream("room").randrange(500, 1_400) if self.has_limit else 0
        self.is_renamed = self.scenario.has("renaming") and not (self.is_repaired or self.is_peaceful)
        self.is_slow = self.scenario.has("slow handlers")
        self.is_contended = chance("contention", 0.4)
        self.prompt = chance("promptness", 0.3)
        self.options = EngineOptions(
            task_age_max=timedelta(minutes=1 if self.prompt else 10),
            lease=timedelta(seconds=choice("lease", (20, 60))),
            max_wait=timedelta(seconds=choice("patience", (1, 10))),
            retry=Retry(max_attempts=choice("attempts", (2, 4, 10))),
            budget=timedelta(seconds=choice("budget", (2, 30))),
            budget_steps=choice("steps of a task", (1, 3, 500)),
            buffer_max=choice("events kept", (1, 3, 100)),
        )
        self.drag = choice("drag", (1, 1, 10))  # slow calls let more wait in lanes
        self.failing = choice("failing code", (0.0, 0.1, 0.4))
        if self.is_repaired and chance("much to repair", 0.6):
            self.failing, self.options = 0.4, replace(self.options, retry=Retry(max_attempts=2))
        self.slowness = choice("slow code", (0.0, 0.1, 0.3))
        self.skew = choice("skew", (0.0, 0.5, 2.0))
        kept = 1 if chance("few tokens", 0.15) else choice("tokens", (2, 20))
        self.history_max = HISTORY_MAX
        self.tokens_kept = 20 if self.is_peaceful else kept
        self.recovers = chance("recovery", 0.4) and not self.is_peaceful
        self.loses_tasks = self.recovers and chance("losing tasks", 0.6)
        self.pause_seconds = choice("pace of clients", (5.0, 5.0, 300.0))
        self.quiet_at = self.scenario.stream("end of faults").uniform(60, 300)
        self.weather = Weather.of(
            self.scenario, is_peaceful=self.is_peaceful, is_prompt=self.prompt, quiet_at=self.quiet_at
        )
        self.options = replace(self.options, key_ttl=self.weather.key_ttl)
        self._queue_drags = not self.prompt and chance("slow queue", 0.1)

    def _adopt(self, born: Instance) -> Model:
        """A child: it may get a client of its own."""
        parent = born.execution.parent
        require(parent is not None and born.workflow == "child", f"nobody knows {born.workflow!r} {born.id!r}")
        model = self.models[born.id] = Model(self, born.id, born.workflow, parent)
        if self.scenario.chance(f"client of {born.id}", 0.7) and len(self.clients) < self.scenario.clients:
            client = Client(self, model, f"{born.id[:6]}-{len(self.clients)}", creates=False, operates=0.1)
            self.clients.append(client)
            self._invite(client)
        if self.is_repaired and len(self.clients) < self.scenario.clients:
            self.clients.append(Repairer(self, model))
            self._invite(self.clients[-1])
        return model

    def _plan_faults(self) -> None:
        pauses_max = 0 if self.prompt else 2
        for happens, stream, most in (
            (self._kill_one, self._kills, 3),
            (self._pause_one, self._pauses, pauses_max),
            (self._lose_one, self._losses, 12),
        ):
            for _ in range(stream.randrange(most + 1)):
                self.timeline.at(stream.uniform(0, self.quiet_at), happens)
        for _ in self.flows[1:] if self.is_renamed else ():
            self.timeline.at(self._deployments.uniform(5, 60), self._deploy)
        if self.loses_tasks and self.scenario.chance("purges", 0.5):
            for second in range(20, int(self.quiet_at), 20):
                self.timeline.at(second, self._purge)
        if self.recovers:
            for second in range(45, int(self.quiet_at + SETTLING_SECONDS) + 120, 60):
                self.timeline.at(second, self._recover)
        self.timeline.at(self.quiet_at, self._end_faults)
        self.timeline.at(self.quiet_at + SETTLING_SECONDS, self._become_quiet)

    # --- time and chance -----------------------------------------------------------------

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=self.timeline.now)

    @staticmethod
    def seconds(at: datetime) -> float:
        """When that is in the timeline."""
        return (at - START).total_seconds()

    @property
    def calm_since(self) -> float | None:
        """Since when nothing disturbs what is due; None: it may still be disturbed."""
        if self.is_peaceful:
            return 0.0
        if not self.is_quiet:
            return None
        return self.recovered_at if self.queue.has_lost else self.quiet_at + SETTLING_SECONDS

    def latency(self) -> float:
        point = self._latencies.random()
        return (0.002 + 0.03 * point) * self.drag if point < 0.95 else (point - 0.95) * 20

    @property
    def has_short_keys(self) -> bool:
        """Whether idempotency keys may expire within the run."""
        return self.options.key_ttl < timedelta(hours=1)

    @property
    def queue_drags(self) -> bool:
        """Whether each call of the queue may take up to half a lease."""
        return self._queue_drags and self.faults.on

    def user_code(self) -> tuple[float, bool]:
        """How long user code takes, and whether it fails."""
        lease = self.options.lease.total_seconds()
        point, size = self._code.random(), self._code.random()
        seconds = size * 0.1 if point >= self.slowness else size * 5 if point >= self.slowness / 3 else size * 3 * lease
        return seconds, self._code.random() < self.failing

    def handler_seconds(self) -> float:
        """How long a handler takes that waits for the outside."""
        point, size = self._handlers.random(), self._handlers.random()
        return size * 0.1 if point < 0.5 else size * 3 if point < 0.9 else size * 15

    def life(self, seconds: float, limit_seconds: float) -> tuple[bool, bool, float]:
        """Draws whether an activity with heartbeats hangs, whether it outlives its attempt, and its duration."""
        rng = self._lives
        hangs, is_stubborn = rng.random() < self.slowness, rng.random() < 0.3
        if self.weather.long_lives and self._long_lives.random() < 0.3:
            long = self._long_lives.uniform(600, 900)
            self.say("an activity is to live for %.0f s", long)
            return hangs, is_stubborn, long
        return hangs, is_stubborn, seconds if rng.random() < 0.5 else rng.uniform(0, 3) * limit_seconds

    async def wait(self, seconds: float) -> None:
        future = self.loop.create_future()
        self.timeline.after(seconds, future.set_result, None)
        await future

    async def all(self, coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
        tasks = [self.loop.create_task(self._guard(one)) for one in coroutines]
        self._client_tasks += tasks
        for task in tasks:
            await task

    async def _guard(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:
            self.violated(error)

    # --- processes -----------------------------------------------------------------------

    def start(self, number: int) -> None:
        revision = self._starts.randrange(len(self.flows)) if not self.is_renamed else self.deployed
        skew = self._starts.uniform(-self.skew, self.skew)
        rng = self.scenario.stream(f"engine {len(self.all_processes)}")
        process = self.processes[number] = Process(self, f"p{number}", revision, skew, rng)
        self.all_processes.append(process)
        self.say("%s starts with revision %d, its clock %+.1f s off", process.name, revision, skew)

    def killed(self, process: Process) -> None:
        number = int(process.name[1:])
        self.timeline.after(self._starts.uniform(0, 30) if self.faults.on else 1, self.start, number)

    def any_process(self, rng: Random) -> Process | None:
        process = self.processes[rng.randrange(len(self.processes))]
        return None if process.dead else process

    def serve(self, actor: Actor, perform: Callable[[], Awaitable[Any]], answered: Callable[[Any], None]) -> None:
        """Lets a process serve a request; ``answered`` gets what it returned, the error it raised, or ``LOST``."""
        process = actor.process

        def arrive() -> None:
            if process.dead:
                answered(LOST)
            elif process.paused_until > self.timeline.now:
                self.timeline.at(process.paused_until, arrive)
            else:
                context = copy_context()
                context.run(CURRENT.set, actor)
                process.actors[actor] = None
                if process.has_wrong_clock:
                    actor.disturb()
                actor.task = self.loop.create_task(work(), context=context)

        async def work() -> None:
            arrived = self.timeline.now
            try:
                answer = await perform()
            except (Killed, asyncio.CancelledError):
                answer = LOST
                actor.running.clear()
            except Exception as error:
                answer = error
            if process.dead:
                answer = LOST
            self._check_patience(actor, self.timeline.now - arrived)
            try:
                check_traffic(actor)
            except Violation as violation:
                self.violated(violation)
            process.actors.pop(actor, None)
            if actor.running and not process.dead:
                self.violated(Violation(f"{actor.name} has ended, and its user code goes on"))
            fault, _ = self.faults.draw()
            self.timeline.after(self.latency(), answered, LOST if fault == "lost" else answer)

        self.timeline.after(self.latency(), arrive)

    def _check_patience(self, actor: Actor, seconds: float) -> None:
        """Checks that no request waits long without a fault."""
        calm_since = 0.0 if self.is_peaceful else self.quiet_at + SETTLING_SECONDS
        if self.timeline.now - seconds < calm_since:
            return
        is_task = not isinstance(actor, (Call, Operator))
        most = self.options.max_wait.total_seconds() + (TASK_SECONDS_MAX if is_task else ANSWER_SECONDS_MAX)
        most += actor.traffic.beats * BEAT_SECONDS_MAX
        if seconds > most:
            self.violate(f"{actor.name} was served for {seconds:.0f} s")

    def deliver(self, task: Task, ended: Callable[[Outcome | None], None]) -> None:
        """Lets a process do what a task asks for."""
        process = self.any_process(self._routes)
        if process is None:
            ended(None)
            return
        self.activities.delivered(task)
        actor = Delivery(process, f"{process.name} {task.path} {task.name[:6]}", delivered=task)

        def answered(answer: Any) -> None:
            if isinstance(answer, Exception):
                self.violated(answer)
            outcome = answer if isinstance(answer, Outcome) else None
            self.say("%s: %s", actor.name, outcome)
            ended(outcome)

        self.serve(actor, lambda: run_task(process.engine, task.path, task.body), answered)

    def on_behalf(self, actor: Actor, name: str, land: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """A call arrives: gives its result, or its error."""
        self.acting = actor
        result, error = None, None
        try:
            result = land()
        except Exception as raised:
            error = raised
            if not isinstance(raised, WorkflowError):
                self.violated(raised)
        self.say("%s: %s%s", actor.name, name, f" -> {type(error).__name__}" if error else "")
        return result, error

    def sends(self, instance: Instance) -> tuple[Sequence[Act], Sequence[Task]]:
        """A write is sent: gives what it holds, and the tasks that were created for it."""
        self.sent[instance.id] += 1
        return self.acts.of(instance), self.acts.tasks_of(instance)

    def written(
        self,
        old: Instance | None,
        new: Instance,
        keys: Sequence[KeyRecord],
        held: tuple[Sequence[Act], Sequence[Task]],
    ) -> None:
        """A write has landed."""
        assert self.acting is not None
        acts, tasks = held
        self.commits += 1
        model = self.models.get(new.id) or self._adopt(new)
        model.learn_names(new)
        if self.is_renamed:
            renamed = translated_acts(acts)
            model.committed(self.acting, old and translated(old), translated(new), renamed, keys, tasks)
        else:
            model.committed(self.acting, old, new, acts, keys, tasks)
        for act in acts:
            act.is_written = True
        if self.recovers and new.wake_at is not None:
            at = self.seconds(new.wake_at) + 2 * self.skew
            self.timeline.at(max(at, self.quiet_at + SETTLING_SECONDS), self._recover_overdue)

    def began(self, run: Run) -> None:
        """User code begins to run."""
        require(not run.actor.running, f"{run.actor.name} runs two things at a time")
        if run.kind == "activity":
            self.activities.began(run)
            return  # beside all others
        self.models[run.id].runs.ran(run)
        if not run.actor.disturbed:
            lease = self.database.load(self.models[run.id].workflow, run.id).lease
            left = timedelta() if lease is None else lease.expires_at - run.actor.process.now()
            if left < self.options.lease * 0.6:
                self.violated(Violation(f"{run.actor.name} begins with {left} of its lease left"))
        for process in self.processes.values():
            for other in process.actors:
                if other is not run.actor and not other.disturbed and not run.actor.disturbed:
                    busy = [one for one in other.running if one.id == run.id and one.kind != "activity"]
                    if busy:
                        self.violated(Violation(f"{run.actor.name} and {other.name} run user code at the same time"))

    def first_revision(self, workflow: str) -> type[Workflow]:
        return (self.flows if workflow == "flow" else self.children)[0]

    # --- faults that no call brings about ------------------------------------------------

    def _kill_one(self) -> None:
        if self.faults.planned() and (process := self.any_process(self._kills)) is not None:
            process.kill()

    def _deploy(self) -> None:
        """The next revision replaces the processes one after another."""
        self.deployed += 1
        self.say("revision %d is deployed", self.deployed)
        for number in self.processes:
            self.timeline.after(self._deployments.uniform(0, 120), self._replace, number, self.deployed)

    def _replace(self, number: int, revision: int) -> None:
        process = self.processes[number]
        if process.revision < revision:
            process.kill()

    def _pause_one(self) -> None:
        if self.faults.planned() and (process := self.any_process(self._pauses)) is not None:
            process.pause(self._pauses.uniform(0, 2) * self.options.lease.total_seconds())

    def _lose_one(self) -> None:
        if self.loses_tasks and self.faults.planned():
            self.queue.lose(all=self._losses.random() < 0.5)

    def _purge(self) -> None:
        if self.faults.planned():
            self.queue.lose(all=True)

    def pause_queue(self, until: float) -> None:
        """The queue delivers nothing for a while."""
        if self.faults.planned():
            self.say("the queue is paused until %.0f", until)
            self.queue.paused_until = max(self.queue.paused_until, until)

    def turn_clock_back(self, size: float) -> None:
        """The clock of a process jumps back. By more than clocks may differ only where a recovery comes, since what
        such a process posts may belong to a task that has already run."""
        process = self.any_process(self._jumps)
        if process is not None and self.faults.planned():
            most = 3 * self.options.lease.total_seconds() if self.recovers else CLOCK_JUMP_SECONDS_MAX
            process.turn_clock_back(size * most)
            self.queue.has_lost = True

    def _recover_overdue(self) -> None:
        """Recovers what is overdue because its task was lost. A recovery comes every minute only until the faults have
        settled, since a run may last for months."""
        overdue = self.now - timedelta(seconds=2 * self.skew)
        if self.queue.has_lost and any(one.wake_at and one.wake_at <= overdue for one in self.database.all()):
            self._recover()

    def _recover(self) -> None:
        process = self.any_process(self._routes)
        if process is not None:
            actor = Actor(process, f"{process.name} recovery")
            was_quiet = self.is_quiet

            def answered(answer: Any) -> None:
                if was_quiet and isinstance(answer, int) and self.recovered_at is None:
                    self.recovered_at = self.timeline.now

            self.serve(actor, lambda: process.engine.recover(), answered)

    def _end_faults(self) -> None:
        self.say("the faults end")
        self.faults.on = False
        for process in self.processes.values():
            process.set_clock()

    def _become_quiet(self) -> None:
        self.is_quiet = True
        for model in self.models.values():
            if model.parent is not None:
                self._unpause(self.models[model.parent.id])

    def _unpause(self, model: Model) -> None:
        """Unpauses a parent. Otherwise its child would try forever to notify it."""
        process = self.any_process(self._routes)
        if process is None:
            self.timeline.after(1, self._unpause, model)
        elif model.executor.paused:
            engine = process.engine
            operator = Operator(process, f"{process.name} unpause at the end")
            self.serve(operator, lambda: engine.operate(model.workflow, model.id, Unpause()), lambda answer: None)

    @property
    def quiet_since(self) -> datetime:
        """The time at which the last fault has no effect any longer."""
        return START + timedelta(seconds=self.quiet_at + SETTLING_SECONDS)

    # --- the run -------------------------------------------------------------------------

    def say(self, text: str, *details: Any) -> None:
        self.lines += 1
        if self.recording:
            self.trace.append(f"{self.timeline.now:9.3f}  {text % details}")

    def violated(self, error: Exception) -> None:
        if self.violation is None:
            self.violation = error

    def violate(self, what: str) -> None:
        self.violated(Violation(what))

    def run(self) -> None:
        """Runs it to its end.

        Raises:
            Violation: a promise was broken.
        """
        for client in self.clients[: self.scenario.clients]:
            self._invite(client)
        with (
            _logged_bugs(self),
            _limits(self.tokens_kept, self.room),
            self.acts.recorded(),
            counted(self),
            _contended(always=self.is_contended),
        ):
            try:
                self._run_until_rest()
                if self.recovers and self.database.entries:
                    self.timeline.after(2 * UNCOLLECTED_AFTER.total_seconds(), self._recover)
                    self._run_until_rest()
                self._check_silence()
            finally:
                self._close()
        self.activities.check_rest()
        require(not self.queue.entries, f"{len(self.queue.entries)} tasks are left")
        for instance in self.database.all():
            self.models[instance.id].check_rest(translated(instance))

    def _invite(self, client: Client) -> None:
        """Lets a client come after a while."""
        self.timeline.after(client.rng.uniform(0, 20), self._begin, client)

    def _begin(self, client: Client) -> None:
        self._client_tasks.append(self.loop.create_task(self._guard(client.run())))

    def _check_silence(self) -> None:
        """Checks that no request still waits."""
        for process in self.all_processes:
            require(not process.actors, f"{[actor.name for actor in process.actors]} wait for ever")
            lanes = process.engine.lanes.open
            require(not lanes, f"the lanes of {sorted(map(str, lanes))} are left in {process.name}")
        require(all(task.done() for task in self._client_tasks), "a client waits for ever")

    def _close(self) -> None:
        """Ends what still runs: nothing of a run may be left to the garbage collector."""
        for process in self.processes.values():
            process.kill()
        actors = [actor for process in self.all_processes for actor in process.actors]
        for task in [*self._client_tasks, *(actor.task for actor in actors)]:
            task.cancel()
        self.loop.run_ready()

    def _run_until_rest(self) -> None:
        for _ in range(EVENTS_MAX):
            if not self.timeline.next():
                return
            self.loop.run_ready()
            if self.violation is not None:
                raise self.violation
        raise Violation(f"it has not come to rest after {EVENTS_MAX} events, at {self.timeline.now:.0f} s")


def _limits_of(cls: type[Workflow]) -> dict[str, timedelta]:
    """How long each attempt at an activity may take, or be silent."""
    selects = (instruction for instruction in cls.__program__.code if isinstance(instruction, SelectOp))
    cases = (case for select in selects for case in select.cases.values())
    specs = {case.event: case.activity for case in cases if isinstance(case, ActivityCase)}
    return {name: spec.heartbeat or spec.timeout or ACTIVITY_TIMEOUT for name, spec in specs.items()}


@contextmanager
def _limits(tokens_kept: int, room: int) -> Iterator[None]:
    """Limits how many commits a document stores, and how large it may be, so that a run reaches the limit."""
    with ExitStack() as patches:
        for module in (document, session, commits):
            patches.enter_context(patch.object(module, "TOKENS_MAX", tokens_kept))
        if room:
            patches.enter_context(patch.object(document, "DOCUMENT_BYTES_MAX", room))
        yield


@contextmanager
def _contended(*, always: bool) -> Iterator[None]:
    """Lets each instance count as contended for: results and ends of children come by way of inboxes."""
    with patch.object(Lanes, "is_contended", lambda self, ref: True) if always else nullcontext():
        yield


class _logged_bugs(logging.Handler):  # noqa: N801
    """Makes an error that the engine has logged, as one that it cannot explain, a violation."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, Exception) and not isinstance(error, WorkflowError):
            self.world.violated(error)

    def __enter__(self) -> None:
        self.logger = logging.getLogger("gorchestrate")
        self.before = self.logger.level, self.logger.propagate
        self.logger.setLevel(logging.ERROR)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.level, self.logger.propagate = self.before
