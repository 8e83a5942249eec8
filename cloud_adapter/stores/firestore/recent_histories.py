"""The stored histories of instances that were just committed, so that the next commits need not read them.

A commit that removes entries of a history has to know them all. An instance with many activities makes such a commit
every time, and the lane of the instance waits for the read. Makes no calls.

Theory of operation. A commit succeeds only on the version that was loaded. If the entries of that version are known,
those of the new version are: they were replaced, or some were added. What breaks this: entries that are kept with
another version than the one in which they were stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

HISTORIES_MAX: Final = 50
"""The number of histories that are remembered."""


class RecentHistories:
    """The entries of the last histories that commits have replaced, and added to since, by the path of the instance."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, Sequence[str]]] = OrderedDict()

    def take(self, path: str, version: int) -> Sequence[str] | None:
        """Returns the entries that are stored in that version, and forgets them; None if they are not known."""
        known_version, entries = self._known.pop(path, (None, None))
        return entries if known_version == version else None

    def keep(self, path: str, version: int, entries: Sequence[str]) -> None:
        """Remembers the entries that are stored in that version."""
        self._known[path] = version, entries
        while len(self._known) > HISTORIES_MAX:
            self._known.popitem(last=False)
