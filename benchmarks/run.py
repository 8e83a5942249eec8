"""Runs the benchmarks, and writes their tables into ``docs/explanation/performance.md``.

    python benchmarks/run.py                # all; half an hour
    python benchmarks/run.py cold-start     # only these

Each table stands between two markers, ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``. The rest of the page is
written by hand.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from code_under_test import FOLDER, environment

PAGE = FOLDER.parent / "docs" / "explanation" / "performance.md"

COMMANDS = {
    "cold-start": ["cold_start.py", "--requests"],
    "interpreter": ["interpreter.py"],
    "scaling": ["scaling.py"],
    "age": ["age.py"],
    "embedded": ["embedded.py"],
    "events": ["events.py"],
    "fan-out": ["fan_out.py"],
    "firestore-event": ["firestore_event.py"],
}
"""The command of each table: a file of this folder and its options. It prints the table."""

MISSED = 1
"""The exit code of a benchmark that has measured, and missed a goal. Its figures are shown as well."""


def machine() -> str:
    """Returns what the figures depend on, in one line."""
    cores = len([line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("processor")])
    return f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.machine()}, {cores} cores."


def with_table(page: str, name: str, table: str) -> str:
    """Returns the page with another table.

    Raises:
        SystemExit: the page has no markers of that name.
    """
    begin, end = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    if pattern.search(page) is None:
        raise SystemExit(f"{PAGE} has no table {name!r}: add the lines {begin} and {end}")
    return pattern.sub(lambda _: f"{begin}\n{table.strip()}\n{end}", page)


def as_markdown(output: str) -> str:
    """Returns what a benchmark has printed: as it is if it is a table of Markdown, otherwise as a block of code."""
    is_table = any(line.startswith("|---") for line in output.splitlines())
    return output if is_table else f"```text\n{output.strip()}\n```"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(COMMANDS)}")
    names = parser.parse_args().names or list(COMMANDS)
    if unknown := [name for name in names if name not in COMMANDS]:
        parser.error(f"unknown benchmark {unknown[0]!r}. Available: {', '.join(COMMANDS)}")
    for name in names:
        file, *options = COMMANDS[name]
        command = [sys.executable, str(FOLDER / file), *options]
        done = subprocess.run(command, env=environment(), stdout=subprocess.PIPE, text=True)
        print(done.stdout)
        if done.returncode not in (0, MISSED) or not done.stdout.strip():
            raise SystemExit(f"{file} has failed with exit code {done.returncode}")
        PAGE.write_text(with_table(PAGE.read_text(), name, f"{machine()}\n\n{as_markdown(done.stdout)}"))


if __name__ == "__main__":
    main()
