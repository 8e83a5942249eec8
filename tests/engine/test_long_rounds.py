"""A slow database, and more requests for an instance than it serves: nobody waits much longer than allowed."""

from __future__ import annotations

from asyncio import Task as Running
from asyncio import ensure_future, gather
from datetime import timedelta
from functools import partial

import pytest

from cloud_adapter.engine.deliveries import AHEAD
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.errors import InstanceNotFound
from cloud_adapter.ports import Task
from tests.engine.harness import ID, World, article, check_idle, in_world, nothing
from workflow_core import On, Select

LOAD_SECONDS = 0.5
WAITING = 10
WAITING_MAX = AHEAD + 3 * timedelta(seconds=LOAD_SECONDS * WAITING)
"""A request has its first turn in the round after its arrival, and is refused at its next one."""


@in_world(article(Select("end", On("End", nothing))))
async def test_tasks_of_lost_commits_that_keep_coming_hold_nobody_up(world: World) -> None:
    process, clock = world.process, world.clock
    for number in range(1, 200):
        process.fault("load", number, before=partial(clock.sleep, LOAD_SECONDS))

    def orphan(number: int) -> Task:
        body = ResumeTask(workflow="article", id=ID, pc=7, created_at=world.now)
        return body.task(f"lost {number}")

    async def timed(task: Task) -> timedelta:
        since = world.now
        assert await process.perform(task) is Outcome.NOT_YET
        return world.now - since

    running: list[Running[timedelta]] = [ensure_future(timed(orphan(number))) for number in range(WAITING)]
    for number in range(WAITING, 6 * WAITING):
        await clock.advance(1)
        running.append(ensure_future(timed(orphan(number))))
    sent = world.now
    with pytest.raises(InstanceNotFound):
        await process.send("End")
    assert world.now - sent <= WAITING_MAX
    waits = await world.finish(gather(*running))
    assert max(waits) <= WAITING_MAX
    check_idle(process)
