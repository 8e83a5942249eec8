"""Cases: an ``if`` that asks what ended the ``select`` right before it, as the cases of that select.

``got = await select(...)`` and ``if got.timed_out: ...`` become a ``Select`` whose ``Timeout`` has the statements
inside, as an author of the explicit form would write it. Diagrams then show what each event leads to. The code between
the two runs at the start of every case. Nothing else changes, so what is live and what is assigned is found before.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from typing import Any

from workflow_core.events import event_mark
from workflow_core.plain.methods import method_of
from workflow_core.plain.parts import RESULT, Branch, Code, Part, Wait
from workflow_core.records import record
from workflow_core.statements.basic import Section, Statement, set_attributes
from workflow_core.statements.selects import On, Select

TIMED_OUT = ""
"""What stands for the timeout among events, as in ``Selected.event``."""


@record(frozen=True)
class Asked:
    """A select, the code after it, and the ``if`` that asks for its result."""

    wait: Wait
    code: Code
    branch: Branch


def with_asked(parts: Iterable[Part]) -> Iterator[Part | Asked]:
    """Yields parts. A wait, code that assigns its result, and an ``if`` that asks for the result are one."""
    rest = list(parts)
    while rest:
        match rest:
            case [Wait() as wait, Code() as code, Branch() as branch, *after] if _variable(branch.test) in _results(
                code
            ):
                yield Asked(wait, code, branch)
                rest = after
            case _:
                yield rest.pop(0)


def bodies_of(asked: Asked, select: Select, cls: type) -> dict[str, Sequence[Part]] | None:
    """Returns the statements of each case, by its event; None if the ``if`` cannot be written as cases.

    Args:
        cls: the class of the workflow.
    """
    left = {case.event if isinstance(case, On) else TIMED_OUT for case in select.cases}
    bodies: dict[str, Sequence[Part]] = {}
    orelse: Sequence[Part] = [asked.branch]
    name = _variable(asked.branch.test)
    while len(orelse) == 1 and isinstance(branch := orelse[0], Branch):
        if _variable(branch.test) != name or (event := _event(branch.test, cls)) not in left:
            break
        assert event is not None
        if isinstance(branch.test, ast.UnaryOp):  # if not got.timed_out
            bodies[event], orelse = branch.orelse, branch.body
        else:
            bodies[event], orelse = branch.body, branch.orelse
        left.remove(event)
    if not bodies or (orelse and len(left) != 1):  # a statement cannot stand in two cases
        return None
    return bodies | dict.fromkeys(left, orelse)


def with_bodies(select: Select, bodies: dict[str, tuple[Statement, ...]]) -> Select:
    """Returns a select with statements in its cases."""
    cases: list[Any] = []
    for case in select.cases:
        made = copy(case)
        set_attributes(made, body=Section(bodies[case.event if isinstance(case, On) else TIMED_OUT]))
        cases.append(made)
    result = copy(select)
    set_attributes(result, cases=tuple(cases))
    return result


def _variable(test: ast.expr) -> str:
    """Returns the variable whose ``timed_out`` or ``happened`` a test asks for; empty if it is another test."""
    match test:
        case ast.UnaryOp(ast.Not(), ast.Attribute(ast.Name(name), "timed_out")):
            return name
        case ast.Attribute(ast.Name(name), "timed_out"):
            return name
        case ast.Call(ast.Attribute(ast.Name(name), "happened"), [ast.Attribute(ast.Name())], []):
            return name
    return ""


def _event(test: ast.expr, cls: type) -> str | None:
    """Returns the event that a test asks for; None if it is not known."""
    match test:
        case ast.Call(_, [ast.Attribute(_, method)]):
            mark = event_mark(method_of(cls, method))
            return None if mark is None else mark.name
    return TIMED_OUT


def _results(code: Code) -> set[str]:
    """Returns the variables that have the result of the wait before some code, and nothing else, when it ends."""
    found = {RESULT}
    for statement in code.statements:
        match statement:
            case ast.Assign([ast.Name(name)], ast.Name(value)) if value in found:
                found.add(name)
    stored = [
        node.id
        for statement in code.statements
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    ]
    return {name for name in found if stored.count(name) == 1}
