"""Each benchmark still runs and prints its table. Its goals do not count here: the figures are tiny."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"

COMMANDS = {
    "age.py --events 12": r"10 +[\d,]+ +[\d,]+ +[\d,]+ +\d+\.\d\d\n",
    "embedded.py --rounds 1 --waiting 100 --timers 100": r"100 timers: an event takes \d+\.\d+ ms",
    "events.py --seconds 0.2 --rows 50": r"import: finished, 50 of 50 rows",
    "fan_out.py --rows 20 --limits 5 --work 0.01": r"embedded +20 +5 +0\.01 +20 +20 +[1-5] ",
    "firestore_event.py --rounds 4 --seconds 0.2": r"64 on 1 +\d+ +[\d.]+ +\d+ +[\d.]+ +\d+\.\d\d",
    "interpreter.py --rounds 2": r"ratio: +\d+\.\d\d",
}
"""The commands, and what each prints last or is most likely to get wrong."""

OTHERS = {"events_app.py", "run.py", "cold_start.py", "scaling.py"}
"""A program that ``events.py`` starts, one that writes a page of the documentation, and two that take long anyway."""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_benchmark_with_tiny_figures(command: str) -> None:
    file, *options = command.split()
    run = subprocess.run(
        [sys.executable, str(FOLDER / file), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode in (0, 1), run.stderr  # 1: a goal was missed
    assert "Traceback" not in run.stdout + run.stderr
    assert re.search(COMMANDS[command], run.stdout), run.stdout


def test_every_benchmark_is_run() -> None:
    programs = {path.name for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert programs == {command.split()[0] for command in COMMANDS} | OTHERS
