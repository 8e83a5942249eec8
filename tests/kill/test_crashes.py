"""Processes of a deployment are killed for some seconds: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.kill.crashes import BACKENDS, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 10.0


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_lost_when_processes_are_killed(
    request: pytest.FixtureRequest, backend: str, tmp_path: Path
) -> None:
    request.getfixturevalue("firestore_emulator_programs" if backend == "firestore" else "postgresql_programs")
    report = asyncio.run(run(backend, tmp_path, SECONDS, seed=47))  # it kills many in a step
    assert report.violations == []
    assert report.is_enough, report
    assert any(record.workflow == "pizza" for record in report.records)
