"""Checks of the locals that are stored: what cannot be stored, and what would no longer be the same object."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from workflow_core.plain.flow import all_parts, keys_of, usage_of
from workflow_core.plain.parts import Code, Fork, Frame, Part, Wait
from workflow_core.plain.usage import own_nodes

_CHANGING = frozenset(
    ("add", "append", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault")
) | {"sort", "update"}
"""Methods that change a list, a set or a mapping."""


def check_stored(parts: Sequence[Part]) -> None:
    """Checks all parts of a definition. Call it when it is known what is live.

    Raises:
        DefinitionError: a function, a class or a module must be stored, or a copy would be changed.
    """
    every = list(all_parts(parts))
    stored = {key for part in every if isinstance(part, (Wait, Fork)) for key in part.live}
    aliases: set[str] = set()
    for part in every:
        for statement in part.statements if isinstance(part, Code) else ():
            _check_kinds(part.frame, statement, stored)
            aliases |= _aliases(part.frame, statement) & stored
    for part in every:
        if isinstance(part, Code):
            _check_changes(part, aliases)


def changed_keys(parts: Sequence[Part]) -> frozenset[str]:
    """Returns the keys of the locals whose objects are changed in place by code that has loaded them."""
    found: set[str] = set()
    for part in all_parts(parts):
        if isinstance(part, Code):
            loaded = usage_of(part).reads
            changed = {name for statement in part.statements for name in map(_changed, own_nodes(statement))}
            found |= keys_of(part.frame, part.derived, changed & loaded)
    return frozenset(found)


def _check_kinds(frame: Frame, statement: ast.stmt, stored: set[str]) -> None:
    for node in (statement, *own_nodes(statement)):
        found: list[tuple[str, str, str]] = []
        match node:
            case ast.Import(names) | ast.ImportFrom(_, names):
                bound = [alias.asname or alias.name.partition(".")[0] for alias in names]
                found = [(name, f"the module {name!r}", "Import it at the top of the file.") for name in bound]
            case ast.FunctionDef(name) | ast.AsyncFunctionDef(name) | ast.ClassDef(name):
                found = [(name, "a function or a class", "Make it a method, or define it at the top of the file.")]
            case ast.Assign([ast.Name(name)], ast.Lambda()):
                found = [(name, "a function", "Make it a method, or define it after the await.")]
        for name, what, fix in found:
            if frame.key(name) in stored:
                reason = f"{what} cannot be stored while the instance sleeps, and a later line uses {name!r}"
                raise frame.source.mistake(node, reason, fix)


def _aliases(frame: Frame, statement: ast.stmt) -> set[str]:
    """Returns the keys of locals that a statement makes other names of a part of something else."""
    return {
        frame.key(target.id)
        for node in own_nodes(statement)
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Attribute, ast.Subscript))
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _check_changes(part: Code, aliases: set[str]) -> None:
    """Refuses changes of an object that was loaded from the stored locals, but belongs to a field."""
    loaded = usage_of(part).reads
    for statement in part.statements:
        for node in own_nodes(statement):
            name = _changed(node)
            if name in loaded and part.frame.key(name) in aliases:
                what = "an object that is computed before the await" if name.startswith(".") else repr(name)
                raise (
                    part.frame.source.mistake(
                        node,
                        f"{what} is stored while the instance sleeps, so this would change a copy",
                        "Assign the result of the await to a local first, and use that.",
                    )
                    if name.startswith(".")
                    else part.frame.source.mistake(
                        node,
                        f"{what} is stored while the instance sleeps, so this would change a copy",
                        f"Write what {name!r} stands for, such as self.rows[0], or assign it again after the await.",
                    )
                )


def _changed(node: ast.AST) -> str:
    """Returns the variable whose object a node changes in place; empty if there is none."""
    if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, (ast.Store, ast.Del)):
        return _root(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
        return _root(node.func)
    return ""


def _root(node: ast.expr) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
