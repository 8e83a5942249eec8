"""Runs the examples: on a real engine whose time the test moves, without a fault and with a crash at each commit.

A scenario is written once and runs with both forms of an example. ``crash`` runs it again and again: in the n-th run,
the process dies at the n-th commit, and a new process continues from the stored JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from services import OutsideService

from cloud_adapter.cli.stored_instances import check_store
from cloud_adapter.document import Instance
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.errors import Busy
from tests.engine.harness import ID, Killed, Process, World, do_not_sync
from workflow_core import Workflow

Scenario = Callable[["Run"], Awaitable[None]]

CRASHES_MAX = 200

LEASE = timedelta(minutes=2)
"""Longer than a lease."""


@dataclass(frozen=True)
class Example:
    """An example in both forms.

    Attributes:
        module: the module whose services it calls.
        plain: its workflow as an ``async def run``, and the workflows of its children.
        explicit: the same as trees of statements.
        scenarios: what is done with each of them. Each checks its end.
        long_scenarios: those with too many commits for a crash at each of them.
    """

    module: ModuleType
    plain: tuple[type[Workflow], ...]
    explicit: tuple[type[Workflow], ...]
    scenarios: tuple[Scenario, ...]
    long_scenarios: tuple[Scenario, ...] = ()


class Run:
    """One run of a scenario by a client that repeats its requests until it has an answer.

    Attributes:
        services: the services that the example calls.
        holds_activities: whether activities that are due are not started yet.
    """

    def __init__(self, world: World, services: dict[str, OutsideService]) -> None:
        self.world = world
        self.id = ID
        self.services = services
        self.process = world.start()
        self.holds_activities = False
        self._requests = 0
        self._crashed = False

    async def again(self, call: Callable[[Process], Awaitable[Any]]) -> Any:
        """Makes a call; if the process dies, again in a new one."""
        while True:
            try:
                return await call(self.process)
            except Killed:
                self._crashed = True
                self.process = self.world.start()
                await self.again(lambda process: self.world.finish(process.engine.recover()))
            except Busy:
                await self.pass_time(timedelta(seconds=30))

    async def _request(self, call: Callable[[Process, str], Awaitable[Any]]) -> Any:
        self._requests += 1
        key = f"request {self._requests}"
        result = await self.again(lambda process: self.world.finish(call(process, key)))
        await self.again(self._deliver)
        await self._outlast_lease()
        assert (await check_store(self.world.store, self.world.workflows)).problems == {}
        return result

    async def _deliver(self, process: Process) -> None:
        if not self.holds_activities:
            await self.world.deliver(process)
            return
        tasks = self.world.queue.tasks
        while due := [task for task in tasks.values() if task.at is None and task.path != ACTIVITY_PATH]:
            await process.deliver(due[0])

    async def _outlast_lease(self) -> None:
        """After a crash, waits until the lease of the dead process has expired and what it delayed has happened."""
        if self._crashed and not self.holds_activities:
            self._crashed = False
            await self.pass_time(LEASE)

    async def create(self, **fields: Any) -> None:
        """Creates the instance and runs it to its first wait."""
        body = json.dumps(fields).encode()
        await self._request(lambda process, key: process.engine.create(self.world.name, self.id, body, key=key))

    async def send(self, event: str, input: Any = None, *, workflow: str = "", id: str = "") -> Any:
        """Sends an event, by default to the instance, and runs it to its next wait. Returns the response."""
        body = b"" if input is None else json.dumps(input).encode()
        name, id = workflow or self.world.name, id or self.id
        response = await self._request(lambda process, key: process.engine.handle_event(name, id, event, body, key=key))
        return json.loads(response)

    async def pass_time(self, time: timedelta) -> None:
        """Moves the time on."""
        until = self.world.now + time
        await self.again(lambda process: self.world.pass_time(max(timedelta(), until - self.world.now), process))
        await self._outlast_lease()

    def continue_with(self, workflows: tuple[type[Workflow], ...]) -> None:
        """Deploys other code: the process ends, and another one continues with these workflows."""
        self.world.workflows = workflows
        self.process = self.world.start()

    async def instance(self) -> Instance:
        """The stored document."""
        return await self.world.instance(self.id)

    async def fields(self) -> Any:
        """The stored fields."""
        return await self.world.fields(self.id)

    async def status(self) -> str:
        """The status of the instance."""
        return str((await self.instance()).execution.status)

    async def places(self) -> set[str]:
        """Where the threads stand."""
        return {thread.step for thread in (await self.instance()).execution.threads}


def services_of(module: ModuleType) -> dict[str, OutsideService]:
    """Returns the services of an example as they are before any request."""
    found = {name: value for name, value in vars(module).items() if isinstance(value, OutsideService)}
    for service in found.values():
        service.done.clear()
        service.errors.clear()
    return found


async def play(directory: Path, workflows: tuple[type[Workflow], ...], module: ModuleType, scenario: Scenario) -> None:
    """Runs a scenario without a fault."""
    async with new_world(directory, workflows) as world:
        await scenario(Run(world, services_of(module)))


async def crash(directory: Path, workflows: tuple[type[Workflow], ...], module: ModuleType, scenario: Scenario) -> int:
    """Runs a scenario with a crash at each commit: just before it, and just after it. Each scenario checks its end.

    Returns:
        How many crashes there were.
    """
    crashes = 0
    for where in ("before", "after"):
        for number in range(1, CRASHES_MAX):
            async with new_world(directory / f"{where}-{number}", workflows) as world:
                run = Run(world, services_of(module))
                first = run.process
                first.fault("commit", number, **{where: Killed(f"at commit {number}")})
                await scenario(run)
            if first.wire.faults:  # the scenario has fewer commits
                break
            crashes += 1
        else:
            raise AssertionError(f"the scenario has more than {CRASHES_MAX} commits")
    return crashes


@asynccontextmanager
async def new_world(directory: Path, workflows: tuple[type[Workflow], ...]) -> AsyncIterator[World]:
    """A database and a time of its own."""
    os.makedirs(directory, exist_ok=True)
    world = World(directory, *workflows)
    try:
        await do_not_sync(world.store)
        yield world
    finally:
        await world.store.close()
