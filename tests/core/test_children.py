"""Children in the library without an engine: a child's result is delivered like an event named after the statement."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from tests.core.helpers import NOON, Logged, accepted, do, flow, kinds, play, reload, standing, start
from tests.waits import the
from workflow_core import (
    Child,
    ChildFailed,
    EventNotAccepted,
    Execution,
    ExecutionError,
    ForEach,
    Go,
    InvalidInput,
    Parallel,
    Parent,
    S,
    Sleep,
    Try,
    Workflow,
    aresume,
    handle_event,
    resume,
)
from workflow_core.error_texts import error_info
from workflow_core.machine.machine import Machine
from workflow_core.machine.outside_work import TellWork
from workflow_core.wait_types import ChildTeardown, ChildWait


class Delivery(Workflow, name="delivery"):
    street: str = ""
    minutes: int = 0

    def result(self) -> dict[str, int]:
        return {"minutes": self.minutes}

    definition = S(Sleep("drive", timedelta(minutes=5)))


class Result(BaseModel):
    minutes: int


def keep(w: Any, result: Result) -> None:
    w.log.append(f"took {result.minutes}")


def entered(workflow: type[Logged]) -> tuple[Logged, Execution, ChildWait]:
    """An instance that has come to its child, and has not started it."""
    order, execution = workflow(), Execution.start("id-1", workflow)
    Machine(order, execution).settle()
    return order, execution, the(ChildWait, execution.threads[0].waits)


def test_a_child_is_started_and_waited_for_and_its_result_is_delivered() -> None:
    Flow = flow(do("a"), Child("deliver", Delivery, then=keep), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "step", "setup"]
    assert (standing(execution), execution.status) == ({"main": "deliver"}, "waiting")
    assert accepted(order, execution) == [], "clients do not send it"
    handle_event(order, execution, "deliver", {"minutes": 7})
    resume(order, execution)
    assert (order.log, execution.status) == (["a", "took 7", "b"], "finished")
    assert execution.teardowns == []
    assert play(Flow, ("deliver", {"minutes": 7}))[0].log == ["a", "took 7", "b"]


def test_the_result_is_what_the_child_s_method_field_or_fields_say() -> None:
    class Field(Workflow):
        result: int = 3
        definition = S(do("a"))

    class All(Workflow):
        n: int = 4
        definition = S(do("a"))

    assert Delivery(minutes=7).result_json() == b'{"minutes":7}'
    assert Field().result_json() == b"3"
    assert All().result_json() == b'{"n":4}'


def test_how_it_is_to_be_started_is_kept_with_the_wait() -> None:
    class Address(BaseModel):
        street: str

    for input, fields in (
        (None, {}),
        (lambda w: {"street": "Elm"}, {"street": "Elm"}),
        (lambda w: Address(street="Elm"), {"street": "Elm"}),
        (lambda w: Delivery(street="Elm"), {"street": "Elm", "minutes": 0}),
    ):
        _, _, wait = entered(flow(Child("deliver", Delivery, id="d-1", input=input)))
        assert wait.child == {"workflow": "delivery", "id": "d-1", "fields": fields, "detached": False}


def test_its_id_is_a_text_or_a_function_and_by_default_one_of_its_own() -> None:
    def id_of(**options: Any) -> str:
        found: str = entered(flow(Child("deliver", "delivery", **options)))[2].child["id"]
        return found

    assert id_of(id="d-1") == "d-1"
    assert id_of(id=lambda w: f"d-{w.n}") == "d-0"
    assert id_of() == id_of()
    assert len(id_of()) == 32
    each = ForEach("each", lambda w: "ab", Child("deliver", Delivery), parallel=True)
    _, execution = start(flow(each))
    assert len({the(ChildWait, thread.waits).child["id"] for thread in execution.threads[1:]}) == 2


def test_input_and_id_may_take_the_item() -> None:
    child = Child("deliver", Delivery, id=lambda w, item: f"d-{item}", input=lambda w, item: {"street": item})
    _, execution = start(flow(ForEach("each", lambda w: ["Elm", "Oak"], child, parallel=True)))
    inputs = [the(ChildWait, thread.waits).child for thread in execution.threads[1:]]
    assert [(one["id"], one["fields"]) for one in inputs] == [
        ("d-Elm", {"street": "Elm"}),
        ("d-Oak", {"street": "Oak"}),
    ]


def test_what_cannot_be_its_fields_is_an_error() -> None:
    with pytest.raises(ExecutionError, match="cannot convert the input of child 'deliver' to JSON"):
        start(flow(Child("deliver", Delivery, input=lambda w: object())))  # type: ignore[arg-type]


def test_a_result_that_does_not_fit_is_refused() -> None:
    order, execution = start(flow(Child("deliver", Delivery, then=keep)))
    with pytest.raises(InvalidInput):
        handle_event(order, execution, "deliver", {"hours": 7})
    assert standing(execution) == {"main": "deliver"}


def test_without_then_any_result_will_do() -> None:
    assert play(flow(Child("deliver", Delivery), do("b")), ("deliver", {"any": "thing"}))[0].log == ["b"]


def test_then_may_take_the_item() -> None:
    def note(w: Any, result: Result, *, item: str) -> None:
        w.log.append(f"{item} took {result.minutes}")

    each = ForEach("each", lambda w: ["Elm", "Oak"], Child("deliver", Delivery, then=note), parallel=True)
    ops = [("deliver", {"minutes": 1}), ("deliver", {"minutes": 2})]
    assert play(flow(each), *ops)[0].log == ["Elm took 1", "Oak took 2"]


def test_it_is_not_waited_for_before_it_is_started() -> None:
    order, execution, _ = entered(flow(Child("deliver", Delivery)))
    with pytest.raises(EventNotAccepted):
        handle_event(order, execution, "deliver")
    assert execution.status == "running"


def test_a_detached_one_is_started_and_left() -> None:
    Flow = flow(Child("deliver", Delivery, detached=True), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "setup", "step"]
    assert (order.log, execution.status, execution.teardowns) == (["b"], "finished", [])
    assert play(Flow)[0].log == ["b"]


def failed(order: Any, execution: Execution) -> None:
    """Reports that the child has failed, as the caller that stores the state does."""
    machine = Machine(order, execution)
    thread = next(one for one in execution.threads if one.waits and one.waits[0].kind == "child")
    event = thread.waits[0].event
    machine.child_failed(thread, event, error_info(ChildFailed("'delivery' 'd-1' is failed: no fuel"), event))


def test_a_child_that_fails_can_be_caught() -> None:
    def note(w: Any, error: Any) -> None:
        w.log.append(f"{error.type} of {error.statement}: {error.message}")

    attempt = Try("try", Child("deliver", Delivery, then=keep)).except_(ChildFailed, do("caught"), then=note)
    order, execution = play(flow(attempt, do("b")), failed)
    assert order.log == ["ChildFailed of deliver: 'delivery' 'd-1' is failed: no fuel", "caught", "b"]
    assert execution.teardowns == []


def test_else_the_instance_fails() -> None:
    _, execution = play(flow(Child("deliver", Delivery)), failed, end="failed")
    assert execution.error is not None
    assert (execution.error.type, execution.error.statement) == ("ChildFailed", "deliver")
    assert (standing(execution), execution.teardowns) == ({"main": "deliver"}, [])


def test_a_child_that_is_no_longer_waited_for_is_to_be_canceled() -> None:
    fork = Parallel("both", S(Child("deliver", Delivery, id="d-1")), S(Sleep("w", timedelta(1)), Child("bad", "other")))
    Flow = flow(Try("try", fork).except_(ChildFailed, do("caught")))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "w")
    resume(order, execution)
    machine = Machine(order, execution)
    machine.child_failed(execution.threads[2], "bad", error_info(ChildFailed("no"), "bad"))
    (teardown,) = execution.teardowns
    assert isinstance(teardown, ChildTeardown)
    assert (teardown.kind, teardown.step, teardown.event, teardown.handled) == ("child", "deliver", "deliver", False)
    assert teardown.child == {"workflow": "delivery", "id": "d-1"}
    order, execution = reload(order, execution)
    assert kinds(order, execution) == ["condition", "teardown", "step"]


def test_so_it_is_when_the_main_thread_ends() -> None:
    Flow = flow(Go("side", Child("deliver", Delivery, id="d-1")), Sleep("w", timedelta(1)))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "w")
    assert [(one.kind, the(ChildTeardown, [one]).child["id"]) for one in execution.teardowns] == [("child", "d-1")]
    assert kinds(order, execution) == ["teardown"]


@pytest.mark.parametrize("awaits", [False, True])
def test_an_instance_with_a_parent_tells_it_of_its_end(awaits: bool) -> None:
    Flow = flow(do("a"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    execution.parent = Parent("other", "p-1", "main@3", "call")
    order, execution = reload(order, execution)
    seen: list[str] = []
    if awaits:
        asyncio.run(aresume(order, execution, seen.append))
    else:
        resume(order, execution, seen.append)
    assert seen == ["resume", "step", "tell"]
    assert execution.parent is not None
    assert execution.parent.told
    assert kinds(order, execution) == []


def test_a_parent_that_does_not_answer_is_told_again() -> None:
    Flow = flow(do("a"))  # noqa: N806
    order, execution = start(Flow)
    parent: Any = Parent("other", "p-1", "main@3", "call")
    execution.parent = parent
    machine = Machine(order, execution, NOON)
    work = machine.next_work()
    assert isinstance(work, TellWork)
    machine.failed(work, ConnectionError("no answer"), NOON + timedelta(hours=1))
    assert (parent.attempt, parent.error) == (1, "ConnectionError: no answer")
    assert machine.next_work() is None
    machine.set_time(NOON + timedelta(hours=1))
    assert machine.next_work() == work
    machine.done(work)
    assert (parent.told, parent.attempt, parent.retry_at, parent.error) == (True, 0, None, None)
    assert machine.next_work() is None
