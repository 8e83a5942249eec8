"""Limits the lines of the log that requests cause at no cost to their senders, such as requests with wrong credentials.

A flood of such requests must neither hide everything else nor fill the disk. What was left out is counted, and the next
line says so.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from time import monotonic

LINES_MAX = 10
"""How many lines of one kind a process logs in a second."""

_SECOND = timedelta(seconds=1)


def _monotonic() -> timedelta:
    return timedelta(seconds=monotonic())


class LineLimit:
    """Lets so many lines of one kind through in each second.

    Args:
        lines: how many.
        now: the time since any fixed moment.
    """

    def __init__(self, lines: int = LINES_MAX, now: Callable[[], timedelta] = _monotonic) -> None:
        self.lines = lines
        self._now = now
        self._since: timedelta | None = None
        self._logged = 0
        self._left_out = 0

    def next(self) -> int | None:
        """Returns how many lines were left out since the last one; None: this one is left out too."""
        now = self._now()
        if self._since is None or not timedelta() <= now - self._since < _SECOND:
            self._since, self._logged = now, 0
        if self._logged >= self.lines:
            self._left_out += 1
            return None
        self._logged += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def left_out_text(left_out: int) -> str:
    """Returns what the text of a line adds about those before it that were left out."""
    return f" ({left_out} lines like this one were left out before)" if left_out else ""
