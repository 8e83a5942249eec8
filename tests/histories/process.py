"""Runs a module whose clock is wrong: ``python -m tests.histories.process FILE MODULE ARGUMENT...``.

The first 8 bytes of the file are a number of seconds, by which the clock is ahead. It may change at any time: then the
clock steps. Only the time of day is wrong, as on a machine whose clock was set: what sleeps, sleeps as long as before.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cloud_adapter.clock import SystemClock

_SECONDS = struct.Struct("d")


def set_clock(file: Path, seconds: float) -> None:
    """Sets by how much the clocks of processes that run with the file are ahead."""
    with file.open("r+b" if file.exists() else "w+b") as opened:
        opened.write(_SECONDS.pack(seconds))


def use_clock(file: Path) -> None:
    """Makes the clock of this process a wrong one."""
    with file.open("rb") as opened:
        shared = mmap.mmap(opened.fileno(), _SECONDS.size, prot=mmap.PROT_READ)

    def now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=_SECONDS.unpack_from(shared)[0])

    SystemClock.now = now  # type: ignore[method-assign]


if __name__ == "__main__":
    _, name, module, *arguments = sys.argv
    use_clock(Path(name))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
