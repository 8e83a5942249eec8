"""Finds the methods that ``run`` calls."""

from __future__ import annotations

import inspect
from typing import Any

from workflow_core.events import EVENT_MARK, event_mark
from workflow_core.plain.vocabulary import Method
from workflow_core.replacements import originals


def method_of(cls: type, name: str) -> Any:
    """Returns a method of a workflow's class without binding it, as it was before tests replaced it; None if there is
    none. An override without a decorator keeps that of the method that it overrides: for a step or an activity, this
    returns the decorated method, and an event becomes decorated."""
    found = list(originals(cls, name))
    nearest = found[0] if found else None
    for method in found if inspect.isfunction(nearest) else ():
        if isinstance(method, Method):
            return method
        if (mark := event_mark(method)) is not None:
            setattr(nearest, EVENT_MARK, mark)  # ``Selected.happened`` asks for it
            return nearest
    return nearest
