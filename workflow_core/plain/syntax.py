"""Small pieces of syntax trees: copies, names, assignments, and exits out of code that runs at once."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any, TypeVar

from workflow_core.plain.usage import LOCALS, inner_nodes
from workflow_core.stored_parts import LeaveKind

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_LOOPS = (ast.For, ast.While, ast.AsyncFor)

Tree = TypeVar("Tree")


def copied(tree: Tree) -> Tree:
    """Returns a copy of a node with all nodes inside: most changes would otherwise change the tree of the source. It
    takes a third of the time of ``copy.deepcopy``, which must expect any object, and an import copies each node several
    times."""
    if isinstance(tree, ast.AST):
        made: Tree = type(tree).__new__(type(tree))
        for name, value in vars(tree).items():
            made.__dict__[name] = copied(value) if isinstance(value, (ast.AST, list)) else value
        return made
    if isinstance(tree, list):
        return [copied(part) for part in tree]  # type: ignore[return-value]
    return tree


def load(name: str, line: ast.AST) -> ast.expr:
    """Returns a node that reads a variable, at the position of another node."""
    node: ast.expr = at(ast.Name(name, ast.Load()), line)
    return node


def assign(name: str, value: ast.expr, line: ast.AST) -> ast.stmt:
    """Returns a statement that assigns a variable."""
    node: ast.stmt = at(ast.Assign([ast.Name(name, ast.Store())], value), line)
    return node


def at(node: Any, line: ast.AST) -> Any:
    """Gives a new node the position of another one."""
    if getattr(line, "lineno", None) is not None:
        ast.copy_location(node, line)
    return ast.fix_missing_locations(node)


LEFT = ".left"
"""The variable with the mapping of the variables, for code whose ``finally`` may change them after a ``return``."""


def finish(kind: LeaveKind | None, line: ast.AST, *, late: bool = False) -> ast.stmt:
    """Returns the end of compiled code: it returns how it is left and its variables.

    Args:
        late: whether a ``finally`` runs after it. The variables are then returned in a mapping that it updates.
    """
    variables: ast.expr = ast.Call(ast.Name(LOCALS, ast.Load()), [], [])
    if late:
        variables = ast.BoolOp(ast.Or(), [_updated(line), ast.Name(LEFT, ast.Load())])
    node: ast.stmt = at(ast.Return(ast.Tuple([ast.Constant(kind and kind.value), variables], ast.Load())), line)
    return node


def _updated(line: ast.AST) -> ast.expr:
    """Returns an expression that puts the variables into the mapping ``LEFT``."""
    update = ast.Attribute(ast.Name(LEFT, ast.Load()), "update", ast.Load())
    node: ast.expr = at(ast.Call(update, [ast.Call(ast.Name(LOCALS, ast.Load()), [], [])], []), line)
    return node


def escapes_of(statement: ast.stmt) -> tuple[LeaveKind, ...]:
    """Returns the exits by which a statement leaves the code around it."""
    found: dict[LeaveKind, None] = {}

    def visit(node: ast.AST, *, in_loop: bool) -> None:
        if isinstance(node, _FUNCTIONS):
            return
        if isinstance(node, ast.Return):
            found[LeaveKind.RETURN] = None
        elif isinstance(node, ast.Break) and not in_loop:
            found[LeaveKind.BREAK] = None
        elif isinstance(node, ast.Continue) and not in_loop:
            found[LeaveKind.CONTINUE] = None
        if isinstance(node, _LOOPS):
            for part in node.body:
                visit(part, in_loop=True)
            for part in node.orelse:
                visit(part, in_loop=in_loop)
            return
        for inner in inner_nodes(node):
            visit(inner, in_loop=in_loop)

    visit(statement, in_loop=False)
    return tuple(found)


class _Escapes(ast.NodeTransformer):
    def __init__(self, returned: str, *, late: bool) -> None:
        self.returned = returned
        self.late = late
        self.depth = 0

    def visit_Return(self, node: ast.Return) -> Any:
        value = node.value or at(ast.Constant(None), node)
        return [assign(self.returned, value, node), finish(LeaveKind.RETURN, node, late=self.late)]

    def visit_Break(self, node: ast.Break) -> Any:
        return node if self.depth else finish(LeaveKind.BREAK, node, late=self.late)

    def visit_Continue(self, node: ast.Continue) -> Any:
        return node if self.depth else finish(LeaveKind.CONTINUE, node, late=self.late)

    def visit_Try(self, node: Any) -> Any:
        for name in ("body", "orelse", "finalbody"):
            setattr(node, name, _visited(self, getattr(node, name)))
        for handler in node.handlers:
            handler.body = _visited(self, handler.body)
        if self.late and node.finalbody:
            node.finalbody.append(at(ast.Expr(_updated(node.finalbody[-1])), node.finalbody[-1]))
        return node

    visit_TryStar = visit_Try

    def _loop(self, node: Any) -> Any:
        self.depth += 1
        node.body = _visited(self, node.body)
        self.depth -= 1
        node.orelse = _visited(self, node.orelse)
        return node

    visit_For = visit_While = visit_AsyncFor = _loop

    def _function(self, node: Any) -> Any:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _function


def with_escapes(statements: Iterable[ast.stmt], returned: str) -> list[ast.stmt]:
    """Returns statements as code of a function that tells how it was left. A returned value is assigned to the variable
    ``returned``."""
    copies = [copied(statement) for statement in statements]
    late = any(getattr(node, "finalbody", None) for statement in copies for node in ast.walk(statement))
    first = [assign(LEFT, ast.Dict([], []), copies[0])] if late else []
    return first + _visited(_Escapes(returned, late=late), copies)


class _Reraise(ast.NodeTransformer):
    def __init__(self, error: str) -> None:
        self.error = error

    def visit_Raise(self, node: ast.Raise) -> Any:
        return node if node.exc is not None else at(ast.Raise(load(self.error, node), None), node)

    def _own(self, node: Any) -> Any:
        return node

    visit_ExceptHandler = visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _own


def replace_bare_raise(statements: Iterable[ast.stmt], error: str) -> list[ast.stmt]:
    """Returns statements in which a bare ``raise`` raises the error in the variable ``error``."""
    return _visited(_Reraise(error), [copied(statement) for statement in statements])


class _Noting(ast.NodeTransformer):
    def __init__(self, flag: str) -> None:
        self.flag = flag

    def visit_Break(self, node: ast.Break) -> Any:
        return [assign(self.flag, ast.Constant(True), node), node]

    def _loop(self, node: Any) -> Any:
        node.orelse = _visited(self, node.orelse)  # a break there leaves the loop around it
        return node

    visit_For = visit_While = visit_AsyncFor = _loop

    def _own(self, node: Any) -> Any:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = visit_ClassDef = _own


def noting_breaks(body: Iterable[ast.stmt], flag: str) -> list[ast.stmt]:
    """Returns the body of a loop in which each ``break`` of this loop also sets a variable."""
    return _visited(_Noting(flag), [copied(statement) for statement in body])


def _visited(transformer: ast.NodeTransformer, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
    result: list[ast.stmt] = []
    for statement in statements:
        found = transformer.visit(statement)
        result += found if isinstance(found, list) else [found]
    return result
