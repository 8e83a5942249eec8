"""The example of a large batch, in chunks: all its rows, and a crash at each save of a small one."""

from __future__ import annotations

from typing import Any

import large_batch
import pytest

from gorchestrate.testing import Environment, crash_everywhere
from tests.examples.running import services_of

SERVED = large_batch.LargeBatch, large_batch.Chunk


@pytest.fixture(autouse=True)
def services() -> dict[str, Any]:
    return dict(services_of(large_batch))


def test_20000_rows(services: dict[str, Any]) -> None:
    with Environment(*SERVED) as environment:
        batch = environment.create(large_batch.LargeBatch)
        assert batch.is_finished
        assert batch.fields.written == 19_996
        assert batch.fields.wrong == [13, 5_013, 10_013, 15_013]
        assert len(environment.instances(large_batch.Chunk)) == 20
        assert all(chunk.is_finished for chunk in environment.instances(large_batch.Chunk))
    assert len(services["ledger"].log) == 200
    assert services["mail"].log == ["19996 written, 4 wrong, 0 chunks failed"]


def test_a_chunk_that_fails_does_not_stop_the_others(services: dict[str, Any]) -> None:
    services["ledger"].errors["1000 to 1100"] = [ConnectionError("no line")] * 9
    services["ledger"].errors["2000 to 2100"] = [ConnectionError("no line")] * 2
    with Environment(*SERVED) as environment:
        batch = environment.create(large_batch.LargeBatch, rows=2_500)
        environment.advance(hours=1)
        assert batch.is_finished
        assert batch.fields.written == 1_499
        assert list(batch.fields.failed_chunks) == [1_000]
        assert "no line" in batch.fields.failed_chunks[1_000]


@pytest.mark.slow
def test_a_crash_at_each_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_batch, "ROWS_PER_CHUNK", 20)
    monkeypatch.setattr(large_batch, "ROWS_PER_REQUEST", 10)

    def script(environment: Environment) -> list[str]:
        services = services_of(large_batch)
        batch = environment.create(large_batch.LargeBatch, rows=30)
        assert batch.is_finished
        return sorted([*services["ledger"].log, *services["mail"].log])

    assert crash_everywhere(script, *SERVED) > 8
