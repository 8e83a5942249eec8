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
from cloud_adapter.engine.operations import Cancel, Goto, Pause, SetFields, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from tests.engine.harness import ID, World, article, in_world, nothing, write
from workflow_core import (
    Activity,
    Go,
    On,
    Retry,
    Select,
    Step,
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


class NewOrder(Base, name="article"):
    @activity
    async def charge(self, order: Order, account: str = "main") -> None:
        RUNS.append((order, account))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(Order(amount=7), "other")


class OrderByDefault(Base, name="article"):
    @activity
    async def charge(self, order: Order = Order(amount=1), account: str = "main") -> None:  # noqa: B008
        RUNS.append((order, account))

    async def run(self) -> None:
        await select(self.begin)
        await self.charge(account="other")


@pytest.mark.parametrize("new", [NewOrder, OrderByDefault])
@in_world(OldOrder)
async def test_an_input_from_before_a_parameter_with_a_default(world: World, new: type[Workflow]) -> None:
    await world.create()
    await world.send("begin")
    await world.deliver(world.start(new))
    assert RUNS[-1] == (Order(amount=7), "main")
    assert (await world.instance()).execution.status == "finished"


@pytest.mark.parametrize(("new", "order"), [(NewOrder, Order(amount=7)), (OrderByDefault, Order(amount=1))])
def test_an_input_from_after_it(tmp_path: Path, new: type[Workflow], order: Order) -> None:
    @in_world(new)
    async def run(world: World) -> None:
        await world.create()
        await world.send("begin")
        await world.deliver()
        assert RUNS[-1] == (order, "other")

    run(tmp_path)


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


# --- the explicit form -----------------------------------------------------------------------


def takes_int(w: Any, input: int) -> None:
    w.log.append(f"takes {input}")


def takes_text(w: Any, input: str) -> None:
    w.log.append(f"takes {input}")


def later(take: Any, *before: Any) -> Sequence[Any]:
    return *before, Select("later", On("Later", take, buffered=True)), Select("end", On("End", nothing))


WAIT = Select("wait", On("Go on", nothing))


@pytest.mark.parametrize("start", ["wait", "step"])
def test_a_buffered_event_whose_input_is_no_longer_valid(tmp_path: Path, start: str) -> None:
    before = [WAIT, Step("step", write("step"))]

    @in_world(article(*later(takes_int, *before)))
    async def run(world: World) -> None:
        await world.create()
        await world.finish(world.process.post("Later", b"7"))
        if start == "step":
            await world.send("Go on")
        stored = await world.instance()
        bad = world.start(article(*later(takes_text, *before)))
        await world.deliver(bad)
        with pytest.raises(UnknownStatement, match="a buffered event 'Later' with an input that its handler no longer"):
            await bad.send("Go on")
        assert await world.instance() == stored

        await world.start().engine.recover(try_postponed=True)
        if start == "wait":
            await world.send("Go on")
        await world.deliver()
        assert (await world.fields()).log == ["step", "takes 7"]

    run(tmp_path)


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
