"""Tells what a piece of code has left open. Holds no test."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

DESCRIPTORS = Path("/proc/self/fd")
ENDING_SECONDS_MAX = 2.0


@contextmanager
def nothing_stays_open() -> Iterator[None]:
    """Fails if files, sockets or threads of this process are left when the body ends.

    There is no garbage collection in between: an error that is still at hand keeps alive what its frames refer to, and
    shows that it was not closed.
    """
    if not DESCRIPTORS.is_dir():
        pytest.skip(f"this system has no {DESCRIPTORS}")
    files, threads = _open_files(), set(threading.enumerate())
    yield
    left = _open_files() - files
    assert not left, f"left open: {', '.join(left)}"
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=ENDING_SECONDS_MAX)  # it may be on its way to its end
    running = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not running, f"left running: {', '.join(running)}"


def _open_files() -> Counter[str]:
    found: Counter[str] = Counter()
    for name in os.listdir(DESCRIPTORS):
        with suppress(FileNotFoundError):  # that of the listing itself
            found[os.readlink(DESCRIPTORS / name)] += 1
    return found
