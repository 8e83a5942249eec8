"""The same definition with every name changed, and ``renamed_from`` on each. Holds no test."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from workflow_core import On, Section, Statement, Timeout
from workflow_core.statements.control import Branch, Case, Default
from workflow_core.statements.failures import Except

NEW = "new "

_NODES = (Statement, On, Timeout, Except, Branch, Case, Default)


def rename_all(definition: Section) -> Section:
    """The definition with ``NEW`` before the name of every statement, event and prefix."""
    renamed = _renamed(definition)
    assert isinstance(renamed, Section)
    return renamed


def without_new(text: str) -> str:
    """The text with the names that were there before."""
    return text.replace(NEW, "")


def _renamed(node: Any) -> Any:
    if isinstance(node, tuple):
        return tuple(_renamed(one) for one in node)
    if not isinstance(node, _NODES) or not is_dataclass(node):
        return node
    changed = {one.name: _renamed(getattr(node, one.name)) for one in fields(node)}
    label = "event" if isinstance(node, On) else "prefix" if isinstance(node, Section) else "name"
    if changed.get(label):
        if "renamed_from" in changed:
            changed["renamed_from"] = (changed[label],)
        changed[label] = NEW + changed[label]
    if isinstance(node, (Section, Except, Branch)):
        return replace(node, **changed)
    other = object.__new__(type(node))
    for name, value in changed.items():
        object.__setattr__(other, name, value)
    return other
