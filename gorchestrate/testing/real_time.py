"""Waits in real time for user code that really waits, such as for a socket or in ``asyncio.sleep``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.running_calls import RunningCall
from gorchestrate.testing.clock import ManualClock

REAL_SECONDS_MAX: Final = 5.0
"""How long a test waits in real time for one call of user code."""

_POLL_SECONDS: Final = 0.002


async def wait_for_user_code(task: asyncio.Future[Any], engine: Engine, clock: ManualClock) -> None:
    """Returns once the task is done, or waits only for the time of the clock. Until then the time must not be moved:
    leases and timeouts would expire in the middle of a call that takes milliseconds.

    Raises:
        RuntimeError: the user code has run for too long.
    """
    deadline = time.monotonic() + REAL_SECONDS_MAX
    while not task.done() and _really_waits(engine, clock):
        if time.monotonic() > deadline:
            raise RuntimeError(_too_long(_running(engine)))
        await asyncio.sleep(_POLL_SECONDS)
        await clock.settle()


def _really_waits(engine: Engine, clock: ManualClock) -> bool:
    return bool(_running(engine)) or clock.next_wake is None or _has_timers()


def _running(engine: Engine) -> list[RunningCall]:
    """Returns the steps and activities that run. Other calls may be requests between instances, which wait in the time
    of the clock if an instance is busy."""
    return [call for call in engine.running.list() if call.kind in ("step", "activity")]


def _has_timers() -> bool:
    """Whether a timer of the running loop is due soon, for example that of an ``asyncio.sleep`` in a setup. Later
    ones belong to idle connections and the like."""
    loop = asyncio.get_running_loop()
    soon = loop.time() + REAL_SECONDS_MAX / 2
    return any(not timer.cancelled() and timer.when() <= soon for timer in getattr(loop, "_scheduled", ()))


def _too_long(calls: Sequence[RunningCall]) -> str:
    names = ", ".join(f"{call.kind} {call.statement!r} of {call.workflow} {call.id!r}" for call in calls)
    return (
        f"after {REAL_SECONDS_MAX:.0f} real seconds, {names or 'a function of a workflow'} still waits for something "
        "that is not the time of the environment, such as a network or asyncio.sleep: replace it with "
        "environment.fake(workflow, name, function)"
    )
