"""Errors of a workflow's code that no request receives fail the instance, after the step that runs by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.session import ERROR_CHARS_MAX
from cloud_adapter.engine.task_handler import Outcome
from tests.engine.harness import World, article, in_world, nothing, write
from workflow_core import Activity, Go, If, On, S, Select, Sleep, Statement, Step, TerminalError, Workflow

HOUR = timedelta(hours=1)
HOOKS: list[Callable[[], Awaitable[None]]] = []
"""What happens when steps have run, before their processes know it."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    HOOKS.clear()


async def with_hooks(function: Callable[..., Any], *args: Any) -> Any:
    """Runs a synchronous step, and then the next hook."""
    result = function(*args)
    if HOOKS:
        await HOOKS.pop(0)()
    return result


def broken(workflow: Any) -> bool:
    raise ZeroDivisionError("the condition is broken")


class Leaky(Workflow, name="leaky"):
    log: list[str] = []

    definition = S(
        Go("beside", Sleep("an hour", HOUR), If("bad", broken, Step("never", nothing))),
        Select("start", On("Work", nothing)),
        Step("work", write("worked")),
        Select("end", On("End", nothing)),
    )


@in_world(Leaky, run_sync=with_hooks)
async def test_an_error_behind_a_timer_waits_for_the_step_that_runs_by_now(world: World) -> None:
    await world.started()
    await world.clock.advance(3_600)
    await world.send("Work")
    (resume,), (timer,) = world.queue.resumes, world.queue.timers
    other, begun, goes_on = world.start(), asyncio.Event(), asyncio.Event()
    running: list[asyncio.Task[Outcome]] = []

    async def hold() -> None:
        begun.set()
        await goes_on.wait()

    async def begin() -> None:
        running.append(asyncio.ensure_future(other.perform(resume)))
        await begun.wait()

    HOOKS.append(hold)
    # The first load is that of the timer, which raises; the second one is to fail the instance for that.
    world.process.fault("load", 2, before=begin)
    assert await world.process.deliver(timer) is Outcome.DONE
    instance = await world.instance()
    assert instance.lease is not None
    assert instance.execution.status == "running"
    goes_on.set()
    assert await world.finish(running[0]) is Outcome.DONE
    assert (await world.fields()).log == ["worked"]
    await world.pass_time(timedelta(minutes=2))
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.statement) == ("ZeroDivisionError", "bad")
    assert await world.history("failed") == [("failed", "bad")]
    assert (await world.fields()).log == ["worked"]


LONG = "é" * 2 * ERROR_CHARS_MAX


def fail_at_length(*_: Any) -> Any:
    raise TerminalError(LONG)


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        (Step("work", fail_at_length), "step failed"),
        (Activity("work", lambda: fail_at_length()), "activity failed"),
        (Activity("work", lambda: None, then=fail_at_length), "activity failed"),
        (If("work", fail_at_length, Step("never", nothing)), None),
    ],
)
@in_world(article(Step("pack", nothing)))
async def test_the_history_keeps_the_beginning_of_a_long_error(
    world: World, statement: Statement, kind: str | None
) -> None:
    world.process = world.start(article(Step("pack", nothing), statement))
    await world.started()
    instance = await world.instance()
    assert instance.execution.error is not None
    assert instance.execution.error.message == LONG
    entries = [one for one in instance.history if one.error]
    assert [one.kind for one in entries] == ([kind] if kind else []) + ["failed"]
    assert [one.error for one in entries] == [f"TerminalError: {LONG}"[:ERROR_CHARS_MAX]] * len(entries)
