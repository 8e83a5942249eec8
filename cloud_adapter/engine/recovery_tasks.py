"""Recovery of each shard in a request of its own, so that several processes recover side by side.

Theory of operation. If the store has several shards, the scheduler's call looks at what is due in one of them, in turn,
and creates a task for each of the others. Each of these calls has the limits that the only call has without shards. A
task is named after its minute, so there is one for each shard and minute. If tasks wait in their queue for long, they
do nothing when they come, and the scheduler's call still looks at each shard in turn.

What breaks this: shards that do not contain all instances. The store names none while that may be so, and the
scheduler's call then looks at everything.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from cloud_adapter.engine.commits import concurrently
from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import ShardedStore, Task

RECOVER_PATH: Final = "/recover"

LATE: Final = timedelta(minutes=2)
"""A task that is delivered later does nothing: each minute since then has had one for the same shard."""


class RecoverTask(BaseModel):
    """The body of a task that recovers a shard."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    shard: tuple[Annotated[int, Field(ge=0, lt=1_000)], ...] = Field(min_length=1, max_length=100)
    created_at: AwareDatetime


async def recover(engine: Engine, body: bytes, limit: int, seconds: float) -> int:
    """Schedules stalled instances: those in a shard, if the body is that of a task. Each other body counts as the
    scheduler's, which may have been given one. See ``Engine.recover``.

    Returns: the number of scheduled instances, without those that other calls schedule.

    Raises:
        InvalidRequest: the body names a shard, but is not that of a task.
        Unavailable: try again.
    """
    store, now = engine.store, engine.clock.now()
    shards = [tuple(shard) for shard in store.shards] if isinstance(store, ShardedStore) else []
    if b'"shard"' in body:
        try:
            task = RecoverTask.model_validate_json(body)
        except ValidationError as error:
            raise InvalidRequest(f"the body of a task to {RECOVER_PATH!r} is invalid: {error}") from error
        if not shards or now - task.created_at > LATE:
            return 0
        return await engine.recovery.run_shard(task.shard, limit, seconds)
    if len(shards) < 2:
        return await engine.recover(limit=limit, seconds=seconds)
    minute = int(now.timestamp()) // 60
    own = shards.pop(minute % len(shards))
    bodies = [RecoverTask(shard=shard, created_at=now).model_dump(mode="json") for shard in shards]
    tasks = [Task(f"recover-{minute}-{body['shard'][0]}", RECOVER_PATH, body) for body in bodies]
    await concurrently(engine.queue.create, tasks, engine.queue.calls_max)
    return await engine.recovery.run(timedelta(), limit, seconds, try_postponed=False, shard=own)
