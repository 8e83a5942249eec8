"""What clients are answered while processes are killed, stand still, have wrong clocks or a full disk, is what one
instance that is used by one client at a time would answer.

Longer: ``python -m tests.histories``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.histories.backends import BACKENDS
from tests.histories.rounds import Report, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SECONDS = 4.0


async def rounds(backend: str, folder: Path, first_seed: int, rounds: Sequence[Sequence[str]]) -> Sequence[Report]:
    async with BACKENDS[backend].running(folder) as site:
        return [await run(site, SECONDS, first_seed + number, kinds) for number, kinds in enumerate(rounds)]


def check(reports: Sequence[Report]) -> None:
    for report in reports:
        assert not report.violations, "\n".join([str(report), *report.violations])
        assert report.disturbances
    assert sum(report.operations - report.lost for report in reports) >= 50
    assert sum(report.steps for report in reports) >= 1


def test_on_one_file_of_several_processes(tmp_path: Path) -> None:
    kinds = [["kill", "stop"], ["disk", "kill"], ["clock", "stop"]]
    check(asyncio.run(rounds("sqlite", tmp_path, 100, kinds)))


def test_on_postgresql(postgresql_programs: None, tmp_path: Path) -> None:
    kinds = [["kill", "stop"], ["clock", "stop"]]
    check(asyncio.run(rounds("postgresql", tmp_path, 300, kinds)))


def test_on_firestore(firestore_emulator_programs: None, tmp_path: Path) -> None:
    kinds = [["kill", "stop"], ["clock", "stop"]]
    check(asyncio.run(rounds("firestore", tmp_path, 200, kinds)))
