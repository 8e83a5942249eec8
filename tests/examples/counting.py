"""Counts the workflow part of each example, and of the same with Temporal and DBOS.

A statement is a statement of Python without imports, docstrings and ``...``; in an explicit definition, each statement
and case of the tree counts as well. A line is a line that has code. Left out are: the models, the stand-ins of services
and, in all systems but the explicit form, the bodies and signatures of steps and activities.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import workflow_core

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("expense", "subscription", "trip", "order", "agent", "batch")

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_EXPLICIT = frozenset(name for name in workflow_core.__all__ if name[0].isupper())


@dataclass(frozen=True)
class Size:
    """How long something is."""

    statements: int
    lines: int

    def __str__(self) -> str:
        return f"{self.statements} / {self.lines}"


def sizes_of(name: str) -> list[Size]:
    """Returns the sizes of an example: plain, explicit, with Temporal, with DBOS."""
    plain = (EXAMPLES / f"{name}.py").read_text()
    explicit = (EXAMPLES / f"{name}_explicit.py").read_text()
    return [
        _size(plain, _workflows(plain)),
        _size(explicit, _workflows(explicit), is_explicit=True),
        *(_peer(system, name) for system in ("temporal", "dbos")),
    ]


def _peer(system: str, name: str) -> Size:
    text = (EXAMPLES / "peers" / f"{system}.md").read_text()
    found = re.search(rf"^## {name}\n.*?^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found is not None, f"{system}.md has no {name}"
    return _size(found[1], ast.parse(found[1]).body)


def _workflows(text: str) -> list[ast.stmt]:
    """Returns the workflow classes of a file."""
    return [
        node
        for node in ast.parse(text).body
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base) == "Workflow" for base in node.bases)
    ]


def _decorators(node: ast.stmt) -> set[str]:
    found = getattr(node, "decorator_list", [])
    return {ast.unparse(part.func if isinstance(part, ast.Call) else part) for part in found}


def _size(text: str, nodes: list[ast.stmt], *, is_explicit: bool = False) -> Size:
    counted = list(_statements(nodes))
    count = len(counted)
    if is_explicit:
        calls = (part for node in nodes for part in ast.walk(node) if isinstance(part, ast.Call))
        count += sum(isinstance(call.func, ast.Name) and call.func.id in _STATEMENTS for call in calls)
    left_out = {line for node in nodes for part in ast.walk(node) if _is_left_out(part) for line in _lines_of(part)}
    lines = {line for node in nodes if not _is_left_out(node) for line in _lines_of(node)}
    return Size(count, len((lines - left_out) & _lines_with_code(text)))


def _lines_of(node: ast.AST) -> range:
    assert isinstance(node, ast.stmt)
    first = min([node.lineno, *(part.lineno for part in getattr(node, "decorator_list", []))])
    return range(first, (node.end_lineno or first) + 1)


def _is_left_out(node: ast.AST) -> bool:
    if not isinstance(node, ast.stmt):
        return False
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, (ast.Import, ast.ImportFrom)) or bool(_decorators(node) & {"step", "activity"})


_STATEMENTS = _EXPLICIT & {
    *("Activity", "Break", "Case", "Child", "Continue", "Default", "Do", "Done", "Fail", "ForEach", "Go", "If", "On"),
    *("Parallel", "Race", "Return", "Select", "Sleep", "Step", "Switch", "Timeout", "Try", "WaitFor", "When", "While"),
}


def _statements(nodes: Iterable[ast.AST]) -> Iterator[ast.stmt]:
    for node in nodes:
        if _is_left_out(node) or isinstance(node, ast.expr):
            continue
        if isinstance(node, ast.stmt):
            yield node
        yield from _statements(ast.iter_child_nodes(node))


def _lines_with_code(text: str) -> set[int]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return {line for token in tokens if token.type not in _NO_CODE for line in range(token.start[0], token.end[0] + 1)}
