"""Decisions of events that clients send: an event is accepted and handled, buffered, or rejected.

If an event may be accepted after the work that is due, it waits in its lane. An event that arrives while a step runs
also waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any

from cloud_adapter.document import HistoryKind, KeyRecord
from cloud_adapter.engine.decisions import ByItself, Decision, NotNow
from cloud_adapter.engine.idempotency import record_of
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.session import Session, milliseconds, settle
from cloud_adapter.engine.user_code import call, within
from cloud_adapter.errors import Busy, UserCodeError
from cloud_adapter.observability.span import Span
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Clock
from workflow_core import EventNotAccepted, EventRejected
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key
from workflow_core.machine.events import Accepted
from workflow_core.program.code import ClientCase, HandlerCase

BUFFERED = b""
"""The response to an event that is buffered, and handled when the workflow waits for it. A handler's output is never
empty."""


@dataclass(frozen=True, slots=True)
class SentEvent:
    """An event as a client sends it. See ``Engine.handle_event``."""

    event: str
    body: bytes
    key: str | None
    thread_id: str | None
    wait_id: str | None

    @property
    def fingerprint(self) -> str:
        """Distinguishes this request from another one under the same key."""
        return stable_key(self.event, self.body.decode("utf-8", "replace"), self.thread_id, self.wait_id)

    def known_as(self, response: str, now: datetime, key_ttl: timedelta) -> KeyRecord | None:
        """Returns the record of this request under its key; None if it has no key."""
        return record_of(self.key, self.fingerprint, response, now, key_ttl)


class SendEvent(Decision):
    """Delivers an event. The answer is the handler's output as JSON, or ``BUFFERED``.

    Args:
        replay: returns the response that is stored under the request's key. Called before the event waits.
        caller: who sends the event; None: code of this process.
    """

    def __init__(
        self,
        request: SentEvent,
        clock: Clock,
        options: EngineOptions,
        span: Span,
        replay: Callable[[], Awaitable[bytes | None]],
        caller: Caller | None = None,
    ) -> None:
        self.request = request
        self.clock = clock
        self.options = options
        self.span = span
        self.replay = replay
        self.caller = caller
        self.key = request.key
        self.size = len(request.body)

    def decide(self, session: Session, now: datetime) -> bytes | Awaitable[bytes]:
        """See ``Decision.decide``.

        Raises:
            EventNotAccepted, EventRejected, InvalidInput, InvalidOutput, UserCodeError, UnknownStatement
            ResponseTooLarge: the request has a key, and its response is too large to be kept.
            InstanceNotFound, Forbidden, Unauthenticated: its sender may not read the instance, or not send the event.
        """
        if self.caller is not None:
            self.caller.check_read(session.machine.workflow)
            session.machine.principal = self.caller.principal
        session.check()
        self.record = None
        request = self.request
        program = session.machine.program
        event = program.event(request.event)
        try:
            accepted = self._accepted(session, event)
        except EventNotAccepted as error:
            if not session.execution.live or event not in program.events:
                raise
            addressed = request.thread_id is not None or request.wait_id is not None
            if not addressed and session.machine.buffers(event) and not session.leased(now):
                self._check_buffering(session, event)
                return self._keep(session, event, error, now)
            # The work that is still due may lead to a wait that accepts the event.
            if session.leased(now) or session.next_work() is not None:
                raise self._busy(session) from error
            raise
        if session.leased(now) or session.machine.is_behind_buffered(accepted):
            raise self._busy(session)
        signature = accepted.case.signature
        assert signature is not None
        value = signature.validate_json(event, request.body)
        if isinstance(accepted.case, HandlerCase) and not session.is_fresh:
            raise ByItself  # the handler may be asynchronous
        self.span.set(thread=accepted.thread.id, statement=accepted.thread.step, pc=session.execution.pc)
        started = self.clock.now()
        with _user_errors(event):
            output = call(session.machine.handle, accepted, value)
        if isawaitable(output):
            return self._awaited(session, accepted, event, output, started)
        return self._finish(session, accepted, event, output, started)

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
            if not accepted.case.from_clients:
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
                raise self._not_accepted(session, event, caller)
            cases = possible
        raise caller.refused_event(event, cases)

    def _not_accepted(self, session: Session, event: str, caller: Caller) -> EventNotAccepted:
        """Returns the error for an event that nothing waits for. It lists the events that its sender may send."""
        machine = session.machine
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

    async def before_waiting(self) -> bytes | None:
        """Returns the stored response of a repeated request, even if the request would have to wait now."""
        return None if self.key is None else await self.replay()

    async def _awaited(
        self, session: Session, accepted: Accepted, event: str, output: Awaitable[Any], started: datetime
    ) -> bytes:
        with _user_errors(event):
            value = await within(self.clock, None, output, repr(event))
        return self._finish(session, accepted, event, value, started)

    def _finish(self, session: Session, accepted: Accepted, event: str, output: Any, started: datetime) -> bytes:
        signature = accepted.case.signature
        assert signature is not None
        now = self.clock.now()
        response = signature.output_json(event, output)
        record = self.request.known_as(response.decode(), now, self.options.key_ttl)
        session.machine.set_time(now)  # the next timeouts count from now, not from the start of the handler
        thread, select = accepted.thread.id, accepted.thread.step
        settle(session, accepted)
        session.note(
            HistoryKind.EVENT,
            now,
            statement=event,
            thread=thread,
            duration_ms=milliseconds(started, now),
            select=select,
        )
        self.record = record
        return response

    def _keep(self, session: Session, event: str, refusal: EventNotAccepted, now: datetime) -> bytes:
        """Buffers an event until the workflow waits for it."""
        if len(session.execution.buffer) >= self.options.buffer_max:
            detail = f", and {self.options.buffer_max} events are already buffered"
            raise EventNotAccepted(event, refusal.accepted, refusal.status, detail)
        signature = session.machine.buffered_signature(event)
        value, form = signature.validate_json(event, self.request.body), signature.input_form
        shown = form.shown(value).decode() if form.has_secrets else None
        session.machine.buffer(event, self.request.body.decode("utf-8"), shown=shown)
        session.note(HistoryKind.BUFFERED, now, statement=event)
        settle(session)
        self.record = self.request.known_as("", now, self.options.key_ttl)
        return BUFFERED

    @staticmethod
    def _busy(session: Session) -> NotNow:
        execution = session.execution
        return NotNow(
            Busy(
                f"{execution.workflow!r} {execution.id!r} is busy: a step is running, or other requests come first; "
                f"try again"
            )
        )


def _not_from_clients(accepted: Accepted, names: Sequence[str], session: Session) -> EventNotAccepted:
    noun = accepted.case.wait_type.noun
    return EventNotAccepted(accepted.case.event, names, session.execution.status, f" (it is {noun})")


@contextmanager
def _user_errors(event: str) -> Iterator[None]:
    """Converts an error of a handler to the error for the client."""
    try:
        yield
    except EventRejected:
        raise
    except Exception as error:
        raise UserCodeError(f"the handler of event {event!r} raised {error_text(error)}") from error
