"""Runs user code: synchronous code beside the event loop, and asynchronous code for a limited time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from cloud_adapter.ports import Clock
from workflow_core import TimedOut

RunSync = Callable[..., Awaitable[Any]]
"""Runs a synchronous function with its arguments so that the event loop goes on meanwhile."""


async def within(
    clock: Clock, limit: timedelta | None, awaitable: Awaitable[Any], what: str, *watched: asyncio.Future[None]
) -> Any:
    """The result of ``awaitable``, which is interrupted after ``limit``, and when one of ``watched`` ends before.

    Raises:
        TimedOut: it took longer.
        Exception: what it raises, or what ended the watched one.
    """
    work = asyncio.ensure_future(awaitable)
    limits = [] if limit is None else [asyncio.ensure_future(clock.sleep(max(0.0, limit.total_seconds())))]
    try:
        await asyncio.wait([work, *limits, *watched], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        for one in watched:
            if one.done():
                one.result()
        assert limit is not None
        raise TimedOut(f"{what} took longer than {limit.total_seconds():g} s")
    finally:
        for one in limits:
            one.cancel()
        if not work.done():
            work.cancel()
            await asyncio.wait([work])
