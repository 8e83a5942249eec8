"""Compiles ``async def run`` to the section that a workflow's ``definition`` is."""

from __future__ import annotations

import ast
from typing import Any

from workflow_core.adapters import adapter_of
from workflow_core.errors import DefinitionError
from workflow_core.plain.flow import check_assigned, find_live
from workflow_core.plain.in_place import changed_in
from workflow_core.plain.local_types import LocalTypes
from workflow_core.plain.lower import Lowering
from workflow_core.plain.parts import Frame
from workflow_core.plain.scan import Scan
from workflow_core.plain.source import plain_function
from workflow_core.plain.stored import check_stored
from workflow_core.plain.syntax import copied
from workflow_core.replacements import COMPILED
from workflow_core.signatures import Annotations
from workflow_core.statements.basic import Section


def compile_run(cls: type, run: Any, scope: Annotations) -> Section:
    """Returns the method ``run`` of a workflow as a section of statements.

    Raises:
        DefinitionError: it has something that cannot be stored or continued. The error names the line.
    """
    function = plain_function(run)
    if function is None or function is not run:
        raise DefinitionError(
            f"run of {cls.__name__}", f"it is {run!r:.60}", "Write async def run(self), without decorators."
        )

    def hints(method: Any) -> dict[str, Any]:
        return scope.hints(getattr(method, "__qualname__", repr(method)), method)

    def hints_in(other: type, method: Any) -> dict[str, Any]:
        return scope.of(other).hints(getattr(method, "__qualname__", repr(method)), method)

    def evaluate(frame: Frame, annotation: ast.expr) -> Any:
        source = frame.source
        names = {name: cell.cell_contents for name, cell in source.cells.items()} | scope.names(source.function)
        try:
            unquoted = _Unquoted().visit(copied(annotation))
            code = compile(ast.Expression(unquoted), source.file, "eval")
            return eval(code, source.function.__globals__, names)  # nosec B307 - an annotation in the imported source
        except (NameError, SyntaxError) as error:
            raise source.mistake(
                annotation, f"its annotation cannot be resolved: {error}", "Define that type above."
            ) from error

    scan = Scan(cls, hints, hints_in, evaluate)
    _, parts = scan.run(function)
    find_live(parts)
    check_assigned(parts)
    check_stored(parts)
    types = LocalTypes(scan, parts, lambda where, kind: adapter_of(where, kind, {}), changed_in(parts))
    setattr(cls, COMPILED, frozenset(scan.sections))
    return Lowering(scan, types).section(parts)


class _Unquoted(ast.NodeTransformer):
    """Replaces the texts in an annotation by the expressions that they quote."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, str):
            return node
        quoted = ast.parse(node.value, mode="eval").body
        for part in ast.walk(quoted):
            ast.copy_location(part, node)
        return quoted

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        named = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
        if named in ("Literal", "Annotated"):
            return node
        self.generic_visit(node)
        return node
