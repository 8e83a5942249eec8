"""Copies of syntax trees. Most of what the compiler does with a tree would change the tree of the source."""

from __future__ import annotations

import ast
from typing import TypeVar

Tree = TypeVar("Tree")


def copied(tree: Tree) -> Tree:
    """Returns a copy of a node with all nodes inside. It takes a third of the time of ``copy.deepcopy``, which must
    expect any object, and an import copies each node several times."""
    if isinstance(tree, ast.AST):
        made: Tree = type(tree).__new__(type(tree))
        for name, value in vars(tree).items():
            made.__dict__[name] = copied(value) if isinstance(value, (ast.AST, list)) else value
        return made
    if isinstance(tree, list):
        return [copied(part) for part in tree]  # type: ignore[return-value]
    return tree
