"""``gorchestrate copy`` while something else writes to the destination, or the destination refuses an instance."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InvalidRequest
from cloud_adapter.ports import CopyableStore
from tests.cli.full_stores import LATER, copied, fill, opened, same
from tests.contract.store_contract import a_key, an_instance
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
