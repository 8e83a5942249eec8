"""What is refused in the statements for failures, waiting, many things at once and work done elsewhere.

Some of it by the constructor, some when the class is created; the author meets both at import.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, do, log
from workflow_core import (
    Activity,
    ActivityContext,
    Break,
    Child,
    Continue,
    DefinitionError,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    Try,
    While,
    Workflow,
)

nothing = log("")
DAY = timedelta(days=1)


def holds(w: Any) -> bool:
    return True


async def later(w: Any) -> None: ...


async def later_with(w: Any, error: Any) -> None: ...


def zero() -> None: ...


def two(a: Any, b: Any) -> None: ...


def three(a: Any, b: Any, c: Any) -> None: ...


def method(self: Any, number: int) -> None: ...


def unannotated(n, context) -> None: ...  # type: ignore[no-untyped-def]


class Handler:
    def setup(self, request: Any) -> None: ...

    def handle(self, request: Any, input: int) -> None: ...

    def teardown(self, request: Any, handled: bool) -> None: ...


def items(w: Any) -> list[int]:
    return [1]


def attempt(*statements: Any, **options: Any) -> Try:
    return Try("t", *(statements or (do("x"),)), **options)


def each(*statements: Any, **options: Any) -> ForEach:
    return ForEach("f", items, *(statements or (do("x"),)), **options)


REFUSED: list[tuple[str, Callable[[], Any], str, str, str]] = [
    # what, how it is written, statement, reason, fix
    ("an empty Try", lambda: Try("t"), "Try 't'", "no statements", "Add at least one statement"),
    ("a Try without a name", lambda: Try(do("x")), "Try Step", "no name", "Try('...', ...)"),
    ("a Try that catches nothing", lambda: attempt(), "Try 't'", "catches nothing", ".except_(...) or .finally_(...)"),
    (
        "except_ of no class",
        lambda: attempt().except_(3),
        "except_ of Try 't'",
        "3 is not an error class",
        "ValueError",
    ),
    (
        "except_ of an error",
        lambda: attempt().except_(OSError()),
        "except_ of Try 't'",
        "is not an error class",
        "Use cl",
    ),
    (
        "except_ of no error",
        lambda: attempt().except_(int),
        "except_ of Try 't'",
        "is not an error class",
        "Use classes",
    ),
    (
        "except_ of an empty tuple",
        lambda: attempt().except_(()),
        "except_ of Try 't'",
        "has no error class",
        "Use classes",
    ),
    (
        "except_ of a statement",
        lambda: attempt().except_(do("a")),
        "except_ of Try 't'",
        "is not an error class",
        "Use classes",
    ),
    (
        "except_ with a class",
        lambda: attempt().except_(OSError, Return),
        "except_ of Try 't'",
        "is not a statement",
        "Call it",
    ),
    (
        "except_ with a value",
        lambda: attempt().except_(OSError, then=3),
        "'t except OSError'",
        "then is 3",
        "a function",
    ),
    (
        "except_ behind finally_",
        lambda: attempt().finally_(do("a")).except_(OSError, do("b")),
        "except_ of Try 't'",
        "comes after finally_",
        "Put finally_ last",
    ),
    ("an empty finally_", lambda: attempt().finally_(), "finally_ of Try 't'", "no statements", "Add at least one"),
    (
        "two finally_",
        lambda: attempt().finally_(do("a")).finally_(do("b")),
        "finally_ of Try 't'",
        "there are two",
        "into one finally_",
    ),
    (
        "except_ under a name that is taken",
        lambda: attempt().except_(OSError, name="x"),
        "Step 'x'",
        "taken by an except_",
        "Rename",
    ),
    (
        "two except_ of one class",
        lambda: attempt().except_(OSError).except_(OSError),
        "except_ 't except OSError'",
        "taken by an except_",
        "Rename one",
    ),
    (
        "then without the error",
        lambda: attempt().except_(OSError, then=nothing),
        "except_ 't",
        "signature",
        "the error",
    ),
    ("then of three", lambda: attempt().except_(OSError, then=three), "except_ 't", "signature", "and the error"),
    ("an async then", lambda: attempt().except_(OSError, then=later_with), "except_ 't", "is async", "into a Step"),
    *(
        (
            f"{kind} out of a finally_",
            lambda leave=leave: While("w", holds, attempt().finally_(do("y"), If("i", holds, leave))),
            "finally_ of Try 't'",
            f"a {kind} leaves it",
            "run to its end",
        )
        for kind, leave in (("Break", Break()), ("Continue", Continue()), ("Return", Return()))
    ),
    (
        "Return out of a Try in a finally_",
        lambda: attempt().finally_(Try("u", Return()).finally_(do("y"))),
        "finally_ of Try 't'",
        "a Return leaves it",
        "run to its end",
    ),
    ("a Fail without a message", lambda: Fail("f", None), "Fail 'f'", "message is None", "Pass a text"),
    ("a Fail without a name", lambda: Fail("", "why"), "Fail ''", "no name", "Fail('...', ...)"),
    ("an async message", lambda: Fail("f", later), "Fail 'f'", "its message is async", "Compute the value in a Step"),
    ("a message of two", lambda: Fail("f", two), "Fail 'f'", "signature", "the workflow alone"),
    ("a Sleep without a delay", lambda: Sleep("s", None), "Sleep 's'", "delay is None", "Pass a timedelta"),
    ("a Sleep for a number", lambda: Sleep("s", 5), "Sleep 's'", "delay is 5", "Pass a timedelta"),
    (
        "a Sleep until no zone",
        lambda: Sleep("s", datetime(2030, 1, 1)),
        "Sleep 's'",
        "without a time zone",
        "tzinfo=UTC",
    ),
    (
        "a Timeout at no zone",
        lambda: Timeout("t", NOON.replace(tzinfo=None)),
        "Timeout 't'",
        "without a time zone",
        "tzinfo=UTC",
    ),
    ("an async delay", lambda: Sleep("s", later), "Sleep 's'", "its delay is async", "in a Step"),
    (
        "a Sleep and an event of one name",
        lambda: S(Sleep("E", DAY), Select("s", On("E", nothing))),
        "Sleep 'E'",
        "an event has the same name",
        "Rename one",
    ),
    ("an empty ForEach", lambda: ForEach("f", items), "ForEach 'f'", "no statements", "Add at least one statement"),
    ("a ForEach of a list", lambda: ForEach("f", [1], do("x")), "'f'", "its items is [1]", "a function"),
    ("async items", lambda: ForEach("f", later, do("x")), "ForEach 'f'", "its items is async", "in a Step"),
    ("items of two", lambda: ForEach("f", two, do("x")), "ForEach 'f'", "signature", "the workflow alone"),
    ("a limit without parallel", lambda: each(limit=3), "ForEach 'f'", "limit is 3", "parallel=True, limit=10"),
    ("a limit of 0", lambda: each(parallel=True, limit=0), "ForEach 'f'", "limit is 0", "limit=10"),
    ("a limit of 1.5", lambda: each(parallel=True, limit=1.5), "ForEach 'f'", "limit is 1.5", "limit=10"),
    (
        "Break in a parallel round",
        lambda: each(Break(), parallel=True),
        "Break in",
        "of a parallel ForEach are not part of a loop",
        "Return()",
    ),
    (
        "a handler with the item outside of a ForEach",
        lambda: Select("s", On("E", lambda w, *, item: None)),
        "On 'E'",
        "signature",
        "at most one input",
    ),
    (
        "a condition of three",
        lambda: each(If("i", three, do("x"))),
        "If 'i'",
        "signature",
        "the workflow and the item of the ForEach",
    ),
    (
        "a condition of the item behind the ForEach",
        lambda: S(each(), If("i", two, do("y"))),
        "If 'i'",
        "signature",
        "the workflow alone",
    ),
    (
        "a Parallel without branches",
        lambda: Parallel("p"),
        "Parallel 'p'",
        "no branch",
        "Parallel(name, S(...), S(...))",
    ),
    ("a step as branch", lambda: Parallel("p", do("x")), "Parallel 'p'", "is not a section", "Write S(...) around it"),
    (
        "an empty branch",
        lambda: Parallel("p", S(do("x")), S()),
        "Parallel 'p'",
        "is not a section with st",
        "Write S(...)",
    ),
    (
        "Break in a branch",
        lambda: While("w", holds, Parallel("p", S(Break()))),
        "Break in",
        "outside a loop",
        "Return()",
    ),
    (
        "two branches of one prefix",
        lambda: Parallel("p", S(do("x"), prefix="a"), S(do("y"), prefix="a")),
        "branch of Parallel 'p[a]'",
        "taken by a branch of Parallel",
        "prefix",
    ),
    ("an Activity of a text", lambda: Activity("a", "x"), "'a'", "function is 'x'", "Pass a function"),  # type: ignore[call-overload]
    (
        "an Activity of three",
        lambda: Activity("a", three),
        "Activity 'a'",
        "signature",
        "the input and an ActivityContext",
    ),
    ("an Activity of a method", lambda: Activity("a", method), "Activity 'a'", "is a method", "@staticmethod"),
    ("an Activity without types", lambda: Activity("a", unannotated), "Activity 'a'", "no annotation", "n: SomeType"),
    ("an Activity of a context first", lambda: Activity("a", context_first), "Activity 'a'", "JSON schema", "pydantic"),
    ("an input of a value", lambda: Activity("a", zero, input=3), "'a'", "input is 3", "Pass a function"),  # type: ignore[call-overload]
    (
        "an input for nobody",
        lambda: Activity("a", zero, input=items),
        "Activity 'a'",
        "takes none",
        "Give it a parameter",
    ),
    ("an async input", lambda: Activity("a", one, input=later), "Activity 'a'", "its input is async", "in a Step"),
    (
        "a then of three",
        lambda: Activity("a", one, then=three),
        "then of Activity 'a'",
        "signature",
        "at most the result",
    ),
    (
        "a then without types",
        lambda: Activity("a", one, then=bare),
        "then of Activity 'a'",
        "no annotation",
        "SomeType",
    ),
    ("an async then of an activity", lambda: Activity("a", one, then=later), "Activity 'a'", "is async", "into a Step"),
    (
        "a timeout of a number",
        lambda: Activity("a", one, timeout=3),  # type: ignore[call-overload]
        "Activity 'a'",
        "timeout is 3",
        "timedelta(seconds",
    ),
    ("a timeout of nothing", lambda: Activity("a", one, timeout=0 * DAY), "Activity 'a'", "timeout is", "timedelta("),
    ("a timeout before", lambda: Activity("a", one, timeout=-DAY), "Activity 'a'", "timeout is", "timedelta(seconds"),
    (
        "a heartbeat of a number",
        lambda: Activity("a", later, heartbeat=3),  # type: ignore[call-overload]
        "Activity 'a'",
        "heartbeat is 3",
        "timedelta(",
    ),
    (
        "a timeout and a heartbeat",
        lambda: Activity("a", later, timeout=DAY, heartbeat=DAY),
        "Activity 'a'",
        "a timeout and a heartbeat",
        "one of them",
    ),
    ("a heartbeat of a plain one", lambda: Activity("a", one, heartbeat=DAY), "Activity 'a'", "not async", "async def"),
    ("a number as policy", lambda: Activity("a", one, retry=3), "Activity 'a'", "retry is 3", "retry=Retry("),  # type: ignore[call-overload]
    (
        "an Activity and an event of one name",
        lambda: S(Activity("E", one), Select("s", On("E", nothing))),
        "Activity 'E'",
        "an event has the same name",
        "Rename one",
    ),
    (
        "a Child of no workflow",
        lambda: Child("c", 3),
        "Child 'c'",
        "3 is not a workflow",
        "a Workflow class, or its name",
    ),
    ("a Child of an abstract one", lambda: Child("c", object), "Child 'c'", "is not a workflow", "a Workflow class"),
    ("a Child under a number", lambda: Child("c", "w", id=3), "Child 'c'", "id is 3", "Pass a text"),
    ("a Child under an empty id", lambda: Child("c", "w", id=""), "Child 'c'", "id is ''", "Pass a text"),
    ("a Child's input of a value", lambda: Child("c", "w", input={}), "'c'", "input is {}", "Pass a function"),
    ("a Child's async input", lambda: Child("c", "w", input=later), "Child 'c'", "its input is async", "in a Step"),
    ("a Child's then of a value", lambda: Child("c", "w", then=3), "'c'", "then is 3", "Pass a function"),
    (
        "a detached Child's then",
        lambda: Child("c", "w", then=one, detached=True),
        "Child 'c'",
        "no result",
        "Omit",
    ),
    ("a Child's then of three", lambda: Child("c", "w", then=three), "then of Child 'c'", "signature", "the result"),
    (
        "a Child and an event of one name",
        lambda: S(Child("E", "w"), Select("s", On("E", nothing))),
        "Child 'E'",
        "an event has the same name",
        "Rename one",
    ),
    ("a Step's policy of a number", lambda: Step("s", nothing, retry=3), "Step 's'", "retry is 3", "Retry("),
    ("a Step's timeout of a number", lambda: Step("s", later, timeout=3), "Step 's'", "timeout is 3", "timedelta("),
    (
        "a plain Step's timeout",
        lambda: Step("s", nothing, timeout=DAY),
        "Step 's'",
        "cannot be interrupted",
        "async def",
    ),
    (
        "a buffered handler object",
        lambda: On("E", Handler(), buffered=True),
        "On 'E'",
        "is set up",
        "Omit buffered",
    ),
    (
        "an endless loop of Try",
        lambda: While("w", holds, attempt(If("i", holds, Go("g", do("x")))).except_(OSError)),
        "While 'w'",
        "never end",
        "Add a Step",
    ),
    (
        "an endless loop of ForEach",
        lambda: While("w", holds, each(If("i", holds, Break()))),
        "While 'w'",
        "never end",
        "Step",
    ),
]


def one(n: int) -> None: ...


def bare(w, result) -> None: ...  # type: ignore[no-untyped-def]


def context_first(context: ActivityContext, n: int) -> None: ...


@pytest.mark.parametrize(
    ("build", "statement", "reason", "fix"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_it_is_refused_and_says_where_why_and_what_to_do(
    build: Callable[[], Any], statement: str, reason: str, fix: str
) -> None:
    with pytest.raises(DefinitionError) as caught:

        class Refused(Workflow):
            definition = S(build())

    error = caught.value
    assert error.statement.startswith(statement)
    assert reason in error.reason
    assert fix in error.fix
    assert str(error) == f"{error.statement}: {error.reason}. {error.fix}"


KINDS: list[tuple[Any, str]] = [
    (attempt(do("y")).finally_(do("z")), "Try 't'"),
    (Fail("t", "why"), "Fail 't'"),
    (Sleep("t", DAY), "Sleep 't'"),
    (ForEach("t", items, do("y")), "ForEach 't'"),
    (ForEach("t", items, do("y"), parallel=True), "ForEach 't'"),
    (Parallel("t", S(do("y"))), "Parallel 't'"),
    (Activity("t", one), "Activity 't'"),
    (Child("t", "w"), "Child 't'"),
    (Try("a", do("y")).except_(OSError, name="t"), "except_ 't'"),
    (Parallel("p", S(do("t"))), "Step 't'"),
    (ForEach("f", items, do("t"), parallel=True), "Step 't'"),
]


@pytest.mark.parametrize(("statement", "where"), KINDS, ids=[row[1] for row in KINDS])
def test_a_name_is_taken_once(statement: Any, where: str) -> None:
    with pytest.raises(DefinitionError) as caught:

        class Refused(Workflow):
            definition = S(do("t"), statement)

    assert (caught.value.statement, caught.value.reason) == (where, "the name is taken by a Step")


def test_a_section_with_a_prefix_may_stand_twice_with_every_statement() -> None:
    section = (
        Try("try", Fail("fail", "why")).except_(OSError, Sleep("sleep", DAY)).finally_(Activity("activity", one)),
        ForEach("each", items, do("a")),
        ForEach("all", items, do("b"), parallel=True),
        Parallel("both", S(do("c")), S(Child("child", "w"))),
    )

    class Twice(Workflow):
        definition = S(S(*section, prefix="p"), S(*section, prefix="q"))

    program = Twice.__program__
    for name in ("fail", "sleep", "activity", "all", "both", "child", "a", "b", "c"):
        assert {f"p/{name}", f"q/{name}"} <= set(program.rests)
    assert {"p/all", "q/all", "p/both[0]", "q/both[1]"} <= set(program.entries)


def version(*statements: Any) -> str:
    class Versioned(Workflow, name="versioned"):
        definition = S(*statements)

    return Versioned.__program__.version


def test_the_version_depends_on_every_statement_and_its_place() -> None:
    x, y = do("x"), do("y")
    versions = [
        version(x, y),
        version(Try("t", x).finally_(y)),
        version(Try("t", x, y).except_(OSError)),
        version(Try("t", x).except_(OSError, y)),
        version(Try("t", x).except_(ValueError, y)),
        version(Fail("t", "m"), x, y),
        version(Sleep("t", DAY), x, y),
        version(ForEach("t", items, x), y),
        version(ForEach("t", items, x, y)),
        version(ForEach("t", items, x, parallel=True), y),
        version(Parallel("t", S(x)), y),
        version(Parallel("t", S(x), S(y))),
        version(Parallel("t", S(x, y))),
        version(Activity("t", one), x, y),
        version(Activity("t", zero), x, y),
        version(Child("t", "w"), x, y),
        version(Child("t", "v"), x, y),
        version(Child("t", "w", detached=True), x, y),
    ]
    assert len(set(versions)) == len(versions)
    assert version(Sleep("t", DAY)) == version(Sleep("t", 2 * DAY)), "a delay is read when it is met"


def test_values_that_can_be_right_are_taken() -> None:
    def typed(w: Any, result: int) -> None: ...
    def same(number: int) -> int:
        return number

    class Taken(Workflow):
        definition = S(
            Sleep("until", NOON),
            Sleep("for", lambda w: DAY),
            Select("s", Timeout("at", NOON), On("E", nothing, buffered=True)),
            Step("step", later, timeout=DAY),
            Activity("a", later_with, timeout=DAY),
            Activity("b", zero, then=nothing),
            Activity("c", same, then=typed, input=lambda w: 1),
            ForEach("f", items, Break(), If("i", lambda w, item: True, Continue())),
            ForEach("g", lambda w: [], ForEach("h", lambda w, item: [item], do("x"), parallel=True, limit=1)),
            Try("t", Return()).except_((OSError, ValueError)).finally_(While("w", holds, Break(), do("y"))),
            Go("go", Try("in a thread", Return()).finally_(Parallel("p", S(Return())), Go("deep", Return()))),
        )

    assert Taken.__program__.async_parts == ("step", "a")
