"""Which local variables a piece of source reads before it assigns them, and which it assigns.

The pieces contain no ``await`` of their own, so each of them runs at once. Only what it reads first must come from the
stored locals of the thread.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

LOCALS = ".locals"
"""The name under which compiled code finds the function ``locals``."""

CONSTANT = ".constant "
"""The start of the names under which compiled code finds objects that are known at import."""

_SCOPES = (ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def is_hidden(name: str) -> bool:
    """Whether it is a variable that the compiler made."""
    return name.startswith((".", "/")) and name != LOCALS and not name.startswith(CONSTANT)


class Usage(ast.NodeVisitor):
    """The use of variables by some statements or expressions that run one after another.

    Args:
        variables: the local variables of the function.

    Attributes:
        reads: those that may be read before they are assigned.
        written: those that are assigned on every path to the end.
        may_write: those that are assigned on some path.
        may_keep: those that are assigned in a ``with``, and may keep their values if it ends an error.
        reads_kept: those of them that are read afterwards.
        ends: whether no path leads to the end.
    """

    def __init__(self, variables: frozenset[str], parts: Iterable[ast.AST] = ()) -> None:
        self.variables = variables
        self.reads: set[str] = set()
        self.written: set[str] = set()
        self.may_write: set[str] = set()
        self.may_keep: set[str] = set()
        self.reads_kept: set[str] = set()
        self.ends = False
        for part in parts:
            self.visit(part)

    # --- names -------------------------------------------------------------------------------

    def _is_local(self, name: str) -> bool:
        return name in self.variables or is_hidden(name)

    def _read(self, name: str) -> None:
        if self._is_local(name) and name not in self.written:
            self.reads.add(name)
        elif name in self.may_keep:
            self.reads_kept.add(name)

    def _write(self, name: str) -> None:
        if self._is_local(name):
            self.written.add(name)
            self.may_write.add(name)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._read(node.id)
        elif isinstance(node.ctx, ast.Store):
            self._write(node.id)
        else:
            self._read(node.id)
            self.written.discard(node.id)

    def visit_alias(self, node: ast.alias) -> None:
        self._write(node.asname or node.name.partition(".")[0])

    # --- assignments -------------------------------------------------------------------------

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self._read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    # --- paths -------------------------------------------------------------------------------

    def _alternatives(self, *paths: Iterable[ast.AST]) -> None:
        """Visits parts of which one runs. Only what all of them assign is surely assigned."""
        before, after = set(self.written), None
        for path in paths:
            self.written, self.ends = set(before), False
            for part in path:
                self.visit(part)
            if not self.ends:
                after = set(self.written) if after is None else after & self.written
        self.written, self.ends = before if after is None else after, after is None

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._alternatives(node.body, node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._alternatives([node.body], [node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._alternatives(node.values[1:], ())

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._alternatives(node.body, node.orelse, ())

    def visit_For(self, node: ast.For) -> None:
        self.visit(node.iter)
        self._alternatives([node.target, *node.body], node.orelse, ())

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        handlers = [(handler,) for handler in node.handlers]
        before = set(self.written)
        self._alternatives([*node.body, *node.orelse], *handlers)
        if not node.finalbody:
            return
        after, ends = self.written, self.ends
        self.written, self.ends = set(before), False  # an error may have come before anything was assigned
        for statement in node.finalbody:
            self.visit(statement)
        self.written, self.ends = after | self.written, ends or self.ends

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self.visit(node.type)
        if node.name is not None:
            self._write(node.name)
        for statement in node.body:
            self.visit(statement)
        if node.name is not None:
            self.written.discard(node.name)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item)
        before, outer = set(self.written), self.may_write
        self.may_write = set()
        for statement in node.body:
            self.visit(statement)
        self.may_keep |= self.may_write - before  # the context may end an error, before anything was assigned
        self.may_write |= outer
        self.ends = False  # for the same reason

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        self._alternatives(*([case] for case in node.cases), ())

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        if node.pattern is not None:
            self.visit(node.pattern)
        if node.name is not None:
            self._write(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name is not None:
            self._write(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.generic_visit(node)
        if node.rest is not None:
            self._write(node.rest)

    def _end(self, node: ast.Return | ast.Raise | ast.Break | ast.Continue) -> None:
        self.generic_visit(node)
        self.ends = True

    visit_Return = visit_Raise = visit_Break = visit_Continue = _end

    # --- scopes of their own -----------------------------------------------------------------

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self._scope(node, [node.body], _parameters(node.args))
        self._defaults(node.args)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            self.visit(decorator)
        self._defaults(node.args)
        self._scope(node, node.body, _parameters(node.args))
        self._write(node.name)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(part)
        self._scope(node, node.body, set())
        self._write(node.name)

    def _defaults(self, arguments: ast.arguments) -> None:
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self.visit(default)

    def _scope(self, node: ast.AST, body: Iterable[ast.AST], own: set[str]) -> None:
        inner = {
            name.id
            for part in body
            for name in every_node(part)
            if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)
        }
        for name in inner - own:
            self._read(name)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        targets = set[str]().union(*(_names(each.target) for each in node.generators))
        self.visit(node.generators[0].iter)
        hidden = targets - self.written
        self.written |= hidden  # of the comprehension itself
        may_write = set(self.may_write)
        for number, each in enumerate(node.generators):
            for part in (*((each.iter,) if number else ()), *each.ifs):
                self.visit(part)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self.written -= hidden
        self.written -= self.may_write - may_write  # a walrus inside may never run

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


def _parameters(arguments: ast.arguments) -> set[str]:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    return {argument.arg for argument in every}


def inner_nodes(node: ast.AST) -> list[ast.AST]:
    """Returns the nodes inside of a node, without those inside of these and without the contexts of names. It takes a
    third of the time of ``ast.iter_child_nodes``, and an import visits each node several times."""
    inner: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            inner += [item for item in value if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and name != "ctx":
            inner.append(value)
    return inner


def every_node(node: ast.AST) -> Iterable[ast.AST]:
    """Yields a node and all nodes inside."""
    waiting = [node]
    for each in waiting:  # grows while it is iterated over
        yield each
        waiting += inner_nodes(each)


def own_nodes(node: ast.AST) -> Iterable[ast.AST]:
    """Yields a node and all nodes inside, but not those in functions, classes and lambdas of their own."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed([inner for inner in inner_nodes(node) if not isinstance(inner, _SCOPES)])


def is_read_outside(function: ast.AST, name: str) -> bool:
    """Whether a function reads the variable of a loop where no loop or comprehension gives it a value."""

    def visit(node: ast.AST) -> bool:
        if isinstance(node, ast.Name):
            return node.id == name and isinstance(node.ctx, ast.Load)
        if isinstance(node, (ast.For, ast.comprehension)) and name in _names(node.target):
            parts: list[ast.AST] = [node.iter, *(node.orelse if isinstance(node, ast.For) else ())]
            return any(map(visit, parts))
        if isinstance(node, COMPREHENSIONS) and any(name in _names(each.target) for each in node.generators):
            return visit(node.generators[0].iter)
        return any(map(visit, inner_nodes(node)))

    return visit(function)


def _names(target: ast.AST) -> set[str]:
    return {node.id for node in every_node(target) if isinstance(node, ast.Name)}


def after_first_items(node: Any) -> Iterable[ast.AST]:
    """Yields the parts of a comprehension but the first collection, which is computed once and before the others."""
    yield from (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
    for number, each in enumerate(node.generators):
        yield from (each.target, *each.ifs, *((each.iter,) if number else ()))
        if each.is_async:
            yield ast.Await(each.iter)
