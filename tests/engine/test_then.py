"""``then`` takes the result of an activity or a child. If it fails, its statement fails, and nothing else changes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.lanes import CONTENDED_SECONDS
from cloud_adapter.engine.operations import RetryFailed
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.engine.transaction import LAX_BYTES_MIN
from tests.engine.harness import ID, World, in_world, nothing
from workflow_core import (
    Activity,
    Child,
    ErrorInfo,
    ForEach,
    Go,
    On,
    Retry,
    S,
    Select,
    Statement,
    Timeout,
    Try,
    WaitFor,
    Workflow,
)
from workflow_core.execution import Execution

DAY = timedelta(days=1)
CALLS: list[int] = []
"""The inputs of the calls of the activity."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()


def triple(number: int) -> int:
    CALLS.append(number)
    return 3 * number


class Part(Workflow, name="part"):
    number: int = 0

    def result(self) -> int:
        return 3 * self.number

    definition = S(Select("wait", On("Go", nothing)))


class Taking(Workflow):
    """Takes a result and then fails, in the way that ``how`` names; abstract."""

    how: str = ""
    number: int = 7
    total: int = 0
    log: list[str] = []

    def take(self, result: int) -> None:
        self.total += result
        self.log.append("taken")
        if self.how == "raises":
            raise ValueError("it is odd")
        if self.how == "exits":
            raise SystemExit(3)
        if self.how == "spoils":
            self.number = "no number"  # type: ignore[assignment]

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}")


def taking(how_it_is_got: str, *, catches: bool) -> type[Taking]:
    get: Statement
    if how_it_is_got == "activity":
        get = Activity("get", triple, input=lambda w: w.number, then=Taking.take, retry=Retry(max_attempts=5))
    else:
        get = Child("get", Part, id="part-1", input=lambda w: {"number": w.number}, then=Taking.take)
    guarded = Try("try", get).except_(Exception, then=Taking.note, name="caught") if catches else get

    class Version(Taking, name="taking"):
        definition = S(
            Go("watch", WaitFor("much", lambda w: w.total > 0)),
            Go("beside", Select("poke", On("Poke", nothing), Timeout("late", DAY))),
            guarded,
            Select("end", On("End", nothing)),
        )

    return Version


async def has_result(world: World, how_it_is_got: str, **fields: Any) -> Execution:
    """An instance that is about to take a result; gives its execution of before that."""
    await world.create(**fields)
    if how_it_is_got == "activity":
        before = (await world.instance()).execution
    else:
        await world.deliver()
        before = (await world.instance()).execution
        await world.finish(world.process.engine.handle_event("part", "part-1", "Go"))
    return before


ERRORS = {
    "raises": ("ValueError", "it is odd"),
    "exits": ("RuntimeError", "the code raised SystemExit: 3"),
    "spoils": ("InvalidFields", "number"),
}


@pytest.mark.parametrize("posted", [False, True])
@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize("how", ERRORS)
@pytest.mark.parametrize("how_it_is_got", ["activity", "child"])
@in_world(taking("activity", catches=True), Part)
async def test_if_it_fails_its_statement_fails_at_once_and_nothing_else_has_happened(
    world: World, how_it_is_got: str, how: str, catches: bool, posted: bool
) -> None:
    world.process = world.start(taking(how_it_is_got, catches=catches), Part)
    before = await has_result(world, how_it_is_got, how=how)
    if posted:
        world.process.engine.lanes.met_others(InstanceRef(world.process.engine.workflow("taking"), ID))
    await world.pass_time(timedelta(seconds=CONTENDED_SECONDS + 5))
    instance = await world.instance()
    execution, fields = instance.execution, json.loads(instance.fields)
    type, message = ERRORS[how]
    assert (fields["total"], fields["number"]) == (0, 7), "what it has changed is undone"
    assert fields.get("log", []) == ([f"{type} of get"] if catches else [])
    (entry,) = [one for one in instance.history if one.kind in (how_it_is_got, f"{how_it_is_got} failed")]
    assert (entry.kind, entry.statement, entry.thread) == (f"{how_it_is_got} failed", "get", "main")
    assert entry.error.startswith(f"{type}: ") and message in entry.error
    assert execution.teardowns == []
    if catches:
        assert (execution.status, execution.threads[0].step) == ("waiting", "end")
        assert [thread.waits for thread in execution.threads[1:]] == [thread.waits for thread in before.threads[1:]]
        assert len(world.queue.timers) == 1, "that of the other thread stays"
    else:
        assert (execution.status, execution.threads[0].step) == ("failed", "get")
        assert execution.error is not None
        assert (execution.error.type, execution.error.statement) == (type, "get")
    await world.pass_time(timedelta(hours=1))
    assert (await world.instance()).execution == execution, "there is no other attempt"
    assert len(CALLS) == (1 if how_it_is_got == "activity" else 0)
    if how_it_is_got == "child":
        child = (await world.store.load("part", "part-1")).execution
        assert child.status == "finished"
        assert child.parent is not None
        assert child.parent.told
    assert [task for task in world.queue.tasks.values() if task not in world.queue.timers] == []


@in_world(taking("activity", catches=False), Part)
async def test_after_a_repair_its_activity_runs_again_under_another_key(world: World) -> None:
    await has_result(world, "activity", how="raises")
    await world.deliver()
    failed = await world.instance()
    fields = json.dumps(json.loads(failed.fields) | {"how": "", "number": 5})
    await world.store.commit(replace(failed, fields=fields))
    await world.finish(world.process.engine.operate("taking", ID, RetryFailed()))
    await world.deliver()
    assert CALLS == [7, 5]
    assert ((await world.fields()).total, (await world.fields()).log) == (15, ["taken"])
    assert (await world.instance()).execution.threads[0].step == "end"


class Many(Workflow, name="many"):
    odd: list[int] = []
    text: str = ""
    sum: int = 0
    log: list[str] = []

    def take(self, result: int, *, item: int) -> None:
        self.sum += result
        if item in self.odd:
            raise ValueError(f"{item} is odd")

    def note(self, error: ErrorInfo) -> None:
        self.log.append(error.message)

    definition = S(
        ForEach(
            "each",
            lambda w: range(6),
            Try("try", Activity("get", triple, then=take)).except_(ValueError, then=note, name="caught"),
            parallel=True,
        ),
        Select("end", On("End", nothing)),
    )


@pytest.mark.parametrize("size", [0, LAX_BYTES_MIN])
@pytest.mark.parametrize("odd", [[0], [3], [5], [0, 1], [1, 3, 5], [0, 1, 2, 3, 4, 5]])
@in_world(Many)
async def test_one_that_fails_among_the_results_of_one_commit_leaves_the_others(
    world: World, odd: list[int], size: int
) -> None:
    await world.create(odd=odd, text="x" * size)
    for task in [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]:
        world.process.engine.lanes.met_others(InstanceRef(Many, ID))
        assert await world.process.deliver(task) is Outcome.DONE
    assert len(await world.store.inbox("many", ID)) == 6
    await world.pass_time(timedelta(seconds=CONTENDED_SECONDS + 5))
    fields = await world.fields()
    assert fields.sum == sum(3 * number for number in range(6) if number not in odd)
    assert sorted(fields.log) == [f"{number} is odd" for number in odd]
    assert len(await world.history("activity")) == 6 - len(odd)
    assert len(await world.history("activity failed")) == len(odd)
    assert (await world.instance()).execution.threads[0].step == "end"
    assert sorted(CALLS) == list(range(6))
    assert await world.store.inbox("many", ID) == []
    await world.pass_time(timedelta(minutes=30))
    assert world.queue.tasks == {}
