"""A value that goes through a step, an event that is kept, an activity or a child arrives as it is, or is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import new_class
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from pydantic import Base64Bytes, Field, SecretStr, TypeAdapter

from tests.core.value_samples import EXPORTED, Data, Infinite, Login, Plain, Strict, Swapped, exactly, typed_values
from workflow_core import (
    Activity,
    Child,
    DefinitionError,
    Execution,
    ExecutionError,
    InvalidFields,
    InvalidInput,
    On,
    S,
    Select,
    Sleep,
    Step,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.errors import InvalidOutput
from workflow_core.machine.machine import Machine
from workflow_core.machine.passing import pack_fields
from workflow_core.wait_types import ChildWait

REFUSALS = (InvalidFields, InvalidInput, InvalidOutput, ExecutionError, DefinitionError)


def typed(function: Callable[..., Any], **annotations: Any) -> Callable[..., Any]:
    """A function with these annotations."""
    function.__annotations__ = annotations
    return function


def workflow(name: str, annotation: Any, *statements: Any, **attributes: Any) -> type[Workflow]:
    """A workflow with a field ``value`` of that type."""
    fields = {"__annotations__": {"value": annotation}, "definition": S(*statements), "__module__": __name__}
    return new_class(name, (Workflow,), {"name": name}, lambda body: body.update(fields | attributes))


def saved(execution: Execution) -> Execution:
    return Execution.from_json(execution.to_json())


def through_fields(annotation: Any, value: Any) -> Any:
    cls = workflow("fields", annotation, Step("a", lambda w: None))
    order = cls.model_construct(value=value)
    loaded = cls.load_fields(order.dump_fields())
    order.refuse_changes(loaded)
    return loaded.value  # type: ignore[attr-defined]


def through_activity(annotation: Any, value: Any) -> Any:
    arrived: list[Any] = []

    def work(input: Any) -> Any:
        arrived.append(input)
        return input

    def then(w: Any, result: Any) -> None:
        arrived.append(result)

    activity = Activity(
        "work",
        typed(work, input=annotation, **{"return": annotation}),
        input=lambda w: w.value,
        then=typed(then, result=annotation),
    )
    cls = workflow("activity", annotation, Sleep("s", timedelta(0)), activity)
    order, execution = cls.model_construct(value=value), Execution.start("1", cls)
    resume(order, execution)
    handle_event(order, execution, "s")
    resume(order, saved(execution))
    assert exactly(arrived[0]) == exactly(arrived[1])
    return arrived[1]


def through_buffer(annotation: Any, value: Any) -> Any:
    arrived: list[Any] = []

    def keep(w: Any, input: Any) -> None:
        arrived.append(input)

    event = On("E", typed(keep, input=annotation), buffered=True)
    cls = workflow("buffer", annotation, Sleep("s", timedelta(0)), Select("wait", event))
    order, execution = cls.model_construct(value=value), Execution.start("1", cls)
    resume(order, execution)
    assert handle_event(order, execution, "E", value) is None
    execution = saved(execution)
    handle_event(order, execution, "s")
    resume(order, execution)
    assert arrived, "the event was dropped"
    assert exactly(arrived[0]) == exactly(TypeAdapter(annotation).validate_python(value)), "as if it was not kept"
    return value


def through_child(annotation: Any, value: Any) -> Any:
    arrived: list[Any] = []

    def result(self: Any) -> Any:
        return self.value

    def then(w: Any, result: Any) -> None:
        arrived.append(result)

    child = workflow("child", annotation, Step("a", lambda w: None), result=typed(result, **{"return": annotation}))
    statement = Child("c", child, input=lambda w: {"value": w.value}, then=typed(then, result=annotation))
    parent = workflow("parent", annotation, statement)
    order, execution = parent.model_construct(value=value), Execution.start("1", parent)
    resume(order, execution)
    execution = saved(execution)
    (wait,) = execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    started = child.new(json.dumps(wait.child["fields"]))
    started = child.load_fields(started.dump_fields())
    machine = Machine(order, execution)
    found = machine.find("c")
    if found is None:  # the start is not reported yet
        work = machine.next_work()
        assert work is not None
        machine.done(work)
        found = machine.child("c", wait.id)
    assert found is not None
    packed = started.pack_result()
    machine.handle_json(found, packed.text, is_secret=packed.shown is not None)
    return arrived[0]


WAYS = [through_fields, through_activity, through_buffer, through_child]


@pytest.mark.usefixtures("quarters")
@settings(max_examples=40)
@given(typed_values())
def test_any_value_of_any_type_arrives_or_is_refused(typed_value: tuple[Any, Any]) -> None:
    annotation, value = typed_value
    for way in WAYS:
        try:
            arrived = way(annotation, value)
        except REFUSALS:
            continue
        assert exactly(arrived) == exactly(value), way


@pytest.mark.parametrize("name", EXPORTED)
def test_every_type_of_pydantic_arrives_or_is_refused(name: str) -> None:
    annotation, values = EXPORTED[name]
    kept = 0
    for value in values:
        for way in WAYS:
            try:
                arrived = way(annotation, value)
            except REFUSALS:
                continue
            kept += 1
            assert exactly(arrived) == exactly(value), (way, value)
    assert kept or name.startswith("Future"), "a field of such a type is refused"


# --- single cases -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Strict, Strict(**{"in": 3, "a": ["x"]})),
        (list[Strict], [Strict(**{"in": 3})]),
        (Login, Login(user="ada", token=SecretStr("x"))),
        (dict[str, Login | None], {"a": Login(token=SecretStr("x")), "b": None}),
        (float | None, 2.5),
        (Decimal, Decimal("1.10")),
        (tuple[int, ...], (1, 2)),
        (Base64Bytes, b"\xd7m\xde"),
    ],
)
@pytest.mark.parametrize("way", WAYS[:2] + WAYS[3:])
def test_it_arrives(way: Callable[..., Any], annotation: Any, value: Any) -> None:
    assert exactly(way(annotation, value)) == exactly(value)


@pytest.mark.parametrize("way", WAYS)
def test_fields_whose_aliases_are_swapped_never_change_their_places(way: Callable[..., Any]) -> None:
    value = Swapped(b=5, a=6)
    assert (value.a, value.b) == (5, 6)
    if way is through_fields:
        assert way(Swapped, value) == value
        return
    with pytest.raises(REFUSALS, match="a is 5, but would be loaded as 6"):
        way(Swapped, value)


def test_a_number_that_json_does_not_have_reaches_no_activity_and_no_child() -> None:
    value = Infinite(ratio=float("inf"))
    assert through_fields(Infinite, value) == value
    with pytest.raises(ExecutionError, match=r"the input of activity 'work' to JSON: ratio is inf. JSON has no such"):
        through_activity(Infinite, value)
    with pytest.raises(ExecutionError, match=r"the input of child 'c' to JSON: value\.ratio is inf"):
        through_child(Infinite, value)


class Job(Workflow, name="job"):
    number: int = Field(0, alias="Number")
    token: SecretStr = SecretStr("")
    definition = S(Step("a", lambda w: None))


@pytest.mark.parametrize("name", ["number", "Number"])
def test_fields_of_a_child_are_given_by_name_or_by_alias_and_taken_as_their_types_take_them(name: str) -> None:
    packed = pack_fields(Job, {name: "3", "token": SecretStr("hunter2")}, "job")
    assert json.loads(packed.text) == {"number": 3, "token": "hunter2"}
    assert "hunter2" not in (packed.shown_text or packed.text.decode())
    assert json.loads(pack_fields(Job, {"other": 3}, "job").text) == {"other": 3}, "which the child refuses"


def activity(function: Callable[..., Any], value: Any, then: Callable[..., Any] | None = None, **fields: Any) -> Any:
    cls = workflow("work", Any, Activity("work", function, input=lambda w: value, then=then))
    order, execution = cls(value=None), Execution.start("1", cls)
    resume(order, execution)
    return order.value  # type: ignore[attr-defined]


def keep_any(w: Any, result: Any) -> None:
    w.value = result


def test_data_that_fits_is_taken_as_the_parameter_takes_it() -> None:
    seen: list[Any] = []

    def work(input: Plain) -> None:
        seen.append(input)

    activity(work, {"number": "3"})
    assert seen == [Plain(number=3)]
    with pytest.raises(InvalidInput, match="number: Input should be a valid integer"):
        activity(work, {"number": "x"})


def test_a_result_without_an_annotation_has_the_type_that_then_takes() -> None:
    seen: list[Any] = []

    def make(input: Any):  # type: ignore[no-untyped-def]
        return (Plain(number=1), Data(2))

    def keep(w: Any, result: tuple[Plain, Data]) -> None:
        seen.append(result)

    activity(make, None, keep)
    assert seen == [(Plain(number=1), Data(2))]
    with pytest.raises(
        InvalidOutput, match=r"would not reach 'then' unchanged: the value is \(Plain\(.*loaded as \[\{"
    ):
        activity(make, None, keep_any)


def test_a_result_that_its_annotation_would_change_is_refused() -> None:
    def soon(input: Any) -> datetime:
        return datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))

    with pytest.raises(
        InvalidOutput, match=r"activity 'work' returned a value .* result is 2026-07-01 .*Europe/Berlin"
    ):
        activity(soon, None, keep_any)


def test_a_secret_reaches_only_code_that_says_it_takes_one() -> None:
    def login(input: str) -> SecretStr:
        return SecretStr("hunter2")

    with pytest.raises(DefinitionError, match="its result contains secrets, which 'then' would receive as plain texts"):
        activity(login, "ada", keep_any)
    activity(login, "ada")

    def takes_text(input: str) -> str:
        return input

    with pytest.raises(ExecutionError, match="it is a secret, but its receiver is not annotated") as refused:
        activity(takes_text, SecretStr("hunter2"), keep_any)
    assert "hunter2" not in str(refused.value)


class Twig(Workflow, name="twig"):
    password: SecretStr = SecretStr("")
    depth: int = 0
    definition = S(Child("twig", "twig", input=lambda w: {"password": w.password, "depth": 1}))


class Stranger(Workflow, name="stranger"):
    given: Any = None
    definition = S(Child("c", "elsewhere", input=lambda w: FIELDS))


FIELDS: dict[str, Any] = {}


def child_of(order: Workflow) -> dict[str, Any]:
    execution = Execution.start("1", type(order))
    resume(order, execution)
    (wait,) = execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    return wait.child


def test_a_child_by_name_gets_each_value_in_the_form_of_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    started = child_of(Twig(password=SecretStr("hunter2")))
    assert started["fields"] == {"password": "hunter2", "depth": 1}, "its own class is known"
    FIELDS.update(rows=[Strict(**{"in": 3})], at=date(2026, 1, 2), pair=(1, Decimal("1.10")), names={1: "a"})
    assert child_of(Stranger())["fields"] == {
        "rows": [{"number": 3, "path": ""}],
        "at": "2026-01-02",
        "pair": [1, "1.10"],
        "names": {"1": "a"},
    }
    FIELDS["at"] = datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))
    with pytest.raises(ExecutionError, match=r"the input of child 'c' to JSON: at is 2026-07-01 .*Europe/Berlin"):
        child_of(Stranger())
    FIELDS["at"] = [float("nan")]
    with pytest.raises(ExecutionError, match=r"at\.0 is nan"):
        child_of(Stranger())
    FIELDS["at"] = {"token": SecretStr("hunter2")}
    with pytest.raises(ExecutionError, match=r"at\.token is a secret, but its receiver is not annotated"):
        child_of(Stranger())


class Given(Workflow, name="given"):
    a: int = 1
    b: list[Plain] = []
    definition = S(Step("s", lambda w: None))


class Giver(Workflow, name="giver"):
    definition = S(Child("c", Given, input=lambda w: FIELDS["given"]))


def test_only_the_fields_that_are_given_are_passed_on() -> None:
    FIELDS["given"] = {"b": [Plain(number=2)]}
    assert child_of(Giver())["fields"] == {"b": [{"number": 2, "words": []}]}
    FIELDS["given"] = {"a": "2", "gone": 1}
    assert child_of(Giver())["fields"] == {"a": "2", "gone": 1}, "the child refuses it when it is started"


def test_result_is_checked_for_accidents() -> None:
    class Forgets(Workflow, name="forgets"):
        def other(self) -> int:
            return 1

        def result(self) -> Any:
            return self.other

        definition = S(Step("s", lambda w: None))

    with pytest.raises(ExecutionError, match=r"the method 'result' of Forgets returned the function 'other' itself"):
        Forgets().result_json()
    with pytest.raises(DefinitionError, match=r"the method 'result' of workflow 'later': it is async"):

        class Later(Workflow, name="later"):
            async def result(self) -> int:
                return 1

            definition = S(Step("s", lambda w: None))

    with pytest.raises(DefinitionError, match="is a generator"):

        class Yields(Workflow, name="yields"):
            def result(self) -> Any:
                yield 1

            definition = S(Step("s", lambda w: None))


def test_a_result_that_would_be_changed_is_refused() -> None:
    class Ends(Workflow, name="ends"):
        def result(self) -> list[Plain]:
            class Sub(Plain):
                more: int = 1

            return [Sub()]

        definition = S(Step("s", lambda w: None))

    with pytest.raises(InvalidFields, match=r"result\.0 is Sub\(.*, but would be loaded as Plain"):
        Ends().result_json()
