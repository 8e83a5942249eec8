"""Waits for the answer of an asynchronous handler, while other decisions arrive for the same instance.

An urgent decision interrupts the handler. Others wait behind it, for a limited time, and are refused early if their
callers may not make them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Contended
from cloud_adapter.engine.line import CHECKED_SECONDS, Item, Line
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import Busy
from workflow_core import WorkflowError


class Interrupted(Exception):
    """A handler was interrupted and has to be called again later."""


async def awaited(
    committer: Committer, ref: InstanceRef, line: Line, item: Item, answer: Awaitable[Any], now: datetime
) -> Any:
    """Returns the answer of the handler of ``item``.

    Raises:
        Interrupted: an urgent decision has arrived.
        Exception: the handler raised it.
    """
    task, check_at = item.begin(answer), now + timedelta(seconds=CHECKED_SECONDS)
    try:
        while not task.done():
            await _until_more(committer, ref, line, task, item, check_at)
            if not task.done() and any(other.decision.urgent and not other.over for other in line.items):
                raise Interrupted
        return await task
    finally:
        task.cancel()


async def _until_more(
    committer: Committer, ref: InstanceRef, line: Line, task: asyncio.Task[Any], item: Item, check_at: datetime
) -> None:
    """Waits until a handler has ended or a new decision has arrived. Refuses decisions that have waited too long, and
    from ``check_at`` on those that their callers may not make."""
    line.woken.clear()
    if committer.clock.now() >= check_at and (unchecked := line.unchecked(item)):
        with suppress(WorkflowError):  # if it cannot be loaded, they learn it when they decide
            session = await committer.load(ref)
            for other in unchecked:
                other.check(session)
    max_wait, now = committer.options.max_wait, committer.clock.now()
    behind = [other for other in line.items if other is not item and not other.over]
    for other in behind:
        if other.overdue_at(max_wait) <= now:
            other.refuse(_overtaken(ref, other) if other.waits is None else other.waits.error)
    seconds = [(other.overdue_at(max_wait) - now).total_seconds() for other in behind if not other.over]
    if now < check_at and line.unchecked(item):
        seconds.append((check_at - now).total_seconds())
    sleeps = [committer.clock.sleep(min(seconds))] if seconds else []
    waits = [asyncio.ensure_future(wait) for wait in (line.woken.wait(), *sleeps)]
    try:
        await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def busy(ref: InstanceRef) -> Busy:
    """Returns the error for decisions that have waited for too long."""
    return Busy(f"{ref} is busy with other requests; try again")


def _overtaken(ref: InstanceRef, item: Item) -> Busy:
    """Returns the error for a decision that was never made, because the handler before it takes too long. A deferrable
    one is then posted. If it was made, what it raised says whether that helps."""
    error = busy(ref)
    return Contended(str(error)) if item.decision.defers else error
