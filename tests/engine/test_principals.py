"""Who acts: what handlers, steps, and the history learn about the principal of a request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import ACTIONS, REPAIRS, Pause, SetFields, Unpause
from cloud_adapter.history import FIRST_KEPT, HISTORY_MAX, OPERATIONS, OPERATIONS_KEPT, HistoryEntry, kept_entries
from tests.core.helpers import NOON
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    ANONYMOUS,
    ANYONE,
    EVERYONE,
    Access,
    Activity,
    DefinitionError,
    EventHandler,
    EventRequest,
    Go,
    On,
    Principal,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    WaitFor,
    Workflow,
    handle_event,
)
from workflow_core.execution import Execution
from workflow_core.library import resume

ANN = Principal("login|ann", "Ann", roles=frozenset({"any"}))
MAX = Principal("login|max", roles=frozenset({"any"}))


def fetch(_: None) -> None: ...


class Signature(EventHandler):
    def setup(self, request: EventRequest) -> None:
        assert request.principal is None

    def handle(self, request: EventRequest, input: None) -> None:
        request.workflow.log.append(f"signed by {request.principal and request.principal.id}")

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


class Case(Workflow, name="case"):
    log: list[str] = []
    access = Access(*[{"any", ANYONE}] * 6)

    def note(self, word: str = "", *, principal: Principal | None) -> None:
        self.log.append(f"{word} by {principal and principal.name}")

    def work(self, step: StepContext) -> None:
        self.log.append(f"{step.step} caused by {step.caused_by}")

    definition = S(
        Step("begin", work),
        Select("first", On("Note", note), Timeout("late", timedelta(hours=1))),
        Go("side", Step("beside", work)),
        Activity("fetch", fetch),
        Step("after", work),
        Select("second", On("Sign", Signature())),
        WaitFor("signed", lambda w: "signed" in w.log[-1]),
        Step("last", work),
        Select("third", On("Early", note, buffered=True)),
        Step("end", work),
    )


async def send(world: World, event: str, principal: Principal | None, body: bytes = b"") -> None:
    await world.finish(world.process.engine.handle_event("case", ID, event, body, principal=principal))
    await world.deliver()


async def create(world: World, principal: Principal | None) -> None:
    await world.finish(world.process.engine.create("case", ID, principal=principal))
    await world.deliver()


@in_world(Case)
async def test_handlers_and_steps_see_who_acts(world: World) -> None:
    await create(world, ANN)
    await send(world, "Early", ANN, b'"early"')
    await send(world, "Note", MAX, b'"hello"')
    await send(world, "Sign", ANN)
    assert (await world.fields()).log == [
        "begin caused by login|ann",
        "hello by ",
        "after caused by login|max",  # after the result of an activity
        "beside caused by login|max",
        "signed by login|ann",
        "last caused by login|ann",
        "early by Ann",
        "end caused by login|ann",
    ]
    by = [(entry.kind, entry.by, entry.by_id) for entry in (await world.instance()).history if entry.by]
    assert by == [
        ("created", "Ann", "login|ann"),
        ("buffered", "Ann", "login|ann"),
        ("event", "login|max", "login|max"),
        ("event", "Ann", "login|ann"),
        ("event", "Ann", "login|ann"),
    ]


@pytest.mark.parametrize("principal", [None, EVERYONE])
@in_world(Case)
async def test_nobody_in_particular_leaves_no_trace(world: World, principal: Principal | None) -> None:
    await create(world, principal)
    await send(world, "Note", principal, b'"hello"')
    instance = await world.instance()
    assert not any(entry.by or entry.by_id for entry in instance.history)
    assert "caused_by" not in instance.execution.to_json()
    assert (await world.fields()).log[0] == "begin caused by "


@in_world(Case)
async def test_what_a_timeout_causes_has_no_principal(world: World) -> None:
    await create(world, ANN)
    await world.pass_time(timedelta(hours=1))
    assert "after caused by " in (await world.fields()).log


@in_world(Case)
async def test_what_an_operator_claims_stands_beside_its_principal(world: World) -> None:
    await create(world, None)
    operate = world.process.engine.operate
    for operation, principal in (
        (Pause(by="Eve", reason="why"), ANN),
        (Unpause(by="Ann"), ANN),
        (Pause(by="Eve"), ANONYMOUS),
        (SetFields(by="Eve", fields={"log": [""]}), EVERYONE),
        (Unpause(by="Eve"), None),
    ):
        await world.finish(operate("case", ID, operation, principal=principal))
    entries = (await world.instance()).history[-5:]
    assert [(entry.by, entry.by_id, entry.claimed, entry.reason) for entry in entries] == [
        ("Ann", "login|ann", "Eve", "why"),
        ("Ann", "login|ann", "", ""),
        ("anonymous", "", "Eve", ""),
        ("Eve", "", "", ""),
        ("Eve", "", "", ""),
    ]


def test_every_operation_is_kept() -> None:
    assert ACTIONS.keys() | REPAIRS.keys() == OPERATIONS


def test_events_do_not_wash_out_operations() -> None:
    def entries(kind: str, first: int, count: int) -> tuple[HistoryEntry, ...]:
        return tuple(HistoryEntry(NOON + timedelta(seconds=first + n), kind) for n in range(count))

    history = entries("created", 0, 1) + entries("pause", 1, 20) + entries("event", 21, 100)
    kept = kept_entries(history)
    first, operations = history[:FIRST_KEPT], history[6:21]
    assert kept == first + operations + history[-(HISTORY_MAX - FIRST_KEPT - OPERATIONS_KEPT) :]
    assert kept_entries(kept) == kept
    assert kept_entries(kept + entries("event", 121, 1))[:20] == kept[:20]


# --- definitions and the library -------------------------------------------------------------


def wants_other(w: Any, *, principal: str) -> None: ...


def wants_some(w: Any, *, principal: Principal) -> None: ...


def wants_anything(w: Any, *, principal: Any) -> None: ...


def has_default(w: Any, *, principal: str = "mine") -> None:
    w.log.append(principal)


@pytest.mark.parametrize("handler", [wants_other, wants_some, wants_anything])
def test_the_type_of_the_keyword(handler: Any) -> None:
    with pytest.raises(DefinitionError, match=r"Write principal: Principal \| None"):
        type("Wrong", (Workflow,), {"definition": S(Select("s", On("E", handler)))})


def test_the_keyword_is_for_events_only() -> None:
    def then(w: Any, result: None, *, principal: Principal | None) -> None: ...

    with pytest.raises(DefinitionError, match="It must accept the workflow and at most the result"):
        type("Wrong", (Workflow,), {"definition": S(Activity("fetch", fetch, then=then))})


def test_the_library_passes_the_principal_on() -> None:
    class Library(Case, name="library"):
        definition = S(Select("s", On("Note", Case.note)), Select("t", On("E", has_default)))

    case, execution = Library(), Execution.start("1", Library)
    resume(case, execution)
    handle_event(case, execution, "Note", "hi", principal=ANN)
    assert execution.threads[0].caused_by == ANN.id
    handle_event(case, execution, "E")
    assert case.log == ["hi by Ann", "mine"]
