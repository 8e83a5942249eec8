"""What the deploy check finds in instances that old code has parked, and that it finds nothing where all can go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.cli import live_instances
from cloud_adapter.cli.definition_warnings import advise
from cloud_adapter.cli.stored_instances import Place, Report, check_store
from cloud_adapter.engine.operations import Cancel, Pause
from cloud_adapter.store_settings import SecretSettings
from tests.engine.harness import ID, World, article, in_world, nothing, write
from workflow_core import (
    Activity,
    Child,
    EventRequest,
    Fail,
    ForEach,
    Go,
    If,
    InvalidFields,
    On,
    Parallel,
    Retry,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    Try,
    WaitFor,
    Workflow,
)

DAY = timedelta(days=1)


def fails(workflow: Any) -> None:
    raise ValueError("no luck")


class Outside:
    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails

    def setup(self, request: EventRequest) -> None: ...
    def handle(self, request: EventRequest, input: None) -> None: ...
    def teardown(self, request: EventRequest, handled: bool) -> None:
        if self.fails:
            raise ConnectionError


class Other(Workflow, name="other"):
    definition = S(Select("s", On("E", nothing)))


def takes_int(w: Any, input: int) -> None: ...


def takes_text(w: Any, input: str) -> None: ...


def activity_of_int(input: int) -> None: ...


def activity_of_text(input: str) -> None: ...


WAIT = Select("wait", On("E", nothing))
END = Select("end", On("End", nothing))
NO_TEXT = "input: Input should be a valid string"
ONCE = Retry(max_attempts=1)
NEVER = WaitFor("never", lambda w: False)


def report(found: Report) -> list[tuple[str, str]]:
    return [(place.thread, problem.what) for problem, places in found.problems.items() for place in places]


def run_in_world(old: Any, scenario: Callable[[World], Any], tmp_path: Any) -> None:
    in_world(old, Other)(scenario)(tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("old", "events", "new", "expected"),
    [
        ([WAIT], [], [END], [("main", "it is at 'wait', which the definition no longer contains")]),
        (
            [WAIT],
            [],
            [Step("wait", nothing)],
            [("main", "it waits in 'wait', which is no longer a wait of that kind")],
        ),
        (
            [WAIT],
            [],
            [WaitFor("wait", lambda w: False)],
            [("main", "it waits in 'wait', which is no longer a wait of that kind")],
        ),
        (
            [NEVER],
            [],
            [Select("never", On("E", nothing))],
            [("main", "it waits in 'never', which is no longer a wait of that kind")],
        ),
        (
            [WAIT],
            [],
            [Select("wait", On("F", nothing))],
            [("main", "it waits in 'wait' for the event 'E', which no longer exists")],
        ),
        (
            [WAIT],
            [],
            [Select("wait", On("E", Outside()))],
            [("main", "it waits in 'wait' for the event 'E', which no longer exists")],
        ),
        (
            [Select("wait", On("E", nothing), Timeout("late", DAY))],
            [],
            [WAIT],
            [("main", "it waits in 'wait' for the timeout 'late', which no longer exists")],
        ),
        ([Sleep("nap", DAY)], [], [END], [("main", "it is at 'nap', which the definition no longer contains")]),
        (
            [Go("g", WAIT), END],
            [],
            [Go("g", Step("s", nothing)), END],
            [("g", "it is at 'wait', which the definition no longer contains")],
        ),
        (
            [Parallel("both", S(WAIT), S(END))],
            [],
            [Parallel("all", S(WAIT), S(END))],
            [("main", "it is at 'both', which the definition no longer contains")],
        ),
        (
            [ForEach("each", lambda w: [1, 2], WAIT)],
            ["E"],
            [ForEach("each number", lambda w: [1, 2], WAIT)],
            [
                (
                    "main",
                    "it is at 'wait' in the ForEach 'each number' but has no position there, and would start at "
                    "the first item",
                )
            ],
        ),
        (
            [Try("t", Step("f", fails, retry=ONCE)).finally_(WAIT)],
            [],
            [Try("u", Step("f", fails, retry=ONCE)).finally_(WAIT)],
            [("main", "it is in the finally_ of the Try 't', which the definition no longer contains")],
        ),
        (
            [Try("t", Step("f", fails, retry=ONCE)).except_(ValueError, WAIT)],
            [],
            [Try("t", Step("f", fails, retry=ONCE)).except_(ValueError, WAIT, name="bad luck")],
            [("main", "it is in the except_ 'bad luck', but the error was caught under another name")],
        ),
        (
            [Activity("count", activity_of_int, input=lambda w: 7)],
            [],
            [Activity("count", activity_of_text, input=lambda w: "7")],
            [
                (
                    "main",
                    f"the input of activity 'count' is no longer valid for its function: {NO_TEXT}",
                )
            ],
        ),
        (
            [WAIT, Select("s", On("Later", takes_int, buffered=True))],
            [("Later", 7)],
            [WAIT],
            [("", "it has a buffered event 'Later', which is no longer buffered anywhere")],
        ),
        (
            [WAIT, Select("s", On("Later", takes_int, buffered=True))],
            [("Later", 7)],
            [WAIT, Select("s", On("Later", takes_text, buffered=True))],
            [
                (
                    "",
                    f"it has a buffered event 'Later' with an input that its handler no longer accepts: {NO_TEXT}",
                )
            ],
        ),
        (
            [Select("wait", On("E", Outside(fails=True))), END],
            ["E"],
            [Select("wait", On("E", nothing)), END],
            [("", "its event 'E' of 'wait' must still be torn down, but no longer has a handler")],
        ),
    ],
    ids=lambda value: None,
)
def test_what_could_not_go_on(tmp_path: Any, old: Any, events: Any, new: Any, expected: Any) -> None:
    async def scenario(world: World) -> None:
        is_activity = isinstance(old[0], Activity)
        await world.create()
        for event in () if is_activity else (None, *events):
            if event is not None:
                name, *input = (event,) if isinstance(event, str) else event
                await world.finish(world.process.post(name, str(*input).encode()))
            await world.deliver()
        assert report(await check_store(world.store, world.workflows)) == []
        before = await world.instance()
        assert report(await check_store(world.store, [article(*new)])) == expected
        assert await world.instance() == before

    run_in_world(article(*old), scenario, tmp_path)


@pytest.mark.parametrize(
    "new",
    [
        [Step("before", nothing), WAIT, Step("behind", nothing)],
        [If("always", lambda w: True, WAIT)],
        [Go("g", WAIT), END],
        [Select("wait", On("E", takes_int), On("Added", nothing), Timeout("added", DAY))],
        [Select("approval", On("E", nothing), renamed_from="wait")],
        [Select("wait", On("Approve", nothing, renamed_from="E"))],
        [S(WAIT, prefix="p", renamed_from="")],
    ],
)
def test_what_can_go_on(tmp_path: Any, new: Any) -> None:
    async def scenario(world: World) -> None:
        await world.started()
        found = await check_store(world.store, [article(*new)])
        assert report(found) == []
        assert found.checked == {"article": 1}
        assert found.to_dict() == {"ok": True, "checked": {"article": 1}, "problems": []}

    run_in_world(article(WAIT), scenario, tmp_path)


@in_world(article(Step("write", write("w"))))
async def test_a_step_that_is_due(world: World) -> None:
    await world.create()
    gone = await check_store(world.store, [article(Step("compose", nothing))])
    assert report(gone) == [("main", "it is at 'write', which the definition no longer contains")]
    (problem,) = gone.problems
    assert problem.fix.startswith("add renamed_from='write' to its replacement, restore it, wait until")
    another = await check_store(world.store, [article(Select("write", On("E", nothing)))])
    assert report(another) == [("main", "it is at the step 'write', which is no longer a step")]


class Narrow(Workflow, name="article"):
    log: list[str] = []
    title: str
    definition = S(WAIT)


class Migrated(Narrow, name="article", version=2):
    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"title": "untitled"}


@in_world(article(WAIT))
async def test_fields_that_do_not_load(world: World) -> None:
    await world.started()
    found = await check_store(world.store, [Narrow])
    assert report(found) == [("", "the fields of Narrow do not fit their types: title: Field required")]
    (problem,) = found.problems
    assert problem.fix == "give new fields a default, or increase the version of the workflow and write migrate"
    assert report(await check_store(world.store, [Migrated])) == []


class Misspelled(Narrow, name="article", version=2):
    title: str = ""

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return fields | {"titel": "untitled"}


@in_world(article(WAIT))
async def test_a_misspelled_name_in_a_migration(world: World) -> None:
    await world.started()
    ((_, problem),) = report(await check_store(world.store, [Misspelled]))
    assert problem.endswith("migrate returned 'titel', but no 'title'. Is it misspelled?")
    before = await world.instance()
    with pytest.raises(InvalidFields, match="'titel'"):
        await world.start(Misspelled).send("E")
    assert await world.instance() == before


@in_world(Migrated)
async def test_an_instance_of_a_newer_version(world: World) -> None:
    await world.started(title="t")
    found = await check_store(world.store, [Narrow])
    assert report(found) == [("", "it was saved by version 2, but this code has version 1")]


@in_world(article(WAIT), Other)
async def test_instances_of_a_workflow_that_is_gone(world: World) -> None:
    await world.started()
    for number in range(2):
        await world.process.engine.create("other", str(number))
    found = await check_store(world.store, [article(WAIT)])
    assert found.checked == {"article": 1, "other": 2}
    ((problem, places),) = found.problems.items()
    assert (problem.workflow, problem.what) == ("other", "the workflow no longer exists")
    assert places == [Place("0"), Place("1")]
    assert "cancel them" in problem.fix


@in_world(article(Child("ask", "other", id="o")), Other)
async def test_a_child_that_is_still_to_be_started_or_canceled(world: World) -> None:
    await world.create()
    mine = article(Child("ask", "other", id="o"))
    start = await check_store(world.store, [mine])
    assert report(start) == [
        ("main", "its child of 'ask' must still be started, but its workflow 'other' no longer exists"),
    ]
    await world.deliver()
    await world.finish(world.process.engine.operate("article", ID, Cancel()))
    cancel = await check_store(world.store, [mine])
    assert ("", "its child of 'ask' must still be canceled, but its workflow 'other' no longer exists") in report(
        cancel
    )
    assert cancel.checked == {"article": 1, "other": 1}


@in_world(article(WAIT))
async def test_what_has_ended_is_no_problem(world: World) -> None:
    await world.started()
    await world.send("E")
    for id in ("canceled", "failed"):
        await world.create(id=id)
    await world.finish(world.process.engine.operate("article", "canceled", Cancel()))
    failed = await world.instance("failed")
    failed.execution.status = failed.execution.status.FAILED
    await world.store.commit(failed)
    found = await check_store(world.store, [article(END)])
    assert (report(found), found.checked) == ([], {})


@in_world(article(WAIT))
async def test_paused_instances_are_looked_at(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("article", ID, Pause()))
    assert len(report(await check_store(world.store, [article(END)]))) == 1


@in_world(article(WAIT))
async def test_a_document_that_cannot_be_read(world: World) -> None:
    await world.started()
    await world.create(id="good")
    sql = "UPDATE instances SET execution = '{' WHERE id = ?"
    await world.store.connections.run(lambda connection: connection.execute(sql, (ID,)).close())
    found = await check_store(world.store, [article(WAIT)])
    ((problem, places),) = found.problems.items()
    assert problem.what.startswith("the document of 'article' 'order-1' cannot be read")
    assert places == [Place("")]
    assert found.to_dict()["problems"][0]["instances"] == [{"id": None, "thread": None}]


@in_world(article(WAIT))
async def test_every_page_is_turned_and_equal_problems_are_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        await world.create(id=str(number))
    monkeypatch.setattr(live_instances, "PAGE", 2)
    found = await check_store(world.store, [article(END)])
    assert found.checked == {"article": 7}
    ((_, places),) = found.problems.items()
    assert sorted(place.id for place in places) == list("0123456")


class Moving:
    """A store in which an instance moves on behind the first page of those that wait, and so before it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.moved = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.world.store, name)

    async def list(self, workflow: str, **kwargs: Any) -> Any:
        page = await self.world.store.list(workflow, **kwargs)
        if kwargs.get("status") == "waiting" and not self.moved:
            self.moved = True
            await self.world.clock.advance(3600)
            await asyncio.wait_for(self.world.process.post("E", id="0"), 5)
        return page


@in_world(article(WAIT, END))
async def test_an_instance_that_moves_meanwhile_is_not_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        await world.create(id=str(number))
        await world.clock.advance(3600)
    monkeypatch.setattr(live_instances, "PAGE", 2)
    found = await check_store(Moving(world), [article(WAIT)])
    assert report(found) == [("main", "it is at 'end', which the definition no longer contains")]
    assert found.checked == {"article": 5}


def step(name: str) -> Step:
    return Step(name, nothing)


ACTIVITY = Activity("count", activity_of_int, input=lambda w: 7)
CHILD = Child("ask", "other", id="o", detached=True)
NAP = Sleep("nap", DAY)
NUMBERS = "each number", lambda w: [1, 2]
BOTH = "Parallel 'both' of workflow 'article'"
EACH = "ForEach 'each number' of workflow 'article'"
RULE = "and steps of one instance never overlap: they run one after another. Use activities or children instead."


@pytest.mark.parametrize(
    ("definition", "expected"),
    [
        ([Parallel("both", S(step("a")), S(step("b")))], [f"{BOTH}: its branches are steps, {RULE}"]),
        (
            [Parallel("both", S(step("a")), S(WAIT), S(If("always", lambda w: True, step("b"))))],
            [f"{BOTH}: 2 of its 3 branches are steps, {RULE}"],
        ),
        ([ForEach(*NUMBERS, step("a"), parallel=True)], [f"{EACH}: its items run only steps, {RULE}"]),
        (
            [Go("g", Try("t", WAIT).finally_(ForEach(*NUMBERS, step("a"), step("b"), parallel=True))), END],
            [f"{EACH}: its items run only steps, {RULE}"],
        ),
        (
            [Select("s", On("E", nothing, S(ForEach(*NUMBERS, step("a"), parallel=True), prefix="p")))],
            [f"{EACH.replace('each', 'p/each')}: its items run only steps, {RULE}"],
        ),
        (
            [Parallel("both", S(ForEach(*NUMBERS, step("a"), parallel=True)), S(step("b")))],
            [f"{BOTH}: its branches are steps, {RULE}", f"{EACH}: its items run only steps, {RULE}"],
        ),
    ],
)
def test_steps_in_parallel_are_warned_of(definition: Any, expected: list[str]) -> None:
    assert [str(warning) for warning in advise([Other, article(*definition)], SecretSettings())] == expected


@pytest.mark.parametrize(
    "definition",
    [
        [Parallel("both", S(step("a")), S(WAIT))],
        [Parallel("both", S(step("a"), WAIT), S(step("b"), END))],
        [Parallel("both", S(step("a"), ACTIVITY), S(step("b"), NAP), S(step("c"), CHILD), S(step("d"), NEVER))],
        [Parallel("one", S(step("a")))],
        [Parallel("ends", S(Fail("no", "no")), S(step("a")))],
        [Go("g", step("a")), step("b"), END],
        [ForEach(*NUMBERS, step("a"))],
        [ForEach(*NUMBERS, step("a"), ACTIVITY, parallel=True)],
        [ForEach(*NUMBERS, CHILD, parallel=True)],
    ],
)
def test_what_does_overlap_is_not_warned_of(definition: Any) -> None:
    assert advise([article(*definition)], SecretSettings()) == []
