"""The environment of a test: workflows on a real engine and a real SQLite database, with a clock that the test moves.

Theory of operation. Everything runs in the thread of the test, in an event loop of the environment, and only while one
of its methods runs. Tasks are held by ``HeldTasks``. After each request, the environment delivers the tasks that are
due; ``advance`` moves the clock from one task to the next, so that code runs at the very time that it waited for. An
instance is always stored between two calls, and nothing runs in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import tempfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from pydantic_core import from_json

from cloud_adapter.callbacks import Callbacks, Keys
from cloud_adapter.document import Instance
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Operation
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy
from cloud_adapter.options import EngineOptions
from cloud_adapter.stores.sqlite.store import SqliteStore
from gorchestrate.testing.clock import START, ManualClock
from gorchestrate.testing.coverage import Coverage
from gorchestrate.testing.fakes import Fakes
from gorchestrate.testing.inputs import as_json, merged_fields
from gorchestrate.testing.instances import InstanceHandle, sender
from gorchestrate.testing.mistakes import check_id, check_time, check_workflow
from gorchestrate.testing.queue import REDELIVERY_DELAY, HeldTasks
from gorchestrate.testing.real_time import wait_for_user_code
from gorchestrate.testing.report import describe
from gorchestrate.testing.watched_store import Killed, WatchedStore
from workflow_core import Principal, Workflow

W = TypeVar("W", bound=Workflow)
T = TypeVar("T")

DELIVERIES_MAX: Final = 10_000
"""The most deliveries of one call. More of them are a loop without an end, or a step that always fails."""

BUSY_WAIT: Final = timedelta(seconds=30)
CRASH_WAIT: Final = timedelta(minutes=2)
"""The longest time for which a crash holds anything up: longer than a lease."""


class Environment:
    """Runs workflows in a test. Use it as a context manager, or call ``close``.

    Args:
        workflows: the classes to serve, those of children included.
        start: the time at its start, timezone-aware; by default 2030-01-01.
        options: options of the engine.

    Raises:
        DefinitionError: the workflows cannot be served together.
        TypeError: no workflows are given, or the test is asynchronous.

    Example:
        >>> from datetime import timedelta
        >>> from gorchestrate import On, S, Select, Timeout, Workflow
        >>> from gorchestrate.testing import Environment
        >>> class Approval(Workflow, name="approval"):
        ...     answer: str = "open"
        ...     def decide(self, answer: str) -> None:
        ...         self.answer = answer
        ...     definition = S(Select("wait", On("decide", decide), Timeout("late", timedelta(days=7))))
        >>> with Environment(Approval) as environment:
        ...     approval = environment.create(Approval)
        ...     environment.advance(days=7)
        ...     approval.is_finished
        True
    """

    def __init__(
        self, *workflows: type[Workflow], start: datetime = START, options: EngineOptions | None = None
    ) -> None:
        if not workflows:
            raise TypeError("pass the workflows to serve, such as Environment(Approval)")
        for workflow in workflows:
            check_workflow(workflow, "Environment(Approval, Payment)")
        _check_synchronous()
        self.clock = ManualClock(start)
        self.workflows = workflows
        self.is_closed = False
        self.coverage_of: dict[type[Workflow], Coverage] = {}
        # Lazy timers are scheduled by a recovery that runs each minute, and nothing runs in the background.
        self._options = replace(options or EngineOptions(), lazy_after=None)
        self._random = random.Random(0)  # nosec B311 - a run of a test is repeatable
        self._numbers = itertools.count(1)
        self._handles: dict[tuple[type[Workflow], str], InstanceHandle[Any]] = {}
        self._fakes = Fakes()
        self._queue = HeldTasks()
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="gorchestrate-"))
            self._runner = stack.enter_context(asyncio.Runner())
            store = SqliteStore(Path(directory) / "test.db")
            stack.callback(lambda: self._runner.run(store.close()))
            stack.callback(self._fakes.undo)
            self._runner.run(_without_waiting_for_the_disk(store))
            self.store = WatchedStore(store, self._cover)
            self._engine = self._new_engine()
            self._stack = stack.pop_all()

    # --- using it --------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception) and not self.is_closed and (text := described(self)):
            error.add_note(text)
        self.close()

    def close(self) -> None:
        """Removes all instances, and puts the replaced methods back. May be called again."""
        self.is_closed = True
        self._stack.close()

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self.clock.now()

    def create(
        self,
        workflow: type[W],
        id: str = "",
        *,
        roles: Collection[str] | None = None,
        principal: Principal | None = None,
        fields: Mapping[str, Any] | None = None,
        **more_fields: Any,
    ) -> InstanceHandle[W]:
        """Creates an instance, and runs all instances until they wait.

        Args:
            id: its id; by default one with a number.
            roles: creates it as a user with only these roles. By default, the creator may do everything.
            principal: creates it as this principal.
            fields: initial fields by their names, for those that are named like an argument: ``fields={"id": ...}``.
            more_fields: its other initial fields.

        Raises:
            TypeError: it is not clear whether an argument is a field.
            InvalidInput, InstanceExists, Forbidden, UserCodeError, ...: see ``Engine.create``.
        """
        check_workflow(workflow, "create(Approval)")
        check_id(id, workflow)
        name, id = workflow.__workflow_name__, id or f"{workflow.__workflow_name__}-{next(self._numbers)}"
        given = merged_fields(workflow, fields, more_fields, roles=roles, principal=principal)
        who, body, key = sender(roles, principal), as_json(given), self._key()
        self._request(lambda: self._engine.create(name, id, body, key=key, principal=who))
        return self._handle(workflow, id)

    def get(self, workflow: type[W], id: str) -> InstanceHandle[W]:
        """Returns an instance, such as a child.

        Raises:
            InstanceNotFound: it does not exist.
        """
        check_workflow(workflow, "get(Approval, id)")
        self.load(workflow, id)
        return self._handle(workflow, id)

    def instances(self, workflow: type[W]) -> list[InstanceHandle[W]]:
        """Returns the instances of a workflow, those that were created first come first."""
        return [self._handle(workflow, id) for name, id in self.store.ids if name == workflow.__workflow_name__]

    def advance(
        self,
        time: timedelta = timedelta(),
        /,
        *,
        weeks: float = 0,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
    ) -> None:
        """Moves the time on. What becomes due happens in its order, at its time: timeouts, retries, sleeps.

        Raises:
            ValueError: the time would go back.
        """
        check_time(time)
        time += timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        if time < timedelta():
            raise ValueError(f"time cannot go back by {-time}: pass a positive time")
        self._deliver(self.now + time)

    def restart(self, *workflows: type[Workflow]) -> None:
        """Ends the process and starts another one, with other code if ``workflows`` are given: as a deployment does."""
        for workflow in workflows:
            check_workflow(workflow, "restart(Changed)")
        self.workflows = workflows or self.workflows
        self._engine = self._new_engine()

    def coverage(self, workflow: type[Workflow]) -> Coverage:
        """Returns which statements and events of a workflow have been used since the environment was made."""
        return self.coverage_of.setdefault(workflow, Coverage(workflow))

    # --- fakes -----------------------------------------------------------------------------

    @overload
    def fake(self, workflow: type[W], method: str, replacement: Callable[[W], Any]) -> None: ...
    @overload
    def fake(self, workflow: type[W], method: str, replacement: Callable[..., Any]) -> None: ...
    def fake(self, workflow: type[Workflow], method: str, replacement: Callable[..., Any]) -> None:
        """Replaces a step, an activity or another method that a definition calls, until the environment is closed.

        Args:
            method: its name.
            replacement: a function that takes the workflow, and then what the method takes.

        Raises:
            DefinitionError: the definition calls no such method. The message lists those that it calls.
        """
        check_workflow(workflow, "fake(Approval, name, function)")
        self._fakes.replace(workflow, method, replacement)

    def fake_child(self, workflow: type[Workflow], *, fields: Any = None, error: str = "") -> None:
        """Replaces a child workflow: its instances end at once.

        Args:
            fields: a mapping of the fields that they end with, besides their initial ones.
            error: they fail with this message.
        """
        check_workflow(workflow, "fake_child(Approval)")
        fake = self._fakes.child(workflow, fields or {}, error)
        self.workflows = tuple(
            fake if served.__workflow_name__ == fake.__workflow_name__ else served for served in self.workflows
        )
        if fake not in self.workflows:
            self.workflows = (*self.workflows, fake)
        self._engine = self._new_engine()

    # --- what the handles need -------------------------------------------------------------

    def load(self, workflow: type[Workflow], id: str, *, history: bool = False) -> Instance:
        """Returns the stored instance."""
        return self._run(self.store.stored.load(workflow.__workflow_name__, id, history=history))

    def view(self, workflow: type[Workflow], id: str) -> View:
        """Returns the instance with the events that it accepts."""
        return self._run(self._engine.get(workflow.__workflow_name__, id))

    def send(self, workflow: type[Workflow], id: str, event: str, input: Any, principal: Principal | None) -> Any:
        """See ``InstanceHandle.send``."""
        name, body, key = workflow.__workflow_name__, b"" if input is None else as_json(input), self._key()
        response = self._request(lambda: self._engine.handle_event(name, id, event, body, key=key, principal=principal))
        return from_json(response) if response else None

    def operate(self, workflow: type[Workflow], id: str, operation: Operation) -> None:
        """See ``InstanceHandle.operate``."""
        before = self._run(self._times_done(workflow, id, operation))

        async def once() -> None:
            # It has no idempotency key: a process that was killed after its commit has carried it out.
            if await self._times_done(workflow, id, operation) == before:
                await self._engine.operate(workflow.__workflow_name__, id, operation)

        self._request(once)

    async def _times_done(self, workflow: type[Workflow], id: str, operation: Operation) -> int:
        stored = await self.store.stored.load(workflow.__workflow_name__, id, history=True)
        return sum(entry.kind == operation.name for entry in stored.history)

    # --- moving ----------------------------------------------------------------------------

    def _new_engine(self) -> Engine:
        return Engine(
            self.workflows,
            self.store,
            self._queue,
            clock=self.clock,
            options=self._options,
            rng=self._random,
            run_sync=_in_this_thread,
            callbacks=Callbacks(Keys([b"k" * 32]), "https://workflows.example", self.clock),
        )

    def _run(self, call: Awaitable[T]) -> T:
        """Runs a call to its end. The time moves on while it only waits, for example for a lease."""
        self._check_open(call)
        try:
            return self._runner.run(self._finish(call))
        finally:
            self._fakes.raise_failure()

    def _check_open(self, call: Any) -> None:
        if self.is_closed:
            if asyncio.iscoroutine(call):
                call.close()
            raise RuntimeError("the environment is closed: use its instances inside of the with block")

    async def _finish(self, call: Awaitable[T]) -> T:
        result: T = await self.clock.finish(
            call, before_moving=lambda task: wait_for_user_code(task, self._engine, self.clock)
        )
        return result

    def _request(self, call: Callable[[], Awaitable[T]]) -> T:
        """Makes a request, as a client does that repeats it until it has an answer, and delivers what is due."""
        while True:
            try:
                result = self._run(call())
            except Killed:
                self._replace_process()
            except Busy:
                self._deliver(self.now + BUSY_WAIT)
            else:
                self._deliver(self.now)
                return result

    def _deliver(self, until: datetime) -> None:
        """Delivers all tasks that are due at or before that time, each at its time."""
        deliveries = self._deliver_all(until)
        self._check_open(deliveries)
        try:
            self._runner.run(deliveries)
        except Killed:
            self._replace_process()
            self._deliver(max(until, self.now))

    async def _deliver_all(self, until: datetime) -> None:
        body: dict[str, Any] = {}
        for _ in range(DELIVERIES_MAX):
            task = self._queue.next_task(until)
            if task is None:
                await self.clock.advance_to(max(until, self.now))
                return
            if task.at is not None and task.at > self.now:
                await self.clock.advance_to(task.at)
            body = dict(task.body)
            if await self._finish(run_task(self._engine, task.path, task.body)) is Outcome.DONE:
                self._queue.remove(task)
            else:
                self._queue.postpone(task, self.now)
            self._fakes.raise_failure()
        restless = await self.store.described(body["workflow"], body["id"])
        raise AssertionError(
            f"the instances did not come to rest after {DELIVERIES_MAX} deliveries, at {self.now}: {restless}"
        )

    def _replace_process(self) -> None:
        """Starts another process in place of the one that was killed. When this returns, the instances that the dead
        process left behind have moved on."""
        self.store.killed = False
        self.restart()
        self._run(self._engine.recover())
        self._deliver(self.now)
        limit = self.now + CRASH_WAIT
        while self.now < (free_at := self._run(self.store.held_up_until(self.now))) <= limit:
            # Tasks that found the instance held up are delivered again a little later.
            self._deliver(free_at + 2 * REDELIVERY_DELAY)

    def _key(self) -> str:
        return f"request-{next(self._numbers)}"

    def _handle(self, workflow: type[W], id: str) -> InstanceHandle[W]:
        return self._handles.setdefault((workflow, id), InstanceHandle(self, workflow, id))

    def _cover(self, instance: Instance) -> None:
        for workflow in self.workflows:
            if workflow.__workflow_name__ == instance.workflow:
                self.coverage(workflow).add(instance)


def _check_synchronous() -> None:
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise TypeError("an Environment has its own event loop: use it in a synchronous test")


async def _in_this_thread(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


async def _without_waiting_for_the_disk(store: SqliteStore) -> None:
    """No test cuts the power."""
    await store.connections.run(lambda connection: connection.execute("PRAGMA synchronous = OFF").close())


def described(environment: Environment) -> str:
    """Returns where the instances of an environment stand, for the report of a failed test."""
    handles = (handle for workflow in environment.workflows for handle in environment.instances(workflow))
    return describe(handles, environment.now)
