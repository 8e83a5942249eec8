"""Instances that have stored a value that new code cannot use: they wait, unchanged, and continue with the old code."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from cloud_adapter.cli.stored_instances import check_store
from cloud_adapter.engine.operations import Cancel, Goto, Pause, RetryFailed, SetFields, Terminate, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.history import HistoryKind
from tests.engine.harness import ID, World, article, in_world, nothing
from workflow_core import (
    Activity,
    ExecutionError,
    Go,
    If,
    On,
    Retry,
    Select,
    UnknownStatement,
    Workflow,
    activity,
    event,
    select,
    sleep,
    step,
)

DAY = timedelta(days=1)
RUNS: list[Any] = []


class Base(Workflow, name="article"):
    """Starts with an event, so that the new code meets an instance that the old code has parked."""

    log: list[str] = []

    @event
    def begin(self) -> None: ...

    @event
    def nudge(self) -> None: ...

    async def run(self) -> None:
        await select(self.begin)


# --- activities and steps --------------------------------------------------------------------


class OldActivity(Base, name="article"):
    @activity(timeout=timedelta(minutes=5))
    async def charge(self, amount: int) -> int:
        RUNS.append(amount)
        return amount

    async def run(self) -> None:
        await select(self.begin)
        paid = await self.charge(7)
        self.log.append(f"paid {paid}")
        await select(self.nudge)


class NewActivity(Base, name="article"):
    @activity(timeout=timedelta(minutes=5), retry=Retry(max_attempts=1))
    async def charge(self, amount: int, account: str) -> int:
        RUNS.append((amount, account))
        return amount

    async def run(self) -> None:
        await select(self.begin)
        paid = await self.charge(7, "main")
        self.log.append(f"paid {paid}")
        await select(self.nudge)


class Order(BaseModel):
    amount: int
    account: str = ""


class OldOrder(Base, name="article"):
    @activity
    async def charge(self, order: Order) -> None:
        RUNS.append(order)

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(Order(amount=7))


class OrderByDefault(Base, name="article"):
    @activity
    async def charge(self, order: Order = Order(amount=1), account: str = "main") -> None:  # noqa: B008
        RUNS.append((order, account))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(account="other")


class MoreParameters(Base, name="article"):
    @activity
    async def charge(self, order: Order, account: str, number: int = 2) -> None:
        RUNS.append((order, account, number))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(Order(amount=7), "other")


class Parameters(Base, name="article"):
    @activity
    async def charge(self, order: Order, account: str) -> None:
        RUNS.append((order, account))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(Order(amount=7), "other")


class OldMapping(Base, name="article"):
    @activity
    async def charge(self, data: dict[str, Any]) -> None:
        RUNS.append(data)

    async def run(self) -> None:
        await select(self.begin)
        await self.charge({"data": {"amount": 7}, "account": "other"})


class NewMapping(Base, name="article"):
    @activity
    async def charge(self, data: dict[str, Any], number: int = 1) -> None:
        RUNS.append((data, number))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge({"data": {"amount": 7}, "account": "other"}, 2)


@pytest.mark.parametrize(
    ("old", "new", "unexpected"),
    [
        (OldOrder, OrderByDefault, "amount"),
        (OldMapping, NewMapping, "account"),
        (MoreParameters, Parameters, "number"),
    ],
)
def test_an_input_with_something_that_is_no_parameter(
    tmp_path: Path, old: type[Workflow], new: type[Workflow], unexpected: str
) -> None:
    @in_world(old)
    async def run(world: World) -> None:
        RUNS.clear()
        await world.create()
        await world.send("begin")
        bad = world.start(new)
        await world.deliver(bad)
        assert f"{unexpected}: Extra inputs are not permitted" in (await bad.engine.get("article", ID)).problem
        assert RUNS == []

    run(tmp_path)


@in_world(Parameters)
async def test_an_input_from_before_a_parameter_with_a_default(world: World) -> None:
    await world.create()
    await world.send("begin")
    await world.deliver(world.start(MoreParameters))
    assert RUNS[-1] == (Order(amount=7), "other", 2)
    assert (await world.instance()).execution.status == "finished"


class OldStep(Base, name="article"):
    @step
    async def charge(self, amount: int) -> None:
        self.log.append(f"paid {amount}")

    async def run(self) -> None:
        await select(self.begin)
        amount = 7
        await self.charge(amount)
        await select(self.nudge)


class NewStep(Base, name="article"):
    @step(retry=Retry(max_attempts=1))
    async def charge(self, amount: int, account: str) -> None:
        self.log.append(f"paid {amount} from {account}")

    async def run(self) -> None:
        await select(self.begin)
        amount, account = 7, "main"
        await self.charge(amount, account)
        await select(self.nudge)


# --- locals ----------------------------------------------------------------------------------


class OldLocal(Base, name="article"):
    async def run(self) -> None:
        kind: Literal["letter", "fax"] = "fax"
        await select(self.begin)
        await sleep(DAY)
        self.log.append(kind)
        await select(self.nudge)


class NarrowerLocal(Base, name="article"):
    async def run(self) -> None:
        kind: Literal["letter", "mail"] = "letter"
        await select(self.begin)
        await sleep(DAY)
        self.log.append(kind)
        await select(self.nudge)


class NewLocal(Base, name="article"):
    async def run(self) -> None:
        kind, number = "fax", 1
        await select(self.begin)
        await sleep(DAY)
        self.log.append(f"{kind} {number}")
        await select(self.nudge)


# --- the same for all ------------------------------------------------------------------------

CASES: dict[str, tuple[type[Workflow], type[Workflow], str, list[str]]] = {
    "an activity gets a parameter": (
        OldActivity,
        NewActivity,
        "the input of activity 'charge' is no longer",
        ["paid 7"],
    ),
    "a step gets a parameter": (OldStep, NewStep, "needs the argument 'account' of 'charge', which it", ["paid 7"]),
    "a local loses a value of its type": (OldLocal, NarrowerLocal, "value of the local 'kind' does not fit", ["fax"]),
    "a local is new": (OldLocal, NewLocal, "needs the local 'number', which it does not have. To continue", ["fax"]),
}


@pytest.mark.parametrize("what", CASES)
def test_the_instance_waits_for_the_old_code(tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str) -> None:
    old, new, problem, log = CASES[what]

    @in_world(old)
    async def run(world: World) -> None:
        RUNS.clear()
        await world.create()
        await world.send("begin")
        before = await world.instance()
        bad = world.start(new)
        caplog.set_level(logging.ERROR, "gorchestrate")
        await world.pass_time(2 * DAY, bad)
        assert problem in caplog.text
        assert problem in (await bad.engine.get("article", ID)).problem
        with pytest.raises(UnknownStatement, match="deploy the former code again"):
            await bad.send("nudge")
        assert await bad.engine.recover() == 0
        assert (await world.instance()).execution == before.execution
        assert RUNS == []
        (found,) = (await check_store(world.store, [new])).problems
        assert found.what in caplog.text
        assert (await check_store(world.store, [old])).problems == {}

        good = world.start()
        assert await good.engine.recover(try_postponed=True) == 1
        await world.pass_time(timedelta(minutes=1), good)  # the attempt has timed out meanwhile: another one follows
        assert (await world.fields()).log == log
        await good.send("nudge")
        assert (await world.instance()).execution.status == "finished"

    run(tmp_path)


@in_world(OldActivity)
async def test_an_instance_with_such_a_value_can_be_repaired(world: World) -> None:
    await world.create()
    await world.send("begin")
    bad = world.start(NewActivity)
    await bad.engine.operate("article", ID, Goto(statement="charge"))
    await world.deliver(bad)
    assert RUNS[-1] == (7, "main")
    await bad.send("nudge")
    assert (await world.instance()).execution.status == "finished"


@in_world(OldActivity)
async def test_an_instance_with_such_a_value_can_be_canceled(world: World) -> None:
    await world.create()
    await world.send("begin")
    await world.start(NewActivity).engine.operate("article", ID, Cancel())
    assert (await world.instance()).execution.status == "canceled"


@pytest.mark.parametrize("operation", [SetFields(fields={"log": []}), Pause()])
@in_world(OldActivity)
async def test_it_goes_on_to_wait_after_an_operation(world: World, operation: Any) -> None:
    await world.create()
    await world.send("begin")
    version = (await world.instance()).execution.definition_version
    bad = world.start(NewActivity)
    await bad.engine.operate("article", ID, operation)
    assert (await world.instance()).execution.definition_version == version
    if isinstance(operation, Pause):
        with pytest.raises(UnknownStatement, match="the input of activity 'charge'"):
            await bad.engine.operate("article", ID, Unpause())
        await world.start().engine.operate("article", ID, Unpause())
    await world.pass_time(timedelta(hours=1), bad)
    assert "the input of activity 'charge'" in (await bad.engine.get("article", ID)).problem
    good = world.start()
    await good.engine.recover(try_postponed=True)
    await world.pass_time(timedelta(minutes=1), good)
    assert (await world.fields()).log == ["paid 7"]


class OldFailing(Base, name="article"):
    @step(retry=Retry(max_attempts=1))
    def fail(self) -> None:
        raise ValueError

    async def run(self) -> None:
        await select(self.begin)
        await self.fail()
        await select(self.nudge)


class NewFailing(Base, name="article"):
    @step
    def fail(self) -> None:
        self.log.append("repaired")

    async def run(self) -> None:
        number = len(self.log)
        await select(self.begin)
        await self.fail()
        self.log.append(f"number {number}")
        await select(self.nudge)


@pytest.mark.parametrize("operation", [None, SetFields(fields={"log": ["set"]}), Goto(statement="fail")])
@in_world(OldFailing)
async def test_a_failed_instance_is_checked_when_it_is_retried(world: World, operation: Any) -> None:
    await world.create()
    await world.send("begin")
    await world.deliver()
    new = world.start(NewFailing)
    if operation is not None:
        await new.engine.operate("article", ID, operation)
    assert (await new.engine.get("article", ID)).problem == ""
    with pytest.raises(UnknownStatement, match="needs the local 'number'"):
        await new.engine.operate("article", ID, RetryFailed())
    assert (await world.instance()).execution.status == "failed"


class OldCleanup(Base, name="article"):
    @step
    def clean(self, number: int) -> None:
        self.log.append(f"clean {number}")

    async def run(self) -> None:
        try:
            await select(self.begin)
        finally:
            await self.clean(1)


class NewCleanup(OldCleanup, name="article"):
    async def run(self) -> None:
        number = 1
        try:
            await select(self.begin)
        finally:
            await self.clean(number)


@in_world(OldCleanup)
async def test_an_instance_whose_cleanup_needs_such_a_value_can_be_terminated(world: World) -> None:
    await world.create()
    stored = await world.instance()
    new = world.start(NewCleanup)
    with pytest.raises(ExecutionError, match="reads the local 'number'"):
        await new.engine.operate("article", ID, Cancel())
    assert await world.instance() == stored
    await new.engine.operate("article", ID, Terminate())
    assert (await world.instance()).execution.status == "canceled"


# --- the explicit form -----------------------------------------------------------------------


def takes_int(w: Any, input: int) -> None:
    w.log.append(f"takes {input}")


def takes_text(w: Any, input: str) -> None:
    w.log.append(f"takes {input}")


def later(take: Any, *before: Any) -> Sequence[Any]:
    return *before, Select("later", On("Later", take, buffered=True)), Select("end", On("End", nothing))


WAIT = Select("wait", On("Go on", nothing))


@in_world(article(*later(takes_int, WAIT)))
async def test_a_buffered_event_whose_input_is_no_longer_valid_is_rejected(world: World) -> None:
    await world.create()
    await world.finish(world.process.post("Later", b"7"))
    new = article(*later(takes_text, WAIT))
    assert [problem.what[:24] for problem in (await check_store(world.store, [new])).problems] == [
        "it has a buffered event "
    ]
    bad = world.start(new)
    await bad.send("Go on")
    await world.deliver(bad)
    assert await world.history(HistoryKind.EVENT_REJECTED) == [(HistoryKind.EVENT_REJECTED, "Later")]
    await world.finish(bad.post("Later", b'"seven"'))
    await world.deliver(bad)
    assert (await world.fields()).log == ["takes seven"]


@in_world(article(*later(takes_int, WAIT)))
async def test_a_buffered_event_that_only_a_later_select_takes(world: World) -> None:
    await world.create()
    await world.finish(world.process.post("Later", b"7"))
    earlier = Select("earlier", On("Skip", nothing), On("Later", takes_text, buffered=True))
    new = article(WAIT, If("skips", lambda w: bool(w.log), earlier), *later(takes_int))
    assert (await check_store(world.store, [new])).problems == {}
    good = world.start(new)
    await good.send("Go on")
    await world.deliver(good)
    assert (await world.fields()).log == ["takes 7"]


def count(input: int) -> None:
    RUNS.append(input)


def spell(input: str) -> None:
    RUNS.append(input)


def text(w: Any) -> Any:
    return "seven"


BESIDE = Go("beside", Select("wait beside", On("Other", nothing)))


@in_world(article(Activity("count", count, input=text, retry=Retry(max_attempts=1))))
async def test_an_input_that_never_was_valid_fails_the_attempt(world: World) -> None:
    await world.started()
    assert (await world.instance()).execution.status == "failed"


@in_world(article(BESIDE, Activity("work", spell, input=text), Select("end", On("End", nothing))))
async def test_another_thread_does_not_move_beside_such_a_value(world: World) -> None:
    await world.create()
    before = await world.instance()
    bad = world.start(article(BESIDE, Activity("work", count, input=lambda w: 7), Select("end", On("End", nothing))))
    with pytest.raises(UnknownStatement, match="an instance of 'article' cannot continue in thread 'main': the input"):
        await bad.send("Other")
    attempt = next(task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)
    assert await bad.deliver(attempt) is Outcome.DONE
    assert await world.instance() == before
