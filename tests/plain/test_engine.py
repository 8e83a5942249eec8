"""Plain definitions in the engine: inputs of events are kept with their types. Errors that nobody catches: behind an
event, the request gets the error and nothing is changed; behind a step, the instance fails where it can be repaired."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from cloud_adapter.engine.operations import RetryFailed
from tests.engine.harness import ID, World, in_world
from workflow_core import Retry, TerminalError, Workflow, event, select, step

BROKEN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    BROKEN.clear()


def check(place: str) -> None:
    if place in BROKEN:
        raise ZeroDivisionError(f"broken at {place}")


class Verdict(BaseModel):
    text: str


class Deciding(Workflow, name="deciding"):
    log: list[str] = []

    @event
    def decide(self, verdict: Verdict) -> Verdict:
        return verdict

    @step
    def work(self) -> None: ...

    async def run(self) -> None:
        got = await select(self.decide)
        verdict = got.input
        await self.work()
        self.log.append(f"{got.input.text} {verdict.text} {got.output.text}")


@in_world(Deciding)
async def test_the_input_of_an_event_is_kept_with_its_type(world: World) -> None:
    await world.started()
    await world.send("decide", {"text": "yes"})
    await world.deliver()
    assert (await world.fields()).log == ["yes yes yes"]


class Unhandled(Workflow, name="unhandled"):
    log: list[str] = []

    @event
    def begin(self) -> None:
        self.log.append("begun")

    @step
    def work(self) -> None:
        self.log.append("worked")

    @step(retry=Retry(max_attempts=1))
    def give_up(self) -> None:
        if "step" in BROKEN:
            raise KeyError("step")

    async def run(self) -> None:
        await select(self.begin)
        check("event")
        error: object = None
        await self.work()
        self.log.append("after work")
        check("code")
        try:
            await self.give_up()
        except KeyError:
            self.log.append("caught")
            if "local" in BROKEN:
                error = object()
        try:
            check("guarded")
        finally:
            await self.work().named("cleanup")
        await self.work().named("last")
        self.log.append(f"end {error}")


@in_world(Unhandled)
async def test_behind_an_event_the_request_gets_the_error(world: World) -> None:
    BROKEN.append("event")
    await world.create()
    await world.deliver()
    before = await world.instance()
    with pytest.raises(Exception, match="broken at event"):
        await world.send("begin")
    after = await world.instance()
    assert after.execution == before.execution
    assert (await world.fields()).log == []
    BROKEN.clear()
    await world.send("begin")
    await world.deliver()
    assert (await world.fields()).log == ["begun", "worked", "after work", "worked", "worked", "end None"]


@in_world(Unhandled)
async def test_behind_a_step_the_instance_fails_and_a_retry_repairs_it(world: World) -> None:
    BROKEN.append("code")
    await world.create()
    await world.send("begin")
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None and execution.error.text == "ZeroDivisionError: broken at code"
    BROKEN.clear()
    await world.finish(world.process.engine.operate("unhandled", ID, RetryFailed()))
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "finished"
    assert (await world.fields()).log[-3:] == ["worked", "worked", "end None"]


@in_world(Unhandled)
async def test_a_local_that_cannot_be_stored_behind_a_failed_step_fails_the_instance(world: World) -> None:
    BROKEN.extend(["step", "local"])
    await world.create()
    await world.send("begin")
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert "the local 'error' cannot be stored" in execution.error.text


@in_world(Unhandled)
async def test_an_error_whose_finally_has_rested_can_be_repaired(world: World) -> None:
    BROKEN.append("guarded")
    await world.create()
    await world.send("begin")
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None and execution.error.text == "ZeroDivisionError: broken at guarded"
    BROKEN.clear()
    await world.finish(world.process.engine.operate("unhandled", ID, RetryFailed()))
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "finished"


class Early(Workflow, name="early"):
    log: list[str] = []

    @step
    def work(self) -> None:
        self.log.append("cleanup")

    async def run(self) -> None:
        try:
            check("early")
        finally:
            await self.work()
        self.log.append("end")


@in_world(Early)
async def test_an_error_before_the_first_rest_is_repaired_from_the_start(world: World) -> None:
    BROKEN.append("early")
    await world.started()
    assert (await world.instance()).execution.status == "failed"
    BROKEN.clear()
    await world.finish(world.process.engine.operate("early", ID, RetryFailed()))
    await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    assert (await world.fields()).log == ["cleanup", "cleanup", "end"]


class Looping(Workflow, name="looping"):
    log: list[str] = []

    @step
    def work(self, item: str) -> None:
        if item in BROKEN:
            raise TerminalError(item)
        self.log.append(item)

    def items(self) -> str:
        check(f"items after {len(self.log)}")
        return "abc"

    async def run(self) -> None:
        number = 7
        await self.work(f"first {number}").named("first")
        try:
            check("code")
            for item in self.items():
                await self.work(item)
        finally:
            number += 1
            await self.work("clean").named("clean")
        await self.work(f"last {number}").named("last")


@in_world(Looping)
async def test_a_loop_whose_items_have_failed_before_the_first_can_be_repaired(world: World) -> None:
    await break_and_repair(world, "items after 1")


@in_world(Looping)
async def test_a_loop_whose_items_have_failed_before_the_second_can_be_repaired(world: World) -> None:
    await break_and_repair(world, "items after 2")


@in_world(Looping)
async def test_a_step_that_has_failed_has_its_arguments_again_behind_a_cleanup(world: World) -> None:
    await break_and_repair(world, "b")
    assert (await world.fields()).log == ["first 7", "a", "clean", "b", "c", "clean", "last 8"]


@in_world(Looping)
async def test_the_step_before_code_that_has_failed_has_its_arguments_again_behind_a_cleanup(world: World) -> None:
    await break_and_repair(world, "code")
    assert (await world.fields()).log == ["first 7", "clean", "first 7", "a", "b", "c", "clean", "last 8"]


class Large(Workflow, name="large"):
    log: list[str] = []

    @step
    def make(self) -> str:
        return "x" * 560_000

    @step
    def work(self) -> None:
        raise TerminalError("broken")

    @step
    def clean(self, size: int) -> None:
        self.log.append(f"clean {size}")

    async def run(self) -> None:
        text, number = await self.make(), 1
        try:
            await self.work()
        finally:
            text += "y"
            number += 1
            await self.clean(0).named("first")
            await self.clean(len(text)).named("second")
        await self.clean(len(text) + number).named("last")


@in_world(Large)
async def test_a_cleanup_runs_with_locals_that_could_not_be_stored_twice(world: World) -> None:
    await world.create()
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.error is not None and execution.error.type == "TerminalError"
    assert (await world.fields()).log == ["clean 0", "clean 560001"]
    assert execution.threads[0].locals == {"number": 1}, "a retry has no value that the cleanup has changed"


async def break_and_repair(world: World, place: str) -> None:
    BROKEN.append(place)
    await world.create()
    await world.deliver()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    BROKEN.clear()
    await world.finish(world.process.engine.operate("looping", ID, RetryFailed()))
    await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    assert (await world.fields()).log[-3:] == ["c", "clean", "last 8"]
