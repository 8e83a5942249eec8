"""A parent and its child, for the tests of what happens between them."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.history import HistoryEntry
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from tests.engine.harness import ID, Gate, Killed, World, nothing, write
from workflow_core import (
    Child,
    ErrorInfo,
    Fail,
    Go,
    On,
    Parent,
    Retry,
    S,
    Select,
    Step,
    Timeout,
    Try,
    While,
    Workflow,
)

GATE = Gate()
HOUR = timedelta(hours=1)
POLICY = Retry(max_attempts=3, initial=timedelta(seconds=1), max_delay=timedelta(seconds=100))
OPTIONS = EngineOptions(retry=POLICY)


class Kid(Workflow, name="kid"):
    number: int = 1
    log: list[str] = []
    default_retry = Retry(max_attempts=1)  # of its steps; not of what it does for its parent

    async def work(self) -> None:
        self.log.append("begun")
        await GATE.wait()
        self.log.append("done")

    def result(self) -> int:
        return 1000 // self.number

    definition = S(
        Try(
            "play",
            Select(
                "wait",
                On("Grow", nothing),
                On("Work", nothing, Step("work", work)),
                On("Fall", nothing, Fail("fall", "it fell")),
            ),
        ).finally_(Step("tidy up", write("tidy")))
    )


class Mother(Workflow, name="mother"):
    number: int = 1
    log: list[str] = []
    default_retry = Retry(max_attempts=1)

    def keep(self, result: int) -> None:
        self.log.append(f"got {result}")

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}: {error.message}")

    definition = S(
        Go("beside", While("always", lambda w: True, Select("poke", On("Poke", nothing)))),
        Try(
            "care",
            Child("kid", Kid, id=lambda w: f"kid-{w.number}", input=lambda w: {"number": w.number}, then=keep),
        ).except_(Exception, then=note, name="sad"),
        Select("end", On("End", nothing), Timeout("bored", timedelta(days=9))),
    )


async def operate(world: World, *operations: Any, workflow: str = "mother", id: str = ID) -> None:
    for operation in operations:
        await world.finish(world.process.engine.operate(workflow, id, operation))


async def kid(world: World, id: str = "kid-1") -> Instance:
    return await world.store.load("kid", id)


async def link(world: World, id: str = "kid-1") -> Parent:
    """How a child sees its parent."""
    parent = (await kid(world, id)).execution.parent
    assert parent is not None
    return parent


async def entries(world: World, *kinds: str, workflow: str = "mother", id: str = ID) -> list[HistoryEntry]:
    return [one for one in (await world.store.load(workflow, id, history=True)).history if one.kind in kinds]


async def grow(world: World, id: str = "kid-1") -> None:
    """Ends a child; its cleanup and its report to the parent are not delivered yet."""
    await world.finish(world.process.engine.handle_event("kid", id, "Grow"))


async def start_and_die(world: World) -> Task:
    """Lets a process die after it has created a child, and before it noted that. Returns the task that it did."""
    dying = world.start()
    dying.fault("create", after=Killed())
    (task,) = world.queue.resumes
    with pytest.raises(Killed):
        await world.finish(dying.perform(task))
    dying.die()
    return task


async def change(world: World, workflow: str, id: str, **fields: Any) -> None:
    """Rewrites stored fields, even to values that cannot be loaded."""
    instance = await world.store.load(workflow, id)
    stored = json.dumps(json.loads(instance.fields) | fields)
    await world.store.commit(replace(instance, fields=stored))
