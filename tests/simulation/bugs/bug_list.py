"""The list of the deliberate bugs, which the files beside it fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

Patch = pytest.MonkeyPatch
Bug = Callable[[Patch], None]

BUGS: dict[str, Bug] = {}


def bug(apply: Bug) -> Bug:
    """Lists a bug under the words of its function's name."""
    BUGS[apply.__name__.replace("_", " ")] = apply
    return apply


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """The bug of that name is there inside the block; none for None."""
    with pytest.MonkeyPatch.context() as patch:
        if name is not None:
            BUGS[name](patch)
        yield
