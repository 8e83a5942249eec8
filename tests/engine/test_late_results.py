"""Results of activities that arrive while other decisions of their lane take long: they are posted, and not lost."""

from __future__ import annotations

from asyncio import ensure_future
from datetime import timedelta

from cloud_adapter.engine.events import LATER
from cloud_adapter.engine.task_handler import Outcome as Delivered
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from tests.engine.harness import Gate, World, in_world
from workflow_core import Activity, EventHandler, EventRequest, Go, On, S, Select, Step, WaitFor, Workflow

GATE = Gate()

RUNS: list[int] = []


class Counting(Workflow, name="shop"):
    """An activity runs beside the step."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()

    def add(self, amount: int) -> None:
        self.log.append(f"add {amount}")

    def counted(self) -> None:
        self.log.append("counted")

    definition = S(
        Go("counter", Select("sum", On("Add", add))),
        Go("counting", Activity("count", lambda: RUNS.append(1), then=counted)),
        Step("bake", bake),
        WaitFor("done", lambda w: len(w.log) == 2),
    )


@in_world(Counting)
async def test_a_result_before_an_event_that_takes_long_to_be_kept_is_posted(world: World) -> None:
    RUNS.clear()
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(6)
    other = world.start()
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    other.fault("inbox", before=lambda: world.clock.sleep(20))
    counting = ensure_future(other.perform(task))
    await world.clock.advance(1)
    assert RUNS == [1]
    assert await world.finish(other.post("Add", b"1", outcome="a")) == LATER
    assert await world.finish(counting) is Delivered.DONE
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    assert RUNS == [1], "the result was not lost"
    assert sorted((await world.fields()).log) == ["add 1", "counted"]


SECOND_GATE = Gate()


class SlowHandler(EventHandler):
    def setup(self, request: EventRequest) -> None:
        return None

    def teardown(self, request: EventRequest, handled: bool) -> None:
        return None

    async def handle(self, request: EventRequest, input: int) -> None:
        await GATE.wait()


async def count_late() -> None:
    RUNS.append(1)
    await SECOND_GATE.wait()


class Handling(Workflow, name="shop"):
    """An activity runs while the handler of an event takes long."""

    definition = S(Go("handling", Select("sum", On("Add", SlowHandler()))), Activity("count", count_late))


@in_world(Handling)
async def test_a_result_behind_a_handler_that_takes_long_is_posted(world: World) -> None:
    RUNS.clear()
    await world.create()
    await world.process.perform(world.queue.resumes[0])
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    counting = ensure_future(world.process.perform(world.queue.tasks.pop(task.name)))
    await world.clock.advance(1)
    sending = ensure_future(world.process.post("Add", b"1"))
    await world.clock.advance(1)
    SECOND_GATE.open()
    assert await world.finish(counting) is Delivered.DONE
    GATE.open()
    await world.finish(sending)
    await world.pass_time(timedelta(minutes=3))
    assert RUNS == [1]
    assert (await world.instance()).execution.status == "finished"
