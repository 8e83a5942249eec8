"""Deliberate bugs in indexes with shards."""

from __future__ import annotations

from collections.abc import Sequence

from cloud_adapter.document import Instance
from cloud_adapter.stores.firestore.shards import Shards
from cloud_adapter.summaries import Due
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.store import Database


@bug
def shards_skipped_in_due(patch: Patch) -> None:
    due = Database.due

    def skipping(self: Database, shards: Sequence[int] | None = None) -> list[Due]:
        return due(self, shards and [shard for shard in shards if shard not in (0, 4)])

    patch.setattr(Database, "due", skipping)


@bug
def only_the_shards_that_are_written_are_read(patch: Patch) -> None:
    patch.setattr(Shards, "read_values", property(lambda self: range(self.count) if self.are_read else None))


@bug
def both_indexes_read_without_removing_duplicates(patch: Patch) -> None:
    readable = Database.readable

    def twice(self: Database, shards: Sequence[int] | None = None) -> list[Instance]:
        return readable(self, shards) + (readable(self) if shards is not None else [])

    patch.setattr(Database, "readable", twice)
