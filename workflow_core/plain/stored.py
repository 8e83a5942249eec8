"""Checks of the locals that are stored: what cannot be stored, and what would no longer be the same object."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from workflow_core.errors import DefinitionError
from workflow_core.plain.flow import all_parts
from workflow_core.plain.in_place import changes_of, loaded_by
from workflow_core.plain.parts import Code, Fork, Frame, Part, Wait
from workflow_core.plain.usage import is_hidden, own_nodes
from workflow_core.statements.local_keys import local_in_words


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
                use = f"a later line uses {name!r}"
                if is_hidden(name):
                    use, fix = f"it is {local_in_words(name)}", "Pass data, and choose the function where it is called."
                reason = f"{what} cannot be stored while the instance sleeps, and {use}"
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
    for statement, loaded, _ in loaded_by(part) if aliases else ():
        for node in own_nodes(statement):
            for name, _ in changes_of(node) if not isinstance(node, ast.AugAssign) else ():  # mostly of a number
                if name in loaded and part.frame.key(name) in aliases:
                    raise _of_a_copy(part.frame, node, name)


def _of_a_copy(frame: Frame, node: ast.AST, name: str) -> DefinitionError:
    what = repr(name)
    fix = f"Write what {name!r} stands for, such as self.rows[0], or assign it again after the await."
    if name.startswith("."):
        what = "an object that is computed before the await"
        fix = "Assign the result of the await to a local first, and use that."
    return frame.source.mistake(node, f"{what} is stored while the instance sleeps, so this would change a copy", fix)
