"""One simulated run: everything in it is drawn from one seed, and every promise is checked on the way and at the end.

The engine, the interpreter and the documents are the real ones. The database, the queue, the clocks, the processes and
the clients are simulated, in one thread and without real time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.engine.inbox import UNCOLLECTED_AFTER
from cloud_adapter.errors import DamagedDocument
from cloud_adapter.ports import Task
from tests.simulation.actors import Actor, Run, SimulatedFailure
from tests.simulation.acts import Act, Acts
from tests.simulation.catches import Catch
from tests.simulation.clients import Client
from tests.simulation.definitions import Definitions
from tests.simulation.disturbances import SETTLING_SECONDS, Disturbances
from tests.simulation.durations import Durations
from tests.simulation.faults import Faults
from tests.simulation.hosting import TASK_SECONDS_MAX, Hosting
from tests.simulation.keeper import Keeper
from tests.simulation.kept import Kept
from tests.simulation.ledger import Ledger
from tests.simulation.listings import Lister
from tests.simulation.loop import Loop, Timeline
from tests.simulation.mistakes import failure
from tests.simulation.model.instance import Model
from tests.simulation.model.violations import Violation, require
from tests.simulation.operators import Repairer
from tests.simulation.outsiders import Outsider
from tests.simulation.patches import assumed, contended, logged_bugs
from tests.simulation.queue import SimulatedQueue
from tests.simulation.renaming import first_name, translated, translated_acts
from tests.simulation.scenario import Scenario
from tests.simulation.settings import Settings
from tests.simulation.sharding import Sharding
from tests.simulation.store import Database
from tests.simulation.strangers import Stranger
from tests.simulation.threads import late_threads
from tests.simulation.traffic import counted
from tests.simulation.vault import Vault
from tests.simulation.visitors import Visitor
from workflow_core import WorkflowError

START = datetime(2026, 1, 1, tzinfo=UTC)

Held = tuple[Sequence[Act], Sequence[Task], Sequence[Catch]]
"""What a write holds."""

EVENTS_MAX = 240_000
"""A run that has not come to rest after so many events never will."""


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
        self.settings = settings = Settings(scenario)
        self.timeline = Timeline()
        self.loop = Loop.make()
        self.database = Database()
        self.vault = Vault()
        self.acts = Acts()
        self.sent: Counter[str] = Counter()
        self.acting: Actor | None = None
        self.is_quiet = False
        self.done: dict[tuple[str, str, int, bool], float] = {}
        self.lines = 0
        self.commits = 0
        self._client_tasks: list[Any] = []
        self._failures = scenario.stream("errors that code raises")
        self.definitions = Definitions(scenario, settings)
        self.activities = Ledger(self)
        self.kept = Kept(self)
        self.faults = Faults(scenario, settings.prompt)
        self.faults.on = not settings.is_peaceful
        badness, deadline = scenario.choice("bad queue", (0.0, 0.05, 0.3)), 2 * TASK_SECONDS_MAX
        if not settings.is_peaceful:
            deadline = scenario.choice("deadline of tasks", (30.0, 30.0, 600.0))
        self.queue = SimulatedQueue(self, scenario.stream("queue"), badness, deadline)
        self.durations = Durations(self)
        self.disturbances = Disturbances(self)
        self.sharding = Sharding(self)
        self.hosting = Hosting(self)
        self.hosting.begin()
        self.models: dict[str, Model] = {}
        self.clients: list[Client] = []
        for number in range(scenario.choice("instances", (1, 1, 2))):
            id = f"i-{number}"
            self.models[id] = Model(self, id)
            letters = "abc"[: scenario.choice(f"clients of {id}", (1, 2, 3))]
            self.clients += [Client(self, self.models[id], f"{id}-{letter}") for letter in letters]
            self.clients += [Lister(self, self.models[id])] if settings.is_searched else []
            self.clients += [Repairer(self, self.models[id])] if settings.is_repaired else []
            self.clients += [Outsider(self, self.models[id])] if settings.has_principals else []
            self.clients += (
                [Visitor(self, self.models[id]), Stranger(self, self.models[id])] if settings.has_visitors else []
            )
        self.applications = [Keeper(self, number) for number in range(3)] if settings.has_library else []
        self.disturbances.plan()
        self.sharding.plan()

    def _adopt(self, born: Instance) -> Model:
        """A child: it may get a client of its own."""
        parent = born.execution.parent
        require(parent is not None and born.workflow == "child", f"nobody knows {born.workflow!r} {born.id!r}")
        model = self.models[born.id] = Model(self, born.id, born.workflow, parent)
        if self.scenario.chance(f"client of {born.id}", 0.7) and len(self.clients) < self.scenario.clients:
            client = Client(self, model, f"{born.id[:6]}-{len(self.clients)}", creates=False, operates=0.1)
            self.clients.append(client)
            self._invite(client)
        if self.settings.is_repaired and len(self.clients) < self.scenario.clients:
            self.clients.append(Repairer(self, model))
            self._invite(self.clients[-1])
        return model

    def inbox(self, workflow: str, id: str) -> list[InboxEntry]:
        """The entries of an inbox, without encryption."""
        return [self.vault.entry(entry) for entry in self.database.inbox(workflow, id)]

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
        if self.settings.is_peaceful:
            return 0.0
        if not self.is_quiet:
            return None
        return self.disturbances.recovered_at if self.queue.has_lost else self.settings.quiet_at + SETTLING_SECONDS

    @property
    def queue_drags(self) -> bool:
        """Whether each call of the queue may take up to half a lease."""
        return self.settings.queue_drags and self.faults.on

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

    # --- what processes do ---------------------------------------------------------------

    def on_behalf(self, actor: Actor, name: str, land: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """A call arrives: gives its result, or its error."""
        self.acting = actor
        result, error = None, None
        try:
            result = land()
        except Exception as raised:
            error = raised
            if isinstance(raised, DamagedDocument):
                actor.disturb()
            if not isinstance(raised, WorkflowError):
                self.violated(raised)
        self.say("%s: %s%s", actor.name, name, f" -> {type(error).__name__}" if error else "")
        return result, error

    def sends(self, instance: Instance) -> Held:
        """A write is sent: gives what it holds, the tasks that were created for it, and what was caught."""
        self.sent[instance.id] += 1
        return self.acts.of(instance), self.acts.tasks_of(instance), self.acts.catches.of(instance.execution)

    def written(
        self,
        old: Instance | None,
        new: Instance,
        keys: Sequence[KeyRecord],
        held: Held,
    ) -> None:
        """A write has landed."""
        assert self.acting is not None
        acts, tasks, caught = held
        self.commits += 1
        if self.settings.has_codec:
            old, keys = old and self.vault.instance(old), [self.vault.record(key, new.workflow, new.id) for key in keys]
            new = self.vault.instance(new)
        model = self.models.get(new.id) or self._adopt(new)
        model.learn_names(new)
        model.caught = [(catch.thread, first_name(catch.statement), catch.error) for catch in caught]
        if self.settings.is_renamed:
            renamed = translated_acts(acts)
            model.committed(self.acting, old and translated(old), translated(new), renamed, keys, tasks)
        else:
            model.committed(self.acting, old, new, acts, keys, tasks)
        for act in acts:
            act.is_written = True
        for catch in caught:
            catch.is_written = True
        if self.settings.recovers and new.wake_at is not None:
            at = self.seconds(new.wake_at) + 2 * self.settings.skew
            self.timeline.at(max(at, self.settings.quiet_at + SETTLING_SECONDS), self.disturbances.recover_overdue)
            if self.models[new.id].tasks.lazy:
                self.timeline.at(at, self.disturbances.recover_lazy)

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
            if left < self.settings.options.lease * 0.6:
                self.violated(Violation(f"{run.actor.name} begins with {left} of its lease left"))
        for process in self.hosting.processes.values():
            for other in process.actors:
                if other is not run.actor and not other.disturbed and not run.actor.disturbed:
                    busy = [one for one in other.running if one.id == run.id and one.kind != "activity"]
                    if busy:
                        self.violated(Violation(f"{run.actor.name} and {other.name} run user code at the same time"))

    def failure(self) -> BaseException:
        """What user code raises that is to fail."""
        number = self._failures.randrange(100)
        has_mistakes = self.settings.has_mistakes and self.timeline.now < self.settings.quiet_at
        return failure(number) if has_mistakes else SimulatedFailure("as was to be")

    @property
    def quiet_since(self) -> datetime:
        """The time at which the last fault has no effect any longer."""
        return START + timedelta(seconds=self.settings.quiet_at + SETTLING_SECONDS)

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
        guests: list[Client | Keeper] = [*self.clients[: self.scenario.clients], *self.applications]
        for guest in guests:
            self._invite(guest)
        with (
            logged_bugs(self),
            self.settings.limits.applied(self.settings.tokens_kept, self.settings.room),
            self.acts.recorded(),
            self.kept.recorded(),
            counted(self),
            contended(always=self.settings.is_contended),
            assumed(self.settings.assumed_seconds, after_wrong=self.settings.wrong_seconds),
            late_threads(),
        ):
            try:
                self._run_until_rest()
                if self.settings.recovers and self.database.entries:
                    self.timeline.after(2 * UNCOLLECTED_AFTER.total_seconds(), self.disturbances.recover)
                    self._run_until_rest()
                self._check_silence()
            finally:
                self._close()
        self.activities.check_rest()
        self.kept.check_rest()
        require(not self.queue.entries, f"{len(self.queue.entries)} tasks are left")
        for instance in self.database.all():
            self.models[instance.id].check_rest(translated(instance))

    def _invite(self, client: Client | Keeper) -> None:
        """Lets a client come after a while."""
        self.timeline.after(client.rng.uniform(0, 20), self._begin, client)

    def _begin(self, client: Client | Keeper) -> None:
        self._client_tasks.append(self.loop.create_task(self._guard(client.run())))

    def _check_silence(self) -> None:
        """Checks that no request still waits."""
        for process in self.hosting.all_processes:
            require(not process.actors, f"{[actor.name for actor in process.actors]} wait for ever")
            lanes = process.engine.lanes.open
            require(not lanes, f"the lanes of {sorted(map(str, lanes))} are left in {process.name}")
        require(all(task.done() for task in self._client_tasks), "a client waits for ever")

    def _close(self) -> None:
        """Ends what still runs: nothing of a run may be left to the garbage collector."""
        for process in self.hosting.processes.values():
            process.kill()
        actors = [actor for process in self.hosting.all_processes for actor in process.actors]
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
