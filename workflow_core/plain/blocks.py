"""Blocks: pieces of the source as functions, with the lines, the globals and the closures of the user's function.

Tracebacks and debuggers show the user's lines, because the syntax trees keep their positions and their file. A piece
receives the variables that it reads as arguments, and returns all its variables with the function ``locals``, so in a
debugger they have their names.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workflow_core.plain.source import Source
from workflow_core.plain.syntax import at, copied, finish
from workflow_core.plain.usage import LOCALS
from workflow_core.stored_parts import LeaveKind

_KINDS = {kind.value: kind for kind in LeaveKind}


def function_of(
    source: Source, parameters: Sequence[str], body: Sequence[ast.stmt], constants: Mapping[str, Any]
) -> types.FunctionType:
    """Returns a piece of a function as a function of its ``self`` and of some variables.

    Args:
        parameters: the variables.
        body: the statements; they must return something.
        constants: objects that the statements use, by the name of a variable.
    """
    function, name = source.function, source.node.name
    inner: ast.stmt = _define(name, (source.self_name, *parameters), [copied(part) for part in body], source)
    if source.class_name:  # for private names, and so that super() finds its class
        cls: ast.ClassDef = _at(ast.ClassDef(source.class_name, [], [], [], []), source)
        cls.body.append(inner)
        inner = cls
    cells = {name: types.CellType(value) for name, value in ({LOCALS: locals} | dict(constants)).items()}
    cells |= source.cells
    outer = _define("_", [cell for cell in cells if cell != "__class__"], [inner], source)
    code = compile(ast.Module([outer], []), source.file, "exec")
    for _ in range(3 if source.class_name else 2):  # the outer function, the class, the function
        code = next(const for const in code.co_consts if isinstance(const, types.CodeType))
    closure = tuple(cells[cell] for cell in code.co_freevars)
    made = types.FunctionType(
        code.replace(co_qualname=function.__qualname__), function.__globals__, name, None, closure
    )
    made.__qualname__, made.__module__ = function.__qualname__, function.__module__
    return made


def _define(name: str, parameters: Sequence[str], body: list[ast.stmt], source: Source) -> ast.FunctionDef:
    arguments = ast.arguments([], [ast.arg(parameter) for parameter in parameters], None, [], [], None, [])
    made: ast.FunctionDef = _at(ast.FunctionDef(name, arguments, [], []), source)
    made.body += body  # only now, because it has positions
    return made


def _at(node: Any, source: Source) -> Any:
    node.type_params = []  # of Python 3.12 and newer
    return at(node, source.node)


def expression_block(
    source: Source, parameters: Sequence[str], before: Sequence[ast.stmt], value: ast.expr, constants: Mapping[str, Any]
) -> Callable[..., Any]:
    """Returns a function that computes an expression."""
    return function_of(source, parameters, [*before, at(ast.Return(value), value)], constants)


def statements_block(
    source: Source,
    parameters: Sequence[str],
    before: Sequence[ast.stmt],
    statements: Sequence[ast.stmt],
    constants: Mapping[str, Any],
) -> Callable[..., tuple[LeaveKind | None, dict[str, Any]]]:
    """Returns a function that runs statements, and returns how they are left and the variables. For those of one that
    raises an error, see ``frame_of``."""
    body = [*before, *statements, finish(None, statements[-1])]
    return function_of(source, parameters, body, constants)


def frame_of(error: BaseException, function: Callable[..., Any]) -> types.TracebackType | None:
    """Returns the place in a block where it raised an error: its line, and the frame with its variables."""
    code = getattr(function, "__code__", None)
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    return traceback


def kind_of(text: str | None) -> LeaveKind | None:
    """Returns the exit that a block has returned."""
    return None if text is None else _KINDS[text]
