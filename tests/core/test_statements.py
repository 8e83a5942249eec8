"""What a statement's constructor refuses by itself: bodies, names, conditions, the order of branches."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from workflow_core import (
    Break,
    Case,
    Default,
    DefinitionError,
    Go,
    If,
    On,
    Return,
    S,
    Section,
    Select,
    Step,
    Switch,
    Timeout,
    WaitFor,
    While,
    Workflow,
)


def nothing(w: Workflow) -> None: ...


def holds(w: Workflow) -> bool:
    return True


STEP = Step("a step", nothing)
ON = On("Event", nothing)

Build = Callable[[], Any]

REFUSED: list[tuple[str, Build, str, str, str]] = [
    # what, how it is written, statement, reason, fix
    ("empty If", lambda: If("i", holds), "If 'i'", "no statements", "Add at least one statement"),
    ("empty elif", lambda: If("i", holds, STEP).elif_("e", holds), "If 'e'", "no statements", "at least one"),
    ("empty else", lambda: If("i", holds, STEP).else_(), "else of 'i'", "no statements", "at least one"),
    ("empty While", lambda: While("w", holds), "While 'w'", "no statements", "at least one"),
    ("empty Go", lambda: Go("g"), "Go 'g'", "no statements", "at least one"),
    ("empty Select", lambda: Select("s"), "Select 's'", "wait forever", "an On or a Timeout"),
    ("empty Switch", lambda: Switch("s"), "Switch 's'", "no case", "at least one Case"),
    (
        "Default before a Case",
        lambda: Switch("s", Default(), Case("c", holds)),
        "Switch 's'",
        "comes after its Default",
        "one Default, last",
    ),
    ("two Defaults", lambda: Switch("s", Default(), Default()), "Switch 's'", "comes after its Default", "one Default"),
    (
        "elif behind else",
        lambda: If("i", holds, STEP).else_(STEP).elif_("e", holds, STEP),
        "If 'i'",
        "comes after its else_",
        "Put else_ last",
    ),
    (
        "two elses",
        lambda: If("i", holds, STEP).else_(STEP).else_(STEP),
        "If 'i'",
        "comes after its else_",
        "Put else_ last",
    ),
    ("On outside a Select", lambda: S(ON), "S", "is not a statement", "Put it into a Select"),
    (
        "Timeout outside a Select",
        lambda: While("w", holds, Timeout("t", timedelta(1))),
        "While 'w'",
        "is not a statement",
        "Put it into a Select",
    ),
    ("Case outside a Switch", lambda: S(Case("c", holds)), "S", "is not a statement", "Put it into a Switch"),
    ("Default outside a Switch", lambda: Go("g", Default()), "Go 'g'", "is not a statement", "Put it into a Switch"),
    ("a class", lambda: S(Return), "S", "is not a statement", "Call it: Return(...)"),
    (
        "a class in a body",
        lambda: While("w", holds, STEP, Break),
        "While 'w'",
        "is not a statement",
        "Call it: Break(...)",
    ),
    ("a function", lambda: S(nothing), "S", "is not a statement", "such as Step(name, action)"),
    ("a Step in a Select", lambda: Select("s", STEP), "Select 's'", "is not a case", "On(event, handler, ...)"),
    ("a Step in a Switch", lambda: Switch("s", STEP), "Switch 's'", "is not a case", "Case(name, cond, ...)"),
    ("one event twice", lambda: Select("s", ON, ON), "Select 's'", "two cases 'Event'", "Merge them, or rename"),
    (
        "an event and a timeout of one name",
        lambda: Select("s", ON, Timeout("Event", timedelta(1))),
        "Select 's'",
        "two cases 'Event'",
        "rename one",
    ),
    ("a condition forgotten", lambda: If("i", STEP), "'i'", "its cond is a Step", "a function of the workflow"),
    ("a value as If's condition", lambda: If("i", True, STEP), "'i'", "cond is True", "a function of the workflow"),
    ("a value as Case's condition", lambda: Case("c", 1, STEP), "'c'", "cond is 1", "a function of the workflow"),
    (
        "a value as While's condition",
        lambda: While("w", None, STEP),
        "'w'",
        "cond is None",
        "which is called each time",
    ),
    ("a value as WaitFor's condition", lambda: WaitFor("w", False), "'w'", "cond is False", "a function"),
    ("a value as WaitFor's handler", lambda: WaitFor("w", holds, 3), "'w'", "handler is 3", "a function"),
    ("a value as action", lambda: Step("s", "print"), "'s'", "action is 'print'", "a function of the workflow"),
    ("a value as handler", lambda: On("E", 5), "On 'E'", "handler is 5", "setup, handle and teardown"),
    ("a number as delay", lambda: Timeout("t", 60), "Timeout 't'", "delay is 60", "Pass a timedelta"),
    ("a number as thread id", lambda: Go("g", STEP, id=5), "Go 'g'", "id is 5", "Pass a text"),
    ("an empty thread id", lambda: Go("g", STEP, id=""), "Go 'g'", "id is ''", "Pass a text"),
    ("a number as prefix", lambda: S(STEP, prefix=1), "S", "prefix is 1", "Pass a text"),
    ("no name", lambda: Step(nothing, nothing), "Step <function", "no name", "Pass a name first: Step('...', ...)"),
    ("an empty name", lambda: Select(" ", ON), "Select ' '", "no name", "Pass a name first"),
    ("a name of two lines", lambda: On("a\nb", nothing), "On 'a\\nb'", "is not plain text", "printable"),
    ("a name that turns around", lambda: On("a\u202eb", nothing), "On 'a\\u202eb'", "is not plain text", "printable"),
    ("a name that nobody sees", lambda: On("\u200d", nothing), "On '\\u200d'", "is not plain text", "printable"),
    ("a name with space at its end", lambda: Go("g ", STEP), "Go 'g '", "is not plain text", "white space at the ends"),
    ("a long name", lambda: WaitFor("w" * 201, holds), "WaitFor 'www", "is not plain text", "up to 200"),
]


@pytest.mark.parametrize("name", ["\N{MAN}\u200d\N{COOKING} cooks", "سفارش\u200cی نو", "a" * 200])
def test_a_name_is_written_in_any_script(name: str) -> None:
    assert Step(name, nothing).name == name
    assert On(name, nothing).event == name


@pytest.mark.parametrize(
    ("build", "statement", "reason", "fix"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_it_is_refused(build: Build, statement: str, reason: str, fix: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    error = caught.value
    assert error.statement.startswith(statement)
    assert reason in error.reason
    assert fix in error.fix
    assert str(error) == f"{error.statement}: {error.reason}. {error.fix}"


def test_the_bodies_of_cases_may_be_empty() -> None:
    assert On("E", nothing).body == Section(())
    assert Timeout("t", timedelta(1)).body == Section(())
    assert Switch("s", Case("c", holds), Default()).branches[1].body == Section(())


def test_elif_and_else_leave_the_statement_they_are_called_on_as_it_was() -> None:
    first = If("i", holds, STEP)
    longer = first.elif_("e", holds, STEP).else_(STEP)
    assert [branch.name for branch in first.branches] == ["i"]
    assert [branch.name for branch in longer.branches] == ["i", "e", ""]


def test_statements_are_immutable() -> None:
    with pytest.raises(AttributeError):
        STEP.name = "another"  # type: ignore[misc]


def test_a_name_of_200_characters_is_taken() -> None:
    assert Step("s" * 200, nothing).name == "s" * 200
