"""A definition as JSON data: its statements and events, for the API and the diagrams."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from workflow_core.program.cases import ActivityCase, SelectOp
from workflow_core.program.program import Program
from workflow_core.statements.basic import Delay, Section, Statement
from workflow_core.statements.calls import Activity, Child
from workflow_core.statements.control import Branch, Do, Go, If, Step, Switch, WaitFor, While
from workflow_core.statements.failures import Except, Fail, Try
from workflow_core.statements.fanout import ForEach, Parallel, Race
from workflow_core.statements.inline import CallOf, Entry, Inline, Resting
from workflow_core.statements.selects import Done, On, Select, SelectPart, Sleep, Timeout, When
from workflow_core.statements.within import Within
from workflow_core.times import rfc3339

Node = dict[str, Any]

SIGNED = "signed"
"""What diagrams show in place of a role for an event with ``verify``."""


def statements(program: Program) -> list[Node]:
    """Returns the statements of a definition as a tree of ``{"kind": ..., "name": ..., "statements": [...]}``.

    Branches are nodes of kind ``branch`` (``else`` has no name), cases are of kind ``on``, ``timeout``, ``when`` and
    ``done`` (with the activity or child under ``work``), and the clauses of a ``Try`` of kind ``except``. Names contain
    the prefixes of their sections.
    """
    return _section(program.definition, "", program)


def events(program: Program) -> list[Node]:
    """Returns the events of a definition: name, role, parameter, schemas, and the selects that wait for them. With
    ``verify``, a check of the request decides who may send the event, not a role."""
    result = []
    for event, cases in program.events.items():
        for select, case in cases:
            result.append(
                {
                    "name": event,
                    "role": case.role,
                    "verify": case.verify is not None,
                    "buffered": case.buffered,
                    "select": select,
                    "parameter": case.signature.parameter,
                    "input": case.signature.input_schema,
                    "output": case.signature.output_schema,
                }
            )
    return result


_DURATION = re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d(?:\.\d+)?)")


def in_words(delay: str) -> str:
    """Formats the ``delay`` of a node: ``after 1 day 30 min``, ``until 2031-01-01 00:00:00 UTC``."""
    if delay == "computed":
        return "at a computed time"
    duration = _DURATION.fullmatch(delay)
    if duration is None:
        if re.match(r"\d{4}-", delay) is None:
            return f"after {delay}"
        return f"until {datetime.fromisoformat(delay).replace(tzinfo=None, microsecond=0)} UTC"
    days, hours, minutes, seconds = (float(part or 0) for part in duration.groups())
    amounts = ((days, "day" if days == 1 else "days"), (hours, "h"), (minutes, "min"), (seconds, "s"))
    parts = [f"{number:.9g} {unit}" for number, unit in amounts if number]
    return f"after {' '.join(parts) or '0 s'}"


_WORDS = {"while": "while ", "branch": "if ", "go": "go "}


def title(node: Node) -> str:
    """Returns the name of a node for diagrams that also show its kind: ``self.open`` for ``while self.open``."""
    name, word = node.get("name") or "", _WORDS.get(node["kind"])
    if word is None:
        return name
    return name.removeprefix(word) if name.startswith(word) else name.replace(f"/{word}", "/", 1)


def with_word(word: str, name: str) -> str:
    """Puts a word before a name that does not say it already: ``try try pay`` is ``try pay``."""
    return name if name.startswith(("for ", "each ", word + " ")) else f"{word} {name}"


def limit_in_words(node: Node) -> str:
    """Formats the ``limit`` of a parallel ``for_each``."""
    return f"at most {node['limit']:,} at a time"


def _section(section: Section, prefix: str, program: Program) -> list[Node]:
    if section.prefix:
        prefix = f"{prefix}{section.prefix}/"
    nodes: list[Node] = []
    for statement in section.statements:
        match statement:
            case Section():
                nodes += _section(statement, prefix, program)
            case CallOf(body):
                nodes += _section(body, prefix, program)
            case Inline() | Entry():  # code between two statements
                pass
            case If() if not any(_section(branch.body, prefix, program) for branch in statement.branches):
                pass  # only code, too
            case Resting(inner):
                nodes.append(_statement(inner, prefix, program))
            case _:
                nodes.append(_statement(statement, prefix, program))
    return nodes


def _timer(name: str, statement: WaitFor | Within, delay: Delay, prefix: str, program: Program) -> Node:
    """The case of a timeout, with what runs after it."""
    node: Node = {"kind": "timeout", "name": name, "delay": shown_delay(delay)}
    if statement.late is None:
        return node | {
            "statements": [{"kind": "fail", "name": f"{prefix}{statement.name} timeout", "message": "TimedOut"}]
        }
    return node | {"statements": _section(statement.late, prefix, program)}


def _statement(statement: Statement, prefix: str, program: Program) -> Node:
    node: Node
    match statement:
        case WaitFor(name) if statement.timeout is not None:
            when = {"kind": "when", "name": prefix + name, "statements": []}
            timer = _timer(f"{prefix}{name} timeout", statement, statement.timeout, prefix, program)
            return {"kind": "wait_for", "name": prefix + name, "cases": [when, timer]}
        case Within(name, delay, body):
            timer = _timer(prefix + name, statement, delay, prefix, program)
            node = {"kind": "within", "name": prefix + name, "delay": timer["delay"], "cases": [timer]}
            return node | {"statements": _section(body, prefix, program)}
        case Step(name) | WaitFor(name) | Do(name):
            return {"kind": _kind(statement), "name": prefix + name}
        case If(branches):
            return {"kind": "if", "branches": [_branch(branch, prefix, program) for branch in branches]}
        case Switch(name, branches):
            return {
                "kind": "switch",
                "name": prefix + name,
                "branches": [_branch(b, prefix, program) for b in branches],
            }
        case While(name, _, body) | Go(name, body):
            return {"kind": _kind(statement), "name": prefix + name, "statements": _section(body, prefix, program)}
        case Select(name, cases):
            return {"kind": "select", "name": prefix + name, "cases": [_case(case, prefix, program) for case in cases]}
        case Sleep(name, delay):
            return {"kind": "sleep", "name": prefix + name, "delay": shown_delay(delay)}
        case Fail(name, message):
            text = "computed" if callable(message) else message
            return {"kind": "fail", "name": prefix + name, "message": text}
        case Try(name, body, excepts, cleanup):
            node = {"kind": "try", "name": prefix + name, "statements": _section(body, prefix, program)}
            node["excepts"] = [_except(clause, prefix, program) for clause in excepts]
            return node | {"finally": None if cleanup is None else _section(cleanup, prefix, program)}
        case ForEach(name, _, body, parallel, limit):
            node = {"kind": "for_each", "name": prefix + name, "parallel": parallel, "limit": limit}
            return node | {"statements": _section(body, prefix, program)}
        case Parallel(name, branches) | Race(name, branches):
            sections = [_section(branch, prefix, program) for branch in branches]
            return {"kind": _kind(statement), "name": prefix + name, "branches": sections}
        case Activity(name):
            name = prefix + name
            activity = _activity_case(program, name)
            types = activity.activity.signature
            return {"kind": "activity", "name": name, "input": types.input_schema, "output": types.output_schema}
        case Child(name, workflow):
            other = workflow if isinstance(workflow, str) else workflow.__workflow_name__
            node = {"kind": "child", "name": prefix + name, "workflow": other}
            return node | {"detached": statement.detached}
        case _:
            return {"kind": _kind(statement)}


def _activity_case(program: Program, name: str) -> ActivityCase:
    selects = (instruction for instruction in program.code if isinstance(instruction, SelectOp))
    cases = (select.cases.get(name) for select in selects)
    return next(case for case in cases if isinstance(case, ActivityCase))


def _kind(statement: Statement) -> str:
    kinds = {"WaitFor": "wait_for"}
    name = type(statement).__name__
    return kinds.get(name, name.lower())


def _branch(branch: Branch, prefix: str, program: Program) -> Node:
    name = prefix + branch.name if branch.cond is not None else None
    return {"kind": "branch", "name": name, "statements": _section(branch.body, prefix, program)}


def _case(case: SelectPart, prefix: str, program: Program) -> Node:
    match case:
        case On():
            node: Node = {"kind": "on", "name": case.event, "role": case.role, "buffered": case.buffered}
            node["verify"] = case.verify is not None
        case Timeout():
            node = {"kind": "timeout", "name": prefix + case.name, "delay": shown_delay(case.delay)}
        case When():
            node = {"kind": "when", "name": prefix + case.name}
        case Done():
            node = {"kind": "done", "name": prefix + case.name}
            node["work"] = _statement(case.work, prefix, program)
    return node | {"statements": _section(case.body, prefix, program)}


def shown_delay(delay: Delay) -> str:
    """Formats a delay for clients: ``1 day, 0:00:00``, a time such as ``2031-01-01T00:00:00Z``, or ``computed``."""
    if isinstance(delay, datetime):
        return rfc3339(delay)
    return "computed" if callable(delay) else str(delay)


def _except(clause: Except, prefix: str, program: Program) -> Node:
    types = [cls.__name__ for cls in clause.types]
    node: Node = {"kind": "except", "name": prefix + clause.name, "types": types}
    return node | {"statements": _section(clause.body, prefix, program)}
