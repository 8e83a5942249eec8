"""What type checkers know of the functions of a statement. Nothing here exists at run time.

``Concatenate[..., ...]`` leaves open what a function takes besides: an item, a context, or keywords. mypy infers no
``lambda`` from it, but does so if it stands in a union.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate

from pydantic import BaseModel

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    In = TypeVar("In", default=Any)
    Out = TypeVar("Out", default=Any)
    W = TypeVar("W", default=Any)
else:
    from typing import TypeVar

    In, Out, W = TypeVar("In"), TypeVar("Out"), TypeVar("W")

Input = Callable[[Any], In | Mapping[str, Any]] | Callable[Concatenate[Any, ...], In | Mapping[str, Any]]
"""A function of the workflow, or of the workflow and the item, that returns an input. A mapping becomes a model."""

Fields = Mapping[str, Any] | BaseModel
"""Initial fields of a child."""

Then = Callable[[Any, Out], Any] | Callable[[Any], Any] | Callable[Concatenate[Any, Out, ...], Any]
"""A function of the workflow and a result, which it may leave out. That of a child is not typed: what the child gives
is stored as JSON, and becomes what the function takes."""

AsyncWork = Callable[Concatenate[In, ...], Coroutine[Any, Any, Out]]
Work = Callable[Concatenate[In, ...], Out]
"""The function of an activity."""
