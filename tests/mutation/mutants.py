"""Mutants: small changes to a source file of the kind that a developer makes by mistake.

A mutant replaces one stretch of the source text, so its diff shows exactly what was changed. The operators work on the
``ast``. General tools mutate type annotations and texts of messages too, and do not drop statements, operands or
arguments, which are the most frequent mistakes here.

Not mutated, because no behaviour depends on it: annotations, docstrings, decorators, assertions for the type checker,
texts, and what the Python logger is told. Constants at module level are not mutated either: tests use them by name.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">"),
    ast.LtE: ("<",),
    ast.Gt: (">=", "<"),
    ast.GtE: (">",),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}

_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
}

_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}

_SIMPLE = (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Raise, ast.Break, ast.Continue, ast.Return)


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change to a file.

    Attributes:
        path: the file, relative to the root of the project.
        function: the qualified name of the function that is changed.
        line, last_line: the lines that are changed, from 1.
        operator: the kind of the change.
        start, end: the bytes of the source that ``replacement`` replaces.
    """

    path: str
    function: str
    line: int
    last_line: int
    operator: str
    start: int
    end: int
    replacement: bytes

    def applied_to(self, source: bytes) -> bytes:
        """The changed source."""
        return source[: self.start] + self.replacement + source[self.end :]

    def compiles(self, source: bytes) -> bool:
        """Whether the changed source is Python."""
        try:
            compile(self.applied_to(source), self.path, "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return True

    def diff(self, source: bytes) -> str:
        """The change as a unified diff."""
        before, after = (text.decode().splitlines(keepends=True) for text in (source, self.applied_to(source)))
        return "".join(unified_diff(before, after, self.path, f"{self.path} ({self.function}: {self.operator})", n=2))

    def changed_lines(self, source: bytes) -> tuple[str, str]:
        """The lines that are removed and added, without indentation; they name a mutant in the list of equivalents."""
        lines = self.diff(source).splitlines()[2:]
        removed, added = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in ("-", "+"))
        return removed, added


def mutants_of(path: str, root: Path) -> list[Mutant]:
    """All mutants of a file, in the order of its text. Some few cannot be compiled, see ``Mutant.compiles``."""
    source = (root / path).read_bytes()
    found = _Finder(path, source)
    found.visit(ast.parse(source))
    return sorted(found.mutants, key=lambda mutant: mutant.start)


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.source = source
        self.mutants: list[Mutant] = []
        self._names: list[str] = []
        self._line_starts = [0]
        for line in source.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))

    # --- places -------------------------------------------------------------------------------

    def _place(self, node: ast.expr | ast.stmt | ast.ExceptHandler) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        start = self._line_starts[node.lineno - 1] + node.col_offset
        return start, self._line_starts[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> bytes:
        start, end = self._place(node)
        return self.source[start:end]

    def _add(self, operator: str, node: ast.expr | ast.stmt, start: int, end: int, replacement: bytes) -> None:
        last = node.lineno + self.source[self._line_starts[node.lineno - 1] : end].count(b"\n")
        name = ".".join(self._names)
        self.mutants.append(Mutant(self.path, name, node.lineno, last, operator, start, end, replacement))

    def _replace(self, operator: str, node: ast.expr | ast.stmt, replacement: bytes) -> None:
        self._add(operator, node, *self._place(node), replacement)

    # --- what is not mutated --------------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._within(node.name, node.body)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        defaults = [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
        self._within(node.name, [*node.body, *defaults])

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def _within(self, name: str, nodes: Sequence[ast.AST]) -> None:
        self._names.append(name)
        for node in nodes:
            self.visit(node)
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._names and node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_Import(self, node: ast.Import) -> None:
        pass

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        pass

    # --- statements -----------------------------------------------------------------------------

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, _SIMPLE) and self._names:
            self._drop(node)
        super().generic_visit(node)

    def _drop(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant() | ast.Call(func=ast.Attribute(value=ast.Name(id="logger")))):
                return
            case ast.Return(value=None | ast.Constant(value=None)):
                return
            case ast.Return():
                self._replace("return nothing", node, b"return None")
                return
            case ast.Assign(targets=[ast.Name()]) if not self._is_reassigned(node):
                return  # what uses the name would fail, whatever the tests are
        self._replace("drop statement", node, b"pass")

    def _is_reassigned(self, node: ast.Assign) -> bool:
        """Whether the value in an assignment depends on the former one of the same name."""
        names = {target.id for target in node.targets if isinstance(target, ast.Name)}
        return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node.value))

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._condition(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._replace("drop condition", test, b"True")
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, ast.Constant):
            return
        if not isinstance(test, ast.Compare):  # whose operator is mutated
            self._replace("negate condition", test, b"(not (" + self._text(test) + b"))")
        self._replace("never", test, b"False")

    def visit_Try(self, node: ast.Try) -> None:
        for handler in node.handlers:
            if isinstance(handler.type, ast.Tuple):
                for index, kind in enumerate(handler.type.elts):
                    rest = [self._text(other) for at, other in enumerate(handler.type.elts) if at != index]
                    self._add("catch less", kind, *self._place(handler.type), b"(" + b", ".join(rest) + b",)")
        self.generic_visit(node)

    # --- expressions ------------------------------------------------------------------------------

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            for other in _COMPARISONS[type(operator)]:
                start, end = self._place(left)[1], self._place(right)[0]
                gap = self.source[start:end]  # with the parentheses around the operands
                before, after = gap[: len(gap) - len(gap.lstrip(b") "))], gap[len(gap.rstrip(b"( \n")) :]
                self._add("compare", left, start, end, (before or b" ") + other.encode() + (after or b" "))
            left = right
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = b" or " if isinstance(node.op, ast.And) else b" and "
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between("and for or", left, right, other)
        for index, value in enumerate(node.values):
            rest = [b"(" + self._text(part) + b")" for at, part in enumerate(node.values) if at != index]
            joined = (b" and " if isinstance(node.op, ast.And) else b" or ").join(rest)
            self._add("drop operand", value, *self._place(node), b"(" + joined + b")")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, (ast.Not, ast.USub)):
            self._replace("drop sign", node, b"(" + self._text(node.operand) + b")")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        other = _ARITHMETIC.get(type(node.op))
        is_text = any(
            isinstance(part, (ast.Constant, ast.JoinedStr)) and _is_text(part) for part in (node.left, node.right)
        )
        if other is not None and not is_text:
            self._between("arithmetic", node.left, node.right, f" {other} ".encode())
            self._replace("drop operand", node, b"(" + self._text(node.left) + b")")
        self.generic_visit(node)

    def _between(self, operator: str, left: ast.expr, right: ast.expr, replacement: bytes) -> None:
        """Replaces the operator between two operands; parentheses around them stay."""
        start, end = self._place(left)[1], self._place(right)[0]
        gap = self.source[start:end]
        word = gap.strip(b" \t\r\n()\\")
        if word and gap.count(word) == 1 and b"#" not in gap:
            self._add(operator, left, start, end, gap.replace(word, replacement.strip()))

    def visit_Constant(self, node: ast.Constant) -> None:
        if not self._names:
            return
        if isinstance(node.value, bool):
            self._replace("constant", node, str(not node.value).encode())
        elif isinstance(node.value, int):
            self._replace("constant", node, str(node.value + 1).encode())

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _TWINS:
            self._replace("twin function", node.func, _TWINS[node.func.id].encode())
        for keyword in node.keywords:
            if keyword.arg is not None:
                self._drop_keyword(node, keyword)
        self.generic_visit(node)

    def _drop_keyword(self, call: ast.Call, keyword: ast.keyword) -> None:
        assert keyword.end_lineno is not None and keyword.end_col_offset is not None
        start = self._line_starts[keyword.lineno - 1] + keyword.col_offset
        end = self._line_starts[keyword.end_lineno - 1] + keyword.end_col_offset
        while self.source[end : end + 1] in (b",", b" "):
            end += 1
        self._add("drop argument", keyword.value, start, end, b"")


def _is_text(node: ast.Constant | ast.JoinedStr) -> bool:
    return isinstance(node, ast.JoinedStr) or isinstance(node.value, (str, bytes))
