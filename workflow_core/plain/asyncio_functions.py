"""The functions of asyncio that cannot take calls of a workflow, and the words that do their work."""

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
"""The words by the names of the functions."""


def of_asyncio(function: Any) -> str:
    """Returns the name of one of these functions; empty for other objects."""
    name: str = getattr(function, "__name__", "")
    is_known = name in INSTEAD_OF_ASYNCIO and str(getattr(function, "__module__", "")).startswith("asyncio.")
    return name if is_known else ""
