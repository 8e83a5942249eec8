"""Reads the signatures of user functions: their parameters, whether they are async, and their types as schemas.

All of this happens once, when a workflow class is created.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import typing
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation
from pydantic_core import PydanticSerializationError

from workflow_core.errors import DefinitionError, InvalidInput, InvalidOutput


class Annotations(typing.Protocol):
    """Resolves the annotations of functions; see ``workflow_core.program.scope``."""

    def hints(self, where: str, function: Callable[..., Any]) -> dict[str, Any]: ...

    def names(self, function: Callable[..., Any]) -> dict[str, Any]: ...


JsonSchema = dict[str, Any]

ITEM = "item"
"""The keyword argument with which a handler receives the item of the ``ForEach`` around it."""


@dataclass(frozen=True, slots=True)
class HandlerSignature:
    """The types of an event handler.

    Attributes:
        takes_input: whether it has an input in addition to the workflow (or the request).
        default: the default of its parameter, for a request without an input; ``Parameter.empty`` if it has none.
        input_schema: JSON schema of the input; None if it has no input.
        output_schema: JSON schema of the output; ``{"type": "null"}`` if it has no output.
    """

    takes_input: bool
    is_async: bool
    input: TypeAdapter[Any]
    output: TypeAdapter[Any]
    input_schema: JsonSchema | None
    output_schema: JsonSchema
    default: Any = inspect.Parameter.empty

    @property
    def has_default(self) -> bool:
        """Whether the input may be left out."""
        return self.default is not inspect.Parameter.empty

    def validate(self, event: str, value: Any) -> Any:
        """Returns the typed input for a Python value, such as decoded JSON or an instance of the type. ``None`` means
        the default, if there is one.

        Raises:
            InvalidInput: the value does not match the type.
        """
        if not self.takes_input:
            if value is None:
                return None
            raise _takes_none(event)
        if value is None and self.has_default:
            return deepcopy(self.default)
        try:
            return self.input.validate_python(value)
        except ValidationError as error:
            raise InvalidInput(f"event {event!r}", field_errors(error)) from None

    def validate_json(self, event: str, body: bytes) -> Any:
        """Returns the typed input for a JSON text. An empty text means the default, or ``null`` if there is none.

        Raises:
            InvalidInput: the text is not JSON, or does not match the type.
        """
        given = body.strip()
        body = given or b"null"
        if not self.takes_input:
            if body == b"null":
                return None
            raise _takes_none(event)
        if not given and self.has_default:
            return deepcopy(self.default)
        what = f"event {event!r}"
        try:
            value = self.input.validate_json(body)
        except ValidationError as error:
            errors = field_errors(error)
            raise InvalidInput(what, errors if given else [self._wants_some(errors)]) from None
        refuse_infinite_numbers(what, self.input.dump_python(value, warnings=False))
        return value

    def _wants_some(self, errors: list[dict[str, Any]]) -> dict[str, Any]:
        """The error for an empty body, from the errors for ``null``."""
        wanted = " or ".join(dict.fromkeys(e["message"] for e in errors))
        required = (self.input_schema or {}).get("required", ())
        fields = f" with {', '.join(map(repr, required))}" if required else ""
        message = f"the body is empty: {wanted}{fields}, as JSON"
        return {"field": "", "message": message, "type": "missing_input"}

    def output_json(self, event: str, value: Any) -> bytes:
        """Returns the output as JSON.

        Raises:
            InvalidOutput: the output does not match the return annotation.
        """
        try:
            return self.output.dump_json(value, by_alias=True, warnings="error")
        except PydanticSerializationError as error:
            raise InvalidOutput(
                f"the handler of event {event!r} returned what its annotation does not allow: {error}"
            ) from error


def refuse_infinite_numbers(what: str, value: Any) -> None:
    """Rejects values that contain ``nan`` or an infinity, because JSON cannot represent them.

    Args:
        value: a dump of a model or a type adapter.

    Raises:
        InvalidInput: the value contains one of them.
    """
    found = next(_infinite(value, ""), None)
    if found is not None:
        field, number = found
        raise InvalidInput(
            what, [{"field": field, "message": f"{number} is not a finite number", "type": "finite_number"}]
        )


def _infinite(value: Any, path: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _infinite(key, path)
            yield from _infinite(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield from _infinite(item, f"{path}.{index}" if path else str(index))


def _takes_none(event: str) -> InvalidInput:
    return InvalidInput(
        f"event {event!r}", [{"field": "", "message": "this event takes no input: send none", "type": "no_input"}]
    )


def field_errors(error: ValidationError) -> list[dict[str, Any]]:
    """Returns a pydantic error as the list that ``InvalidInput`` contains."""
    return [
        {"field": ".".join(str(part) for part in e["loc"]), "message": e["msg"], "type": e["type"]}
        for e in error.errors(include_url=False, include_context=False, include_input=False)
    ]


class OfItem:
    """A function of the workflow that also receives the item of the ``ForEach`` around it."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


def of_workflow(where: str, function: Callable[..., Any], *, in_each: bool) -> Callable[..., Any] | OfItem:
    """Checks a function of the workflow, or of the workflow and an item.

    Raises:
        DefinitionError: the function has another signature.
    """
    if not in_each:
        parameters(where, function, 1, 1, "the workflow alone")
        return function
    names = parameters(where, function, 1, 2, "the workflow, or the workflow and the item of the ForEach")
    return function if len(names) == 1 else OfItem(function)


def takes_item(function: Callable[..., Any]) -> bool:
    """Whether a handler has the keyword argument ``item``."""
    with contextlib.suppress(TypeError, ValueError):
        parameter = inspect.signature(function).parameters.get(ITEM)
        return parameter is not None and parameter.kind is parameter.KEYWORD_ONLY
    return False


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` returns a coroutine.

    A plain function that wraps an async function is not recognized, because it may run that to its end. Its caller
    awaits what it returns.
    """
    return any(inspect.iscoroutinefunction(code) for code in _code_of(function))


def _code_of(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Returns the function inside of partial calls and static methods, and the method by which an object is called."""
    function = unwrapped(function)
    return function, getattr(function, "__call__", None)  # noqa: B004 - its code is wanted, not whether it exists


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function inside of partial calls and static methods."""
    while isinstance(function, (functools.partial, staticmethod, classmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def parameters(
    where: str, function: Callable[..., Any], least: int, most: int, takes: str, *, in_each: bool = False
) -> list[str]:
    """Returns the names of the positional parameters that a caller of ``function`` passes, up to ``most``.

    Args:
        in_each: whether it may have the keyword argument ``item``.

    Raises:
        DefinitionError: it cannot be called with ``least`` to ``most`` positional arguments.
    """
    if any(inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code) for code in _code_of(function)):
        raise DefinitionError(
            where, "its function is a generator: calling it runs none of its code", "Remove 'yield'; return the value."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return [f"argument {i}" for i in range(least)]
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [parameter.name] * (least - len(names))
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            # A parameter with a default and no annotation is for the author's own use, as in ``lambda w, i=i: ...``.
            annotated = parameter.annotation is not parameter.empty
            if parameter.default is parameter.empty or (annotated and len(names) < most):
                names.append(parameter.name)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            names += [] if in_each and parameter.name == ITEM else [parameter.name] * (most + 1)
    if not least <= len(names) <= most:
        raise DefinitionError(where, f"its function has the signature {signature}", f"It must accept {takes}.")
    return names


def handler_signature(
    where: str,
    function: Callable[..., Any],
    scope: Annotations,
    *,
    takes: str,
    least: int = 1,
    in_each: bool = False,
    before: int = 1,
) -> HandlerSignature:
    """Returns the types of an event handler, from its annotations.

    Args:
        scope: the workflow's class; resolves the annotations.
        in_each: whether it may have the keyword argument ``item``.
        before: the number of parameters before the input.

    Raises:
        DefinitionError: it has a wrong number of parameters, or its annotations cannot be converted to a schema.
    """
    names = parameters(where, function, least, 2, takes, in_each=in_each)
    takes_input = len(names) > before
    default = _default(function, names[before]) if takes_input else inspect.Parameter.empty
    hints, names_there = scope.hints(where, function), scope.names(function)
    if takes_input and names[before] not in hints:
        raise DefinitionError(
            where,
            f"its parameter {names[before]!r} has no annotation, so clients cannot know what to send",
            f"Write {names[before]}: SomeType, or {names[before]}: Any to accept any JSON value.",
        )
    annotation = hints[names[before]] if takes_input else type(None)
    input, input_schema = _adapter(where, annotation, "validation", names_there)
    output, output_schema = _adapter(where, hints.get("return", Any), "serialization", names_there)
    if default is not inspect.Parameter.empty:
        with contextlib.suppress(PydanticSerializationError):
            input_schema = {**input_schema, "default": input.dump_python(default, mode="json", by_alias=True)}
    schema = input_schema if takes_input else None
    return HandlerSignature(takes_input, is_async(function), input, output, schema, output_schema, default)


def _default(function: Callable[..., Any], name: str) -> Any:
    with contextlib.suppress(TypeError, ValueError, KeyError):
        return inspect.signature(function).parameters[name].default
    return inspect.Parameter.empty


def _adapter(
    where: str, annotation: Any, mode: typing.Literal["validation", "serialization"], names: Mapping[str, Any]
) -> tuple[TypeAdapter[Any], JsonSchema]:
    try:
        adapter = TypeAdapter(annotation)
        if not adapter.pydantic_complete:  # a dataclass inside a function may name another one there
            adapter.rebuild(_types_namespace=names)
        return adapter, adapter.json_schema(mode=mode)
    except PydanticUndefinedAnnotation as error:
        fix = "Define that type above the workflow."
        raise DefinitionError(
            where, f"the annotation {annotation!r} cannot be resolved: {error.message}", fix
        ) from error
    except (PydanticUserError, PydanticInvalidForJsonSchema) as error:
        raise DefinitionError(
            where,
            f"the annotation {annotation!r} has no JSON schema: {error.message.splitlines()[0]}",
            "Use pydantic models, dataclasses, plain types or Any.",
        ) from error
