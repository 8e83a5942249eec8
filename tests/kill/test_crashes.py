"""Processes of a deployment are killed for some seconds: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kill.crashes import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 15.0


def test_nothing_is_lost_when_processes_are_killed(firestore_emulator_programs: None, tmp_path: Path) -> None:
    report = asyncio.run(run(tmp_path, SECONDS, seed=1))
    assert report.violations == []
    assert len(report.kills) >= 3, report
    assert report.kills_in_a_step >= 1, report
    assert any(record.workflow == "pizza" for record in report.records)
