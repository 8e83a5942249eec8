"""Runs user code: synchronous code in a thread, and asynchronous code with a time limit.

Everything that user code raises becomes an ordinary exception, so that it counts as a failed attempt. This includes
exceptions that would end the process, as ``sys.exit`` does, that would make the caller hang, or that look like the
cancellation of the request.
"""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from cloud_adapter.ports import Clock
from workflow_core import TimedOut
from workflow_core.error_texts import error_text

RunSync = Callable[..., Awaitable[Any]]
"""Runs a synchronous function with its arguments without blocking the event loop."""


def call(function: Callable[..., Any], *args: Any) -> Any:
    """Calls a function that is or calls user code, in the current thread. The result may be awaitable.

    Raises:
        Exception: the code raised it.
        RuntimeError: the code raised something other than an ``Exception``, or ``StopIteration``, which a future cannot
            contain.
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


def own_decimal_context() -> None:
    """Copies the ``decimal`` context in the current context. Contexts share it, unlike context variables: without a
    copy, code that changes its precision would change it for all other code."""
    decimal.setcontext(decimal.getcontext().copy())


async def _awaited(awaitable: Awaitable[Any], ended: Callable[[], None]) -> Any:
    own_decimal_context()
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        # Converted here, because a task that ends with these exceptions also ends the event loop.
        raise _ordinary(error) from error
    finally:
        ended()


async def within(
    clock: Clock, limit: timedelta | None, awaitable: Awaitable[Any], what: str, *watched: asyncio.Future[None]
) -> Any:
    """Returns the result of ``awaitable``. Interrupts it after ``limit``, or when one of ``watched`` ends first.

    Raises:
        TimedOut: the awaitable took longer than the limit.
        Exception: the awaitable raised it, or one of ``watched`` ended with it.
        RuntimeError: the awaitable raised something other than an ``Exception``, or cancelled itself.
    """
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not woken.done():
            woken.set_result(None)

    # It wakes this task itself, one round of the event loop before its own callbacks would.
    work = loop.create_task(_awaited(awaitable, wake))
    for future in (work, *watched):  # it may also be cancelled before it begins
        future.add_done_callback(wake)
    # Not a task that sleeps, nor ``asyncio.wait``: this takes half of the time.
    forget = None if limit is None else clock.call_later(max(0.0, limit.total_seconds()), wake)
    try:
        await woken
        if work.done():
            return call(work.result)
        for future in watched:
            if future.done():
                future.result()
        assert limit is not None
        raise TimedOut(f"{what} took longer than {limit.total_seconds():g} s")
    finally:
        if forget is not None:
            forget()
        for future in watched:
            future.remove_done_callback(wake)
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
