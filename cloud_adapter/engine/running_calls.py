"""Which calls of user code run in this process at the moment: steps, setups, teardowns and activities."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from cloud_adapter.ports import Clock
from workflow_core.records import record


@record(slots=True, eq=False)
class RunningCall:
    """A call that has not returned. Synchronous code may still run after its call was given up.

    Attributes:
        kind: ``step``, ``setup``, ``teardown``, ``activity`` and so on.
    """

    kind: str
    workflow: str
    id: str
    statement: str
    started_at: datetime

    def text(self, now: datetime) -> str:
        """Returns a description for people: what it is, and how long it has run."""
        seconds = (now - self.started_at).total_seconds()
        return f"{self.kind} {self.statement!r} of {self.workflow}/{self.id} (running for {seconds:.0f} s)"


class RunningCalls:
    """The running calls of a process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: set[RunningCall] = set()

    def list(self) -> Sequence[RunningCall]:
        """Returns the running calls, the oldest first."""
        return sorted(self._calls, key=lambda call: call.started_at)

    def running(self, kind: str, workflow: str, id: str, statement: str) -> AbstractContextManager[None]:
        """Lists a call while the body runs."""
        return _Listed(self._calls, RunningCall(kind, workflow, id, statement, self._clock.now()))


class _Listed:
    def __init__(self, calls: set[RunningCall], call: RunningCall) -> None:
        self._calls, self._call = calls, call

    def __enter__(self) -> None:
        self._calls.add(self._call)

    def __exit__(self, *_: object) -> None:
        self._calls.remove(self._call)
