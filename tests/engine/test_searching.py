"""What a search field may hold: what no store could find is refused before anything is written. A search compares
values, not texts."""

from __future__ import annotations

from asyncio import ensure_future
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

import pytest
from pydantic import PlainSerializer, field_serializer

from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.stores.search import TEXT_BYTES_MAX, search_values, stored_value, stored_values
from tests.engine.harness import Gate, World, in_world
from workflow_core import Go, InvalidInput, On, Retry, S, Select, Step, StepContext, While, Workflow


class Counted(Workflow, name="counted"):
    search_fields = ("count", "share", "anything")
    count: int = 0
    share: float = 0
    anything: Any = None
    text: str = ""

    def set(self, count: int) -> None:
        self.count = count

    def double(self) -> None:
        self.count *= 2

    definition = S(
        Select("set", On("Set", set)),
        Step("double", double, retry=Retry(max_attempts=1)),
        Select("later", On("Later", set, buffered=True)),
        Select("end", On("End", lambda w: None)),
    )


GATE = Gate()


class Staged(Workflow, name="staged"):
    """Its search field changes in each of two steps, before and after the step has waited."""

    search_fields = ("stage",)
    stage: str = "new"
    failures: int = 0

    def begin(self) -> None:
        self.stage = "begun"

    async def work(self, step: StepContext) -> None:
        self.stage = "half done"
        await GATE.wait()
        if step.attempt <= self.failures:
            raise ConnectionError("no answer")
        self.stage = "done"

    definition = S(
        Go("clerk", While("open", lambda w: True, Select("note", On("Note", begin)))),
        Step("begin", begin),
        Step("work", work),
        Select("end", On("End", lambda w: None)),
    )


async def found(world: World, stage: str) -> bool:
    """Whether the instance is found by that value of its search field, as its stored fields have it too."""
    listed = (await world.process.engine.list("staged", search={"stage": stage})).instances
    assert (len(listed) == 1) == ((await world.fields()).stage == stage)
    return len(listed) == 1


@in_world(Staged)
async def test_while_a_step_runs_an_instance_is_found_by_what_was_committed(world: World) -> None:
    await world.create(failures=1)
    assert await found(world, "new")
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    assert (await world.instance()).lease is not None
    for _ in range(3):
        assert await found(world, "begun"), "the step before has been committed under the same lease"
        assert not await found(world, "half done")
        await world.clock.advance(20)  # it is renewed
    GATE.open()
    await world.finish(running)
    assert await found(world, "begun"), "what a failed attempt has changed is gone"
    await world.clock.advance(1)
    running = ensure_future(world.process.perform(world.queue.resumes[-1]))
    await world.clock.advance(50)
    assert await found(world, "begun")
    GATE.open()
    await world.finish(running)
    assert await found(world, "done")


@in_world(Staged)
async def test_after_an_interrupted_step_an_instance_is_found_by_what_was_committed(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    await world.finish(world.start().engine.operate("staged", "order-1", Pause()))
    assert await found(world, "begun")
    await world.clock.advance(20)
    await world.finish(running)
    assert await found(world, "begun")
    await world.finish(world.start().engine.operate("staged", "order-1", Unpause()))
    await world.send("Note")
    assert await found(world, "begun")


@pytest.mark.parametrize("fields", [{"count": 2**63}, {"count": -(2**63) - 1}, {"anything": [[1]]}, {"anything": {}}])
@in_world(Counted)
async def test_a_creation_is_refused(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="search") as caught:
        await world.create(**fields)
    assert [(e["field"], e["type"]) for e in caught.value.errors] == [(next(iter(fields)), "not_searchable")]
    assert (await world.process.engine.list("counted")).instances == []


@in_world(Counted)
async def test_an_event_is_refused_and_changes_nothing(world: World) -> None:
    await world.started()
    before = await world.instance()
    with pytest.raises(InvalidInput, match="count"):
        await world.send("Set", 2**63)
    assert await world.instance() == before


@in_world(Counted)
async def test_a_step_fails(world: World) -> None:
    await world.started()
    await world.send("Set", 2**62)
    await world.pass_time(timedelta(0))
    after = await world.instance()
    assert after.execution.error is not None
    assert "64 bits" in after.execution.error.text
    assert (await world.fields()).count == 2**62


@in_world(Counted)
async def test_a_buffered_event_is_dropped(world: World) -> None:
    await world.started()
    await world.send("Set", 1)
    await world.process.post("Later", str(2**63).encode())
    await world.process.post("Later", b"5")
    await world.pass_time(timedelta(0))
    assert (await world.instance()).search["count"] == 5
    assert await world.history("event rejected") == [("event rejected", "Later")]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("count", "9" * 20),
        ("count", "9" * 5_000),
        ("share", "nan"),
        ("share", "inf"),
        ("share", "1e400"),
        ("anything", "x" * 1_500),
        ("anything", "ü" * 750),
        ("anything", "a\0b"),
        ("text", "x"),
    ],
)
@in_world(Counted)
async def test_what_no_instance_can_have_is_not_looked_for(world: World, field: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        await world.process.engine.list("counted", search={field: text})


class Code(IntEnum):
    ONE = 1


class Kinds(Workflow, name="kinds"):
    search_fields = ("amount", "at", "daily", "code", "note", "size", "share", "shown", "written", "flag")
    amount: Decimal = Decimal(0)
    at: datetime | None = None
    daily: time | None = None
    code: int | str | None = None
    note: str | None = None
    size: Code | None = None
    share: float = 0
    shown: Annotated[int, PlainSerializer(hex, return_type=str)]
    written: int = 0
    flag: bool | int = False

    @field_serializer("written")
    def _write(self, written: int) -> str:
        return f"no. {written}"

    definition = S(Select("end", On("End", lambda w: None)))


PRECISE = "0.12345678901234567890123456789012345678"

EQUAL: list[tuple[str, Any, list[str], list[str]]] = [
    # field, stored value, texts that find it, texts that do not
    ("amount", Decimal("1.10"), ["1.1", "1.10", "1.100", "11e-1", "0110e-2"], ["1.11", "11"]),
    ("amount", Decimal(100), ["1e2", "100.0", "100", "+100"], ["1e3", "10"]),
    ("amount", Decimal("1e40"), ["1E+40", "10E39"], ["1e39"]),
    ("amount", Decimal("-0.00"), ["0", "-0", "0e5"], ["0.1"]),
    ("amount", Decimal(PRECISE), [PRECISE, f"{PRECISE}0"], [f"{PRECISE}1"]),
    (
        "at",
        datetime.fromisoformat("2026-01-01T10:00:00+02:00"),
        ["2026-01-01T08:00:00Z", "2026-01-01T03:00:00-05:00", "2026-01-01 10:00:00.000+02:00", "1767254400"],
        ["2026-01-01T10:00:00Z", "2026-01-01T08:00:00", "null"],
    ),
    ("at", datetime(2026, 1, 1, 10), ["2026-01-01T10:00:00.0", "2026-01-01 10:00"], ["2026-01-01T10:00:00Z"]),
    (
        "at",
        datetime.fromisoformat("0001-01-01T00:00:00+02:00"),
        ["0001-01-01T00:00:00+02:00"],
        ["0001-01-01T00:00:00Z"],
    ),
    ("at", None, ["null"], ["2026-01-01T10:00:00"]),
    ("daily", time.fromisoformat("10:00:00+02:00"), ["08:00:00Z", "10:00+02:00"], ["10:00:00Z", "08:00:00"]),
    ("daily", time.fromisoformat("01:00:00+02:00"), ["01:00:00+02:00"], ["23:00:00Z"]),
    ("code", 5, ["5"], ["05", "null", "5.0"]),
    ("code", "5", ["5"], ["05", "null", "5.0"]),
    ("code", "05", ["05"], ["5"]),
    ("code", "null", ["null"], [""]),
    ("code", None, ["null"], [""]),
    ("code", "", [""], ["null"]),
    ("note", "5", ["5"], ["5.0", "null"]),
    ("note", None, ["null"], [""]),
    ("size", Code.ONE, ["1"], ["null"]),
    ("share", 2.0, ["2", "2.0", "2e0"], ["3"]),
    ("shown", 10, ["10"], ["11"]),
    ("written", 10, ["10", " 10"], ["11"]),
    ("flag", True, ["true"], ["1", "false"]),
    ("flag", 1, ["1"], ["true", "0"]),
]


@pytest.mark.parametrize(("field", "value", "finding", "others"), EQUAL)
def test_a_search_compares_values(field: str, value: Any, finding: list[str], others: list[str]) -> None:
    stored = stored_values(Kinds.model_construct(**{"shown": 0, field: value}))[field]

    def finds(text: str) -> bool:
        # As the stores compare: a boolean is no number.
        values = search_values(Kinds, {field: text})[field]
        return any(value == stored and isinstance(value, bool) == isinstance(stored, bool) for value in values)

    assert [text for text in finding if not finds(text)] == []
    assert [text for text in others if finds(text)] == []


class Sold(Workflow, name="sold"):
    search_fields = ("amount", "at", "code", "note")
    amount: Decimal = Decimal(0)
    at: datetime | None = None
    code: int | str | None = None
    note: str | None = None
    definition = S(Select("end", On("End", lambda w: None)))


@in_world(Sold)
async def test_an_instance_is_found_by_an_equal_value(world: World) -> None:
    await world.create(amount="1.10", at="2026-01-01T10:00:00+02:00", code=5)
    search = {"amount": "1.1000", "at": "2026-01-01T08:00:00Z", "code": "5", "note": "null"}
    assert len((await world.process.engine.list("sold", search=search)).instances) == 1
    for field, text in (("amount", "1.2"), ("at", "2026-01-01T10:00:00Z"), ("code", "6"), ("note", "")):
        assert (await world.process.engine.list("sold", search=search | {field: text})).instances == []


def test_too_many_alternatives() -> None:
    class Many(Workflow, name="many"):
        search_fields = ("a", "b", "c", "d", "e")
        a: int | str = 0
        b: int | str = 0
        c: int | str = 0
        d: int | str = 0
        e: int | str = 0
        definition = S(Select("end", On("End", lambda w: None)))

    assert search_values(Many, dict.fromkeys("abcd", "1")) == {name: ["1", 1] for name in "abcd"}
    with pytest.raises(InvalidRequest, match="search by fewer fields than a, b, c, d, e"):
        search_values(Many, dict.fromkeys("abcde", "1"))


class Unsearched(Workflow, name="unsearched"):
    note: str = ""
    definition = S(Select("end", On("End", lambda w: None)))


@pytest.mark.parametrize(
    ("cls", "names", "known"),
    [(Staged, "stage", "stage"), (Sold, "amount at", "amount, at, code, note"), (Unsearched, "", "none")],
)
@pytest.mark.parametrize("unknown", ["note ", "Stage", "", "log"])
def test_an_unknown_field_is_reported_with_those_that_can_be_searched(
    cls: type[Workflow], names: str, known: str, unknown: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        search_values(cls, dict.fromkeys([*names.split(), unknown], "1"))
    name = cls.__workflow_name__
    assert str(refused.value) == f"unknown search field {unknown!r} of workflow {name!r}. Available: {known}"


@pytest.mark.parametrize("order", ["", "Updated", "name"])
@in_world(Counted)
async def test_an_unknown_order(world: World, order: str) -> None:
    with pytest.raises(InvalidRequest, match=f"unknown order {order!r}. Available: updated, created, id"):
        await world.process.engine.list("counted", order=order)


class Named(Workflow, name="named"):
    search_fields = ("title",)
    title: str = ""

    definition = S(Select("end", On("End", lambda w: None)))


@pytest.mark.parametrize("text", ["x" * TEXT_BYTES_MAX, "é" * (TEXT_BYTES_MAX // 2)])
def test_the_longest_text_can_be_sought(text: str) -> None:
    assert stored_value(Named, "title", text) == text
    assert search_values(Named, {"title": text}) == {"title": [text]}


@pytest.mark.parametrize("text", ["x" * (TEXT_BYTES_MAX + 1), "é" * (TEXT_BYTES_MAX // 2 + 1), "with\x00NUL"])
def test_a_text_that_stores_cannot_compare_is_not_sought(text: str) -> None:
    with pytest.raises(InvalidRequest, match="a text to search for must have at most 1,499 bytes and no NUL"):
        stored_value(Named, "title", text)
    with pytest.raises(InvalidRequest, match="a text to search for must have at most 1,499 bytes and no NUL"):
        search_values(Named, {"title": text})
