"""Heartbeats and reports of an attempt of an activity, also while the instance is busy.

Theory of operation. A heartbeat is a decision of the instance, so it waits in its lane. Behind a slow handler of an
event, it may wait for longer than the function should. The function then continues, but the heartbeat keeps its place.
The end of the attempt is decided after it, because the task of the deadline arrives later. Only one heartbeat of an
attempt waits at a time: the first one that is decided extends the deadline from then on.

A report is data about the progress, which a heartbeat stores in the wait. Reports are stored at intervals, because
each one costs a commit. Only the last one counts, so the others in between are dropped.

What breaks this: the task of the deadline may be delivered to another process, whose lane the handler does not block.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.engine.attempts import Beat, Report
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.open_attempts import OpenAttempt
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.tasks import ActivityTask
from cloud_adapter.errors import InstanceNotFound
from cloud_adapter.observability import logs
from workflow_core import AttemptOver, WorkflowError
from workflow_core.error_texts import error_text

REPORT_INTERVAL = timedelta(seconds=5)
"""The minimum time between two reports of an attempt that are stored."""


class Heartbeats:
    """The heartbeats and reports of one attempt. Close them at its end.

    Args:
        running: the attempt among those of this process.
    """

    def __init__(self, lanes: Lanes, ref: InstanceRef, body: ActivityTask, running: OpenAttempt | None = None) -> None:
        self.lanes = lanes
        self.ref = ref
        self.body = body
        self.running = running or OpenAttempt((body.wait_id, body.event, body.attempt))
        self._sent: asyncio.Task[None] | None = None
        self._later: asyncio.Task[None] | None = None
        self._report: Report | None = None
        self._next_report_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether the attempt is known to be over."""
        return self.running.is_over

    async def report(self, data: Any) -> None:
        """Stores data about the progress: at once, or when the interval since the last report has passed.

        Raises:
            AttemptOver: the instance no longer waits for the attempt.
            ExecutionError: the data cannot be stored.
        """
        self._report = Report.of(data, self.body.event)
        if self.is_over:
            self.running.over.result()
        clock = self.lanes.committer.clock
        now = clock.now()
        if self._next_report_at is None or now >= self._next_report_at:
            self._next_report_at = now + REPORT_INTERVAL
            await self.send()
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._send_later((self._next_report_at - now).total_seconds()))

    async def _send_later(self, seconds: float) -> None:
        clock = self.lanes.committer.clock
        await clock.sleep(seconds)
        self._next_report_at = clock.now() + REPORT_INTERVAL
        with contextlib.suppress(AttemptOver):  # the next call of the function is told
            await self.send()

    async def send(self) -> None:
        """Sends a heartbeat, after the one that still waits, if any. Returns when it was processed, or if it has to
        wait for long.

        Raises:
            AttemptOver: the instance no longer waits for the attempt.
        """
        committer = self.lanes.committer
        sent = self._sent
        is_earlier = sent is not None and not sent.done()
        if sent is None or sent.done():
            sent = self._sent = asyncio.create_task(self._decide())
        pause = asyncio.ensure_future(committer.clock.sleep(committer.options.max_wait.total_seconds()))
        try:
            await asyncio.wait([sent, pause], return_when=asyncio.FIRST_COMPLETED)
            if not sent.done():
                await pause  # raises its error, if it has not just ended
        finally:
            pause.cancel()
        if not sent.done():
            logs.transition("heartbeat waits", self.ref.workflow, self.ref.id, level=logging.WARNING)
            return
        try:
            await sent
        except AttemptOver:
            self.running.end()
            raise
        except InstanceNotFound as error:
            self.running.end()
            raise AttemptOver(f"{error}: stop") from error
        except WorkflowError as error:
            # Not a failure of the function, and the next heartbeat can succeed. The database does not answer, or the
            # instance needs newer code or is busy (no deadline passes while it is leased).
            text = error_text(error)[:500]
            logs.transition("heartbeat skipped", self.ref.workflow, self.ref.id, level=logging.WARNING, error=text)
            return
        if is_earlier:
            await self.send()  # the one that has waited was perhaps decided before this call

    async def _decide(self) -> None:
        report, self._report = self._report, None
        try:
            await self.lanes.decide(self.ref, Beat(self.body, report))
        except BaseException:
            self._report = self._report or report  # the next heartbeat stores it
            raise

    def close(self) -> None:
        """Withdraws a heartbeat and a report that still wait."""
        if self._later is not None and not self._later.cancel() and not self._later.cancelled():
            self._later.exception()
        if self._sent is not None and not self._sent.cancel() and not self._sent.cancelled():
            self._sent.exception()  # nobody else may have asked for it
