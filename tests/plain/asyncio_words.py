"""The words of a plain definition as plain asyncio: a stub that saves nothing."""

from __future__ import annotations

import asyncio
import copy
from datetime import timedelta
from typing import Any

from workflow_core.events import Selected

__all__ = [
    "Base",
    "Workflow",
    "activity",
    "event",
    "gather",
    "local",
    "parallel",
    "select",
    "sleep",
    "section",
    "step",
    "timedelta",
    "until",
]


class Base:
    """A class with fields, as its annotations and defaults say."""

    def __init_subclass__(cls, name: str) -> None:
        super().__init_subclass__()

    def __init__(self, script: list[int]) -> None:
        for name in type(self).__annotations__:
            setattr(self, name, copy.deepcopy(getattr(type(self), name)))
        _SCRIPT[:] = script


Workflow = Base
_SCRIPT: list[int] = []


class _Call:
    def __init__(self, begin: Any) -> None:
        self._begin = begin

    def named(self, name: str) -> _Call:
        return self

    def __await__(self) -> Any:
        result = self._begin()
        if hasattr(result, "__await__"):
            result = yield from result.__await__()
        return result


def step(function: Any) -> Any:
    def call(self: Any, *args: Any, **kwargs: Any) -> _Call:
        return _Call(lambda: function(self, *args, **kwargs))

    return call


activity = section = step


def event(function: Any) -> Any:
    from workflow_core.plain.vocabulary import event as mark

    return mark(function)


def select(*events: Any, timeout: Any = None) -> _Call:
    def begin() -> Selected[Any, Any]:
        chosen = _SCRIPT.pop(0) % (len(events) + (timeout is not None))
        if chosen == len(events):
            return Selected("", None, None)
        handler = events[chosen]
        takes = handler.__func__.__code__.co_argcount > 1
        output = handler(chosen + 5) if takes else handler()
        return Selected(handler.__name__, chosen + 5 if takes else None, output)

    return _Call(begin)


def gather(*calls: Any, limit: int | None = None) -> _Call:
    async def begin() -> Any:
        async def one(call: Any) -> Any:
            return await call

        return await asyncio.gather(*map(one, calls))

    return _Call(begin)


class parallel:  # noqa: N801 - a word of the library
    async def __aenter__(self) -> parallel:
        self._calls: list[Any] = []
        return self

    def start(self, call: Any) -> None:
        self._calls.append(call)

    async def __aexit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            await gather(*self._calls)


def sleep(delay: Any) -> _Call:
    return _Call(lambda: None)


def until(condition: Any) -> _Call:
    return _Call(lambda: None)


def local(name: str, *, default: Any) -> Any:
    return default
