"""User code of every kind that raises something other than ``Exception``: it fails like any other, and the process
continues."""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import UserCodeError
from cloud_adapter.options import EngineOptions
from tests.engine.harness import Gate, World, in_world
from workflow_core import (
    Activity,
    ErrorInfo,
    EventHandler,
    EventRequest,
    Go,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    Try,
    UnusableResult,
    WaitFor,
    Workflow,
)

GATE = Gate()
TWICE = Retry(max_attempts=2, initial=timedelta(seconds=5))
OPTIONS = EngineOptions(retry=TWICE)
NO_ERRORS = (SystemExit, KeyboardInterrupt, GeneratorExit, CancelledError, BaseException)

raising: dict[str, type[BaseException]] = {}
"""What the code at a place raises."""

runs: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    raising.clear()
    runs.clear()


def at(place: str) -> None:
    runs.append(place)
    if place in raising:
        raise raising[place]("by the code")


def holds_not(place: str) -> bool:
    """A condition that does not hold, if it does not raise."""
    at(place)
    return False


async def later(place: str) -> None:
    await asyncio.sleep(0)
    if raising.get(place) is not CancelledError:
        at(place)
        return
    # As where a library cancels what it does in the background.
    runs.append(place)
    inner = ensure_future(asyncio.sleep(3_600))
    asyncio.get_running_loop().call_soon(inner.cancel)
    await inner


def activity(_: None) -> None:
    at("activity")


async def activity_later(_: None) -> None:
    await later("async activity")


async def living(_: None) -> None:
    await later("live activity")


class Work(Workflow, name="work"):
    async def step_later(self) -> None:
        await later("async step")

    definition = S(
        Step("step", lambda w: at("step")),
        Step("async step", step_later),
        Activity("activity", activity),
        Activity("async activity", activity_later),
        Activity("live activity", living, heartbeat=timedelta(days=1)),
        Activity("then", lambda: None, then=lambda w: at("then")),
        If("condition", lambda w: holds_not("condition"), Step("never", lambda w: None)),
    )


async def failed(world: World, place: str, times: int) -> None:
    error, instance = raising[place], await world.instance()
    assert instance.execution.status == "failed"
    assert instance.execution.error is not None
    assert instance.execution.error.text.startswith(f"RuntimeError: the code raised {error.__name__}")
    assert runs.count(place) == times, "each attempt is counted"
    assert (instance.lease, world.queue.tasks) == (None, {})


@pytest.mark.parametrize("run_sync", [None, asyncio.to_thread])
@pytest.mark.parametrize("error", [*NO_ERRORS, StopIteration])
@pytest.mark.parametrize(("place", "times"), [("step", 2), ("activity", 2), ("then", 1), ("condition", 1)])
def test_synchronous_code_that_raises_what_is_no_error(
    place: str, times: int, error: type[BaseException], run_sync: Any, tmp_path: Any
) -> None:
    options: dict[str, Any] = {} if run_sync is None else {"run_sync": run_sync}

    @in_world(Work, options=OPTIONS, **options)
    async def scenario(world: World) -> None:
        raising[place] = error
        await world.create()
        await world.pass_time(timedelta(minutes=1))
        await failed(world, place, times)

    scenario(tmp_path=tmp_path)


@pytest.mark.parametrize("error", NO_ERRORS)
@pytest.mark.parametrize("place", ["async step", "async activity", "live activity"])
@in_world(Work, options=OPTIONS)
async def test_asynchronous_code_that_raises_what_is_no_error(
    world: World, place: str, error: type[BaseException]
) -> None:
    raising[place] = error
    await world.create()
    await world.pass_time(timedelta(minutes=1))
    await failed(world, place, 2)


class Computed(Workflow, name="computed"):
    log: list[str] = []

    async def coroutine(self) -> int:
        return 1

    def seen(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} at {error.statement}")

    definition = S(
        Select("wait", On("Direct", lambda w: None), On("Guarded", lambda w: None, Step("a", lambda w: None))),
        Try("try", Activity("guarded", activity, input=lambda w: w.coroutine())).except_(
            UnusableResult, name="caught", then=seen
        ),
        Select(
            "again", On("Direct again", lambda w: None), On("After a step", lambda w: None, Step("b", lambda w: None))
        ),
        Activity("computed", activity, input=lambda w: w.coroutine()),
    )


@in_world(Computed)
async def test_a_value_that_cannot_be_computed_is_an_error_of_its_statement(world: World) -> None:
    await world.started()
    await world.send("Guarded")
    await world.deliver()
    assert (await world.fields()).log == ["UnusableResult at guarded"]
    before = await world.instance()
    with pytest.raises(UnusableResult, match="a function of 'computed' returned a coroutine"):
        await world.send("Direct again")
    assert await world.instance() == before
    await world.send("After a step")
    await world.deliver()
    instance = await world.instance()
    assert instance.execution.status == "failed"
    assert instance.execution.error is not None
    assert instance.execution.error.statement == "computed"
    assert runs == []


class Held(Workflow, name="held"):
    async def hold(self) -> None:
        await GATE.wait()

    definition = S(Step("hold", hold))


@in_world(Held)
async def test_code_whose_request_is_cancelled_has_not_failed(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert await world.history() == [("created", "")]
    assert (await world.instance()).execution.threads[0].attempt == 0


class Asked(Workflow, name="asked"):
    class Outside(EventHandler):
        def setup(self, request: EventRequest) -> None:
            at("setup")

        async def handle(self, request: EventRequest, input: Any) -> None:
            await later("async handler")

        def teardown(self, request: EventRequest, handled: bool) -> None:
            """Nothing is left to do."""

    def look(self) -> bool:
        return holds_not("look")

    definition = S(
        Go("beside", WaitFor("looked", look)),
        Select("wait", On("Send", lambda w: at("handler")), On("Call", Outside())),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize("error", NO_ERRORS)
@pytest.mark.parametrize(("event", "place"), [("Send", "handler"), ("Call", "async handler"), ("Send", "look")])
@in_world(Asked)
async def test_an_event_meets_what_is_no_error(
    world: World, event: str, place: str, error: type[BaseException]
) -> None:
    await world.started()
    before = await world.instance()
    raising[place] = error
    with pytest.raises(UserCodeError, match=f"the code raised {error.__name__}"):
        await world.send(event)
    assert await world.instance() == before
    raising.clear()
    await world.send(event)


@pytest.mark.parametrize("error", NO_ERRORS)
@in_world(Asked, options=OPTIONS)
async def test_a_setup_that_raises_what_is_no_error(world: World, error: type[BaseException]) -> None:
    raising["setup"] = error
    await world.create()
    await world.pass_time(timedelta(minutes=1))
    assert await world.history("setup failed") == [("setup failed", "Call")] * 2
    assert (await world.instance()).lease is None
