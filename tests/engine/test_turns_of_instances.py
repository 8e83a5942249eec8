"""An instance with many decisions leaves the process to the others again and again, and takes what they do not need."""

from __future__ import annotations

import gc
from asyncio import ensure_future, gather
from collections.abc import Callable

import pytest

from cloud_adapter.engine import lanes
from tests.engine.harness import ID, World, in_world
from workflow_core import On, S, Select, While, Workflow

MANY = 50


class Counter(Workflow, name="counter"):
    count: int = 0

    def add(self) -> int:
        self.count += 1
        if self.count == 1:
            FIRST()
        return self.count

    definition = S(While("forever", lambda w: True, Select("wait", On("Add", add))))


FIRST: Callable[[], object] = list


async def send_many(world: World) -> list[bytes]:
    return await gather(*(world.process.post("Add") for _ in range(MANY)))


@pytest.fixture
def after_first(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Sets what happens while the first event is handled."""

    def set_it(function: Callable[[], object]) -> None:
        monkeypatch.setitem(globals(), "FIRST", function)

    return set_it


@in_world(Counter)
async def test_an_event_that_comes_during_a_large_batch_is_answered_before_the_batch(
    world: World, after_first: Callable[[Callable[[], object]], None]
) -> None:
    await world.create()
    await world.create(id="other")
    await world.send("Add", id="other")
    order: list[str] = []

    async def noted(id: str) -> None:
        await world.process.post("Add", id=id)
        order.append(id)

    after_first(lambda: others.append(ensure_future(noted("other"))))
    others: list[object] = []
    await world.finish(gather(*(noted(ID) for _ in range(MANY))))
    assert order == ["other", *[ID] * MANY]


@in_world(Counter)
async def test_a_turn_of_others_that_do_nothing_takes_no_time(world: World) -> None:
    """Otherwise, an import takes many times as long in a process that is mostly idle."""
    await world.create()
    await world.create(id="other")
    await world.send("Add", id="other")
    asked_at = world.now
    for _ in range(3):
        await world.finish(send_many(world))
    assert world.now == asked_at
    assert (await world.fields()).count == 3 * MANY


@pytest.mark.parametrize(
    ("is_shared", "took", "pause"), [(True, 0.04, 0.02), (True, 10, lanes.REST_SECONDS_MAX), (False, 10, 0)]
)
@in_world(Counter)
async def test_after_a_large_batch_the_next_one_waits_for_half_of_the_commit_if_others_are_served(
    world: World, is_shared: bool, took: float, pause: float
) -> None:
    await world.create()
    await world.create(id="other")
    await world.clock.advance(1)
    world.process.fault("commit", before=lambda: world.clock.sleep(took))
    first = ensure_future(send_many(world))
    await world.clock.advance(took - 0.001)
    if is_shared:
        await world.send("Add", id="other")
    second = ensure_future(world.process.post("Add"))
    await world.finish(first)
    answered_at = world.now
    await world.finish(second)
    assert abs((world.now - answered_at).total_seconds() - pause) < 0.003
    assert (await world.fields(ID)).count == MANY + 1


@in_world(Counter)
async def test_an_instance_whose_event_waits_for_long_is_served_too(world: World) -> None:
    await world.create()
    await world.create(id="other")
    world.process.fault("commit", before=lambda: world.clock.sleep(5))
    waiting = ensure_future(world.process.post("Add", id="other"))
    await world.clock.advance(1)
    served = world.process.engine.lanes
    (other,) = served.open
    first = other._replace(id=ID)
    assert served.serves_others(first)
    assert not served.serves_others(other)
    await world.finish(waiting)
    await world.clock.advance(1)
    assert not served.serves_others(first)


def _lanes() -> set[int]:
    return {id(each) for each in gc.get_objects() if isinstance(each, lanes.Lane)}


@in_world(Counter)
async def test_a_lane_that_has_ended_is_freed_at_once(world: World) -> None:
    """Without the garbage collector, which would hold up all instances."""
    await world.create()
    await world.send("Add")
    gc.collect()
    before = _lanes()  # of other tests
    gc.disable()
    try:
        for _ in range(10):
            await world.send("Add")
        assert _lanes() <= before
    finally:
        gc.enable()
