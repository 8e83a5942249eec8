"""Fields: what of the changes that user code makes is saved, and what is undone."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.engine.harness import World, in_world, nothing, write
from workflow_core import (
    Activity,
    Case,
    Child,
    Default,
    ErrorInfo,
    Fail,
    Failure,
    If,
    On,
    Retry,
    S,
    Select,
    Sleep,
    Step,
    Switch,
    Timeout,
    Try,
    WaitFor,
    Workflow,
)

ONCE = Retry(max_attempts=1)
MINUTE = timedelta(minutes=1)


def of_kind(kind: str) -> Any:
    return lambda w: w.kind == kind


def one() -> int:
    return 1


def bad() -> int:
    raise ValueError("bad")


class Kid(Workflow, name="kid"):
    result: int = 1
    definition = S(Step("play", lambda w: None))


# --- code that fails -------------------------------------------------------------------------


class Half(Workflow, name="half"):
    """Its code changes the fields, and then fails."""

    kind: str = ""
    log: list[str] = []

    def spoil(self) -> None:
        self.log.append("half")
        raise ValueError("sour")

    def spoil_by(self, number: int) -> None:
        self.spoil()

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}")

    definition = S(
        Select("gate", On("Go", write("go"))),
        Try(
            "care",
            Switch(
                "which",
                Case("step?", of_kind("step"), Step("step", spoil, retry=ONCE)),
                Case("result?", of_kind("result"), Activity("result", one, then=spoil_by, retry=ONCE)),
                Case("end?", of_kind("end of a child"), Child("end of a child", Kid, then=spoil_by)),
                Default(Select("wait", On("buffered", spoil_by, buffered=True))),
            ),
        ).except_(ValueError, then=note, name="caught"),
        Select("rest", On("End", nothing)),
    )


@pytest.mark.parametrize("kind", ["step", "result", "end of a child", "buffered"])
@in_world(Half, Kid)
async def test_what_failed_code_did_to_the_fields_is_undone(world: World, kind: str) -> None:
    await world.started(kind=kind)
    if kind == "buffered":
        await world.finish(world.process.post("buffered", b"1"))
    await world.send("Go")
    await world.pass_time(MINUTE)
    assert (await world.fields()).log == ["go", f"ValueError of {kind}"]
    assert (await world.instance()).execution.threads[0].step == "rest"


# --- code that only reads them ---------------------------------------------------------------


class Meddler:
    """An event handler whose setup and teardown change the fields."""

    def setup(self, request: Any) -> None:
        request.workflow.log.append("setup")

    def handle(self, request: Any, input: None) -> None:
        request.workflow.log.append("handle")

    def teardown(self, request: Any, handled: bool) -> None:
        request.workflow.log.append("teardown")


class Meddled(Workflow, name="meddled"):
    log: list[str] = []
    definition = S(
        Select("wait", On("E", Meddler())), Step("behind", write("behind")), Select("rest", On("X", nothing))
    )


@in_world(Meddled)
async def test_what_a_setup_or_a_teardown_did_to_the_fields_is_undone(world: World) -> None:
    await world.started()
    assert (await world.fields()).log == []
    await world.send("E")
    await world.deliver()
    assert (await world.fields()).log == ["handle", "behind"]


# --- code on the way -------------------------------------------------------------------------


FAILED_ACTIVITY = Try("nothing comes of it", Activity("bad", bad, retry=ONCE)).except_(ValueError, name="bad activity")


class Way(Workflow, name="way"):
    """The only code that changes its fields stands behind something that calls no code."""

    kind: str = ""
    fails: bool = False
    log: list[str] = []

    def note(self, error: ErrorInfo) -> None:
        self.log.append("changed")

    definition = S(
        Try(
            "care",
            Switch(
                "which",
                Case("timeout?", of_kind("timeout"), Select("wait", On("E", nothing), Timeout("late", MINUTE))),
                Case("sleep?", of_kind("sleep"), Sleep("nap", MINUTE)),
                Case("activity?", of_kind("activity"), Activity("fetch", one)),
                Case("failed activity?", of_kind("failed activity"), FAILED_ACTIVITY),
                Case("child?", of_kind("child"), Child("kid", Kid)),
                Case("detached child?", of_kind("detached child"), Child("pen pal", Kid, detached=True)),
                Default(),
            ),
            If("fails?", lambda w: w.fails, Fail("no", "no")),
            WaitFor("for nothing", lambda w: True, write("changed")),
        ).except_(Failure, then=note, name="caught"),
        Select("rest", On("End", nothing)),
    )


@pytest.mark.parametrize("fails", [False, True], ids=["handler of a condition", "then of an except_"])
@pytest.mark.parametrize(
    "kind", ["start", "timeout", "sleep", "activity", "failed activity", "child", "detached child"]
)
@in_world(Way, Kid)
async def test_what_is_changed_on_the_way_to_the_next_rest_is_saved(world: World, kind: str, fails: bool) -> None:
    await world.create(kind=kind, fails=fails)
    await world.pass_time(2 * MINUTE)
    assert (await world.fields()).log == ["changed"]
    assert (await world.instance()).execution.threads[0].step == "rest"
