"""Each operation in each state of an instance: what it does, and that it changes nothing where it is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import (
    ACTIONS,
    Cancel,
    Goto,
    Operation,
    Pause,
    RetryFailed,
    SetFields,
    Terminate,
    Unpause,
)
from cloud_adapter.errors import InstanceEnded
from tests.engine.harness import ID, World, in_world, nothing, write
from workflow_core import (
    Go,
    On,
    RepairRefused,
    Return,
    S,
    Select,
    Step,
    TerminalError,
    ThreadStatus,
    Timeout,
    Try,
    UnknownStatement,
    WaitFor,
    Workflow,
    WorkflowError,
)
from workflow_core.wait_types import TimedWait

HOUR = timedelta(hours=1)


def broken(workflow: Any) -> None:
    raise TerminalError("it is broken")


class Works(Workflow, name="works"):
    number: int = 1
    log: list[str] = []

    definition = S(
        Go("beside", Select("hear", On("Ring", nothing), Timeout("late", HOUR))),
        Select(
            "start",
            On("Start", nothing),
            On("Break", nothing, Step("break", broken)),
            On("Finish", nothing, Return()),
        ),
        Try(
            "work",
            Step("drive", write("drive")),
            Select("there", On("Leave", nothing), Timeout("too long", HOUR)),
        ).finally_(Select("key", On("Key", write("key")), On("Lose", nothing, Step("search", broken)))),
    )


async def operate(world: World, operation: Operation, id: str = ID) -> Any:
    return await world.finish(world.process.engine.operate(world.name, id, operation))


async def running(world: World) -> None:
    await world.started()
    await world.send("Start")


async def waiting(world: World) -> None:
    await running(world)
    await world.deliver()


async def paused(world: World) -> None:
    await waiting(world)
    await operate(world, Pause())


async def paused_before_a_step(world: World) -> None:
    await running(world)
    await operate(world, Pause())


async def failed(world: World) -> None:
    await world.started()
    await world.send("Break")
    await world.deliver()


async def canceling(world: World) -> None:
    await waiting(world)
    await operate(world, Cancel())


async def paused_while_canceling(world: World) -> None:
    await canceling(world)
    await operate(world, Pause())


async def failed_while_canceling(world: World) -> None:
    await canceling(world)
    await world.send("Lose")
    await world.deliver()


async def canceled(world: World) -> None:
    await world.started()
    await operate(world, Cancel())


async def finished(world: World) -> None:
    await world.started()
    await world.send("Finish")


NOTHING = "nothing"
OPERATIONS = (
    Cancel(by="ann", reason="why not"),
    Terminate(by="ann", reason="why not"),
    Pause(by="ann", reason="why not"),
    Unpause(by="ann", reason="why not"),
    RetryFailed(by="ann", reason="why not"),
    Goto(statement="start", by="ann", reason="why not"),
    SetFields(fields={"number": 5}, by="ann", reason="why not"),
)

Outcome = str | type[WorkflowError]
"""The status afterwards, or that nothing has changed, or the error."""

ENDED, REFUSED = InstanceEnded, RepairRefused

TABLE: dict[Callable[[World], Awaitable[None]], tuple[Outcome, ...]] = {
    # state:                 cancel     terminate   pause     unpause    retry      goto       set
    running:                ("waiting", "canceled", "paused", NOTHING,   REFUSED,   "waiting", "running"),
    waiting:                ("waiting", "canceled", "paused", NOTHING,   REFUSED,   "waiting", "waiting"),
    paused:                 ("waiting", "canceled", NOTHING,  "waiting", REFUSED,   "paused",  "paused"),
    paused_before_a_step:   ("waiting", "canceled", NOTHING,  "running", REFUSED,   "paused",  "paused"),
    failed:                 (ENDED,     ENDED,      ENDED,    ENDED,     "running", "failed",  "failed"),
    canceling:              (NOTHING,   "canceled", "paused", NOTHING,   REFUSED,   REFUSED,   "waiting"),
    paused_while_canceling: (NOTHING,   "canceled", NOTHING,  "waiting", REFUSED,   REFUSED,   "paused"),
    failed_while_canceling: (ENDED,     ENDED,      ENDED,    ENDED,     "running", REFUSED,   "failed"),
    canceled:               (NOTHING,   NOTHING,    ENDED,    ENDED,     REFUSED,   REFUSED,   "canceled"),
    finished:               (ENDED,     ENDED,      ENDED,    ENDED,     REFUSED,   REFUSED,   "finished"),
}  # fmt: skip

CASES = [
    pytest.param(state, operation, outcome, id=f"{operation.name} {state.__name__}")
    for state, outcomes in TABLE.items()
    for operation, outcome in zip(OPERATIONS, outcomes, strict=True)
]


@pytest.mark.parametrize(("state", "operation", "outcome"), CASES)
@in_world(Works)
async def test_what_an_operation_does_depends_on_the_state(
    world: World, state: Any, operation: Operation, outcome: Outcome
) -> None:
    await state(world)
    before, tasks, deleted = await world.instance(), dict(world.queue.tasks), list(world.queue.deleted)
    dry = operation.model_copy(update={"dry_run": True})
    if isinstance(outcome, type):
        for refused in (operation, dry):
            with pytest.raises(outcome):
                await operate(world, refused)
        assert await world.instance() == before
        assert (world.queue.tasks, world.queue.deleted) == (tasks, deleted)
        return
    would_be = await operate(world, dry)
    assert await world.instance() == before, "a dry run saves nothing"
    assert (world.queue.tasks, world.queue.deleted) == (tasks, deleted)
    view = await operate(world, operation)
    after = await world.instance()
    assert (view.instance.execution, view.instance.fields) == (after.execution, after.fields)
    assert would_be.instance.execution.status == after.execution.status
    if outcome == NOTHING:
        assert after == before
        assert world.queue.tasks == tasks
        return
    assert after.execution.status == outcome
    assert after.execution.pc > before.execution.pc
    assert after.history[:-1] == before.history
    entry = after.history[-1]
    assert (entry.kind, entry.by, entry.reason, entry.at) == (operation.name, "ann", "why not", world.now)
    assert view.workflow.number == (5 if isinstance(operation, SetFields) else 1)
    await check_scheduled(world)


async def check_scheduled(world: World) -> None:
    """Each deadline of a live instance has its task, each step a resume; what is paused or has ended has no wake-up."""
    instance = await world.instance()
    execution = instance.execution
    if not execution.live:
        assert instance.wake_at is None
        return
    scheduled = {(task.body["wait_id"], task.body["event"], task.body["fence"]): task.at for task in world.queue.timers}
    deadlines = []
    for thread in execution.threads:
        for wait in thread.waits:
            if isinstance(wait, TimedWait):
                assert scheduled.pop((wait.id, wait.event, wait.task)) == wait.deadline
                deadlines.append(wait.deadline)
    assert scheduled == {}, "timers of waits that were left are deleted"
    if any(thread.status is ThreadStatus.EXECUTING for thread in execution.threads):
        assert any(task.at is None or task.at <= world.now for task in world.queue.resumes)
        assert instance.wake_at == world.now
    else:
        assert instance.wake_at == min((deadline for deadline in deadlines if deadline), default=None)


@pytest.mark.parametrize("state", TABLE)
@in_world(Works)
async def test_a_page_offers_exactly_what_has_an_effect(world: World, state: Any) -> None:
    await state(world)
    execution = (await world.instance()).execution
    offered = {name for name, action in ACTIONS.items() if action.is_offered(execution)}
    outcomes = {operation.name: outcome for operation, outcome in zip(OPERATIONS, TABLE[state], strict=True)}
    effective = {name for name in ACTIONS if outcomes[name] != NOTHING and not isinstance(outcomes[name], type)}
    assert offered - {"terminate"} == effective - {"terminate"}
    assert ("terminate" in offered) is execution.canceling


@pytest.mark.parametrize(
    ("operation", "past"),
    [(Cancel(), "canceled"), (Terminate(), "terminated"), (Pause(), "paused"), (Unpause(), "unpaused")],
)
@in_world(Works)
async def test_the_refusal_tells_the_state_and_what_is_no_longer_possible(
    world: World, operation: Operation, past: str
) -> None:
    await finished(world)
    with pytest.raises(InstanceEnded) as caught:
        await operate(world, operation)
    assert str(caught.value) == f"'order-1' is finished: it can no longer be {past}"


# --- what follows ----------------------------------------------------------------------------


@in_world(Works)
async def test_a_deadline_that_passes_in_a_pause_that_ends_in_a_cancellation_does_not_happen(world: World) -> None:
    await paused(world)
    await world.pass_time(2 * HOUR)
    await operate(world, Cancel())
    await world.deliver()
    await world.send("Key")
    assert (await world.instance()).execution.status == "canceled"
    assert await world.history("timeout") == []
    assert world.queue.tasks == {}


@in_world(Works)
async def test_both_deadlines_that_pass_in_a_pause_happen_when_it_ends(world: World) -> None:
    await paused(world)
    await world.pass_time(2 * HOUR)
    assert world.queue.tasks == {}
    await operate(world, Unpause())
    await world.deliver()
    assert sorted(await world.history("timeout")) == [("timeout", "late"), ("timeout", "too long")]
    await world.send("Key")
    assert (await world.instance()).execution.status == "finished"


class Scales(Workflow, name="scales"):
    number: int = 1
    log: list[str] = []
    definition = S(
        Go("light", WaitFor("few", lambda w: w.number > 5), Step("lift", write("lifted"))),
        Select("end", On("End", nothing)),
    )


@pytest.mark.parametrize("how", ["live", "paused", "paused, not enough"])
@in_world(Scales)
async def test_a_condition_that_set_makes_true_is_seen_at_once_or_after_the_pause(world: World, how: str) -> None:
    await world.started()
    if how == "live":
        await operate(world, SetFields(fields={"number": 6}))
    else:
        await operate(world, Pause())
        await operate(world, SetFields(fields={"number": 6 if how == "paused" else 5}))
        await world.deliver()
        assert (await world.fields()).log == []
        await operate(world, Unpause())
    await world.deliver()
    assert (await world.fields()).log == ([] if how == "paused, not enough" else ["lifted"])


@pytest.mark.parametrize("statement", ["start", "there", "drive"])
@in_world(Works)
async def test_goto_keeps_what_the_other_thread_waits_for(world: World, statement: str) -> None:
    await waiting(world)
    other = (await world.instance()).execution.threads[1]
    await operate(world, Goto(statement=statement))
    execution = (await world.instance()).execution
    assert execution.threads[1] == other
    assert execution.threads[0].step == statement
    entry = (await world.instance()).history[-1]
    assert (entry.kind, entry.statement, entry.thread, entry.detail) == ("goto", statement, "main", "from 'there'")
    await check_scheduled(world)


@pytest.mark.parametrize("pc", [-1, 1])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@in_world(Works)
async def test_no_operation_is_carried_out_on_another_pc_than_it_names(
    world: World, operation: Operation, pc: int
) -> None:
    await (failed if isinstance(operation, RetryFailed) else paused)(world)
    before = await world.instance()
    with pytest.raises(RepairRefused, match="has changed"):
        await operate(world, operation.model_copy(update={"pc": before.execution.pc + pc}))
    with pytest.raises(RepairRefused, match="has changed"):
        await operate(world, operation.model_copy(update={"pc": 0}))
    assert await world.instance() == before


# --- instances at a statement that is gone ---------------------------------------------------


class Gone(Works, name="works"):
    definition = S(
        Go("beside", Select("hear", On("Ring", nothing), Timeout("late", HOUR))),
        Select("new start", On("Start", nothing)),
        Step("drive", write("drive")),
    )


GONE = UnknownStatement
MISSING: dict[Callable[[World], Awaitable[None]], tuple[Outcome, ...]] = {
    # state:                 cancel terminate   pause  unpause  retry    goto       set
    waiting:                (GONE,  "canceled", GONE,  GONE,    REFUSED, "waiting", "waiting"),
    paused:                 (GONE,  "canceled", GONE,  GONE,    REFUSED, "paused",  "paused"),
    failed:                 (GONE,  ENDED,      GONE,  GONE,    GONE,    "failed",  "failed"),
    paused_while_canceling: (GONE,  "canceled", GONE,  GONE,    REFUSED, REFUSED,   "paused"),
    finished:               (ENDED, ENDED,      ENDED, ENDED,   REFUSED, REFUSED,   "finished"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("state", "operation", "outcome"),
    [
        pytest.param(state, operation, outcome, id=f"{operation.name} {state.__name__}")
        for state, outcomes in MISSING.items()
        for operation, outcome in zip(OPERATIONS, outcomes, strict=True)
    ],
)
@in_world(Works)
async def test_where_a_statement_is_gone_only_repairs_and_an_end_are_possible(
    world: World, state: Any, operation: Operation, outcome: Outcome
) -> None:
    await state(world)
    world.process = world.start(Gone)
    before, tasks = await world.instance(), dict(world.queue.tasks)
    if isinstance(operation, Goto):
        operation = operation.model_copy(update={"statement": "new start"})
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            await operate(world, operation)
        assert await world.instance() == before
        assert world.queue.tasks == tasks
        return
    view = await operate(world, operation)
    after = await world.instance()
    assert after.execution.status == outcome
    assert after.history[:-1] == before.history
    assert after.history[-1].kind == operation.name
    moved = isinstance(operation, (Goto, Terminate)) or outcome == "finished"
    assert (view.problem == "") is moved
    assert view.workflow.number == (5 if isinstance(operation, SetFields) else 1)
