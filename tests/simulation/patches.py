"""What a run replaces in the product, beside limits: where errors are logged, what counts as contended for, and for how
long a process assumes that nobody else commits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

from cloud_adapter.engine import recent_sessions
from cloud_adapter.engine.lanes import Lanes
from tests.simulation.actors import CURRENT
from workflow_core import WorkflowError

if TYPE_CHECKING:
    from tests.simulation.world import World


@contextmanager
def contended(*, always: bool) -> Iterator[None]:
    """Lets each instance count as contended for: results and ends of children come by way of inboxes."""
    with patch.object(Lanes, "is_contended", lambda self, ref: True) if always else nullcontext():
        yield


@contextmanager
def assumed(seconds: float, *, after_wrong: float) -> Iterator[None]:
    """Lets a process assume for that long that nobody else commits, and for how long not after it was wrong."""
    shared, wrong = timedelta(seconds=seconds), timedelta(seconds=after_wrong)
    with patch.object(recent_sessions, "SHARED", shared), patch.object(recent_sessions, "WRONG", wrong):
        yield


class logged_bugs(logging.Handler):  # noqa: N801
    """Makes an error that the engine has logged, as one that it cannot explain, a violation."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        actor = CURRENT.get(None)
        if actor is not None and actor.process.dead:
            return  # it was killed in the middle of this: its threads are gone
        if isinstance(error, Exception) and not isinstance(error, WorkflowError):
            self.world.violated(error)

    def __enter__(self) -> None:
        self.logger = logging.getLogger("gorchestrate")
        self.before = self.logger.level, self.logger.propagate
        self.logger.setLevel(logging.ERROR)
        self.logger.propagate = False
        self.logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self.logger.removeHandler(self)
        self.logger.level, self.logger.propagate = self.before
