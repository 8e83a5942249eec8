"""Events: what one costs, what it changes, and that a refused one changes nothing."""

from __future__ import annotations

from asyncio import ensure_future
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field

from cloud_adapter.errors import Busy, InstanceNotFound, InvalidRequest, UserCodeError, WorkflowNotFound
from tests.engine.harness import ID, Gate, World, in_world, write
from workflow_core import (
    EventNotAccepted,
    EventRejected,
    Go,
    InvalidFields,
    InvalidInput,
    LoopLimitExceeded,
    On,
    S,
    Select,
    Step,
    WaitFor,
    While,
    Workflow,
)
from workflow_core.errors import InvalidOutput


class Item(BaseModel):
    name: str
    qty: Annotated[int, Field(ge=1)] = 1


class Shop(Workflow, name="shop"):
    """Only waits: no event of it needs a task."""

    cart: list[Item] = []
    submitted: bool = False
    paid: float = 0

    def add(self, item: Item) -> list[Item]:
        self.cart.append(item)
        return self.cart

    def submit(self) -> None:
        if not self.cart:
            self.submitted = True
            raise EventRejected("the cart is empty")
        self.submitted = True

    def crash(self) -> None:
        self.cart.clear()
        raise KeyError("no such thing")

    def spoil(self) -> None:
        self.paid = "much"  # type: ignore[assignment]

    def lie(self) -> int:
        self.cart.clear()
        return "no number"  # type: ignore[return-value]

    def pay(self, amount: float) -> float:
        self.paid += amount
        return self.paid

    definition = S(
        While(
            "filling",
            lambda w: not w.submitted,
            Select(
                "cart",
                On("Add", add),
                On("Submit", submit),
                On("Crash", crash),
                On("Spoil", spoil),
                On("Lie", lie),
            ),
        ),
        Select("payment", On("Pay", pay)),
        Select("delivery", On("Deliver", lambda w: None)),
    )


@contextmanager
def no_tasks(world: World) -> Iterator[None]:
    created, deleted = list(world.queue.created), list(world.queue.deleted)
    yield
    assert world.queue.created == created
    assert world.queue.deleted == deleted


async def refused(world: World, error: type[Exception], event: str, input: Any = None, **kwargs: Any) -> Exception:
    """The event raises that error at once, and leaves the document exactly as it was."""
    before, now = await world.instance(), world.now
    with no_tasks(world), pytest.raises(error) as caught:
        await world.send(event, input, **kwargs)
    assert await world.instance() == before
    assert world.now == now
    return caught.value


@in_world(Shop)
async def test_an_event_costs_one_load_and_one_commit(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        response = await world.send("Add", {"name": "tea", "qty": 2})
    assert calls == ["load", "commit"]
    assert response == [{"name": "tea", "qty": 2}]
    assert (await world.fields()).cart == [Item(name="tea", qty=2)]
    assert world.queue.created == []


@in_world(Shop)
async def test_creating_an_instance_that_only_waits_costs_one_write(world: World) -> None:
    with world.process.calls() as calls:
        view = await world.create(cart=[{"name": "tea"}])
    assert calls == ["create"]
    assert {one.case.event for one in view.accepted} == {"Add", "Submit", "Crash", "Spoil", "Lie"}
    assert isinstance(view.workflow, Shop)
    assert view.workflow.cart == [Item(name="tea")]
    assert (await world.instance()).wake_at is None
    assert await world.history() == [("created", "")]


@in_world(Shop)
async def test_the_next_event_can_follow_at_once(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        await world.send("Add", {"name": "tea"})
        assert await world.send("Submit") is None
        assert await world.send("Pay", 2.5) == 2.5
        await world.send("Deliver")
    assert calls == ["load", "commit", "commit", "commit", "commit"]
    assert (await world.instance()).execution.status == "finished"
    assert await world.history("event") == [("event", e) for e in ("Add", "Submit", "Pay", "Deliver")]
    assert world.queue.created == []


@in_world(Shop)
async def test_a_rejected_event_tells_why(world: World) -> None:
    await world.create()
    error = await refused(world, EventRejected, "Submit")
    assert str(error) == "the cart is empty"


@pytest.mark.parametrize(
    ("event", "input", "error", "message"),
    [
        ("Add", {"qty": 2}, InvalidInput, "name"),
        ("Add", {"name": "tea", "qty": 0}, InvalidInput, "qty"),
        ("Add", None, InvalidInput, "Add"),
        ("Submit", 1, InvalidInput, "no input"),
        ("Crash", None, UserCodeError, "KeyError: 'no such thing'"),
        ("Spoil", None, InvalidFields, "paid"),
        ("Lie", None, InvalidOutput, "'Lie'"),
        ("Pay", 1, EventNotAccepted, "it accepts: 'Add', 'Submit'"),
        ("Unknown", None, EventNotAccepted, "'Unknown' is not accepted now"),
    ],
)
@in_world(Shop)
async def test_an_event_that_is_refused_changes_nothing(
    world: World, event: str, input: Any, error: type[Exception], message: str
) -> None:
    await world.create(cart=[{"name": "tea"}])
    assert message in str(await refused(world, error, event, input))
    assert message in str(await refused(world, error, event, input, key="a key"))
    await world.send("Add", {"name": "milk"})
    assert [item.name for item in (await world.fields()).cart] == ["tea", "milk"]


@in_world(Shop)
async def test_a_refused_event_does_not_use_up_its_key(world: World) -> None:
    await world.create()
    await refused(world, EventRejected, "Submit", key="submit")
    await world.send("Add", {"name": "tea"})
    assert await world.send("Submit", key="submit") is None
    assert (await world.fields()).submitted


@in_world(Shop)
async def test_an_input_that_is_no_json(world: World) -> None:
    await world.create()
    with pytest.raises(InvalidInput):
        await world.process.post("Add", b'{"name": ')
    with pytest.raises(InvalidInput):
        await world.process.post("Add", b"\xff\xfe")


@in_world(Shop)
async def test_what_cannot_be_addressed(world: World) -> None:
    engine = world.process.engine
    with pytest.raises(InstanceNotFound):
        await engine.handle_event("shop", "nobody", "Add")
    with pytest.raises(WorkflowNotFound):
        await engine.handle_event("shoe", ID, "Add")
    with pytest.raises(InvalidRequest):
        await engine.handle_event("shop", "a/b", "Add")
    with pytest.raises(InvalidRequest):
        await engine.handle_event("shop", ID, "Add", key="é")


# --- an event with steps behind it -----------------------------------------------------------


class Baking(Workflow, name="baking"):
    log: list[str] = []

    def begin(self, what: str) -> str:
        self.log.append(what)
        return what.upper()

    definition = S(
        Select("start", On("Begin", begin)),
        Step("knead", write("knead")),
        Step("rise", write("rise")),
        Step("bake", write("bake")),
        Select("end", On("Eat", lambda w: "yum")),
    )


@in_world(Baking)
async def test_k_steps_cost_one_task_and_k_plus_one_commits(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        assert await world.send("Begin", "bread") == "BREAD"
    assert calls == ["load", "create_task", "commit"]
    assert len(world.queue.tasks) == 1
    instance = await world.instance()
    assert instance.execution.status == "running"
    assert instance.wake_at == world.now
    assert (await world.fields()).log == ["bread"]

    with world.process.calls() as calls:
        await world.deliver()
    assert calls == ["load", "commit", "commit", "commit", "commit"]
    assert world.queue.tasks == {}
    instance = await world.instance()
    assert instance.lease is None
    assert instance.wake_at is None
    assert instance.execution.status == "waiting"
    assert (await world.fields()).log == ["bread", "knead", "rise", "bake"]
    assert await world.history("step") == [("step", s) for s in ("knead", "rise", "bake")]


@in_world(Baking)
async def test_an_event_waits_for_the_steps_that_lead_to_it(world: World) -> None:
    await world.create()
    await world.send("Begin", "bread")
    eating = ensure_future(world.process.post("Eat"))
    await world.clock.advance(3)
    assert not eating.done()
    await world.deliver()
    assert await world.finish(eating) == b'"yum"'


@in_world(Baking)
async def test_an_event_whose_steps_are_not_run_ends_busy(world: World) -> None:
    await world.create()
    await world.send("Begin", "bread")
    before, asked_at = await world.instance(), world.now
    with pytest.raises(Busy):
        await world.send("Eat")
    waited = world.now - asked_at
    assert world.options.max_wait <= waited <= world.options.max_wait + timedelta(seconds=1)
    assert await world.instance() == before


@in_world(Baking)
async def test_an_unknown_event_does_not_wait_for_a_busy_instance(world: World) -> None:
    await world.create()
    await world.send("Begin", "bread")
    await refused(world, EventNotAccepted, "Drink")


GATE = Gate()


async def held_up(workflow: Any) -> None:
    await GATE.wait()


class Parallel(Workflow, name="parallel"):
    """One thread runs a long step while the other one waits."""

    n: int = 0

    def count(self) -> int:
        self.n += 1
        return self.n

    definition = S(
        Go("worker", Step("long", held_up)),
        While("counting", lambda w: w.n < 3, Select("count", On("Count", count))),
    )


@in_world(Parallel)
async def test_an_accepted_event_waits_while_a_step_is_running_then_is_busy(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    leased = await world.instance()
    assert leased.lease is not None

    counting = ensure_future(world.start().post("Count"))
    await world.clock.advance(9)
    assert not counting.done()
    await world.clock.advance(2)
    with pytest.raises(Busy):
        await counting
    assert (await world.instance()).fields == leased.fields

    counting = ensure_future(world.start().post("Count"))
    await world.clock.advance(1)
    GATE.open()
    await world.finish(running)
    assert await world.finish(counting) == b"1"
    assert (await world.fields()).n == 1


@in_world(Parallel)
async def test_an_accepted_event_does_not_wait_for_a_step_that_is_only_due(world: World) -> None:
    await world.create()
    assert await world.send("Count") == 1
    assert len(world.queue.created) == 1, "the step has its task since the start"


# --- which thread is meant -------------------------------------------------------------------


class Jobs(Workflow, name="jobs"):
    started: list[str] = []
    log: list[str] = []

    def begin(self, job: str) -> None:
        self.started.append(job)

    definition = S(
        While(
            "starting",
            lambda w: len(w.started) < 2,
            Select("next job", On("Begin", begin)),
            Go(
                "job",
                Select("job ends", On("End", lambda w: None, Step("note", write("x")))),
                id=lambda w: w.started[-1],
            ),
        ),
        WaitFor("never", lambda w: False),
    )


@in_world(Jobs)
async def test_an_event_is_addressed_to_a_thread(world: World) -> None:
    await world.create()
    await world.send("Begin", "a")
    await world.send("Begin", "b")
    await refused(world, EventNotAccepted, "End", thread_id="c")
    await world.send("End", thread_id="b")
    execution = (await world.instance()).execution
    assert [(t.id, t.step) for t in execution.threads] == [("main", "never"), ("a", "job ends"), ("b", "note")]


@in_world(Jobs)
async def test_an_event_is_addressed_to_a_wait(world: World) -> None:
    await world.create()
    first = (await world.instance()).execution.threads[0].waits[0].id
    await world.send("Begin", "a", wait_id=first)
    await refused(world, EventNotAccepted, "Begin", "b", wait_id=first)
    second = (await world.instance()).execution.threads[0].waits[0].id
    assert second != first
    await world.send("Begin", "b", wait_id=second)
    assert (await world.fields()).started == ["a", "b"]


class Broken(Workflow, name="broken"):
    """What follows its events raises."""

    n: int = 0

    def none(self) -> None:
        self.n = 1

    definition = S(
        Select(
            "choice",
            On("Divide", none, While("division", lambda w: 1 / (w.n - 1) > 0, Step("s", write("s")))),
            On("Spin", none, While("spin", lambda w: w.n == 1, WaitFor("at once", lambda w: True))),
            On("Fork", none, Go("fork", WaitFor("never", lambda w: False), id="main")),
        )
    )


@pytest.mark.parametrize(
    ("event", "error", "message"),
    [
        ("Divide", UserCodeError, "'division'"),
        ("Spin", LoopLimitExceeded, "10000 instructions"),
        ("Fork", Exception, "a thread with the id 'main' is still live"),
    ],
)
@in_world(Broken)
async def test_what_fails_behind_a_handler_changes_nothing_either(
    world: World, event: str, error: type[Exception], message: str
) -> None:
    await world.create()
    assert message in str(await refused(world, error, event))


# --- races -----------------------------------------------------------------------------------


@in_world(Shop)
async def test_two_engines_race_in_a_loop_and_both_count(world: World) -> None:
    await world.create()
    other = world.start()
    # The other engine adds its item between the first one's load and commit.
    world.process.fault("commit", before=lambda: other.post("Add", b'{"name": "milk"}'))
    response = await world.send("Add", {"name": "tea"})
    assert [item["name"] for item in response] == ["milk", "tea"]
    assert [item.name for item in (await world.fields()).cart] == ["milk", "tea"]
    assert await world.history("event") == [("event", "Add")] * 2


@in_world(Shop)
async def test_two_engines_race_for_an_event_that_happens_once(world: World) -> None:
    await world.create(cart=[{"name": "tea"}], submitted=True)
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Pay", b"1"))
    with pytest.raises(EventNotAccepted, match="it accepts: 'Deliver'"):
        await world.send("Pay", 2)
    assert (await world.fields()).paid == 1
    assert await world.history("event") == [("event", "Pay")]


@in_world(Shop)
async def test_many_engines_send_at_the_same_time(world: World) -> None:
    await world.create()
    sending = [ensure_future(world.start().post("Add", b'{"name": "%d"}' % n)) for n in range(8)]
    for one in sending:
        await world.finish(one)
    assert sorted(item.name for item in (await world.fields()).cart) == [str(n) for n in range(8)]
    assert len((await world.instance()).tokens) == 9
