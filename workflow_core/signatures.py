"""Reads the signatures of user functions: their parameters, whether they are async, and their types as schemas.

All of this happens once, when a workflow class is created.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Callable, Collection, Mapping
from copy import deepcopy
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from workflow_core.adapters import JsonSchema, LateSchema, may_be_shown
from workflow_core.defaults import check_parameter_default
from workflow_core.error_texts import field_errors
from workflow_core.errors import DefinitionError, InvalidInput, InvalidOutput
from workflow_core.inputs import from_client, refuse_masks
from workflow_core.outputs import output_text
from workflow_core.records import record
from workflow_core.type_names import type_name
from workflow_core.value_form import ValueForm

Values = tuple[TypeAdapter[Any], LateSchema, ValueForm]
"""How the values of a type are converted, described and stored."""


class Annotations(typing.Protocol):
    """Resolves the annotations of functions; see ``workflow_core.program.scope``."""

    def hints(self, where: str, function: Callable[..., Any]) -> dict[str, Any]: ...

    def names(self, function: Callable[..., Any]) -> dict[str, Any]: ...

    def of(self, workflow: type) -> Annotations: ...

    def values(
        self, where: str, annotation: Any, mode: Literal["validation", "serialization"], names: Mapping[str, Any]
    ) -> Values: ...


@record(frozen=True)
class HandlerSignature:
    """The types of an event handler.

    Attributes:
        takes_input: whether it has an input in addition to the workflow (or the request).
        input_form: the form in which inputs are stored and passed on; ``output_form``: that of outputs.
        parameter: the name of its parameter; empty if it has no input.
        default: the default of its parameter, for a request without an input; ``Parameter.empty`` if it has none.
        late_input_schema: makes the schema of the input without its default; ``late_output_schema``: of the output.
    """

    takes_input: bool
    is_async: bool
    input: TypeAdapter[Any]
    output: TypeAdapter[Any]
    input_form: ValueForm
    output_form: ValueForm
    late_input_schema: LateSchema
    late_output_schema: LateSchema
    parameter: str = ""
    default: Any = inspect.Parameter.empty

    @property
    def input_schema(self) -> JsonSchema | None:
        """JSON schema of the input; None if it has no input."""
        schema = self.late_input_schema() if self.takes_input else None
        with contextlib.suppress(PydanticSerializationError):
            shown = self.input.dump_python(self.default, mode="json", by_alias=True) if self.has_default else None
            return {**(schema or {}), "default": shown} if self.has_default and may_be_shown(shown) else schema
        return schema

    @property
    def output_schema(self) -> JsonSchema:
        """JSON schema of the output; ``{"type": "null"}`` if it has no output."""
        return self.late_output_schema()

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
            typed = self.input.validate_python(value)
        except ValidationError as error:
            raise InvalidInput(f"event {event!r}", self._with_hint(field_errors(error), value)) from None
        if self.input_form.has_secrets:
            refuse_masks(f"event {event!r}", typed)
        return typed

    def validate_json(self, event: str, body: bytes) -> Any:
        """Returns the typed input for a JSON text of a client. An empty text means the default, or ``null`` if there is
        none.

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
            return from_client(what, body, self.input_form)
        except InvalidInput as error:
            if given:
                raise InvalidInput(what, self._with_hint(error.errors, given)) from None
            raise InvalidInput(what, [self._wants_some(error.errors)]) from None

    def load(self, name: str, text: bytes | str) -> Any:
        """Returns the typed input for a value that was stored or passed on, such as the result of an activity.

        Args:
            name: the name of the event, the activity or the child.

        Raises:
            InvalidInput: the value does not match the type.
        """
        try:
            return self.input_form.load(text)
        except ValidationError as error:
            raise InvalidInput(f"event {name!r}", field_errors(error)) from None

    def _with_hint(self, errors: list[dict[str, Any]], sent: Any) -> list[dict[str, Any]]:
        from workflow_core.input_hints import for_the_value_itself  # only errors need it

        return for_the_value_itself(errors, sent, self.parameter, self.input, self.input_schema)

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
            return output_text(self.output.serializer, self.output_form, value)
        except PydanticSerializationError as error:
            raise InvalidOutput(
                f"the handler of event {event!r} returned what its annotation does not allow: {error}"
            ) from error


def _takes_none(event: str) -> InvalidInput:
    return InvalidInput(
        f"event {event!r}", [{"field": "", "message": "this event takes no input: send none", "type": "no_input"}]
    )


class OfItem:
    """A function of the workflow that also receives the item of the ``ForEach`` around it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function


@record(eq=False)
class OfFrame:
    """A function of the workflow and of the frame of a thread, made from the source of a plain definition.

    Attributes:
        is_async: whether it returns a coroutine.
        place: the file and the line of its source.
        locals: the locals that it reads, if a thread of its own calls it, which gets them when it starts.
        constant: whether it is true, if it is a constant; None for others.
        ends: for code, whether no path leads to its end: it raises an error, or leaves what is around it.
    """

    function: Callable[..., Any]
    is_async: bool = False
    place: tuple[str, int] = ("", 0)
    locals: tuple[Any, ...] = ()
    constant: bool | None = None
    ends: bool = False

    def __call__(self, *arguments: Any) -> Any:
        """Statements accept it as a function; only the machine knows its frame."""
        raise TypeError("it is called with a frame")


def of_workflow(where: str, function: Callable[..., Any], *, in_each: bool) -> Callable[..., Any] | OfItem:
    """Checks a function of the workflow, or of the workflow and an item.

    Raises:
        DefinitionError: the function has another signature.
    """
    if not in_each:
        parameters(where, function, 1, 1, "the workflow alone")
        return function
    names = parameters(where, function, 1, 2, "the workflow, or the workflow and the item of the ForEach")
    if len(names) == 1:
        return function
    if default_of(function, names[1]) is not inspect.Parameter.empty:
        raise DefinitionError(
            where,
            f"its parameter {names[1]!r} has a default, but the item of the ForEach would be passed to it",
            f"Remove the default to get the item, or make the parameter keyword-only: (*, {names[1]}=...).",
        )
    return OfItem(function)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling ``function`` returns a coroutine.

    A plain function that wraps an async function is not recognized, because it may run that to its end. Its caller
    awaits what it returns.
    """
    if isinstance(function, OfFrame):
        return function.is_async
    return any(inspect.iscoroutinefunction(code) for code in _code_of(function))


def _code_of(function: Callable[..., Any]) -> tuple[Any, Any]:
    """Returns the function inside of partial calls and static methods, and the method by which an object is called."""
    function = unwrapped(function)
    return function, getattr(function, "__call__", None)  # noqa: B004 - its code is wanted, not whether it exists


def _is_generator(code: Any) -> bool:
    if getattr(getattr(code, "__code__", None), "co_filename", "") == contextlib.__file__:
        code = inspect.unwrap(code)  # of a context manager
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function inside of partial calls and static methods."""
    while isinstance(function, (functools.partial, staticmethod, classmethod)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return function


def parameters(
    where: str, function: Callable[..., Any], least: int, most: int, takes: str, *, keywords: Collection[str] = ()
) -> list[str]:
    """Returns the names of the positional parameters that a caller of ``function`` passes, up to ``most``.

    Args:
        keywords: the keyword arguments that it may have.

    Raises:
        DefinitionError: it cannot be called with ``least`` to ``most`` positional arguments.
    """
    if any(map(_is_generator, _code_of(function))):
        raise DefinitionError(
            where,
            "its function is a generator: calling it runs none of its code",
            "Remove 'yield' and @contextmanager, if it has that; return the value.",
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
            names += [] if parameter.name in keywords else [parameter.name] * (most + 1)
    if not least <= len(names) <= most:
        raise DefinitionError(where, f"its function has the signature {signature}", f"It must accept {takes}.")
    return names


def takes_context(
    where: str, function: Callable[..., Any], names: list[str], before: int, context: type, scope: Annotations
) -> bool:
    """Whether a step or an activity takes a context after ``before`` other parameters. A parameter with a default and
    another annotation keeps its default.

    Args:
        names: the parameters that a caller passes.

    Raises:
        DefinitionError: the parameter that would receive the context is annotated with another type.
    """
    if len(names) <= before:
        return False
    name = names[before]
    try:
        hint = scope.hints(where, function).get(name, context)
    except DefinitionError:  # a step needs no annotations, so they may be importable only for type checkers
        return True
    if _accepts(hint, context):
        return True
    if default_of(function, name) is inspect.Parameter.empty:
        raise DefinitionError(
            where,
            f"its parameter {name!r} is annotated with {type_name(hint)}, but would receive the {context.__name__}",
            f"Write {name}: {context.__name__}, or give the parameter a default.",
        )
    return False


def means(hint: Any, context: type) -> bool:
    """Whether an annotation names a context, possibly beside None, and nothing else."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return {context, type(None)} == set(typing.get_args(hint))
    return hint is context


def _accepts(hint: Any, context: type) -> bool:
    """Whether an annotation may mean a context."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_accepts(part, context) for part in typing.get_args(hint))
    cls = origin or hint
    return not isinstance(cls, type) or cls is Any or hasattr(cls, "_is_protocol") or issubclass(context, cls)


def handler_signature(
    where: str,
    function: Callable[..., Any],
    scope: Annotations,
    *,
    takes: str,
    least: int = 1,
    keywords: Collection[str] = (),
    before: int = 1,
) -> HandlerSignature:
    """Returns the types of an event handler, from its annotations.

    Args:
        scope: the workflow's class; resolves the annotations.
        keywords: the keyword arguments that it may have.
        before: the number of parameters before the input.

    Raises:
        DefinitionError: it has a wrong number of parameters, or its annotations cannot be converted to a schema.
    """
    names = parameters(where, function, least, 2, takes, keywords=keywords)
    takes_input = len(names) > before
    default = default_of(function, names[before]) if takes_input else inspect.Parameter.empty
    hints, names_there = scope.hints(where, function), scope.names(function)
    if takes_input and names[before] not in hints:
        raise DefinitionError(
            where,
            f"its parameter {names[before]!r} has no annotation, so clients cannot know what to send",
            f"Write {names[before]}: SomeType, or {names[before]}: Any to accept any JSON value.",
        )
    annotation = hints[names[before]] if takes_input else type(None)
    input, input_schema, input_form = scope.values(where, annotation, "validation", names_there)
    output, output_schema, output_form = scope.values(where, hints.get("return", Any), "serialization", names_there)
    if default is not inspect.Parameter.empty:
        check_parameter_default(where, names[before], annotation, input, default)
    return HandlerSignature(
        takes_input=takes_input,
        is_async=is_async(function),
        input=input,
        output=output,
        input_form=input_form,
        output_form=output_form,
        late_input_schema=input_schema,
        late_output_schema=output_schema,
        parameter=names[before] if takes_input else "",
        default=default,
    )


def default_of(function: Callable[..., Any], name: str) -> Any:
    """Returns the default of a parameter; ``Parameter.empty`` if it has none."""
    with contextlib.suppress(TypeError, ValueError, KeyError):
        return inspect.signature(function).parameters[name].default
    return inspect.Parameter.empty
