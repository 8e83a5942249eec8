"""The definition changes while an instance is parked: what is legal, and what is said where it is not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, accepted, do, flow, kinds, log, migrate, reload, standing, start, unchanged
from workflow_core import (
    Activity,
    EventNotAccepted,
    EventRequest,
    Execution,
    ForEach,
    Go,
    If,
    On,
    S,
    Select,
    Statement,
    Step,
    StepContext,
    Timeout,
    Try,
    UnknownStatement,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine


def parked(*statements: Statement) -> tuple[Logged, Execution]:
    return start(flow(*statements))


WAIT = Select("wait", On("E", log("event")))


def test_statements_added_around_the_place_where_an_instance_stands() -> None:
    new = flow(do("new first"), WAIT, do("new behind"), do("a"))
    order, execution = migrate(*parked(WAIT, do("a")), new)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["event", "new behind", "a"]


def test_statements_reordered() -> None:
    new = flow(do("b"), WAIT, do("a"))
    order, execution = migrate(*parked(do("a"), WAIT, do("b")), new)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["a", "event", "a"]


def test_a_wait_moved_into_a_loop_and_a_branch() -> None:
    new = flow(While("twice", lambda w: len(w.log) < 3, If("always", lambda w: True, WAIT), do("round")))
    order, execution = migrate(*parked(WAIT), new)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["event", "round"]
    assert standing(execution) == {"main": "wait"}


@pytest.mark.parametrize("nested", [False, True])
def test_a_wait_that_a_loop_over_items_is_put_around_is_at_the_first_item(nested: bool) -> None:
    def note(w: Logged, context: StepContext) -> None:
        w.log.append(context.item)

    new = ForEach("letters", lambda w: "ab", WAIT, Step("note", note))
    definition = flow(ForEach("twice", lambda w: range(2), new) if nested else new)
    order, execution = migrate(*parked(WAIT), definition)
    for _ in range(4 if nested else 2):
        handle_event(order, execution, "E")
        resume(order, execution)
    assert order.log == ["event", "a", "event", "b"] * (2 if nested else 1)
    assert execution.status == "finished"


def test_a_wait_moved_into_another_thread() -> None:
    new = flow(Go("g", WAIT, do("a")), WaitFor("never", lambda w: False))
    order, execution = migrate(*parked(WAIT), new)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["event", "a"]
    assert execution.status == "finished"  # it is the main thread that went through the moved statements


def test_statements_removed_where_nobody_stands() -> None:
    order, execution = migrate(*parked(do("a"), WAIT, do("b"), do("c")), flow(WAIT, do("c")))
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["a", "event", "c"]


def test_the_action_and_the_handler_are_those_of_the_new_code() -> None:
    order, execution = migrate(*parked(WAIT), flow(Select("wait", On("E", log("new handler")))))
    handle_event(order, execution, "E")
    assert order.log == ["new handler"]


def test_a_plain_case_added_to_the_select_that_an_instance_is_parked_on_is_accepted() -> None:
    new = flow(Select("wait", On("E", log("event")), On("Added", log("added"), do("behind"))))
    order, execution = migrate(*parked(WAIT), new)
    assert accepted(order, execution) == ["E", "Added"]
    thread = execution.threads[0]
    Machine(order, execution).tick()  # the wait is known by the pc at its entry, whatever happens beside it
    handle_event(order, execution, "Added", wait_id=thread.waits[0].id, pc=thread.pc)
    resume(order, execution)
    assert order.log == ["added", "behind"]


def test_cases_that_must_be_set_up_take_part_from_the_next_entry_on() -> None:
    class Handler:
        def setup(self, request: EventRequest) -> None: ...
        def handle(self, request: EventRequest, input: Any) -> None: ...
        def teardown(self, request: EventRequest, handled: bool) -> None: ...

    new = flow(
        While(
            "w",
            lambda w: True,
            Select("wait", On("E", log("event")), On("Outside", Handler()), Timeout("late", timedelta(1))),
        )
    )
    order, execution = migrate(*parked(WAIT), new)
    assert kinds(order, execution) == []
    for event in ("Outside", "late"):
        with unchanged(order, execution), pytest.raises(EventNotAccepted):
            handle_event(order, execution, event)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert accepted(order, execution) == ["E", "Outside"]
    handle_event(order, execution, "late")


def test_a_case_that_was_removed_is_no_longer_accepted() -> None:
    order, execution = migrate(*parked(Select("wait", On("E", log("event")), On("F", log("f")))), flow(WAIT))
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "F")
    assert accepted(order, execution) == ["E"]


def test_a_condition_that_changed_is_looked_at_again() -> None:
    order, execution = migrate(
        *parked(WaitFor("w", lambda w: False), do("a")), flow(WaitFor("w", lambda w: True), do("a"))
    )
    assert kinds(order, execution) == ["condition", "step"]
    assert order.log == ["a"]


GONE = (
    "an instance of 'flow' is at {!r}, which the definition no longer contains. Restore a step or wait with this name"
)


def test_a_select_that_was_removed() -> None:
    order, execution = migrate(*parked(WAIT), flow(do("a")))
    with unchanged(order, execution), pytest.raises(UnknownStatement) as caught:
        handle_event(order, execution, "E")
    assert str(caught.value).startswith(GONE.format("wait"))


def test_a_condition_that_was_removed() -> None:
    order, execution = migrate(*parked(WaitFor("w", lambda w: False)), flow(do("a")))
    with unchanged(order, execution), pytest.raises(UnknownStatement) as caught:
        resume(order, execution)
    assert str(caught.value).startswith(GONE.format("w"))


def fails(w: Logged) -> None:
    raise TimeoutError


def test_a_step_that_was_removed_and_brought_back() -> None:
    old = flow(Step("step", fails))
    order, execution = old(), Execution.start("id-1", old)
    with pytest.raises(TimeoutError):
        resume(order, execution)
    order, execution = migrate(order, execution, flow(do("another")))
    with pytest.raises(UnknownStatement) as caught:
        resume(order, execution)
    assert str(caught.value).startswith(GONE.format("step"))
    assert standing(execution) == {"main": "step"}
    order, execution = migrate(order, execution, flow(do("another"), do("step")))
    resume(order, execution)
    assert (order.log, execution.status) == (["step"], "finished")


def test_a_step_whose_name_is_that_of_a_wait_now() -> None:
    old = flow(Step("wait", fails))
    order, execution = old(), Execution.start("id-1", old)
    with pytest.raises(TimeoutError):
        resume(order, execution)
    order, execution = migrate(order, execution, flow(WAIT))
    with pytest.raises(UnknownStatement) as caught:
        resume(order, execution)
    assert str(caught.value).startswith(GONE.format("wait"))
    assert order.log == []


def test_a_thread_that_was_removed_before_it_began() -> None:
    class Crash(Exception):
        pass

    def crash(kind: str) -> None:
        raise Crash

    old = flow(Go("g", do("a")), WAIT)
    order, execution = old(), Execution.start("id-1", old)
    with pytest.raises(Crash):
        resume(order, execution, crash)
    assert standing(execution) == {"main": "wait", "g": ""}
    order, execution = migrate(order, execution, flow(WAIT))
    with pytest.raises(UnknownStatement) as caught:
        resume(order, execution)
    assert str(caught.value).startswith(GONE.format("g"))


def test_fields_may_be_added_with_a_default() -> None:
    class Wider(Logged, name="flow"):
        extra: str = "default"
        definition = S(WAIT)

    order, execution = migrate(*parked(WAIT), Wider)
    assert isinstance(order, Wider)
    assert order.extra == "default"
    assert reload(order, execution) == (order, execution)


def test_an_instance_keeps_the_version_it_was_started_with_until_somebody_writes_another() -> None:
    first = flow(WAIT)
    _, execution = start(first)
    assert execution.definition_version == first.__program__.version
    assert execution.definition_version != flow(WAIT, do("a")).__program__.version


def fail(w: Logged) -> None:
    raise ValueError("no luck")


SECTIONS: dict[str, list[Statement]] = {
    "ForEach": [ForEach(name, lambda w: [1, 2], WAIT) for name in "ab"],
    "finally_ of the Try": [Try(name, Step("fail", fail)).finally_(WAIT) for name in "ab"],
    "except_": [Try("t", Step("fail", fail)).except_(ValueError, WAIT, name=name) for name in "ab"],
}


@pytest.mark.parametrize("kind", SECTIONS)
def test_an_instance_in_a_section_with_another_name_waits(kind: str) -> None:
    old, new = SECTIONS[kind]
    order, execution = migrate(*parked(old), flow(new))
    problem = rf"in the {kind} 'a', which the definition no longer has around it"
    with unchanged(order, execution), pytest.raises(UnknownStatement, match=problem):
        handle_event(order, execution, "E")
    with unchanged(order, execution), pytest.raises(UnknownStatement, match=problem):
        resume(order, execution)
    order, execution = migrate(order, execution, flow(old))
    handle_event(order, execution, "E")
    assert order.log == ["event"]


def count(input: int) -> None: ...


def spell(input: str) -> None: ...


def with_activity(function: Any, input: Any) -> type[Logged]:
    return flow(Go("g", Activity("a", function, input=lambda w: input)), WAIT)


def test_an_instance_with_a_stored_value_that_does_not_fit_waits() -> None:
    old, new = with_activity(count, 7), with_activity(spell, "seven")
    order, execution = old(), Execution.start("id-1", old)

    def stop(kind: str) -> None:
        if standing(execution).get("g") == "a":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(order, execution, stop)
    order, execution = migrate(order, execution, new)
    for call in (lambda: resume(order, execution), lambda: handle_event(order, execution, "E")):
        with unchanged(order, execution), pytest.raises(UnknownStatement, match="the input of activity 'a'"):
            call()
    order, execution = migrate(order, execution, old)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert execution.status == "finished"


def test_the_version_is_that_of_the_definition_that_has_moved_the_instance() -> None:
    new = flow(WAIT, Select("again", On("F", log("f"))))
    order, execution = migrate(*parked(WAIT), new)
    old = execution.definition_version
    with pytest.raises(EventNotAccepted):
        handle_event(order, execution, "F")
    assert execution.definition_version == old
    handle_event(order, execution, "E")
    assert execution.definition_version == new.__program__.version != old
