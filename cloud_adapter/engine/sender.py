"""Sends the events of clients to the lanes of their instances, and repeats their responses."""

from __future__ import annotations

from cloud_adapter.document import KeyRecord, Lease
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.events import SendEvent, SentEvent
from cloud_adapter.engine.idempotency import replay
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import DuplicateKey, Unavailable
from cloud_adapter.observability.span import Span
from workflow_core import WorkflowError

KEY_ATTEMPTS_MAX = 5
"""How many times an event is tried if its key is found as recorded, but then expires."""


class Sender:
    """Sends events."""

    def __init__(self, committer: Committer, lanes: Lanes) -> None:
        self.committer = committer
        self.lanes = lanes

    async def send(self, ref: InstanceRef, request: SentEvent, span: Span) -> bytes:
        """Delivers an event, or repeats its response. See ``Engine.handle_event``."""
        options = self.committer.options
        known = request.known_as("", self.committer.clock.now(), options.key_ttl)

        async def replayed() -> bytes | None:
            stored = await self.replay(ref, known)
            if stored is not None:
                span.outcome = "replayed"
            return stored

        async def keep(sending: SendEvent, lease: Lease | None) -> bool:
            return await self.lanes.kept_events.keep(ref, sending, lease)

        for attempt in range(KEY_ATTEMPTS_MAX):
            sending = SendEvent(request, self.committer.clock, options, span, replayed, keep)
            try:
                response: bytes = await self.lanes.decide(ref, sending)
                return response
            except Unavailable:
                raise
            except WorkflowError as error:
                # A repeated request returns its stored response, even if a new request would be rejected.
                stored = await replayed()
                if stored is not None:
                    return stored
                if not isinstance(error, DuplicateKey):
                    raise
            await self.committer.pause(attempt)  # its key was recorded, but then expired
        raise Unavailable(f"the idempotency key {request.key!r} of {ref.id!r} keeps changing; try again")

    async def replay(self, ref: InstanceRef, record: KeyRecord | None) -> bytes | None:
        """Returns the response that is stored under the key of a request; see ``idempotency.replay``."""
        return await replay(self.committer.store, self.committer.clock, ref, record)
