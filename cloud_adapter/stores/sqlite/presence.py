"""Notices that the files of an open database were deleted or replaced.

An open file outlives its name. Without this check, a process would continue to write to a deleted file, acknowledge
each write, and lose all of them when it ends. The write-ahead log is checked too, because it holds the latest commits.

Theory of operation. A file that is deleted or replaced changes the time of its folder. While that time is the same, the
files need no look. A look at each of them, after each commit, would be dear: since Linux 6.13, a file whose times were
read gets new, exact times with its next write, which makes the next commit a third slower. The clocks of file systems
tick, some only once in two seconds. So a time proves nothing until it is ``SETTLED_SECONDS`` old. Some folders have no
time, such as the root of a FAT file system: it is always 0. Their files are looked at after each commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from cloud_adapter.errors import Unavailable

SETTLED_SECONDS = 3.0
"""From this age on, the time of a folder is certain to change if something in the folder changes."""

_Identity = tuple[int, int]


class OpenFiles:
    """The files of a database, as they were when it was opened.

    Args:
        path: the database file. It must be open, and in write-ahead mode.

    Raises:
        Unavailable: one of the files does not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        real = os.path.realpath(path)  # SQLite follows links, and keeps the log beside the file
        self._folder = os.path.dirname(real)
        self._looked: tuple[int, ...] = ()  # the folder when the files were last looked at
        self._files: Mapping[str, _Identity] = {name: self._identity(name) for name in (real, f"{real}-wal")}

    def check(self) -> None:
        """Checks that the files are still the ones that were opened. Takes a few microseconds.

        Raises:
            Unavailable: one of them was deleted or replaced. What is written from then on is lost.
        """
        found = self._stat(self._folder)
        folder = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
        if folder == self._looked:
            return
        settled = time.time() - SETTLED_SECONDS  # before the look: what changes after it is not settled
        for name, opened in self._files.items():
            if self._identity(name) != opened:
                raise self._gone(name, "replaced")
        if 0 < max(found.st_mtime, found.st_ctime) < settled:
            self._looked = folder

    def _identity(self, name: str) -> _Identity:
        found = self._stat(name)
        return found.st_dev, found.st_ino

    def _stat(self, name: str) -> os.stat_result:
        try:
            return os.stat(name)
        except FileNotFoundError:
            raise self._gone(name, "deleted") from None
        except OSError as error:
            raise Unavailable(f"could not check the database {self._path}: {error}") from error

    def _gone(self, name: str, how: str) -> Unavailable:
        return Unavailable(
            f"the file {name} was {how} while the database was in use: stop the process, restore the database "
            f"{self._path} from a backup if you need it, and start again"
        )
