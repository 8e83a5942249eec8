"""Heartbeats of an attempt of an activity, also while the instance is busy.

Theory of operation. A heartbeat is a decision of the instance, so it waits in its lane. Behind a slow handler of an
event, it may wait for longer than the function should. The function then continues, but the heartbeat keeps its place.
The end of the attempt is decided after it, because the task of the deadline arrives later. Only one heartbeat of an
attempt waits at a time: the first one that is decided extends the deadline from then on.

What breaks this: the task of the deadline may be delivered to another process, whose lane the handler does not block.
"""

from __future__ import annotations

import asyncio
import logging

from cloud_adapter.engine.attempts import Beat
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.tasks import ActivityTask
from cloud_adapter.errors import InstanceNotFound
from cloud_adapter.observability import logs
from workflow_core import AttemptOver, WorkflowError
from workflow_core.error_texts import error_text


class Heartbeats:
    """The heartbeats of one attempt. Close them at its end."""

    def __init__(self, lanes: Lanes, ref: InstanceRef, body: ActivityTask) -> None:
        self.lanes = lanes
        self.ref = ref
        self.body = body
        self._sent: asyncio.Task[None] | None = None

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
            raise
        except InstanceNotFound as error:
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
        await self.lanes.decide(self.ref, Beat(self.body))

    def close(self) -> None:
        """Withdraws a heartbeat that still waits."""
        if self._sent is not None and not self._sent.cancel() and not self._sent.cancelled():
            self._sent.exception()  # nobody else may have asked for it
