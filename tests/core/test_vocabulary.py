"""Each statement is known to the compiler, the descriptions, the diagrams, the interpreter and the reference executor.

A new statement fails these tests until all of them handle it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

import workflow_core
from tests.core.diagrams.svg_reader import groups, parse
from tests.core.helpers import Logged, do, log, standing
from tests.core.reference import Reference
from workflow_core import (
    Activity,
    Break,
    Case,
    Child,
    Continue,
    Default,
    Do,
    Execution,
    Fail,
    Failure,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Race,
    Return,
    S,
    Section,
    Select,
    Sleep,
    Statement,
    Step,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    Within,
    resume,
)
from workflow_core.diagrams import describe, mermaid, svg
from workflow_core.diagrams.describe import Node
from workflow_core.diagrams.live import look, state_of


def public_statements() -> set[type[Statement]]:
    public = [getattr(workflow_core, name) for name in workflow_core.__all__]
    return {one for one in public if isinstance(one, type) and issubclass(one, Statement)} - {Statement}


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


@dataclass(frozen=True)
class Example:
    """One statement, in a small definition.

    Attributes:
        statement: it, or what it stands in.
        names: what a diagram shows of it.
        log: what runs until the instance rests.
        state: of the statement, once the instance rests.
    """

    statement: Statement
    names: tuple[str, ...]
    log: tuple[str, ...] = ()
    state: str = "passed"


def no(w: Any) -> bool:
    return False


def yes(w: Any) -> bool:
    return True


def double(number: int) -> int:
    return 2 * number


def keep(w: Any, result: int) -> None:
    w.log.append(f"took {result}")


def loop(leave: Statement) -> While:
    """Two rounds, unless ``leave`` changes that."""
    return While("loop", lambda w: len(w.log) < 2, do("first"), If("leave", yes, leave), do("last"))


DAY = timedelta(days=1)
LOOP = ("loop", "first", "leave", "last")
EXAMPLES = {
    Activity: Example(Activity("it", double, input=lambda w: 1, then=keep), ("it",), ("took 2",)),
    Break: Example(loop(Break()), LOOP, ("first",), ""),
    Child: Example(Child("it", "elsewhere"), ("it",), state="here"),
    Continue: Example(loop(Continue()), LOOP, ("first", "first"), ""),
    Do: Example(Do("it", log("done")), ("it",), ("done",)),
    Fail: Example(Fail("it", "for a reason"), ("it",), state="failed"),
    ForEach: Example(ForEach("it", lambda w: "ab", do("each")), ("it", "each"), ("each", "each")),
    Go: Example(Go("it", do("aside")), ("it", "aside"), ("aside",)),
    If: Example(If("it", no, do("a")).else_(do("b")), ("it", "a", "b"), ("b",)),
    Parallel: Example(Parallel("it", S(do("a")), S(do("b"))), ("it", "a", "b"), ("a", "b")),
    Race: Example(Race("it", S(do("a")), S(do("b"))), ("it", "a", "b"), ("a",)),
    Return: Example(Go("aside", loop(Return())), LOOP, ("first",), ""),
    Section: Example(S(do("it"), prefix="section"), ("section/it",), ("it",)),
    Select: Example(Select("it", On("Come", log("came")), Timeout("late", DAY)), ("it", "Come", "late"), state="here"),
    Sleep: Example(Sleep("it", DAY), ("it",), state="here"),
    Step: Example(do("it"), ("it",), ("it",)),
    Switch: Example(Switch("it", Case("case", no, do("a")), Default(do("b"))), ("case", "a", "b"), ("b",)),
    Try: Example(
        Try("it", do("a")).except_(ValueError, do("b"), name="caught").finally_(do("c")),
        ("it", "a", "caught", "b", "c"),
        ("a", "c"),
    ),
    WaitFor: Example(WaitFor("it", no), ("it",), state="here"),
    Within: Example(Within("it", DAY, do("a")).on_timeout(do("b")), ("it", "a", "b"), ("a",)),
    While: Example(While("it", lambda w: not w.log, do("round")), ("it", "round"), ("round",)),
}


def flow(statement: Statement) -> type[Logged]:
    """A workflow that rests behind the statement, if not on it."""

    class Flow(Logged, name="flow"):
        definition = S(statement, Select("rest", On("Go on", log("gone on"))))

    return Flow


def nodes(of: Any) -> Iterator[Node]:
    """All nodes of a description, branches and cases too."""
    if isinstance(of, dict) and "kind" in of:
        yield of
    for part in of.values() if isinstance(of, dict) else of if isinstance(of, list) else ():
        yield from nodes(part)


def kind_of(cls: type[Statement]) -> str:
    return re.sub(r"\B(?=[A-Z])", "_", cls.__name__).lower()


def test_each_statement_is_public_and_has_an_example() -> None:
    # By name: dataclasses with slots leave a second class of the same name behind.
    modules = {cls.__name__: cls.__module__ for cls in subclasses(Statement)}
    made = "workflow_core.statements.inline"  # only by the compiler
    defined = {name for name, of in modules.items() if of.startswith("workflow_core.") and of != made}
    assert defined == {cls.__name__ for cls in public_statements()}
    assert public_statements() == EXAMPLES.keys()


each_statement = pytest.mark.parametrize("cls", EXAMPLES, ids=lambda cls: cls.__name__)


@each_statement
def test_it_is_described(cls: type[Statement]) -> None:
    example = EXAMPLES[cls]
    found = list(nodes(describe.statements(flow(example.statement).__program__)))
    assert {*example.names} <= {node.get("name") for node in found}
    # A section has no node of its own: its prefix is in the names.
    assert cls is Section or kind_of(cls) in {node["kind"] for node in found}


@each_statement
def test_it_is_drawn(cls: type[Statement]) -> None:
    example = EXAMPLES[cls]
    program = flow(example.statement).__program__
    blocks = groups(parse(svg.draw(program)))
    assert {*example.names} <= {block.get("data-name") for block in blocks}
    assert cls is Section or kind_of(cls) in {block.get("data-kind") for block in blocks}
    labels = re.findall(r'"([^"]*)"', mermaid.draw(program))
    for name in example.names:
        assert any(re.search(rf"\b{name}\b", label) for label in labels), f"{name} is not in {labels}"


def test_ways_to_leave_are_drawn_apart() -> None:
    """They have no names; the arrows tell them apart."""
    programs = [flow(loop(leave)).__program__ for leave in (Break(), Continue(), Return(), do("stay"))]
    assert len({mermaid.draw(program) for program in programs}) == 4
    assert len({svg.draw(program) for program in programs}) == 4


@each_statement
def test_the_interpreter_and_the_reference_agree(cls: type[Statement]) -> None:
    example = EXAMPLES[cls]
    workflow = flow(example.statement)
    order, execution = workflow(), Execution.start("id-1", workflow)
    resume(order, execution)
    reference = Reference(workflow(), "id-1")
    reference.resume()
    assert tuple(order.log) == example.log
    assert reference.workflow.dump_fields() == order.dump_fields()
    assert [(one.id, one.at and one.at.name) for one in reference.threads] == [*standing(execution).items()]
    if cls is Fail:
        assert reference.error is not None and isinstance(reference.error.error, Failure)
        assert execution.error is not None and execution.error.statement == reference.error.statement == "it"
    else:
        assert reference.error is None and execution.error is None


@each_statement
def test_a_live_instance_shows_it(cls: type[Statement]) -> None:
    example = EXAMPLES[cls]
    workflow = flow(example.statement)
    order, execution = workflow(), Execution.start("id-1", workflow)
    resume(order, execution)
    live = look(workflow.__program__, execution, order.log)
    kinds = {"step"} if cls is Section else {kind_of(cls)}
    found = [node for node in nodes(live.statements) if node["kind"] in kinds]
    assert state_of(found[0]) == example.state
