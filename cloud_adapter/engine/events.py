"""Decisions of events that clients send: an event is accepted and handled, buffered, or rejected.

If an event may be accepted after the work that is due, it waits in its lane. An event that arrives while a step runs
also waits. If the step takes long, the event may be kept in the inbox instead, see ``kept_events.py``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any

from cloud_adapter.document import KeyRecord, Lease
from cloud_adapter.engine.decisions import ByItself, Decision, NotNow
from cloud_adapter.engine.idempotency import record_of, stored_key
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.session import Session, milliseconds, settle
from cloud_adapter.engine.user_code import call, within
from cloud_adapter.errors import Busy, IdempotencyKeyReused, Unavailable, UserCodeError
from cloud_adapter.history import HistoryKind
from cloud_adapter.observability.span import Span
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Clock
from workflow_core import EventNotAccepted, EventRejected, InvalidInput, Principal, WebhookRequest
from workflow_core.access import narrows
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key
from workflow_core.machine.events import Accepted
from workflow_core.program.cases import ClientCase, HandlerCase
from workflow_core.records import record
from workflow_core.signatures import HandlerSignature

BUFFERED = b""
"""The response to an event that is buffered, and handled when the workflow waits for it. No output is empty."""

LATER = b"later"
"""The response to an event that is decided later, and whose outcome can be read then. It is not JSON, so it is no
handler's output."""

_EVENT = HistoryKind.EVENT

KEPT_PATIENCE = timedelta(seconds=20)
"""How much longer than others an event waits that is in the inbox, but may not be answered yet."""


@record(slots=True)
class SentEvent:
    """An event as a client sends it. See ``Engine.handle_event``.

    Attributes:
        outcome: where its outcome can be read if it is decided later; empty if its sender does not ask for this.
    """

    event: str
    body: bytes
    key: str | None
    thread_id: str | None
    wait_id: str | None
    outcome: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    known_until: datetime | None = None
    """Until when its response is kept at least; None: as long as every other one."""

    def sent_by(self, principal: Principal | None) -> SentEvent:
        """Returns the event as a principal sends it. A callback brings its own key: a repetition must not count as new
        because its sender chooses another key, or because the first request is forgotten. It is not decided later,
        because nobody could read its outcome."""
        callback = None if principal is None else principal.callback
        if callback is None:
            return self if self.key is None else replace(self, key=stored_key(self.key, principal))
        key, until = stored_key(callback.nonce, principal), callback.expires_at
        thread_id, wait_id = callback.thread_id, callback.wait_id
        return replace(self, key=key, thread_id=thread_id, wait_id=wait_id, outcome="", known_until=until)

    @property
    def fingerprint(self) -> str:
        """Distinguishes this request from another one under the same key."""
        return stable_key(self.event, self.body.decode("utf-8", "replace"), self.thread_id, self.wait_id)

    def known_as(self, response: str, now: datetime, key_ttl: timedelta) -> KeyRecord | None:
        """Returns the record of this request under its key; None if it has no key."""
        if self.key is None:
            return None  # without its fingerprint, which takes long
        if self.known_until is not None:
            key_ttl = max(key_ttl, self.known_until - now)
        return record_of(self.key, self.fingerprint, response, now, key_ttl)


class SendEvent(Decision):
    """Delivers an event. The answer is the handler's output as JSON, or ``BUFFERED``.

    Args:
        replay: returns the response that is stored under the request's key. Called before the event waits.
        keep: keeps the event in the inbox under a lease; see ``KeptEvents.keep``. None: it cannot be kept.
        caller: who sends the event; None: code of this process.

    Attributes:
        buffer_max: the most events in the buffer; None: no limit.
        token: identifies it in the inbox; empty: not chosen yet.
        may_be_kept: a post to the inbox has begun.
        is_kept: it is in the inbox, or was. Until all later events come after it, it has no answer.
    """

    def __init__(
        self,
        request: SentEvent,
        clock: Clock,
        options: EngineOptions,
        span: Span | None = None,
        replay: Callable[[], Awaitable[bytes | None]] | None = None,
        keep: Callable[[SendEvent, Lease | None], Awaitable[bool]] | None = None,
        caller: Caller | None = None,
    ) -> None:
        self.request = request
        self.clock = clock
        self.options = options
        self.span = span or Span()
        self.replay = replay
        self.keep = keep
        self.caller = caller
        self.buffer_max: int | None = options.buffer_max
        self.token = request.outcome
        self.may_be_kept = self.is_kept = False
        self.key = request.key
        self.size = len(request.body)
        self.is_unchecked = caller is not None and caller.needs_instance(request.event)

    def decide(self, session: Session, now: datetime) -> bytes | Awaitable[bytes]:
        """See ``Decision.decide``.

        Raises:
            EventNotAccepted, EventRejected, InvalidInput, InvalidOutput, UserCodeError, UnknownStatement
            ResponseTooLarge: the request has a key, and its response is too large to be kept.
            InstanceNotFound, Forbidden, Unauthenticated: its sender may not read the instance, or not send the event.
        """
        if self.may_be_kept:  # its sender was allowed to send it; that is checked again when it is decided
            session.check()
            return self._keep_again(session, now)
        self.check(session)
        session.check()
        self.records = ()
        request = self.request
        program = session.machine.program
        event = program.event(request.event)
        try:
            accepted = self._accepted(session, event)
        except EventNotAccepted as error:
            if not session.execution.live or event not in program.events:
                raise
            if self._blocked(session, now):
                return self._wait(session, event, now)
            if self._is_buffered(session, event):
                self._check_buffering(session, event)
                if self.buffer_max is not None and len(session.execution.buffer) >= self.buffer_max:
                    detail = f", and {self.buffer_max} events are already buffered"
                    raise EventNotAccepted(event, error.accepted, error.status, detail) from None
                return self._buffer(session, event, now)
            # The work that is still due may lead to a wait that accepts the event.
            if session.next_work() is not None:
                raise self._busy(session) from error
            raise
        if self._blocked(session, now):
            return self._wait(session, event, now)
        if session.machine.is_behind_buffered(accepted):
            raise self._busy(session)
        signature = accepted.case.signature
        assert signature is not None
        value = signature.validate_json(event, request.body)
        may_be_async = isinstance(accepted.case, HandlerCase)
        if may_be_async and (session.is_assumed or not session.is_fresh):
            raise ByItself
        self.span.set(thread=accepted.thread.id, statement=accepted.thread.step, pc=session.execution.pc)
        started = self.clock.now()
        try:
            output = call(session.machine.handle, accepted, value)
        except EventRejected:
            raise
        except Exception as error:
            raise _user_error(event, error) from error
        if may_be_async and isawaitable(output):
            return self._awaited(session, accepted, event, output, started)
        return self._finish(session, accepted, event, output, started)

    def check(self, session: Session) -> None:
        """See ``Decision.check``. What is done in the session from now on is done by the sender."""
        caller, request = self.caller, self.request
        if caller is not None:
            program = session.machine.program
            verified = program.verified.get(program.event(request.event), ())
            # Code of the workflow is asked. If it changes fields, against the rules, a denial must undo that.
            session.machine.touched |= bool(verified) or narrows(session.cls)
            webhook = WebhookRequest(request.headers, request.body) if verified else None
            caller.check_sender(session.machine.workflow, verified, webhook)
            session.machine.principal = caller.principal

    def _accepted(self, session: Session, event: str) -> Accepted:
        """Returns what waits for the event: the first wait to which its sender may send it.

        Raises:
            EventNotAccepted: nothing waits for it.
            Forbidden, Unauthenticated: its sender may send it to none of the waits.
        """
        machine, caller = session.machine, self.caller
        thread_id, wait_id = self.request.thread_id, self.request.wait_id
        if caller is None:
            accepted = machine.accept(event, thread_id, wait_id)
            if not isinstance(accepted.case, ClientCase):
                raise _not_from_clients(accepted, machine.accepted_names(), session)
            return accepted
        cases: list[ClientCase] = []
        for accepted in machine.find_all(event, thread_id, wait_id):
            if isinstance(accepted.case, ClientCase):
                if caller.may_send(machine.workflow, accepted.case):
                    return accepted
                cases.append(accepted.case)
        if not cases:
            # If no role of its sender is enough in any state, it neither waits nor is it buffered.
            possible = [case for _, case in machine.program.events.get(event, ())]
            if not possible or caller.has_role_for(possible):
                raise self._not_accepted(session, event)
            cases = possible
        raise caller.refused_event(event, cases)

    def _not_accepted(self, session: Session, event: str) -> EventNotAccepted:
        """Returns the error for an event that nothing waits for. It lists the events that its sender may send."""
        machine, caller = session.machine, self.caller
        if caller is None:
            return EventNotAccepted(event, machine.accepted_names(), session.execution.status)
        sendable = caller.sendable(machine.workflow, machine.accepted())
        names = list(dict.fromkeys(found.case.event for found in sendable))
        try:
            other = machine.accept(event, self.request.thread_id, self.request.wait_id)
        except EventNotAccepted as error:
            return EventNotAccepted(event, names, error.status, error.detail)
        return _not_from_clients(other, names, session)

    def _check_buffering(self, session: Session, event: str) -> None:
        """Checks whether the sender may send the event to every case that may receive it from the buffer.

        Raises:
            Forbidden, Unauthenticated: it may not.
        """
        machine, caller = session.machine, self.caller
        cases = [case for _, case in machine.program.events[event] if case.buffered]
        if caller is not None and (refused := [case for case in cases if not caller.may_send(machine.workflow, case)]):
            raise caller.refused_event(event, refused)

    def refusal(self, error: BaseException) -> BaseException:
        """See ``Decision.refusal``. No error may promise that an event which may be in the inbox takes no effect."""
        if not self.may_be_kept or isinstance(error, (Unavailable, IdempotencyKeyReused)):
            return error
        unsure = self._unsure()
        unsure.__cause__ = error
        return unsure

    def _unsure(self) -> Unavailable:
        event = self.request.event
        return Unavailable(f"the instance may have kept {event!r}, and may handle it later; try again")

    async def before_waiting(self) -> bytes | None:
        """Returns the stored response of a repeated request, even if the request would have to wait now."""
        return None if self.key is None or self.replay is None else await self.replay()

    def _blocked(self, session: Session, now: datetime) -> bool:
        """Whether a step runs, or earlier events may be in the inbox."""
        return session.leased(now) or session.may_have_events

    def _is_buffered(self, session: Session, event: str) -> bool:
        """Whether the event is buffered if no thread waits for it."""
        addressed = self.request.thread_id is not None or self.request.wait_id is not None
        return not addressed and session.machine.buffers(event)

    def _wait(self, session: Session, event: str, now: datetime) -> Awaitable[bytes]:
        """Keeps the event in the inbox, if it may be decided later.

        Raises:
            NotNow: it waits in its lane.
            InvalidInput: no handler of the event accepts its input.
            Forbidden, Unauthenticated: its sender may not send it to every case that may receive it from the buffer.
        """
        lease, wants_outcome = session.instance.lease, bool(self.request.outcome)
        # Only the request itself can be verified: its headers are not kept.
        can_be_kept = event not in session.machine.program.verified
        is_later = can_be_kept and (wants_outcome or self._is_buffered(session, event))
        if lease is None or not (session.leased(now) and lease.keeps_events) or not is_later or self.keep is None:
            raise self._busy(session)
        if not wants_outcome:
            self._check_buffering(session, event)
        cases = [case for _, case in session.machine.program.events[event] if wants_outcome or case.buffered]
        if self.caller is not None:
            cases = [case for case in cases if self.caller.has_role_for([case])]
        _check_input(event, [case.signature for case in cases], self.request.body)
        return self._keep(session, lease)

    def _keep_again(self, session: Session, now: datetime) -> bytes | Awaitable[bytes]:
        """Answers an event that may be in the inbox, once all later events come after it.

        Raises:
            NotNow: they may not yet.
        """
        lease = session.instance.lease
        if self.is_kept and not session.leased(now):
            if session.has_no_events:
                return self._later
            raise self._busy(session)
        if self.is_kept and lease is not None and not lease.keeps_events:
            raise self._busy(session)
        return self._keep(session, lease)

    async def _keep(self, session: Session, lease: Lease | None) -> bytes:
        assert self.keep is not None
        known = await self.before_waiting()
        if known is not None:
            return known
        if await self.keep(self, lease):
            return self._later
        raise self._busy(session)

    @property
    def _later(self) -> bytes:
        return LATER if self.request.outcome else BUFFERED

    async def _awaited(
        self, session: Session, accepted: Accepted, event: str, output: Awaitable[Any], started: datetime
    ) -> bytes:
        try:
            value = await within(self.clock, None, output, repr(event))
        except EventRejected:
            raise
        except Exception as error:
            raise _user_error(event, error) from error
        return self._finish(session, accepted, event, value, started)

    def _finish(self, session: Session, accepted: Accepted, event: str, output: Any, started: datetime) -> bytes:
        signature = accepted.case.signature
        assert signature is not None
        now = self.clock.now()
        response = signature.output_json(event, output)
        records = self._records(response.decode(), now)
        session.machine.set_time(now)  # the next timeouts count from now, not from the start of the handler
        thread, select = accepted.thread.id, accepted.thread.step
        settle(session, accepted)
        took = milliseconds(started, now)
        session.note(_EVENT, now, statement=event, thread=thread, duration_ms=took, select=select)
        self.records = records
        return response

    def _records(self, response: str, now: datetime) -> Sequence[KeyRecord]:
        """Returns what is recorded of the request.

        Raises:
            ResponseTooLarge: the response is too large to be kept.
        """
        record = self.request.known_as(response, now, self.options.key_ttl)
        return () if record is None else (record,)

    def _buffer(self, session: Session, event: str, now: datetime) -> bytes:
        """Buffers an event until the workflow waits for it."""
        signature = session.machine.buffered_signature(event)
        value, form = signature.validate_json(event, self.request.body), signature.input_form
        shown = form.shown(value).decode() if form.has_secrets else None
        session.machine.buffer(event, self.request.body.decode("utf-8"), shown=shown)
        session.note(HistoryKind.BUFFERED, now, statement=event)
        settle(session)
        self.records = self._records("", now)
        return BUFFERED

    def _busy(self, session: Session) -> NotNow:
        execution = session.execution
        if self.may_be_kept:
            return NotNow(self._unsure(), self.options.max_wait + KEPT_PATIENCE)
        about = f"{execution.workflow!r} {execution.id!r}"
        return NotNow(Busy(f"{about} is busy: a step is running, or other requests come first; try again"))


def _check_input(event: str, signatures: Sequence[HandlerSignature], body: bytes) -> None:
    """Checks that one of the handlers accepts the input.

    Raises:
        InvalidInput: none does.
    """
    *others, last = signatures
    for signature in others:
        with suppress(InvalidInput):
            signature.validate_json(event, body)
            return
    last.validate_json(event, body)


def _not_from_clients(accepted: Accepted, names: Sequence[str], session: Session) -> EventNotAccepted:
    noun = accepted.case.wait_type.noun
    return EventNotAccepted(accepted.case.event, names, session.execution.status, f" (it is {noun})")


def _user_error(event: str, error: Exception) -> UserCodeError:
    """Returns the error for the client if a handler has raised ``error``."""
    return UserCodeError(f"the handler of event {event!r} raised {error_text(error)}")
