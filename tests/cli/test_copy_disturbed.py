"""``gorchestrate copy`` while something else writes to the destination, or the destination refuses an instance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.document import Instance, KeyRecord, Lease
from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InvalidRequest
from cloud_adapter.ports import CopyableStore
from cloud_adapter.stores.firestore.documents import RESPONSES_BYTES_MAX
from tests.cli.full_stores import LATER, copied, fill, opened, same
from tests.contract.store_contract import NOW, SECOND, a_key, an_entry, an_instance, changed
from workflow_core import WorkflowError


def test_two_copies_at_once(tmp_path: Path, postgresql_url: str) -> None:
    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), postgresql_url) as (here, there):
            for number in range(30):
                await here.create(an_instance(f"order-{number}"), a_key(expires_at=LATER))
            both = await asyncio.gather(copied(here, there), copied(here, there))
            for report, progress in both:
                assert {id for _, id, _ in report.problems} == {id for _, id in progress.left}
                assert all("the destination was changed meanwhile" in reason for _, _, reason in report.problems)
                assert report.copied["pizza"] + report.present["pizza"] + len(report.problems) == 30
            assert any(report.problems for report, _ in both)
            last, progress = await copied(here, there, progress=both[0][1])
            assert (last.problems, progress.left) == ([], [])
            await same(here, there)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [InstanceExists("pizza", "order-1"), Conflict("it"), DuplicateKey("key-1"), InvalidRequest("it cannot be stored")],
)
@pytest.mark.parametrize("method", ["create", "commit"])
def test_an_instance_that_cannot_be_written_is_left(
    method: str, error: WorkflowError, tmp_path: Path, postgresql_url: str
) -> None:
    class Refusing:
        def __init__(self, store: CopyableStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._store, name)

            async def refuse(instance: Instance, *arguments: Any) -> Any:
                if instance.workflow == "pizza":
                    raise error
                return await found(instance, *arguments)

            return refuse if name == method else found

    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), postgresql_url) as (here, there):
            await fill(here)
            refusing: Any = Refusing(there)
            report, progress = await copied(here, refusing)
            assert [problem[:2] for problem in report.problems] == progress.left == [("pizza", "order-1")]
            assert report.copied["pasta"] == 3
            report, progress = await copied(here, there, progress=progress)
            assert (report.problems, progress.left) == ([], [])
            await same(here, there)

    asyncio.run(scenario())


def test_what_changes_between_two_calls_is_found(tmp_path: Path, postgresql_url: str) -> None:
    """The first call leaves an instance that is still running, so others may change before the second one."""

    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), postgresql_url) as (here, there):
            for id in ("a", "b", "d"):
                await here.create(an_instance(id))
            await here.commit(replace(await here.load("pizza", "b"), lease=Lease("token", NOW + 9 * SECOND)))
            report, progress = await copied(here, there)
            assert [id for _, id, _ in report.problems] == ["b"]
            await here.create(an_instance("c"))
            moved = changed(await here.load("pizza", "d"), count=99)
            await here.commit(replace(moved, execution=replace(moved.execution, updated_at=NOW + 5 * SECOND)))

            later = NOW + 10 * SECOND
            report, progress = await copied(here, there, now=later, progress=progress)
            reasons = {id: reason for _, id, reason in report.problems}
            assert progress.left == [("pizza", "c"), ("pizza", "d")]
            assert reasons["c"].startswith("the destination does not have it")
            assert reasons["d"].startswith("it has changed since it was copied")

            report, progress = await copied(here, there, now=later, progress=progress)
            ((_, id, reason),) = report.problems  # the destination's instance is not changed
            assert (id, reason.startswith("the destination has it in another state")) == ("d", True)
            connections: Any = there
            await connections.connections.write("DELETE FROM gorchestrate.instances WHERE id = 'd'")
            report, progress = await copied(here, there, now=later, progress=progress)
            assert (report.problems, progress.left, report.counts) == ([], [], {"pizza": (4, 4)})
            await same(here, there)

    asyncio.run(scenario())


def test_an_entry_that_the_source_has_processed_since_is_not_processed_again(
    tmp_path: Path, postgresql_url: str
) -> None:
    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), postgresql_url) as (here, there):
            await here.create(an_instance())
            await here.post(an_entry("taken"))
            await here.post(an_entry("kept"))
            for entry in await here.inbox("pizza", "order-1"):  # then the first call was interrupted
                await there.post(entry)
            taken = [entry for entry in await here.inbox("pizza", "order-1") if entry.name == "taken"]
            await here.commit(changed(await here.load("pizza", "order-1"), count=5), taken=taken)
            report, _ = await copied(here, there)
            assert report.problems == []
            assert [entry.name for entry in await there.inbox("pizza", "order-1")] == ["kept"]
            await same(here, there)

    asyncio.run(scenario())


@pytest.mark.parametrize("part", ["inbox", "keys"])
def test_an_instance_to_which_the_destination_has_more_is_not_changed(
    part: str, tmp_path: Path, postgresql_url: str
) -> None:
    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), postgresql_url) as (here, there):
            await here.create(an_instance(), a_key(expires_at=LATER))
            await copied(here, there)
            if part == "inbox":
                await there.post(an_entry())
            else:
                await there.commit(await there.load("pizza", "order-1"), [a_key("more", expires_at=LATER)])
            for writes in (False, True):
                report, _ = await copied(here, there, writes=writes)
                assert f"in another state ({part} differ)" in report.problems[0][2]

    asyncio.run(scenario())


def test_no_commit_has_more_responses_than_firestore_accepts(tmp_path: Path) -> None:
    sizes = list[int]()

    class Recording:
        def __init__(self, store: CopyableStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

        async def commit(self, instance: Instance, keys: Sequence[KeyRecord]) -> Instance:
            sizes.append(sum(len(key.response.encode()) for key in keys))
            return await self._store.commit(instance, keys)

    async def scenario() -> None:
        async with opened(str(tmp_path / "orders.db"), str(tmp_path / "new.db")) as (here, there):
            await here.create(an_instance())
            for number in range(7):
                key = a_key(f"key-{number}", response=json.dumps("é" * 450_000, ensure_ascii=False), expires_at=LATER)
                await here.commit(await here.load("pizza", "order-1"), [key])
            recording: Any = Recording(there)
            report, _ = await copied(here, recording)
            assert report.problems == []
            await same(here, there)

    asyncio.run(scenario())
    assert sum(sizes) > 2 * RESPONSES_BYTES_MAX
    assert max(sizes) <= RESPONSES_BYTES_MAX
