"""Reads rows of which some may be damaged. This module does not depend on a database."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from cloud_adapter.errors import DamagedDocument

R = TypeVar("R")
T = TypeVar("T")

_log = logging.getLogger("gorchestrate.store")


def readable(
    rows: Iterable[R], read: Callable[[R], T], damaged: list[str], place: Callable[[R], str] | None = None
) -> Generator[T]:
    """Yields what can be read of rows, and adds to ``damaged`` what is wrong with the others. They must not hide the
    readable ones after them.

    Args:
        read: reads a row; raises ``DamagedDocument`` if it cannot.
        place: tells where a damaged row is, if its error does not.
    """
    for row in rows:
        try:
            yield read(row)
        except DamagedDocument as error:
            text = str(error) if place is None else f"{error} ({place(row)})"
            _log.warning("left out: %s", text)
            damaged.append(text)
