"""What is found when a workflow class is created, because it takes the whole definition to see."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from tests.core.helpers import do, log
from workflow_core import (
    Break,
    Case,
    Continue,
    Default,
    DefinitionError,
    Do,
    EventRequest,
    Execution,
    Go,
    If,
    On,
    Return,
    S,
    Section,
    Select,
    Step,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    Workflow,
    resume,
)

nothing = log("")


def holds(w: Any) -> bool:
    return True


async def later(w: Any) -> None: ...


def define(*statements: Any) -> type[Workflow]:
    class Defined(Workflow):
        definition = S(*statements)

    return Defined


def refusal(*statements: Any) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        define(*statements)
    error = caught.value
    assert error.fix and not error.reason.endswith(".")
    assert str(error) == f"{error.statement}: {error.reason}. {error.fix}"
    return error


# --- names -----------------------------------------------------------------------------------

TAKEN: list[tuple[Any, str, str]] = [
    (do("a"), "Step 'a'", "a Step"),
    (Do("a", nothing), "Do 'a'", "a Step"),
    (Try("a", do("x")).finally_(do("y")), "Try 'a'", "a Step"),
    (Select("a", On("E", nothing)), "Select 'a'", "a Step"),
    (Select("s", Timeout("a", timedelta(1))), "Timeout 'a'", "a Step"),
    (WaitFor("a", holds), "WaitFor 'a'", "a Step"),
    (Go("a", do("x")), "Go 'a'", "a Step"),
    (Go("g", do("a")), "Step 'a'", "a Step"),
]


@pytest.mark.parametrize(("statement", "where", "taken_by"), TAKEN, ids=[row[1] for row in TAKEN])
def test_a_name_is_taken_once(statement: Any, where: str, taken_by: str) -> None:
    error = refusal(do("a"), statement)
    assert error.statement == where
    assert error.reason == f"the name is taken by {taken_by}"
    assert "Rename one" in error.fix
    assert "prefix" in error.fix


def test_decisions_and_loops_may_have_any_names() -> None:
    statements = (
        If("a", holds, do("a")).elif_("a", holds, do("b")),
        Switch("a", Case("a", holds, do("c")), Default()),
        While("a", holds, do("d"), If("a", holds, Break())),
    )
    assert list(define(*statements).__program__.rests) == ["a", "b", "c", "d"]


def test_the_name_of_the_main_thread_is_taken() -> None:
    error = refusal(do("main"))
    assert (error.statement, error.reason) == ("Step 'main'", "the name is taken by the main thread")


def test_one_event_may_be_waited_for_in_many_selects() -> None:
    workflow = define(Select("first", On("E", nothing)), Select("second", On("E", nothing)))
    assert [select for select, _ in workflow.__program__.events["E"]] == ["first", "second"]


# --- prefixes --------------------------------------------------------------------------------


def test_a_section_used_twice_needs_a_prefix() -> None:
    section = S(do("pack"), do("send"))
    assert refusal(section, section).statement == "Step 'pack'"
    workflow = define(S(section, prefix="first"), S(section, prefix="second"))
    assert list(workflow.__program__.rests) == ["first/pack", "first/send", "second/pack", "second/send"]


def test_prefixes_nest_and_end_with_their_section() -> None:
    workflow = define(S(do("a"), S(do("b"), prefix="in"), do("c"), prefix="out"), do("d"))
    assert list(workflow.__program__.rests) == ["out/a", "out/in/b", "out/c", "d"]


def test_a_prefix_reaches_threads_and_timeouts_but_not_events() -> None:
    workflow = define(
        S(
            Go("g", Select("s", On("E", nothing), Timeout("t", timedelta(1)))),
            If("i", holds, do("x")),
            prefix="p",
        )
    )
    program = workflow.__program__
    assert set(program.entries) == {"main", "p/g"}
    assert list(program.select("p/s").cases) == ["E", "p/t"]
    assert "p/x" in program.rests


def test_a_qualified_name_may_still_be_taken() -> None:
    error = refusal(do("p/a"), S(do("a"), prefix="p"))
    assert (error.statement, error.reason) == ("Step 'p/a'", "the name is taken by a Step")


# --- loops -----------------------------------------------------------------------------------

OUTSIDE: list[tuple[str, list[Any], str]] = [
    ("at the top", [Break()], "Break"),
    ("in an If", [If("i", holds, Continue())], "Continue"),
    ("in a Go inside a loop", [While("w", holds, do("a"), Go("g", Break()))], "Break"),
    ("in a Go inside a loop, in an If", [While("w", holds, do("a"), Go("g", If("i", holds, Continue())))], "Continue"),
    ("behind a loop", [While("w", holds, do("a")), Break()], "Break"),
]


@pytest.mark.parametrize(("statements", "kind"), [row[1:] for row in OUTSIDE], ids=[row[0] for row in OUTSIDE])
def test_break_and_continue_need_a_loop(statements: list[Any], kind: str) -> None:
    error = refusal(*statements)
    assert error.statement == f"{kind} in workflow 'Defined'"
    assert "outside a loop" in error.reason
    assert "the threads of a Go or of a parallel ForEach are not part of a loop around them" in error.reason
    assert "Put it inside a While" in error.fix


ENDLESS: list[tuple[str, Any]] = [
    ("only an If", If("i", holds, Continue())),
    ("only a Go", Go("g", do("a"))),
    ("only an inner loop that is left", While("inner", holds, Break())),
]


@pytest.mark.parametrize("body", [row[1] for row in ENDLESS], ids=[row[0] for row in ENDLESS])
def test_a_loop_that_nothing_can_end_is_refused(body: Any) -> None:
    error = refusal(While("w", holds, body))
    assert error.statement == "While 'w'"
    assert "it would never end" in error.reason
    assert "Add a Step, a Select or a WaitFor inside, or leave the loop with Break" in error.fix


@pytest.mark.parametrize(
    "body",
    [do("a"), Select("s", On("E", nothing)), WaitFor("f", holds), Break(), Return(), While("inner", holds, do("b"))],
    ids=lambda body: type(body).__name__,
)
def test_a_loop_that_something_can_end_is_taken(body: Any) -> None:
    (loop,) = define(While("w", holds, body)).__program__.definition.statements
    assert isinstance(loop, While) and loop.body == S(body)


# --- functions -------------------------------------------------------------------------------


def two(a: Any, b: Any) -> bool:
    return True


def three(a: Any, b: Any, c: Any) -> bool:
    return True


def zero() -> None: ...


def keyword_only(w: Any, *, more: int) -> None: ...


ARITIES: list[tuple[str, Any, str, str]] = [
    ("step without parameter", Step("s", zero), "Step 's'", "the workflow, or the workflow and a StepContext"),  # type: ignore[arg-type]
    ("step of three", Step("s", three), "Step 's'", "the workflow, or the workflow and a StepContext"),
    ("step with a keyword of its own", Step("s", keyword_only), "Step 's'", "or the workflow and a StepContext"),
    ("If of two", If("i", two, do("a")), "If 'i'", "the workflow alone"),
    ("elif of none", If("i", holds, do("a")).elif_("e", zero, do("b")), "If 'e'", "the workflow alone"),  # type: ignore[arg-type]
    ("Case of two", Switch("s", Case("c", two)), "Case 'c'", "the workflow alone"),
    ("While of two", While("w", two, do("a")), "While 'w'", "the workflow alone"),
    ("WaitFor of none", WaitFor("w", zero), "WaitFor 'w'", "the workflow alone"),  # type: ignore[arg-type]
    ("handler of WaitFor of two", WaitFor("w", holds, two), "WaitFor 'w'", "the workflow alone"),
    ("handler of none", Select("s", On("E", zero)), "On 'E'", "the workflow and at most one input"),
    ("handler of three", Select("s", On("E", three)), "On 'E'", "the workflow and at most one input"),
    ("delay of two", Select("s", Timeout("t", two)), "Timeout 't'", "the workflow alone"),  # type: ignore[arg-type]
    ("thread id of two", Go("g", do("a"), id=two), "Go 'g'", "the workflow alone"),
]


@pytest.mark.parametrize(("statement", "where", "takes"), [row[1:] for row in ARITIES], ids=[row[0] for row in ARITIES])
def test_a_function_that_cannot_be_called_is_refused(statement: Any, where: str, takes: str) -> None:
    error = refusal(statement)
    assert error.statement == where
    assert "its function has the signature (" in error.reason
    assert takes in error.fix


def test_parameters_with_a_default_that_nobody_fills_are_left_alone() -> None:
    def check(w: Any, limit: int = 5) -> bool:
        return limit == 5

    workflow = define(If("i", check, WaitFor("w", check, check)), Go("g", do("a"), id=check))
    assert list(workflow.__program__.rests) == ["w", "a"]


def test_what_takes_a_context_is_seen_through_methods_partials_and_callables() -> None:
    class Acts:
        def __call__(self, w: Any, step: StepContext) -> None: ...

        def alone(self, w: Any) -> None: ...

    workflow = define(
        Step("callable", Acts()), Step("method", Acts().alone), Step("partial", functools.partial(three, 1)), do("f")
    )
    program = workflow.__program__
    takes = {name: program.step(name).takes_context for name in program.rests}
    assert takes == {"callable": True, "method": False, "partial": True, "f": False}


ASYNC: list[tuple[str, Any, str, str, str]] = [
    ("If", If("i", later, do("a")), "If 'i'", "its condition is async", "Compute the value in a Step"),
    ("elif", If("i", holds, do("a")).elif_("e", later, do("b")), "If 'e'", "condition is async", "in a Step"),
    ("Case", Switch("s", Case("c", later)), "Case 'c'", "its condition is async", "in a Step"),
    ("While", While("w", later, do("a")), "While 'w'", "its condition is async", "in a Step"),
    ("WaitFor", WaitFor("w", later), "WaitFor 'w'", "its condition is async", "in a Step"),
    ("handler", Select("s", On("E", later)), "On 'E'", "its handler is async", "the slow work into a Step"),
    ("WaitFor's handler", WaitFor("w", holds, later), "WaitFor 'w'", "its handler is async", "into a Step"),
]


@pytest.mark.parametrize(
    ("statement", "where", "reason", "fix"), [row[1:] for row in ASYNC], ids=[row[0] for row in ASYNC]
)
def test_what_runs_inside_a_request_may_not_be_async(statement: Any, where: str, reason: str, fix: str) -> None:
    error = refusal(statement)
    assert error.statement == where
    assert reason in error.reason
    assert fix in error.fix


def test_async_is_seen_through_partials_and_callables() -> None:
    class Later:
        async def __call__(self, w: Any) -> None: ...

    async def with_more(more: int, w: Any) -> None: ...

    assert refusal(Select("s", On("E", Later()))).reason.startswith("its handler is async")
    workflow = define(Step("a", Later()), Step("b", functools.partial(with_more, 1)), do("c"))
    assert workflow.__program__.async_parts == ("a", "b")


class Handler:
    """A right one; the tests spoil one method each."""

    def setup(self, request: EventRequest) -> None: ...
    def handle(self, request: EventRequest, input: int) -> None: ...
    def teardown(self, request: EventRequest, handled: bool) -> None: ...


def unannotated(self: Any, request: Any, input) -> None: ...  # type: ignore[no-untyped-def]


SPOILED: list[tuple[str, Callable[..., Any], str, str]] = [
    ("setup", lambda self: None, "has the signature ()", "It must accept setup(request)"),
    ("handle", lambda self, request: None, "has the signature (request)", "handle(request, input)"),
    ("handle", unannotated, "'input' has no annotation", "input: Any to accept any JSON value"),
    ("teardown", lambda self, request: None, "has the signature (request)", "teardown(request, handled)"),
]


@pytest.mark.parametrize(("method", "function", "reason", "fix"), SPOILED)
def test_the_methods_of_an_event_handler_are_checked(
    method: str, function: Callable[..., Any], reason: str, fix: str
) -> None:
    spoiled = type("Spoiled", (Handler,), {method: function})
    error = refusal(Select("s", On("E", spoiled())))
    assert error.statement == "On 'E'"
    assert reason in error.reason
    assert fix in error.fix


def test_a_class_is_no_handler() -> None:
    error = refusal(Select("s", On("E", Handler)))
    assert (error.statement, error.reason) == ("On 'E'", "its handler is a class")
    assert error.fix == "Create an object: Handler(...)."
    assert refusal(Select("s", On("E", dict))).fix == "Pass a function of the workflow."


# --- annotations -----------------------------------------------------------------------------


def test_an_input_needs_an_annotation() -> None:
    def handler(w, amount): ...  # type: ignore[no-untyped-def]

    error = refusal(Select("s", On("E", handler)))
    assert error.statement == "On 'E'"
    assert error.reason == "its parameter 'amount' has no annotation, so clients cannot know what to send"
    assert error.fix == "Write amount: SomeType, or amount: Any to accept any JSON value."


@pytest.mark.parametrize("annotation", ["Nowhere", "list[Nowhere]", "functools.nowhere", "list["])
def test_an_annotation_must_be_resolvable(annotation: str) -> None:
    def handler(w: Any, amount: int) -> None: ...

    handler.__annotations__["amount"] = annotation
    error = refusal(Select("s", On("E", handler)))
    assert error.statement == "On 'E'"
    assert "cannot be resolved" in error.reason
    assert error.fix == "Define that type above the workflow."


@pytest.mark.parametrize("where", ["amount", "return"])
@pytest.mark.parametrize("annotation", [Step, Callable[[], int], 5], ids=str)
def test_an_annotation_must_have_a_schema(where: str, annotation: Any) -> None:
    def handler(w: Any, amount: int) -> None: ...

    handler.__annotations__[where] = annotation
    error = refusal(Select("s", On("E", handler)))
    assert error.statement == "On 'E'"
    assert "JSON schema" in error.reason or "is no type" in error.reason
    assert error.fix.startswith("Use ")


def test_an_annotation_may_name_what_is_local_to_the_workflow() -> None:
    class Local(Workflow):
        def echo(self, other: Local) -> Local:
            return other

        definition = S(Select("s", On("E", echo)))

    signature = Local.__program__.select("s").cases["E"].signature
    assert signature is not None and signature.input_schema is not None
    assert signature.input_schema["title"] == "Local"


# --- the class -------------------------------------------------------------------------------


def test_a_field_must_have_a_schema() -> None:
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow, name="bad"):
            call: Callable[[], int] | None = None
            definition = S(do("a"))

    assert caught.value.statement == "workflow 'bad'"
    assert "its fields have no JSON schema" in caught.value.reason
    assert caught.value.fix == "Use types that pydantic can convert to JSON, defined above the workflow."


def test_a_field_must_be_resolvable() -> None:
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow, name="bad"):
            other: Nowhere | None = None  # type: ignore[name-defined]  # noqa: F821
            definition = S(do("a"))

    assert "Nowhere" in caught.value.reason


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "ä", "a" * 101, "a\n"])
def test_a_workflow_name_must_fit_a_url(name: str) -> None:
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow, name=name):
            definition = S(do("a"))

    assert caught.value.statement == f"workflow {name!r}"
    assert caught.value.reason == "the name is not valid in a URL"
    assert "[A-Za-z0-9]" in caught.value.fix


def test_a_workflow_is_named_after_its_class_or_as_it_says() -> None:
    class Plain(Workflow):
        definition = S(do("a"))

    class Named(Workflow, name="order-2_x"):
        definition = S(do("a"))

    assert (Plain.__workflow_name__, Named.__workflow_name__) == ("Plain", "order-2_x")


def test_search_fields_must_be_fields() -> None:
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow):
            status: str = ""
            search_fields = ("status", "statsu")
            definition = S(do("a"))

    assert caught.value.statement == "workflow 'Bad'"
    assert caught.value.reason == "its search field 'statsu' is not a field"
    assert caught.value.fix == "Name fields of the model."


@pytest.mark.parametrize("setting", ["search_fields", "default_retry"])
def test_what_is_no_field_bears_no_annotation(setting: str) -> None:
    """pydantic would make it a field, and the workflow would lose it without a word."""
    body = {"__module__": __name__, "definition": S(do("a")), "__annotations__": {setting: Any}}
    values = {"search_fields": (), "default_retry": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(DefinitionError, match=f"{setting!r} has an annotation"):
            types.new_class(
                "Bad", (Workflow,), exec_body=lambda names: names.update(body, **{setting: values[setting]})
            )


def test_search_fields_are_no_text() -> None:
    with pytest.raises(DefinitionError, match=r"Write a tuple: search_fields = \('customer',\)"):

        class Bad(Workflow):
            customer: str = ""
            search_fields = "customer"  # type: ignore[assignment]
            definition = S(do("a"))


class Item(BaseModel):
    name: str = ""


def searched_by(annotation: Any) -> None:
    """A workflow whose search field is of that type."""
    names = {"at": Field(alias="At"), "search_fields": ("at",), "definition": S(do("a"))}
    type("Searched", (Workflow,), names | {"__annotations__": {"at": annotation}, "__module__": __name__})


@pytest.mark.parametrize(
    "annotation",
    [int, str | None, date, Literal["a", 1], list[int] | str, Any, Decimal, Annotated[float, Field(ge=0)]],
)
def test_a_search_field_may_hold_what_is_found_by_its_text(annotation: Any) -> None:
    searched_by(annotation)


@pytest.mark.parametrize(
    "annotation", [list[str], tuple[int, int] | None, set[int], dict[str, int], list[list[int]], Item]
)
def test_a_search_field_may_not_hold_lists_or_objects(annotation: Any) -> None:
    with pytest.raises(DefinitionError, match="'at' contains lists or objects"):
        searched_by(annotation)


def test_a_named_workflow_needs_a_definition() -> None:
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow, name="bad"): ...

    assert caught.value.reason == "it has no definition"
    assert caught.value.fix == "Write async def run(self), or definition = S(...), in the class."


def test_a_run_that_is_not_async_is_no_definition() -> None:
    with pytest.raises(DefinitionError, match=r"its method run is not async\. Write async def run"):

        class Bad(Workflow, name="bad"):
            def run(self) -> None: ...


def test_an_action_may_have_the_name_run() -> None:
    class Flow(Workflow, name="flow"):
        async def run(self) -> None: ...

        definition = S(Step("run", run))

    assert list(Flow.__program__.methods) == ["run"]


@pytest.mark.parametrize("definition", [do("a"), (do("a"),), None])
def test_a_definition_is_a_section(definition: Any) -> None:
    wrong = definition
    with pytest.raises(DefinitionError) as caught:

        class Bad(Workflow, name="bad"):
            definition = wrong

    assert caught.value.statement == "workflow 'bad'"
    assert caught.value.fix == "Write definition = S(...)."


def test_a_class_without_name_and_definition_is_abstract_and_a_derived_one_inherits_both_parts() -> None:
    class Base(Workflow):
        status: str = "new"

    class First(Base):
        definition = S(do("a"))

    class Second(First, name="second"):
        extra: int = 0

    assert not hasattr(Base, "__program__")
    assert list(Second.model_fields) == ["status", "extra"]
    assert Second.__program__.workflow == "second"
    assert list(Second.__program__.rests) == ["a"]


# --- the version of a definition -------------------------------------------------------------


def version(*statements: Any) -> str:
    return define(*statements).__program__.version


def test_the_version_depends_on_names_order_nesting_and_schemas_alone() -> None:
    def takes_int(w: Any, input: int) -> None: ...
    def takes_text(w: Any, input: str) -> None: ...

    same = version(do("a"), do("b"))
    assert version(Step("a", later), Step("b", later)) == same
    others = [
        version(do("a")),
        version(do("b"), do("a")),
        version(do("a"), do("c")),
        version(do("a"), do("b"), Return()),
        version(do("a"), Section((do("b"),))),
        version(do("a"), Go("b", do("c"))),
        version(Select("a", On("E", takes_int))),
        version(Select("a", On("E", takes_text))),
        version(Select("a", On("F", takes_text))),
        version(Select("a", On("F", takes_text), Timeout("t", timedelta(1)))),
    ]
    assert len({same, *others}) == len(others) + 1


def test_an_event_and_a_timeout_do_not_share_a_name() -> None:
    with pytest.raises(DefinitionError, match="an event has the same name") as caught:

        class Confused(Workflow, name="confused"):
            definition = S(
                Select("first", On("X", lambda w: None)),
                Select("second", On("Y", lambda w: None), Timeout("X", timedelta(hours=1))),
            )

    assert caught.value.statement == "Timeout 'X'"
    assert caught.value.fix == "Rename one."


def test_a_default_without_an_annotation_is_the_authors_own() -> None:
    class Bound(Workflow, name="bound"):
        log: list[int] = []
        definition = S(*[Step(f"step {i}", lambda w, i=i: w.log.append(i)) for i in range(3)])

    workflow = Bound()
    resume(workflow, Execution.start("1", Bound))
    assert workflow.log == [0, 1, 2]
