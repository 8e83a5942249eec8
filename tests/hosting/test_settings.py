"""The numbers that settings may have. A wrong one stops the start with a message that names it."""

from __future__ import annotations

import re

import pytest

from cloud_adapter.errors import SettingsError
from cloud_adapter.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("INDEX_SHARDS", "0", "greater than or equal to 1"),
        ("INDEX_SHARDS", "-1", "greater than or equal to 1"),
        ("INDEX_SHARDS", "31", "less than or equal to 30"),
        ("INDEX_SHARDS", "text", "valid integer"),
        ("SHARDED_INDEXES", "none", "'write', 'read' or 'only'"),
        ("QUEUES", "0", "greater than or equal to 1"),
        ("QUEUES", "101", "less than or equal to 100"),
        ("LAZY_TIMER_SECONDS", "299", "299 is too short: write 0 or at least 300"),
        ("LAZY_TIMER_SECONDS", "nan", "than or equal to"),
        ("LAZY_TIMER_SECONDS", "inf", "less than or equal to 1000000000"),
    ],
)
def test_a_number_that_is_out_of_range(monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str) -> None:
    monkeypatch.setenv(f"GORCHESTRATE_{name}", value)
    with pytest.raises(SettingsError, match=f"wrong setting: GORCHESTRATE_{name}: .*{re.escape(reason)}"):
        Settings.load()


def test_shards_that_are_read_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_SHARDED_INDEXES", "read")
    with pytest.raises(SettingsError, match="GORCHESTRATE_SHARDED_INDEXES is read: set GORCHESTRATE_INDEX_SHARDS"):
        Settings.load()
    monkeypatch.setenv("GORCHESTRATE_INDEX_SHARDS", "2")
    assert Settings.load().reads_shards


def test_names_may_be_written_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("gorchestrate_queues", "2")
    assert Settings.load().queues == 2
    monkeypatch.setenv("GORCHESTRATE_QUEUES", "3")
    assert Settings.load().queues == 3
    monkeypatch.setenv("gorchestrate_index_shards", "text")
    with pytest.raises(SettingsError, match=r"wrong setting: GORCHESTRATE_INDEX_SHARDS: .*valid integer"):
        Settings.load()
