"""What the history of an instance tells of its way through the definition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cloud_adapter.engine.events import BUFFERED
from cloud_adapter.history import HistoryEntry, HistoryKind
from cloud_adapter.http.progress import live, progress
from tests.engine.harness import World, in_world, write
from workflow_core import Activity, On, Retry, S, Select, Sleep, Step, Timeout, Try, Workflow
from workflow_core.diagrams.live import Place, state_of


class Shop(Workflow, name="shop"):
    log: list[str] = []
    tries: int = 0

    def bake(self) -> None:
        if len(self.log) < 4:
            self.log.append("burnt")  # forgotten, as the step fails
            raise ValueError("the oven is cold")

    def heat(self) -> None:
        self.log += "heat!"

    definition = S(
        Select("first", On("Pay", write("a"))),
        Select("second", On("Pay", write("b")), Timeout("no payment", timedelta(hours=1))),
        Sleep("rest", timedelta(hours=1)),
        Activity("count", lambda: 1),
        Try("baking", Step("bake", bake, retry=Retry(max_attempts=1))).except_(ValueError, Step("heat", heat)),
        Step("bake again", bake),
        Select("end", On("End", write("end"))),
    )


@in_world(Shop)
async def test_an_instance_on_its_way(world: World) -> None:
    await world.started()
    await world.send("Pay")
    await world.pass_time(timedelta(hours=3))
    instance = await world.instance()
    passed, errors = progress(Shop.__program__, instance.history)
    assert passed == {("first", "Pay"), "no payment", "rest", "count", "heat", "bake again"}
    assert errors == {"bake": "ValueError: the oven is cold"}

    shown = {node["name"]: state_of(node) for node in live(Shop.__program__, instance).statements}
    assert shown == {
        **dict.fromkeys(("first", "second", "rest", "count", "baking", "bake again"), "passed"),
        "end": "here",
    }


class Early(Workflow, name="early"):
    log: list[str] = []
    definition = S(
        Select("closed", On("Open", write("open"))),
        Select("first", On("Pay", write("a"), buffered=True)),
        Select("second", On("Pay", write("b"), buffered=True)),
    )


@in_world(Early)
async def test_a_buffered_event_bears_the_select_that_took_it(world: World) -> None:
    await world.started()
    for _ in range(2):
        assert await world.finish(world.process.post("Pay")) == BUFFERED
    await world.send("Open")
    await world.deliver()
    history = (await world.instance()).history
    assert [one.select for one in history if one.kind == "event"] == ["closed", "first", "second"]


def entry(kind: str, statement: str, **more: str) -> HistoryEntry:
    return HistoryEntry(datetime(2026, 1, 1, tzinfo=UTC), HistoryKind(kind), statement, **more)  # type: ignore[arg-type]


def known(*entries: HistoryEntry) -> tuple[set[Place], dict[Place, str]]:
    return progress(Shop.__program__, entries)


def test_what_was_tried_again_and_done_has_not_failed() -> None:
    failed, done = entry("step failed", "bake", error="E: x"), entry("step", "bake")
    assert known(failed) == (set(), {"bake": "E: x"})
    assert known(failed, done) == ({"bake"}, {})
    assert known(done, failed) == ({"bake"}, {"bake": "E: x"})


def test_an_event_without_its_select() -> None:
    """As releases before this one have noted it."""
    assert known(entry("event", "End")) == ({("end", "End")}, {})
    assert known(entry("event", "Pay")) == (set(), {}), "there are two, and it is not guessed"
    assert known(entry("event", "Pay", select="gone")) == (set(), {})
    assert known(entry("event", "Gone")) == (set(), {})


def test_what_tells_nothing_of_the_way() -> None:
    kinds = ("created", "buffered", "event rejected", "setup", "setup failed", "teardown failed", "pause", "failed")
    assert known(*(entry(kind, "bake") for kind in kinds)) == (set(), {})
    of_a_newer_release = HistoryEntry(datetime(2026, 1, 1, tzinfo=UTC), "step moved", "bake")
    assert known(of_a_newer_release, entry("step", "count")) == ({"count"}, {})
