"""The requests of clients and operators: what ``Engine.create``, ``get``, ``list``, ``handle_event`` and the others do.

A request with a principal is decided for it; see ``permissions.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cloud_adapter.document import KeyRecord, Lease
from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.events import SendEvent, SentEvent
from cloud_adapter.engine.idempotency import record_of, replay, sent_key, stored_key
from cloud_adapter.engine.inbox import Inbox
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.listing import Listing
from cloud_adapter.engine.operation_requests import operate
from cloud_adapter.engine.operations import Operation
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session, begin
from cloud_adapter.engine.view import View, view_of
from cloud_adapter.errors import (
    Busy,
    CallbackNotAccepted,
    DamagedDocument,
    DuplicateKey,
    IdempotencyKeyReused,
    InstanceExists,
    InstanceNotFound,
    Unavailable,
)
from cloud_adapter.observability.audit import Audit
from cloud_adapter.observability.span import Span
from cloud_adapter.ports import Page
from workflow_core import Action, EventNotAccepted, InvalidFields, NewerVersion, Principal, Workflow, WorkflowError
from workflow_core.access import creation
from workflow_core.events import stable_key

NOT_WAITED_FOR = (
    "the workflow does not wait for this callback: it has received it, no longer waits, or does not wait yet"
)
"""What an outside system learns about a callback that is not accepted: not what the instance does instead."""

KEY_ATTEMPTS_MAX = 5
"""How many times an event is tried if its key is found as recorded, but then expires."""


class Requests:
    """Decides the requests of clients about instances.

    Args:
        workflow: returns the workflow of a name that a principal may address, or raises ``WorkflowNotFound``.
    """

    def __init__(
        self,
        committer: Committer,
        lanes: Lanes,
        inbox: Inbox,
        audit: Audit,
        workflow: Callable[[str, Principal | None], type[Workflow]],
    ) -> None:
        self.committer = committer
        self.lanes = lanes
        self.inbox = inbox
        self.workflow = workflow
        self.audit = audit

    def ref(self, workflow: str, id: str, principal: Principal | None) -> InstanceRef:
        """Returns the reference of a requested instance.

        Raises:
            WorkflowNotFound, InvalidRequest
        """
        return InstanceRef.checked(self.workflow(workflow, principal), id)

    def check_role(self, ref: InstanceRef, action: Action, principal: Principal) -> None:
        """See ``Engine.check_role``."""
        caller = Caller(principal, ref)
        try:
            caller.check_role(action)
        except WorkflowError as error:
            self.audit.denied(principal, action, ref.workflow, ref.id, error=str(error))
            raise

    async def create(
        self, ref: InstanceRef, fields: bytes, key: str | None, span: Span, principal: Principal | None
    ) -> View:
        """See ``Engine.create``."""
        if principal is None:
            return await self._create(ref, fields, key, span, None)
        caller = Caller(principal, ref)
        with self._audited(caller, Action.CREATE):
            return await self._create(ref, fields, key, span, caller)

    async def _create(
        self, ref: InstanceRef, fields: bytes, key: str | None, span: Span, caller: Caller | None
    ) -> View:
        principal = None if caller is None else caller.principal
        fingerprint = stable_key("create", fields.decode("utf-8", "replace"))
        if caller is not None:
            caller.check_create_role()
            fields = creation(ref.cls, fields, caller.principal)
        now = self.committer.clock.now()
        session = begin(
            ref,
            fields,
            now,
            salt=self.committer.salt,
            principal=principal,
            check=None if caller is None else caller.check_create,
        )
        record = record_of(stored_key(key, principal), fingerprint, "", now, self.committer.options.key_ttl)
        try:
            await self.committer.create(session, record)
        except Superseded:
            return await self._found(ref, caller)
        except (InstanceExists, DuplicateKey):
            if await self._replay(ref, record) is None:
                raise
            span.outcome = "replayed"
            return await self._found(ref, caller)
        self.lanes.wake(ref)  # its first task may have been delivered before the commit
        return view_of(session, caller)

    async def _found(self, ref: InstanceRef, caller: Caller | None) -> View:
        """Returns an instance to its creator."""
        return view_of(await self.committer.load(ref, history=True), caller)

    async def get(self, ref: InstanceRef, principal: Principal | None) -> View:
        """See ``Engine.get``."""
        if principal is None:
            return view_of(await self.committer.load(ref, history=True))
        caller = Caller(principal, ref)
        with self._audited(caller, Action.READ):
            return view_of(await self._readable(caller, history=True), caller)

    async def _readable(self, caller: Caller, *, history: bool = False) -> Session:
        """Loads an instance that a principal may read, if wanted with its history.

        Raises:
            InstanceNotFound: also if it may not read it.
        """
        caller.check_read_role()
        try:
            session = await self.committer.load(caller.ref, history=history)
        except (InvalidFields, DamagedDocument) as error:
            caller.check_unreadable(error)
            raise
        caller.check_read(session.machine.workflow)
        return session

    async def recorded(self, ref: InstanceRef, key: str, principal: Principal | None) -> KeyRecord | None:
        """See ``Engine.recorded``."""
        if principal is not None:
            caller = Caller(principal, ref)
            with self._audited(caller, Action.READ):
                await self._readable(caller)
        stored = stored_key(key, principal)
        assert stored is not None
        return await self.committer.load_key(ref, stored)

    async def handle_event(
        self, ref: InstanceRef, request: SentEvent, span: Span, principal: Principal | None
    ) -> bytes:
        """See ``Engine.handle_event``."""
        if principal is None:
            return await self._handle_event(ref, request, span, None)
        caller = Caller(principal, ref)
        with self._audited(caller, Action.SEND, request.event):
            caller.check_sender_role(request.event, request.thread_id, request.wait_id)
            try:
                return await self._handle_event(ref, request, span, caller)
            except (InvalidFields, DamagedDocument, InstanceNotFound, NewerVersion) as error:
                caller.check_unreadable(error)
                raise
            except (EventNotAccepted, IdempotencyKeyReused) as error:
                if caller.callback is None:
                    raise
                raise CallbackNotAccepted(NOT_WAITED_FOR) from error

    async def _handle_event(self, ref: InstanceRef, request: SentEvent, span: Span, caller: Caller | None) -> bytes:
        clock, options = self.committer.clock, self.committer.options
        known = None if request.key is None else request.known_as("", clock.now(), options.key_ttl)

        async def replayed() -> bytes | None:
            stored = await self._replay(ref, known)
            if stored is not None:
                span.outcome = "replayed"
            return stored

        async def keep(sending: SendEvent, lease: Lease | None) -> bool:
            return await self.lanes.kept_events.keep(ref, sending, lease)

        for attempt in range(KEY_ATTEMPTS_MAX):
            sending = SendEvent(request, clock, options, span, replayed, keep, caller)
            try:
                response: bytes = await self.lanes.decide(ref, sending)
                return response
            except Unavailable:
                raise
            except WorkflowError as error:
                if caller is not None and not caller.has_read:
                    if isinstance(error, Busy) and caller.callback is None:  # it was not decided
                        await self._readable(caller)
                    raise  # a response would show that there is an instance
                # A repeated request returns its stored response, even if a new request would be rejected.
                stored = await replayed()
                if stored is not None:
                    return stored
                if not isinstance(error, DuplicateKey):
                    raise
            await self.committer.pause(attempt)  # its key was recorded, but then expired
        raise Unavailable(
            f"the idempotency key {sent_key(request.key or '')!r} of {ref.id!r} keeps changing; try again"
        )

    async def outcome(self, ref: InstanceRef, token: str, principal: Principal | None) -> Outcome | None:
        """See ``Engine.outcome``."""
        kept_events = self.lanes.kept_events
        if principal is None:
            return await kept_events.outcome(ref, token)
        caller = Caller(principal, ref)
        with self._audited(caller, Action.READ):
            session = await self._readable(caller)
        outcome = await kept_events.outcome(ref, token)
        if outcome is None or outcome.is_of(principal) or caller.may(session.machine.workflow, Action.OPERATE):
            return outcome
        return None

    async def operate(self, ref: InstanceRef, operation: Operation, principal: Principal | None) -> View:
        """See ``Engine.operate``."""
        if principal is None:
            return await self._operate(ref, operation, None)
        caller = Caller(principal, ref)
        with self._audited(caller, operation.permission, operation.name):
            try:
                # First without the lane: an operation interrupts handlers, which a denied one must not.
                caller.check_read_role()
                stored = await self.committer.store.load(ref.workflow, ref.id)
                caller.check_stored(stored, operation.permission, repr(operation.name))
                return await self._operate(ref, operation, caller)
            except DamagedDocument as error:
                caller.check_unreadable(error)
                raise

    async def _operate(self, ref: InstanceRef, operation: Operation, caller: Caller | None) -> View:
        session = await operate(self.lanes, ref, operation, caller)
        if not operation.dry_run:
            await self.inbox.try_collect(ref)  # the operation may have unblocked the entries, or made them stale
        return view_of(session, caller)

    async def list(self, listing: Listing, principal: Principal | None) -> Page:
        """See ``Engine.list``."""
        store, workflow = self.committer.store, listing.cls.__workflow_name__
        page = await listing.read(store, principal)
        if principal is not None:
            self.audit.allowed(principal, Action.LIST, workflow)
        return page

    @contextmanager
    def _audited(self, caller: Caller, action: Action, event: str = "") -> Iterator[None]:
        """Logs whether the body was carried out for a principal, or denied. Other errors are not decisions about it."""
        about = caller.principal, action, caller.ref.workflow, caller.ref.id, event
        try:
            yield
        except WorkflowError as error:
            if error is caller.refusal:
                self.audit.denied(*about, error=str(error))
            raise
        self.audit.allowed(*about)

    async def _replay(self, ref: InstanceRef, record: KeyRecord | None) -> bytes | None:
        return await replay(self.committer, ref, record)
