"""Checks the functions that a definition contains: conditions, handlers, inputs and others."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.handler_keywords import ITEM, NOW, PRINCIPAL, keywords_of, takes_now, takes_principal
from workflow_core.program.assembly import Assembly
from workflow_core.program.code import DoOp, Function
from workflow_core.signatures import HandlerSignature, OfFrame, handler_signature, is_async, of_workflow, parameters


def function_of(
    assembly: Assembly, kind: str, name: str, function: Callable[..., Any], what: str = "function"
) -> Function:
    """Checks a function of the workflow, which may also take the item of a ``ForEach``."""
    if isinstance(function, OfFrame):
        return function
    function = assembly.scope.current(f"{kind} {name!r}", function)
    result = of_workflow(f"{kind} {name!r}", function, in_each=assembly.each is not None)
    if is_async(function):
        raise DefinitionError(
            f"{kind} {name!r}", f"its {what} is async", "Compute the value in a Step and test the field."
        )
    if what == "condition" and _returns_none(function):
        raise DefinitionError(f"{kind} {name!r}", "its condition returns None, which is never true", "Return a bool.")
    return result


def _returns_none(function: Callable[..., Any]) -> bool:
    """Whether the annotation of a function says that it returns nothing."""
    with contextlib.suppress(TypeError, ValueError):
        return inspect.signature(function).return_annotation in (None, "None")
    return False


def value_of(assembly: Assembly, kind: str, name: str, value: Any, what: str) -> Any:
    """Returns a plain value unchanged, or a checked function of the workflow."""
    return function_of(assembly, kind, name, value, what) if callable(value) else value


def handler_of(assembly: Assembly, kind: str, name: str, handler: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the handler of an event, a result or a condition.

    Raises:
        DefinitionError: it cannot be a handler.
    """
    handler = assembly.scope.current(f"{kind} {name!r}", handler)
    if inspect.isclass(handler):
        raise DefinitionError(f"{kind} {name!r}", "its handler is a class", "Pass a function of the workflow.")
    if is_async(handler):
        raise DefinitionError(
            f"{kind} {name!r}",
            "its handler is async, but it runs inside the request and should only change fields",
            "Make it a plain function, and put the slow work into a Step after it.",
        )
    return handler


def verify_of(assembly: Assembly, event: str, verify: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function that decides who may send an event.

    Raises:
        DefinitionError: it cannot be called as it will be.
    """
    where = f"verify of On {event!r}"
    verify = assembly.scope.current(where, verify)
    if is_async(verify):
        raise DefinitionError(
            where, "it is async, but is asked between a load and a commit", "Make it a plain function."
        )
    parameters(where, verify, 2, 2, "(workflow, request)")
    return verify


def signature_of(
    assembly: Assembly, where: str, handler: Callable[..., Any], takes: str, *, is_sent: bool = False
) -> HandlerSignature:
    """Returns the types of a handler.

    Args:
        is_sent: whether it handles an event that a client sends.
    """
    may_have = [NOW] + [ITEM] * (assembly.each is not None) + [PRINCIPAL] * is_sent
    return handler_signature(where, handler, assembly.scope, takes=takes, keywords=may_have)


def handler_keywords(
    assembly: Assembly, where: str, handler: Callable[..., Any], *, is_sent: bool = False
) -> tuple[str, ...]:
    """Returns the keyword arguments with which a handler is called: the item of the ``ForEach`` around it, who sent the
    event, and the current time."""
    keywords = keywords_of(handler)
    item = assembly.each is not None and ITEM in keywords
    principal = is_sent and PRINCIPAL in keywords and takes_principal(where, handler, assembly.scope)
    now = NOW in keywords and takes_now(where, handler, assembly.scope)
    return (ITEM,) * item + (PRINCIPAL,) * principal + (NOW,) * now


def plain_handler(
    assembly: Assembly, kind: str, name: str, handler: Callable[..., Any], least: int, takes: str
) -> tuple[Callable[..., Any], tuple[str, ...]]:
    """Returns a handler without an input from outside, and the keyword arguments with which it is called.

    Args:
        least: how many positional arguments it takes.

    Raises:
        DefinitionError: it cannot be called as it will be.
    """
    where = f"{kind} {name!r}"
    handler = handler_of(assembly, kind, name, handler)
    keywords = handler_keywords(assembly, where, handler)
    parameters(where, handler, least, least, takes, keywords=keywords)
    return handler, keywords


def do_op(assembly: Assembly, kind: str, name: str, handler: Callable[..., Any], *, at: str = "") -> None:
    """Emits a call of a handler.

    Args:
        at: the statement that an instance rests on after an error of the handler; by default ``name`` itself.
    """
    handler, keywords = plain_handler(assembly, kind, name, handler, 1, "the workflow alone")
    operation = DoOp(at or name, handler=handler, keywords=keywords)
    if at:
        assembly.emit(operation)
    else:
        assembly.park(operation)
