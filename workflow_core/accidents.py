"""Accidents: values that a function of the workflow returns because a call, an ``await`` or a ``list`` was forgotten.

All of them are true, so without a check a condition that forgets a call would always hold.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from inspect import isasyncgen, isawaitable, iscoroutine, isgenerator, isroutine
from typing import Any

from workflow_core.errors import UnusableResult

_EMPTY: Any = iter
_CONTEXT_MANAGERS: tuple[type, ...] = type(contextmanager(_EMPTY)(())), type(asynccontextmanager(_EMPTY)(()))
"""What functions with these decorators return."""


_VALUES = frozenset((bool, int, float, str, list, tuple, dict, type(None)))
"""Types of which no value is an accident. They are known by their identity, which takes no time."""


def refuse_accident(value: object, where: str) -> None:
    """Refuses a value that a function of the workflow returned by accident.

    Args:
        where: the function, for the error.

    Raises:
        UnusableResult: it is a coroutine, a generator, another iterator, a context manager of one, or a function.
    """
    if type(value) not in _VALUES and (what := _accident(value)) is not None:
        raise UnusableResult(f"{where} returned {what}")


def is_true(value: object, name: str) -> bool:
    """Returns whether a condition holds, from the value that its function returned.

    Args:
        name: the name of the statement.

    Raises:
        UnusableResult: the value was returned by accident: also a class, a tuple of one truth value, or an object that
            can be called and has no truth value of its own.
    """
    if value is True or value is False:
        return value
    where = f"the condition of {name!r}"
    refuse_accident(value, where)
    if isinstance(value, type):
        fix = "Create an object, or compare the class with another one"
        raise UnusableResult(f"{where} returned the class {value.__name__!r}, which is always true. {fix}")
    if value is ... or value is NotImplemented or isinstance(value, property):
        raise UnusableResult(f"{where} returned {value!r:.60}, which is always true. Return True or False")
    if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], bool):
        raise UnusableResult(f"{where} returned a tuple, which is always true. Remove the trailing comma")
    if callable(value) and not hasattr(value, "__bool__") and not hasattr(value, "__len__"):
        raise UnusableResult(f"{where} returned {value!r:.60}, which is always true, but can be called. Call it")
    return bool(value)


def _accident(value: object) -> str | None:
    if isinstance(value, functools.partial) or isroutine(value):
        name = getattr(value, "__name__", "it")
        return f"the function {name!r} itself, not its result. Write {name}()"
    if isawaitable(value):
        if iscoroutine(value):
            value.close()  # otherwise Python warns later that nobody has awaited it
        return "a coroutine, so the code has not run. Only steps and activities can be async: store the value in a Step"
    if isinstance(value, _CONTEXT_MANAGERS):
        return "a context manager, so the code has not run. Remove @contextmanager"
    if isgenerator(value) or isasyncgen(value):
        return "a generator, so the code has not run. Return the value itself, for example a list"
    if isinstance(value, Iterator) and iter(value) is value:  # a mock only looks like one
        return f"{value!r:.60}, which can be read only once. Return a list"
    return None
