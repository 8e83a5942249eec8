"""The garbage collector of a process that serves requests."""

from __future__ import annotations

import gc

OBJECTS_MIN, YOUNG_MAX, MIDDLE_MAX = 20_000, 50, 100
"""How many objects, and how many collections of younger ones, it takes until a generation is collected."""


def collect_rarely() -> None:
    """Makes garbage collections rare and short. Call it after all imports.

    Otherwise they take a tenth of the CPU time of a busy worker: one in a few requests, and each full collection scans
    all imported objects, which takes tens of ms. What is in no cycle of references is freed at once, as before.
    """
    gc.freeze()
    gc.set_threshold(OBJECTS_MIN, YOUNG_MAX, MIDDLE_MAX)
