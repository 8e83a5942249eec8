"""Runs user code: synchronous code beside the event loop, and asynchronous code for a limited time.

What it raises comes out as an ordinary error of it, which can be counted: also what would end the process, as
``sys.exit`` does, hang whoever waits for it, or be taken for the cancellation of the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from cloud_adapter.ports import Clock
from workflow_core import TimedOut
from workflow_core.error_texts import error_text

RunSync = Callable[..., Awaitable[Any]]
"""Runs a synchronous function with its arguments so that the event loop goes on meanwhile."""


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Calls user code, or what calls it, in the thread that is to run it; what it returns may be awaitable.

    Raises:
        Exception: what it raises.
        RuntimeError: it raised what is no ``Exception``, or ``StopIteration``, which no future can carry.
    """
    try:
        return function(*args)
    except BaseException as error:
        if isinstance(error, Exception) and not isinstance(error, StopIteration):
            raise
        raise _ordinary(error) from error


def _ordinary(error: BaseException) -> RuntimeError:
    ordinary = RuntimeError(f"the code raised {error_text(error)}")
    for note in getattr(error, "__notes__", ()):
        ordinary.add_note(note)
    return ordinary


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        # Here, as a task that ends by these ends the event loop too.
        raise _ordinary(error) from error


async def within(
    clock: Clock, limit: timedelta | None, awaitable: Awaitable[Any], what: str, *watched: asyncio.Future[None]
) -> Any:
    """The result of ``awaitable``, which is interrupted after ``limit``, and when one of ``watched`` ends before.

    Raises:
        TimedOut: it took longer.
        Exception: what it raises, or what ended the watched one.
        RuntimeError: it raised what is no ``Exception``, or was cancelled from inside.
    """
    work = asyncio.ensure_future(_awaited(awaitable))
    limits = [] if limit is None else [asyncio.ensure_future(clock.sleep(max(0.0, limit.total_seconds())))]
    try:
        await asyncio.wait([work, *limits, *watched], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return call(work.result)
        for future in watched:
            if future.done():
                future.result()
        assert limit is not None
        raise TimedOut(f"{what} took longer than {limit.total_seconds():g} s")
    finally:
        for timer in limits:
            timer.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
