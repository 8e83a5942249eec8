"""Deliberate bugs that matter in rare weather: keys that expire, names that are remembered, clocks that jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.engine import plan
from cloud_adapter.engine.heartbeats import Heartbeats
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.ports import Task
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.store import Database
from workflow_core import Execution


@bug
def expired_key_still_in_the_way(patch: Patch) -> None:
    write = Database.write

    def strict(
        self: Database,
        instance: Instance,
        keys: Sequence[KeyRecord],
        taken: Sequence[InboxEntry],
        *,
        create: bool,
        **shard: Any,
    ) -> Instance:
        known = self.keys
        self.keys = {at: replace(key, expires_at=key.expires_at + timedelta(days=1)) for at, key in known.items()}
        try:
            return write(self, instance, keys, taken, create=create, **shard)
        finally:
            self.keys = known | {at: key for at, key in self.keys.items() if at not in known}

    patch.setattr(Database, "write", strict)


@bug
def task_of_the_next_attempt_under_the_name_of_the_last(patch: Patch) -> None:
    def resume(execution: Execution, key: object, at: datetime, now: datetime, *rest: Any, salt: str = "") -> Task:
        return ResumeTask.of(execution, now).task(f"{key} {salt}", at)

    patch.setattr(plan, "_resume", resume)


@bug
def heartbeats_heard_for_ten_minutes_only(patch: Patch) -> None:
    decide = Heartbeats._decide

    async def at_first(self: Heartbeats) -> None:
        if self.lanes.committer.clock.now() < self.body.created_at + timedelta(minutes=10):
            await decide(self)

    patch.setattr(Heartbeats, "_decide", at_first)
