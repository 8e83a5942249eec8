"""The source of one function: its syntax tree with the positions of the file, and what its names mean."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import linecache
import types
from datetime import timedelta
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.plain.syntax import copied
from workflow_core.records import record

UNKNOWN = object()
"""What ``resolve`` returns for an expression whose value is known only when it runs."""

_FOR_TOOLS = ("type:", "noqa", "pragma", "fmt:", "mypy:", "pyright:", "ruff:", "TODO", "FIXME", "---", "===")
"""How comments begin that are not labels."""


@record(frozen=True, eq=False)
class Source:
    """The source of one function.

    Attributes:
        file: the name of its file, as tracebacks show it.
        locals: the names of its parameters and local variables, without the first parameter.
        class_name: the class that its text stands in, for private names; empty if none.
    """

    function: types.FunctionType
    node: ast.AsyncFunctionDef | ast.FunctionDef
    file: str
    locals: frozenset[str]
    class_name: str

    @property
    def self_name(self) -> str:
        """The name of its first parameter."""
        return self.node.args.args[0].arg

    @property
    def cells(self) -> dict[str, Any]:
        """The cells of the enclosing functions that it uses, by name."""
        return dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True))

    def resolve(self, expression: ast.expr) -> Any:
        """Returns the object that a name or a dotted name means now; ``UNKNOWN`` if that is not known."""
        if isinstance(expression, ast.Attribute):
            value = self.resolve(expression.value)
            return UNKNOWN if value is UNKNOWN else getattr(value, expression.attr, UNKNOWN)
        if isinstance(expression, ast.Name) and expression.id not in (*self.locals, self.self_name):
            if (cell := self.cells.get(expression.id)) is not None:
                try:
                    return cell.cell_contents
                except ValueError:  # assigned later
                    return UNKNOWN
            found = self.function.__globals__.get(expression.id, UNKNOWN)
            return getattr(builtins, expression.id, UNKNOWN) if found is UNKNOWN else found
        return UNKNOWN

    def mistake(self, node: ast.AST, reason: str, fix: str) -> DefinitionError:
        """Returns the error for a mistake in the line of ``node``."""
        return DefinitionError(self.place(node), reason, fix)

    def comment_above(self, node: ast.AST) -> str:
        """Returns the text of the comment in the line right above a node; empty if there is none. A comment of several
        lines, or one that is meant for a tool, does not count."""
        number = getattr(node, "lineno", 1) - 2
        above = [line.strip() for line in linecache.getlines(self.file)[max(number - 1, 0) : number + 1]]
        if not above or not above[-1].startswith("#") or (len(above) == 2 and above[0].startswith("#")):
            return ""
        text = " ".join(above[-1].strip("#").split())
        return "" if text.startswith(_FOR_TOOLS) else text

    def place(self, node: ast.AST) -> str:
        """Returns file, line and function of a node, for errors."""
        return f"{self.file}, line {getattr(node, 'lineno', '?')}, in {self.function.__qualname__}"


def constant_delay(source: Source, node: ast.expr) -> timedelta | None:
    """Returns a ``timedelta`` that is made of constants, so that diagrams show it; None for other expressions.

    Raises:
        DefinitionError: it is a constant of another type.
    """
    match node:
        case ast.Constant(value):
            raise source.mistake(
                node,
                f"its delay is {value!r}",
                "Use a timedelta, such as timedelta(hours=1), or a datetime with a time zone.",
            )
        case ast.Call(function, arguments, keywords) if source.resolve(function) is timedelta:
            values = [*arguments, *(keyword.value for keyword in keywords)]
            if all(isinstance(value, ast.Constant) for value in values):
                given = [ast.literal_eval(value) for value in arguments]
                return timedelta(*given, **{str(k.arg): ast.literal_eval(k.value) for k in keywords})
    return None


@functools.cache
def source_of(function: types.FunctionType) -> Source:
    """Returns the source of a function.

    Raises:
        DefinitionError: there is no source, as in an interactive session.
    """
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename)
    node = _node_of(code, alone(code, lines)) or _node_of(code, tuple(lines))
    if node is None:
        raise DefinitionError(
            function.__qualname__,
            f"its source cannot be read from {code.co_filename}",
            "Define the workflow in a .py file. Where there is none, write definition = S(...) instead of run.",
        )
    names = function.__qualname__.split(".")
    class_name = names[-2] if len(names) > 1 and names[-2] != "<locals>" else ""
    if not node.args.args:
        place = f"{code.co_filename}, line {node.lineno}, in {function.__qualname__}"
        raise DefinitionError(place, "it has no parameter", "Write async def run(self) -> None.")
    if class_name and any("__" in line for line in lines[code.co_firstlineno - 1 : node.end_lineno]):
        node = _Private(class_name.lstrip("_")).visit(copied(node))
    variables = frozenset(code.co_varnames + code.co_cellvars) - {node.args.args[0].arg}
    return Source(function, node, code.co_filename, variables, class_name)


class _Private(ast.NodeTransformer):
    """Writes private names as Python stores them: ``__x`` in a class ``Flow`` is ``_Flow__x``."""

    def __init__(self, class_name: str) -> None:
        self._prefix = f"_{class_name}" if class_name else ""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field in ("id", "attr", "arg", "name", "rest"):
            name = getattr(node, field, None)
            if isinstance(name, str) and name.startswith("__") and not name.endswith("__") and "." not in name:
                setattr(node, field, self._prefix + name)
        return super().generic_visit(node)


_MAY_CONTAIN_FUNCTIONS = (ast.stmt, ast.excepthandler, ast.match_case)


def _node_of(code: types.CodeType, lines: tuple[str, ...]) -> ast.AsyncFunctionDef | ast.FunctionDef | None:
    return _functions(code.co_filename, lines).get((code.co_name, code.co_firstlineno))


@functools.lru_cache(maxsize=16)
def _functions(file: str, lines: tuple[str, ...]) -> dict[tuple[str, int], ast.AsyncFunctionDef | ast.FunctionDef]:
    """Returns the functions in some lines by their names and first lines; none if the lines are no code."""
    found: dict[tuple[str, int], ast.AsyncFunctionDef | ast.FunctionDef] = {}
    try:
        statements: list[ast.AST] = [ast.parse("".join(lines), file)]
    except SyntaxError:
        return found
    for node in statements:  # grows while it is iterated over
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name, first] = node
        statements += (inner for inner in ast.iter_child_nodes(node) if isinstance(inner, _MAY_CONTAIN_FUNCTIONS))
    return found


def alone(code: types.CodeType, lines: list[str]) -> tuple[str, ...]:
    """Returns the lines of a file without those outside of a function, which would take most of the time to parse.

    They end before the first line after its code that is not indented further than its head. If that is in the middle
    of a statement, they are no code, and the whole file has to be parsed.
    """
    first = code.co_firstlineno - 1
    indent = _indent(lines[first]) if first < len(lines) else 0
    last = max((end or 0 for _, end, _, _ in code.co_positions()), default=0)
    while last < len(lines) and (lines[last].strip()[:1] in ("", "#") or _indent(lines[last]) > indent):
        last += 1
    above = ["\n"] * (first - 1) + ["if 1:\n"] if indent else ["\n"] * first
    return (*above, *lines[first:last])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def plain_function(value: Any) -> types.FunctionType | None:
    """Returns the function inside of a method, if it is written in Python and not hidden by a decorator."""
    function = inspect.unwrap(value) if callable(value) else value
    return function if isinstance(function, types.FunctionType) else None
