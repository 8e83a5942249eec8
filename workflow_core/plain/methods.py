"""Finds the methods of a workflow's class: ``run``, and those that it calls."""

from __future__ import annotations

import inspect
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import EVENT_MARK, event_mark
from workflow_core.plain.vocabulary import Method
from workflow_core.replacements import COMPILED, originals
from workflow_core.signatures import is_async

RUN = "run"


def plain_run(cls: type) -> Any:
    """Returns the method ``run`` of a workflow's class; None if its definition is explicit, or it has none."""
    for base in cls.__mro__:
        own = vars(base)
        if "definition" in own and COMPILED not in own:  # a subclass may override what was compiled from run
            return None
        if RUN in own and (is_async(own[RUN]) or inspect.isasyncgenfunction(own[RUN])):
            return own[RUN]
    return None


def own_parameters(function: Any) -> list[inspect.Parameter]:
    """Returns the parameters of a method without the first, which is the workflow.

    Raises:
        DefinitionError: it has none.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters:
        raise DefinitionError(function.__qualname__, "it has no parameter", "Write self as its first parameter.")
    return parameters[1:]


def instead_of(cls: type, name: str) -> str:
    """Returns what to do about a call of a method that a workflow's class does not have."""
    from difflib import get_close_matches  # here, because only this error needs it

    own = [known for known in dir(cls) if not known.startswith(("_", "model_"))]
    close = get_close_matches(name, own, 1)
    return f"Define it, or write {close[0]!r}." if close else "Define it."


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
