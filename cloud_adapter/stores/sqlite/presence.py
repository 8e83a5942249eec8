"""Notices that the files of an open database were deleted or replaced.

An open file outlives its name. Without this check, a process would continue to write to a deleted file, acknowledge
each write, and lose all of them when it ends. The write-ahead log is checked too, because it holds the latest commits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from cloud_adapter.errors import Unavailable

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
        names = (os.fspath(path), f"{path}-wal")
        self._files: Mapping[str, _Identity] = {name: self._identity(name) for name in names}

    def check(self) -> None:
        """Checks that the files are still the ones that were opened. Takes a few microseconds.

        Raises:
            Unavailable: one of them was deleted or replaced. What is written from then on is lost.
        """
        for name, opened in self._files.items():
            if self._identity(name) != opened:
                raise self._gone(name, "replaced")

    def _identity(self, name: str) -> _Identity:
        try:
            found = os.stat(name)
        except FileNotFoundError:
            raise self._gone(name, "deleted") from None
        except OSError as error:
            raise Unavailable(f"could not check the database {self._path}: {error}") from error
        return found.st_dev, found.st_ino

    def _gone(self, name: str, how: str) -> Unavailable:
        return Unavailable(
            f"the file {name} was {how} while the database was in use: stop the process, restore the database "
            f"{self._path} from a backup if you need it, and start again"
        )
