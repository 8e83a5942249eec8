"""Activities of a plain definition: methods that run outside of the instance, as functions of one input."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from pydantic import ConfigDict, create_model

from workflow_core.errors import ExecutionError
from workflow_core.plain.methods import own_parameters
from workflow_core.plain.source import UNKNOWN
from workflow_core.plain.vocabulary import ActivityMethod, Method
from workflow_core.signatures import is_async


class Outside:
    """What ``self`` is in an activity: it has the methods of the workflow's class, but no fields."""

    def __init__(self, cls: type) -> None:
        self.__dict__["__workflow_class"] = cls

    def __getattr__(self, name: str) -> Any:
        cls: Any = self.__dict__["__workflow_class"]
        found = inspect.getattr_static(cls, name, UNKNOWN)
        if found is UNKNOWN or name in cls.model_fields:
            raise ExecutionError(
                f"an activity of {cls.__name__} used self.{name}: it runs outside of the instance, without its fields. "
                f"Pass the value as an argument"
            )
        return found.__get__(self, cls) if hasattr(found, "__get__") else found

    def __setattr__(self, name: str, value: Any) -> None:
        raise ExecutionError(
            f"an activity set self.{name}: it cannot change the fields. Return the value, and assign it in run"
        )


def takes_one(method: ActivityMethod[Any, Any, Any], context: str | None) -> bool:
    """Whether an activity has at most one parameter besides ``self`` and its context. It then is the input itself."""
    return len(_parameters(method, context)) <= 1


def _parameters(method: ActivityMethod[Any, Any, Any], context: str | None) -> list[inspect.Parameter]:
    return [parameter for parameter in own_parameters(method.function) if parameter.name != context]


def function_of(
    cls: type, owner: type | None, method: ActivityMethod[Any, Any, Any], hints: dict[str, Any], context: str | None
) -> Callable[..., Any]:
    """Returns a function of the input and the context that calls the method which the class has now."""
    parameters, name = _parameters(method, context), method.name
    one = takes_one(method, context)

    def function(*received: Any) -> Any:
        found = inspect.getattr_static(owner or cls, name)
        called = found.function if isinstance(found, Method) else found
        values = list(received)
        given = {context: values.pop()} if context is not None else {}
        if values and one:
            given[parameters[0].name] = values[0]
        elif values:
            given |= {parameter.name: getattr(values[0], parameter.name) for parameter in parameters}
        return called(Outside(cls), **given)

    async def coroutine(*received: Any) -> Any:
        return await function(*received)

    made: Any = coroutine if is_async(method.function) else function
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    shown: list[inspect.Parameter] = []
    annotations = {"return": hints.get("return", Any)}
    if parameters:
        kind, default = _input_type(method, parameters, hints), inspect.Parameter.empty
        input_name = parameters[0].name if one else "input"
        if one:
            default = parameters[0].default
        elif all(parameter.default is not parameter.empty for parameter in parameters):
            default = kind()
        shown.append(inspect.Parameter(input_name, positional, default=default, annotation=kind))
        annotations[input_name] = kind
    if context is not None:  # behind a parameter with a default, it must have one too
        last: Any = None if shown and shown[0].default is not inspect.Parameter.empty else inspect.Parameter.empty
        shown.append(inspect.Parameter(context, positional, default=last, annotation=hints[context]))
        annotations[context] = hints[context]
    made.__signature__ = inspect.Signature(shown, return_annotation=annotations["return"])
    made.__annotations__ = annotations
    made.__name__, made.__qualname__, made.__module__ = name, method.function.__qualname__, method.function.__module__
    made.__doc__ = method.function.__doc__
    result: Callable[..., Any] = made
    return result


def _input_type(
    method: ActivityMethod[Any, Any, Any], parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> Any:
    types = [hints.get(parameter.name, Any) for parameter in parameters]
    if len(parameters) == 1:
        return types[0]
    defaults = [... if parameter.default is parameter.empty else parameter.default for parameter in parameters]
    fields: dict[str, Any] = {
        parameter.name: (kind, default) for parameter, kind, default in zip(parameters, types, defaults, strict=True)
    }
    name, module = f"{method.function.__name__}_input", method.function.__module__
    # A value for another parameter belongs to former code: to ignore it would lose it.
    return create_model(name, __config__=ConfigDict(extra="forbid"), __module__=module, **fields)


def taking(kind: Any) -> Callable[..., Any]:
    """Returns the ``then`` of an activity or a child that hands its result to ``run``."""

    def take(workflow: Any, result: Any) -> Any:
        return result

    take.__annotations__ = {"result": Any if kind is UNKNOWN else kind, "return": Any}
    return take
