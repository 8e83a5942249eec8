"""The names of types in errors: as they are written in code, without what ``Annotated`` adds and without modules."""

from __future__ import annotations

import types
import typing
from typing import Any


def type_name(annotation: Any) -> str:
    """Returns the name of a type, such as ``list[int | None]``.

    Example:
        >>> type_name(typing.Annotated[typing.Optional[int], "positive"])
        'int | None'
        >>> type_name(dict[str, typing.Annotated[list[int], "short"]])
        'dict[str, list[int]]'
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is None or annotation is types.NoneType:
        return "None"
    if origin is typing.Annotated:
        return type_name(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]"
    if origin is not None and arguments:
        return f"{_plain_name(origin)}[{', '.join(map(_argument_name, arguments))}]"
    return _plain_name(annotation)


def _argument_name(argument: Any) -> str:
    if isinstance(argument, list):  # the parameters of a Callable
        return f"[{', '.join(map(type_name, argument))}]"
    return "..." if argument is ... else type_name(argument)


def _plain_name(annotation: Any) -> str:
    name = getattr(annotation, "__name__", None) or getattr(annotation, "__forward_arg__", None)
    return name if isinstance(name, str) else str(annotation).removeprefix("typing.")
