"""The attempts of activities that run in this process, so that one that is over learns of it at once.

An attempt is over when its instance no longer waits for it: another case of its select has happened, its branch was
canceled, or its deadline has passed. The commit that ends the wait is seen here if this process makes it. If another
process makes it, the next heartbeat or report of the attempt tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cloud_adapter.document import Instance
from cloud_adapter.engine.tasks import ActivityTask
from workflow_core import AttemptOver
from workflow_core.execution import Execution
from workflow_core.parked import active
from workflow_core.wait_types import ActivityWait

Key = tuple[str, str, int]
"""The wait of an attempt, the name of the activity, and how often it has failed."""


class OpenAttempt:
    """An attempt that runs.

    Attributes:
        over: ends with ``AttemptOver`` when the attempt is over.
    """

    def __init__(self, key: Key) -> None:
        self.key = key
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether the attempt is known to be over."""
        return self.over.done()

    def end(self) -> None:
        """Records that the attempt is over."""
        if not self.over.done():
            _, event, attempt = self.key
            self.over.set_exception(AttemptOver(f"attempt {attempt + 1} of activity {event!r} is over: stop"))
            self.over.exception()  # it need not be asked for


class OpenAttempts:
    """The running attempts of a process."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], list[OpenAttempt]] = {}

    @contextmanager
    def open(self, body: ActivityTask) -> Iterator[OpenAttempt]:
        """Lists an attempt while the block runs."""
        instance, attempt = (body.workflow, body.id), OpenAttempt((body.wait_id, body.event, body.attempt))
        attempts = self._open.setdefault(instance, [])
        attempts.append(attempt)
        try:
            yield attempt
        finally:
            attempts.remove(attempt)
            if not attempts:
                self._open.pop(instance, None)

    def committed(self, instance: Instance) -> None:
        """Ends the attempts that an instance no longer waits for after a commit."""
        attempts = self._open.get((instance.workflow, instance.id))
        if not attempts:
            return
        awaited = set(_awaited(instance.execution))
        for attempt in attempts:
            if attempt.key not in awaited:
                attempt.end()


def _awaited(execution: Execution) -> Iterator[Key]:
    for thread in active(execution.threads):
        for wait in thread.waits:
            if isinstance(wait, ActivityWait):
                yield wait.id, wait.event, wait.attempt
                yield wait.id, wait.known_as, wait.attempt
