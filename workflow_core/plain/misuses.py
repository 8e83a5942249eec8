"""Misuses of words that would go unnoticed, or whose error would not say what to write instead."""

from __future__ import annotations

from typing import Any

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
