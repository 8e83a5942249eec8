"""The garbage collector, while objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Collects no garbage meanwhile. What imports and classes consist of stays: collections would take a tenth of the
    start of a process, and find nothing.

    Afterwards, all objects count as old, so that the next collection does not scan them: only a full one does.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_freeze_count() == 0:  # otherwise, what others have frozen would be thawed
                gc.freeze()
                gc.unfreeze()
            gc.enable()
