"""The clock of a process is as wrong as its file says, and steps when the file changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_adapter.clock import SystemClock
from tests.histories.process import set_clock, use_clock


def test_the_clock_is_ahead_by_what_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SystemClock, "now", SystemClock.now)  # restores it
    file = tmp_path / "clock"
    set_clock(file, 0)
    use_clock(file)
    for seconds in (0, 60, -60, 0.5):
        set_clock(file, seconds)
        before = datetime.now(UTC)
        now = SystemClock().now() - timedelta(seconds=seconds)
        assert before <= now <= datetime.now(UTC)
