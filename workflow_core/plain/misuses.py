"""Misuses of words that would go unnoticed, or whose error would not say what to write instead."""

from __future__ import annotations

import ast
from typing import Any

from workflow_core.events import event_mark
from workflow_core.plain.methods import method_of

INSTEAD_OF_ASYNCIO = {
    "gather": "gather",
    "wait": "gather or race",
    "as_completed": "gather or race",
    "wait_for": "async with timeout(...)",
    "shield": "go",
    "create_task": "go",
    "ensure_future": "go",
}
"""The words that do the work of functions of asyncio, which cannot take calls of a workflow."""


def of_asyncio(function: Any) -> str:
    """Returns the name of a function of asyncio, if a word does its work; empty for other objects."""
    name: str = getattr(function, "__name__", "")
    is_known = name in INSTEAD_OF_ASYNCIO and str(getattr(function, "__module__", "")).startswith("asyncio.")
    return name if is_known else ""


def asked_in_vain(cls: type, self_name: str, node: ast.AST) -> ast.expr | None:
    """Returns what ``got.happened(...)`` asks for, if that is no event, so that the answer would always be False."""
    match node:
        case ast.Call(ast.Attribute(ast.Name(), "happened"), [ast.Constant() as asked], []):
            return asked
        case ast.Call(ast.Attribute(ast.Name(), "happened"), [ast.Attribute(ast.Name(owner), name) as asked], []):
            return asked if owner == self_name and event_mark(method_of(cls, name)) is None else None
    return None
