"""A world for tests of the engine: real engines on a real SQLite file, with a queue and a time that the test moves.

A ``Process`` is one engine with its own connection to the outside, on which a test can lay faults: a call that fails
before or after it took effect, another engine that acts in between, the death of the process. Nothing here is a mock
of the project's code, nothing sleeps, and a seed repeats a run.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from cloud_adapter.callbacks import Callbacks, Keys
from cloud_adapter.document import Instance
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.engine.tasks import RESUME_PATH, TIMEOUT_PATH
from cloud_adapter.engine.view import View
from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Clock, Codec, Task
from cloud_adapter.queues.rules import SCHEDULE_AHEAD_MAX
from cloud_adapter.stores.sqlite.store import SqliteStore
from gorchestrate.testing.clock import ManualClock
from workflow_core import S, Workflow

ID = "order-1"
DELIVERIES_MAX = 2_000
RETRY = timedelta(seconds=5)
"""When a task that was not acknowledged is delivered again."""

STORE = (
    *("create", "load", "commit", "post", "inbox", "discard", "uncollected", "load_key", "list", "due", "postpone"),
    *("postponed", "ping"),
)
QUEUE = ("create_task", "delete_task")

Action = BaseException | Callable[[], Awaitable[object]]
"""What a fault does: it raises, or it lets something else happen."""


class Killed(BaseException):
    """The process is dead: whatever it was about to do does not happen."""


class ManualQueue:
    """The TaskQueue port; the test decides which task is delivered when.

    Args:
        clock: with a clock, a task that is due later than the port allows is rejected.

    Attributes:
        tasks: what waits, in the order of creation.
        created: every task that was taken.
        refused: creations that changed nothing, because the name was taken.
        deleted: every name that a deletion was asked for.
        calls_max: how many calls an engine makes at the same time.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock
        self.calls_max = 1
        self._unnamed = 0
        self.tasks: dict[str, Task] = {}
        self.created: list[Task] = []
        self.refused: list[Task] = []
        self.deleted: list[str] = []

    async def create(self, task: Task) -> None:
        # A body travels as JSON, and a queue knows the names of tasks that it has delivered, too.
        task = replace(task, body=json.loads(json.dumps(task.body)))
        if self.clock is not None and task.at is not None and task.at > self.clock.now() + SCHEDULE_AHEAD_MAX:
            raise InvalidRequest(f"a task is due at {task.at}, in more than {SCHEDULE_AHEAD_MAX.days} days")
        if not task.name:
            self._unnamed += 1
            task = replace(task, name=f"unnamed-{self._unnamed}")
        if any(task.name == known.name for known in self.created):
            self.refused.append(task)
            return
        self.created.append(task)
        self.tasks[task.name] = task

    async def delete(self, name: str) -> None:
        self.deleted.append(name)
        self.tasks.pop(name, None)

    def purge(self) -> None:
        """Loses every task. Their names stay taken, as those of tasks that were delivered or deleted."""
        self.tasks.clear()

    @property
    def resumes(self) -> list[Task]:
        """The resume tasks that wait."""
        return [task for task in self.tasks.values() if task.path == RESUME_PATH]

    @property
    def timers(self) -> list[Task]:
        """The timeout tasks that wait."""
        return [task for task in self.tasks.values() if task.path == TIMEOUT_PATH]


@dataclass
class Fault:
    """What happens at the ``nth`` call of ``name`` (``*``: of any); each fault happens once."""

    name: str
    nth: int
    before: Action | None
    after: Action | None


@dataclass
class Wire:
    """A process's connection to the outside: counts the calls, and lays faults on them."""

    calls: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    dead: bool = False

    async def call(self, name: str, perform: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        if self.dead:
            raise Killed
        self.calls.append(name)
        fault = self._fault(name)
        if fault is not None:
            await self._act(fault.before)
        result = await perform()
        if fault is not None:
            await self._act(fault.after)
        return result

    def _fault(self, name: str) -> Fault | None:
        due: Fault | None = None
        for fault in self.faults:
            if fault.name in (name, "*"):
                fault.nth -= 1
                if fault.nth == 0 and due is None:
                    due = fault
        self.faults = [fault for fault in self.faults if fault.nth > 0]
        return due

    async def _act(self, action: Action | None) -> None:
        if isinstance(action, BaseException):
            self.dead = self.dead or isinstance(action, Killed)
            raise action
        if action is not None:
            await action()


class FaultyStore:
    """The Store port over a wire."""

    def __init__(self, store: SqliteStore, wire: Wire) -> None:
        self._store = store
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        if name not in STORE:
            raise AttributeError(name)
        method = getattr(self._store, name)
        return lambda *args, **kwargs: self._wire.call(name, partial(method, *args, **kwargs))


class FaultyQueue:
    """The TaskQueue port over a wire."""

    def __init__(self, queue: ManualQueue, wire: Wire) -> None:
        self._queue = queue
        self._wire = wire

    @property
    def calls_max(self) -> int:
        return self._queue.calls_max

    async def create(self, task: Task) -> None:
        await self._wire.call("create_task", partial(self._queue.create, task))

    async def delete(self, name: str) -> None:
        await self._wire.call("delete_task", partial(self._queue.delete, name))


async def inline(function: Callable[..., Any], *args: Any) -> Any:
    """Runs synchronous steps in the event loop, so that a run is repeatable."""
    return function(*args)


class Process:
    """One engine as it would run in a process of its own."""

    def __init__(self, world: World, workflows: tuple[type[Workflow], ...], run_sync: Any) -> None:
        self.world = world
        self.wire = Wire()
        self.engine = Engine(
            workflows,
            FaultyStore(world.store, self.wire),
            FaultyQueue(world.queue, self.wire),
            clock=world.clock,
            options=world.options,
            rng=world.rng,
            run_sync=run_sync,
            codec=world.codec,
            callbacks=world.callbacks,
        )

    def fault(self, name: str, nth: int = 1, *, before: Action | None = None, after: Action | None = None) -> None:
        """Lays a fault on the ``nth`` call of ``name`` from now on."""
        assert name in (*STORE, *QUEUE, "*"), name
        self.wire.faults.append(Fault(name, nth, before, after))

    def unavailable(self, name: str, nth: int = 1, *, applied: bool) -> None:
        """Makes a call fail; ``applied`` says whether it takes effect anyway."""
        error = Unavailable(f"the test cut call {nth} of {name}")
        self.fault(name, nth, before=None if applied else error, after=error if applied else None)

    def die(self) -> None:
        """From now on nothing that this process does reaches the outside."""
        self.wire.dead = True

    @contextmanager
    def calls(self) -> Iterator[list[str]]:
        """The calls to the outside that are made inside the ``with`` block, filled in at its end."""
        first = len(self.wire.calls)
        made: list[str] = []
        yield made
        made.extend(self.wire.calls[first:])

    async def send(self, event: str, input: Any = None, *, id: str = ID, **kwargs: Any) -> Any:
        """Delivers an event and gives the decoded response; the time moves on while the engine waits."""
        body = b"" if input is None else json.dumps(input).encode()
        return json.loads(await self.world.finish(self.post(event, body, id=id, **kwargs)))

    def post(self, event: str, body: bytes = b"", *, id: str = ID, **kwargs: Any) -> Coroutine[Any, Any, bytes]:
        """The bare call of ``handle_event``, to be awaited by the test."""
        return self.engine.handle_event(self.world.name, id, event, body, **kwargs)

    def perform(self, task: Task) -> Coroutine[Any, Any, Outcome]:
        """Calls ``run_task`` directly. The test awaits it, and the queue does not learn the outcome."""
        return run_task(self.engine, task.path, task.body)

    async def deliver(self, task: Task) -> Outcome:
        """Performs a task; an acknowledged one leaves the queue, another one is due again later."""
        outcome: Outcome = await self.world.finish(self.perform(task))
        if outcome is Outcome.DONE:
            self.world.queue.tasks.pop(task.name, None)
        elif task.name in self.world.queue.tasks:
            self.world.queue.tasks[task.name] = replace(task, at=self.world.now + RETRY)
        return outcome


class World:
    """A database, a queue, a time, and the processes that share them. ``process`` is the first of these.

    Attributes:
        codec: with which the processes that are started from now on encrypt secrets.
    """

    def __init__(
        self,
        directory: Path,
        *workflows: type[Workflow],
        options: EngineOptions | None = None,
        seed: int = 0,
        run_sync: Any = inline,
        codec: Codec | None = None,
    ) -> None:
        self.codec = codec
        self.directory = directory
        self.clock = ManualClock()
        self.store = SqliteStore(directory / "world.sqlite")
        self.queue = ManualQueue(self.clock)
        self.rng = random.Random(seed)
        self.options = options or EngineOptions()
        self.callbacks = Callbacks(Keys([b"k" * 32]), "https://wf.example", self.clock)
        self.workflows = workflows
        self.run_sync = run_sync
        self.process = self.start()

    def start(self, *workflows: type[Workflow]) -> Process:
        """Another process, by default with the world's workflows."""
        return Process(self, workflows or self.workflows, self.run_sync)

    @property
    def name(self) -> str:
        """The name of the workflow; the first one's, if there are several."""
        return self.workflows[0].__workflow_name__

    @property
    def now(self) -> datetime:
        return self.clock.now()

    # --- looking at it -------------------------------------------------------------------

    async def instance(self, id: str = ID) -> Instance:
        """The stored document, with its history."""
        return await self.store.load(self.name, id, history=True)

    async def fields(self, id: str = ID) -> Any:
        """The stored fields, typed."""
        return self.workflows[0].load_fields((await self.instance(id)).fields)

    async def history(self, *kinds: str, id: str = ID) -> list[tuple[str, str]]:
        """Kind and statement of the history's entries, by default of all kinds."""
        entries = (await self.instance(id)).history
        return [(entry.kind, entry.statement) for entry in entries if not kinds or entry.kind in kinds]

    # --- moving it -----------------------------------------------------------------------

    async def finish(self, awaitable: Awaitable[Any]) -> Any:
        """Awaits something, and moves the time on whenever all that is left to do is to sleep."""
        return await self.clock.finish(awaitable)

    async def create(self, *, id: str = ID, key: str | None = None, **fields: Any) -> View:
        """Creates an instance of the (first) workflow."""
        view: View = await self.finish(self.process.engine.create(self.name, id, json.dumps(fields).encode(), key=key))
        return view

    async def send(self, event: str, input: Any = None, **kwargs: Any) -> Any:
        """Delivers an event through the first process."""
        return await self.process.send(event, input, **kwargs)

    async def deliver(self, process: Process | None = None) -> int:
        """Delivers what is due now and what that makes due, until nothing is; tells how many deliveries it took."""
        for count in range(DELIVERIES_MAX):
            due = [task for task in self.queue.tasks.values() if task.at is None or task.at <= self.now]
            if not due:
                return count
            await (process or self.process).deliver(due[0])
        raise AssertionError(f"no end after {DELIVERIES_MAX} deliveries")

    async def pass_time(self, time: timedelta, process: Process | None = None) -> None:
        """Moves the time on, and delivers every task when it is due."""
        until = self.now + time
        for _ in range(DELIVERIES_MAX):
            await self.deliver(process)
            coming = [task.at for task in self.queue.tasks.values() if task.at is not None and task.at <= until]
            if not coming:
                break
            await self.clock.advance_to(max(self.now, min(coming)))
        await self.clock.advance_to(max(self.now, until))

    async def started(self, **fields: Any) -> None:
        """Creates an instance and delivers what is due: it stands at its first wait."""
        await self.create(**fields)
        await self.deliver()


async def do_not_sync(store: SqliteStore) -> None:
    """No test here cuts the power: waiting for the disk would be most of the time that they take."""
    for on_connection in (store.connections.run, store.connections.read):
        await on_connection(lambda connection: connection.execute("PRAGMA synchronous = OFF").close())


def in_world(*workflows: type[Workflow], **kwargs: Any) -> Callable[[Any], Callable[..., None]]:
    """Makes an ``async def test(world, ...)`` a test; the arguments after the first come from pytest."""

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        def run(tmp_path: Path, **arguments: Any) -> None:
            async def scenario() -> None:
                world = World(tmp_path, *workflows, **kwargs)
                try:
                    await do_not_sync(world.store)
                    await test(world, **arguments)
                finally:
                    await world.store.close()

            asyncio.run(scenario())

        mine = list(inspect.signature(run).parameters.values())[:1]
        others = list(inspect.signature(test).parameters.values())[1:]
        run.__signature__ = inspect.Signature([*mine, *others])  # type: ignore[attr-defined]
        run.__name__, run.__doc__, run.__module__ = test.__name__, test.__doc__, test.__module__
        return run

    return decorate


def write(text: str) -> Callable[[Any], None]:
    """A step's action that appends ``text`` to the workflow's ``log``."""

    def action(workflow: Any) -> None:
        workflow.log.append(text)

    return action


def article(*statements: Any) -> type[Workflow]:
    """A version of a workflow: each has the same name, and a definition of its own."""

    class Version(Workflow, name="article"):
        log: list[str] = []
        definition = S(*statements)

    return Version


def nothing(workflow: Any) -> None:
    """A handler that changes nothing."""


def check_idle(*processes: Process) -> None:
    """Nothing is left behind: no lane, no task of the event loop."""
    for process in processes:
        assert not process.engine.lanes.open
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Gate:
    """Holds an async step up until the test opens it.

    Attributes:
        event: opens it for the last one that has come.
    """

    def __init__(self) -> None:
        self.reached = 0
        self.event: asyncio.Event | None = None

    async def wait(self) -> None:
        self.reached += 1
        self.event = asyncio.Event()
        await self.event.wait()

    def open(self) -> None:
        assert self.event is not None, "nobody waits at the gate"
        self.event.set()
