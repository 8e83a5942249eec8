"""The keyword arguments with which handlers are called, if they have them: the item, who sent the event, the time."""

from __future__ import annotations

import contextlib
import inspect
import typing
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.principal import Principal
from workflow_core.signatures import Annotations, default_of

ITEM = "item"
"""The keyword argument with which a handler receives the item of the ``ForEach`` around it."""

PRINCIPAL = "principal"
"""The keyword argument with which the handler of an event receives the principal that sent it."""


NOW = "now"
"""The keyword argument with which a handler receives the current time."""


def keywords_of(function: Callable[..., Any]) -> Collection[str]:
    """Returns the names of the keyword arguments of a handler."""
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(function).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    return ()


def takes_principal(where: str, function: Callable[..., Any], scope: Annotations) -> bool:
    """Whether a handler receives its keyword argument ``principal``. One with a default and another type keeps that.

    Raises:
        DefinitionError: its type is not ``Principal | None``.
    """
    accepted = typing.get_args(scope.hints(where, function).get(PRINCIPAL, Any))
    if Principal in accepted and type(None) in accepted:
        return True
    if Principal not in accepted and default_of(function, PRINCIPAL) is not inspect.Parameter.empty:
        return False
    raise DefinitionError(
        where,
        "its keyword argument 'principal' receives who sends the event, or None from code in the same process",
        "Write principal: Principal | None.",
    )


def takes_now(where: str, function: Callable[..., Any], scope: Annotations) -> bool:
    """Whether a handler receives its keyword argument ``now``. One with a default and another type keeps that.

    Raises:
        DefinitionError: its type is not ``datetime``.
    """
    hint = scope.hints(where, function).get(NOW, datetime)
    if hint in (Any, datetime) or datetime in typing.get_args(hint):
        return True
    if default_of(function, NOW) is not inspect.Parameter.empty:
        return False
    raise DefinitionError(where, "its keyword argument 'now' receives the current time", "Write now: datetime.")
