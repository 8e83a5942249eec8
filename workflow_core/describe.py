"""A definition as JSON data: its statements and events, for the API and the diagrams."""

from __future__ import annotations

from typing import Any

from workflow_core.program import Program
from workflow_core.statements import (
    Branch,
    Go,
    If,
    On,
    Section,
    Select,
    Statement,
    Step,
    Switch,
    Timeout,
    WaitFor,
    While,
)

Node = dict[str, Any]


def statements(program: Program) -> list[Node]:
    """The statements of a definition as a tree of ``{"kind": ..., "name": ..., "statements": [...]}``.

    Branches are nodes of kind ``branch`` (without a name: else), cases of kind ``on`` and ``timeout``. Names are
    qualified by the prefixes of their sections.
    """
    return _section(program.definition, "")


def events(program: Program) -> list[Node]:
    """The events of a definition: name, role, schemas, and the selects that wait for them."""
    result = []
    for event, cases in program.events.items():
        for select, case in cases:
            assert case.signature is not None
            result.append(
                {
                    "name": event,
                    "role": case.role,
                    "buffered": case.buffered,
                    "select": select,
                    "input": case.signature.input_schema,
                    "output": case.signature.output_schema,
                }
            )
    return result


def _section(section: Section, prefix: str) -> list[Node]:
    if section.prefix:
        prefix = f"{prefix}{section.prefix}/"
    nodes: list[Node] = []
    for statement in section.statements:
        nodes += _section(statement, prefix) if isinstance(statement, Section) else [_statement(statement, prefix)]
    return nodes


def _statement(statement: Statement, prefix: str) -> Node:
    match statement:
        case Step(name) | WaitFor(name):
            return {"kind": _kind(statement), "name": prefix + name}
        case If(branches):
            return {"kind": "if", "branches": [_branch(branch, prefix) for branch in branches]}
        case Switch(name, branches):
            return {"kind": "switch", "name": prefix + name, "branches": [_branch(b, prefix) for b in branches]}
        case While(name, _, body) | Go(name, body):
            return {"kind": _kind(statement), "name": prefix + name, "statements": _section(body, prefix)}
        case Select(name, cases):
            return {"kind": "select", "name": prefix + name, "cases": [_case(case, prefix) for case in cases]}
        case _:
            return {"kind": _kind(statement)}


def _kind(statement: Statement) -> str:
    kinds = {"WaitFor": "wait_for"}
    name = type(statement).__name__
    return kinds.get(name, name.lower())


def _branch(branch: Branch, prefix: str) -> Node:
    name = prefix + branch.name if branch.cond is not None else None
    return {"kind": "branch", "name": name, "statements": _section(branch.body, prefix)}


def _case(case: On | Timeout, prefix: str) -> Node:
    node: Node = {"kind": "on", "name": case.event if isinstance(case, On) else prefix + case.name}
    if isinstance(case, On):
        node["role"] = case.role
    else:
        node["kind"] = "timeout"
        node["delay"] = "computed" if callable(case.delay) else str(case.delay)
    return node | {"statements": _section(case.body, prefix)}
