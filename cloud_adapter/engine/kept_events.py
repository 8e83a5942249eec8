"""Events of clients that are kept in the inbox while a step runs for long, and their outcomes.

An event that may be decided later is answered at once: one that the workflow buffers, or whose sender asks for it. It
becomes an entry of the inbox, see ``inbox.py``. When the lease has ended, kept events are decided first.

Why each takes effect once, and no later event overtakes it:

* Names of entries begin with the time of arrival. An event whose predecessor is still in the inbox gets a later one,
  whatever the clocks say.
* The commit that decides an event deletes its entry, and records its outcome under a key that only this event has. If
  the event is posted again after that, its commit fails, and the entry is discarded.
* Only a lease that says so in the document (``Lease.keeps_events``) lets events be kept. The commit that removes it
  leaves a mark (``Instance.has_kept_events``). While the mark is there, an event, and the next step, come after a look
  into the inbox. The mark is removed by a commit that is based on it, if the inbox was found empty.
* The lease may end while an event is being posted, and another process may look into the inbox just before the entry
  arrives. The sender is therefore not answered until the lease has been seen again, after the post. Otherwise the
  event is decided like those in the inbox, before the answer.

An event is authorized twice. A sender without the right learns it at once, and nothing is posted. But what counts is
the decision, on the state that it is committed with, for the sender that the entry contains. A denial becomes the
outcome. Only the sender, and operators, get to see outcomes.

The mark is set only after leases that lasted for long (``EngineOptions.keeps_after``). Without one, no event costs
another read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import InboxEntry, KeyRecord, Lease
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Decision, Deferrable, NotListening, NotNow, check_lease
from cloud_adapter.engine.events import SendEvent, SentEvent
from cloud_adapter.engine.idempotency import record_of, replay
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session
from cloud_adapter.engine.tasks import CollectTask
from cloud_adapter.errors import Busy, Conflict, DuplicateKey, IdempotencyKeyReused, TooLarge, details_of
from cloud_adapter.history import HistoryKind
from cloud_adapter.observability import logs
from cloud_adapter.observability.audit import Audit
from workflow_core import Action, Principal, Status
from workflow_core.access import is_everyone
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key
from workflow_core.records import record

PREFIX = "event-"
"""What the names of the entries begin with. The time in microseconds and the token of the event follow."""

_OUTCOME = "outcome\t"
"""What the keys of outcomes begin with. The key of a request cannot contain a tab."""

REMEMBERED_AS_LEAST = 2 * CLOCK_SKEW
"""How long an outcome is recorded at least, even if keys are forgotten earlier: a repeated post may arrive late."""


@record(frozen=True, slots=True)
class Outcome:
    """What has become of an event that was accepted for later.

    Attributes:
        answer: the handler's output as JSON; empty if the event was buffered; None if it was refused, or still waits.
        error, text, details: the class, the text and the data of the error with which it was refused.
        by: the id of the principal that sent it; None: code of this process.
    """

    answer: str | None = None
    error: str = ""
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    by: str | None = None

    @property
    def waits(self) -> bool:
        return self.answer is None and not self.error

    def is_of(self, principal: Principal) -> bool:
        """Whether a principal has sent the event. In an open API, everyone who knows the token has."""
        return is_everyone(principal) or self.by == principal.id


def outcome_token(key: str, event: str, thread_id: str | None, wait_id: str | None) -> str:
    """Returns what identifies an event among those that are kept. It depends on nothing that may be secret, because it
    is stored as it is, and is part of a URL.

    Args:
        key: the same for all attempts at one request.
    """
    return stable_key("event", key, event, thread_id, wait_id)


class KeptEvents:
    """The events of clients in the inboxes of instances."""

    def __init__(self, committer: Committer, audit: Audit) -> None:
        self.committer = committer
        self.audit = audit

    async def keep(self, ref: InstanceRef, sending: SendEvent, lease: Lease | None) -> bool:
        """Keeps an event that has arrived under a lease. Returns whether all later events come after it.

        Raises:
            IdempotencyKeyReused: another event has the same token.
            NotNow: too many events are kept, or its sender cannot be stored.
            TooLarge, Unavailable
        """
        store, now, request = self.committer.store, self.committer.clock.now(), sending.request
        token = sending.token = sending.token or self._token(request)
        most = self.committer.options.buffer_max
        entries = await store.inbox(ref.workflow, ref.id, most, prefix=PREFIX)
        if (entry := _entry_of(token, entries)) is not None:
            kept = await self.open(ref, entry)
            _check_same(ref, token, request, request.fingerprint if kept is None else kept.request.fingerprint)
        else:
            record = await self.committer.load_key(ref, _OUTCOME + token)
            if record is not None:
                _check_same(ref, token, request, record.fingerprint)
                return True  # it was decided meanwhile
            if len(entries) >= most:
                raise NotNow(Busy(f"{ref} is busy, and {most} events already wait for it; try again"))
            await self._post(ref, sending, entries, now)
        sending.may_be_kept = sending.wants_events = sending.is_kept = True
        at = now if lease is None else max(now, lease.expires_at)
        await self.committer.queue.create(CollectTask.after(ref.workflow, ref.id, at, now))
        stored = (await store.load(ref.workflow, ref.id)).lease
        return lease is not None and stored is not None and stored.token == lease.token

    def _token(self, request: SentEvent) -> str:
        key = request.key or self.committer.token()
        return outcome_token(key, request.event, request.thread_id, request.wait_id)

    async def _post(self, ref: InstanceRef, sending: SendEvent, entries: Sequence[InboxEntry], now: datetime) -> None:
        """Adds an event to the inbox, behind the entries that it contains."""
        body = _body(sending)
        micros = max([int(now.timestamp() * 1_000_000), *(_micros_of(entry) + 1 for entry in entries[-1:])])
        name = f"{PREFIX}{micros:017d}-{sending.token}"
        sealed = await self.committer.secrets.sealed_text(body, ref.workflow, ref.id, "inbox", name)
        sending.may_be_kept = sending.wants_events = True
        try:
            await self.committer.post(InboxEntry(ref.workflow, ref.id, name, sealed, now))
        except TooLarge:
            sending.may_be_kept = sending.wants_events = False
            raise
        logs.transition("event kept", ref.workflow, ref.id, statement=sending.request.event)

    async def first(self, ref: InstanceRef) -> Sequence[InboxEntry]:
        """Returns the first event that is kept for an instance, and the one after it."""
        return await self.committer.store.inbox(ref.workflow, ref.id, 2, prefix=PREFIX)

    async def open(self, ref: InstanceRef, entry: InboxEntry) -> KeptEvent | None:
        """Returns the decision about a kept event; None if its entry cannot be read, which is logged.

        Raises:
            SecretsUnreadable: a process with other keys can read it.
            Unavailable
        """
        body = await self.committer.secrets.opened_text(entry.body, entry.workflow, entry.id, "inbox", entry.name)
        try:
            data = json.loads(body)
            about = data["event"], data["body"].encode(), data["key"], data["thread_id"], data["wait_id"]
            request, sender = SentEvent(*about, outcome=_token_of(entry)), data["sender"]
            caller = None if sender is None else Caller(_principal(sender), ref)
            return KeptEvent(self.committer, request, entry, caller, is_buffered=bool(data["is_buffered"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            text = error_text(error)[:ERROR_CHARS_MAX]
            logs.transition("damaged inbox entry", entry.workflow, entry.id, level=logging.ERROR, error=text)
            return None

    async def without(self, ref: InstanceRef, kept: KeptEvent, error: BaseException) -> Decision | None:
        """Returns the decision that records the outcome of an event that takes no effect, because of an error. None if
        an outcome is already recorded: then its entry is one that was posted again.

        Raises:
            Conflict: the event has to be decided again.
        """
        request, now, caller = kept.request, self.committer.clock.now(), kept.caller
        is_duplicate = isinstance(error, DuplicateKey)
        if is_duplicate and await self.committer.load_key(ref, _OUTCOME + request.outcome) is not None:
            return None
        try:
            # Its entry may have arrived late: its sender has sent it again, and that took effect.
            answer = await replay(self.committer, ref, request.known_as("", now, self.committer.options.key_ttl))
        except IdempotencyKeyReused as reused:
            return _WithoutEffect(kept, reused)
        if answer is not None:
            return _WithoutEffect(kept, None, answer.decode())
        if is_duplicate:
            raise Conflict(f"the idempotency key {request.key!r} of {ref.id!r} has expired meanwhile")
        if caller is not None and error is caller.refusal:
            about = caller.principal, Action.SEND, ref.workflow, ref.id, request.event
            self.audit.denied(*about, error=str(error))
        return _WithoutEffect(kept, error)

    async def outcome(self, ref: InstanceRef, token: str) -> Outcome | None:
        """Returns what has become of an event; None if it is unknown.

        Raises:
            Unavailable
        """
        for _ in range(2):  # it may be decided between the two reads
            record = await self.committer.load_key(ref, _OUTCOME + token)
            if record is not None:
                return Outcome(**json.loads(record.response))
            if (entry := await self._find(ref, token)) is not None:
                kept = await self.open(ref, entry)
                return Outcome(by=None if kept is None else kept.sender_id)
        return None

    async def _find(self, ref: InstanceRef, token: str) -> InboxEntry | None:
        """Returns the entry of an event. Processes that keep events at the same time may keep more than the limit."""
        most = self.committer.options.buffer_max + 1
        while True:
            entries = await self.committer.store.inbox(ref.workflow, ref.id, most, prefix=PREFIX)
            entry = _entry_of(token, entries)
            if entry is not None or len(entries) < most:
                return entry
            most *= 2


class KeptEvent(SendEvent):
    """The decision about an event that was kept. It is made once no lease is live.

    Args:
        caller: who has sent it; None: code of this process.
        is_buffered: it is added to the buffer, even if a thread now waits for it: its sender was told so.
    """

    def __init__(
        self, committer: Committer, request: SentEvent, entry: InboxEntry, caller: Caller | None, *, is_buffered: bool
    ) -> None:
        super().__init__(request, committer.clock, committer.options, caller=caller)
        self.key = request.outcome  # by which a second commit is refused
        self.taken = (entry,)
        self.is_buffered = is_buffered
        self.buffer_max = None  # it was checked when the event was kept

    @property
    def sender_id(self) -> str | None:
        """The id of the principal that has sent it; None: code of this process."""
        return None if self.caller is None else self.caller.principal.id

    def decide(self, session: Session, now: datetime) -> bytes | Awaitable[bytes]:
        """See ``Decision.decide``."""
        check_lease(session, now)
        if session.execution.status is Status.PAUSED:
            raise self._busy(session)
        event = session.machine.program.event(self.request.event)
        # A canceled instance buffers nothing anymore, but a cleanup may wait for the event.
        if not self.is_buffered or not session.machine.buffers(event):
            return super().decide(session, now)
        self.check(session)
        session.check()
        self._check_buffering(session, event)
        return self._buffer(session, event, now)

    def outcome_record(self, outcome: Mapping[str, Any], now: datetime) -> KeyRecord:
        """Returns the record of an outcome.

        Raises:
            ResponseTooLarge: it is too large to be kept.
        """
        ttl = max(self.options.key_ttl, REMEMBERED_AS_LEAST)
        text = json.dumps({**outcome, "by": self.sender_id}, ensure_ascii=False)
        record = record_of(f"{_OUTCOME}{self.request.outcome}", self.request.fingerprint, text, now, ttl)
        assert record is not None
        return record

    def _blocked(self, session: Session, now: datetime) -> bool:
        return False

    def _records(self, response: str, now: datetime) -> Sequence[KeyRecord]:
        return *super()._records(response, now), self.outcome_record({"answer": response}, now)


class _WithoutEffect(Decision):
    """Removes a kept event that takes no effect from the inbox, and records its outcome.

    Args:
        error: why it is refused.
        answer: the answer that the same request got before, if it is not refused.
    """

    def __init__(self, kept: KeptEvent, error: BaseException | None, answer: str = "") -> None:
        self.kept = kept
        self.error = error
        self.answer = answer
        self.key = kept.key
        self.taken = kept.taken

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``."""
        check_lease(session, now)
        error = self.error
        outcome: dict[str, Any] = {"answer": self.answer}
        session.machine.tick()
        if self.kept.caller is not None:
            session.machine.principal = self.kept.caller.principal
        if error is not None:
            outcome = {"error": type(error).__name__, "text": str(error), "details": details_of(error)}
            text = error_text(error)[:ERROR_CHARS_MAX]
            session.note(HistoryKind.EVENT_REJECTED, now, statement=self.kept.request.event, error=text)
        self.records = (self.kept.outcome_record(outcome, now),)


class TakeEvents(Deferrable):
    """Has all events decided that are kept in the inbox; changes nothing itself. Their entries are opened as this."""

    kind = "event"
    wants_events = True

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``.

        Raises:
            Busy: not all could be decided yet.
        """
        check_lease(session, now)
        if not session.has_no_events:
            kind = NotListening if session.execution.status is Status.PAUSED else Busy
            raise kind(f"{session.execution.id!r} cannot process all events yet; try again")


def _body(sending: SendEvent) -> str:
    """Returns the body of a request's entry. Without a sender who asks for an outcome, it is only buffered.

    Raises:
        NotNow: its sender cannot be stored.
    """
    request, caller = sending.request, sending.caller
    data = {
        "kind": TakeEvents.kind,
        "event": request.event,
        "body": request.body.decode(),
        "key": request.key,
        "thread_id": request.thread_id,
        "wait_id": request.wait_id,
        "is_buffered": not request.outcome,
        "sender": None if caller is None else _sender(caller.principal),
    }
    return json.dumps(data, ensure_ascii=False)


def _sender(principal: Principal) -> Mapping[str, Any]:
    """Returns a principal as JSON data, with its claims, because ``authorize`` and the handler may read them.

    Raises:
        NotNow: an authenticator has given it claims that are not JSON. They would be others when they are read.
    """
    sender: dict[str, Any] = {"id": principal.id, "name": principal.name, "kind": principal.kind}
    sender |= {"roles": sorted(principal.roles), "claims": dict(principal.claims)}
    try:
        if _principal(json.loads(json.dumps(sender))) == principal:
            return sender
    except (TypeError, ValueError):
        pass
    raise NotNow(Busy("a step is running, and the event cannot be kept, because the claims of its sender are not JSON"))


def _principal(sender: Mapping[str, Any]) -> Principal:
    roles, claims = frozenset(sender["roles"]), dict(sender["claims"])
    return Principal(sender["id"], sender["name"], sender["kind"], roles, claims)


def _check_same(ref: InstanceRef, token: str, request: SentEvent, fingerprint: str) -> None:
    if request.fingerprint != fingerprint:
        text = f"another request on {ref.id!r} has the outcome {token!r}: use a new idempotency key"
        raise IdempotencyKeyReused(text)


def _entry_of(token: str, entries: Sequence[InboxEntry]) -> InboxEntry | None:
    return next((entry for entry in entries if _token_of(entry) == token), None)


def _token_of(entry: InboxEntry) -> str:
    return entry.name.removeprefix(PREFIX).partition("-")[2]


def _micros_of(entry: InboxEntry) -> int:
    return int(entry.name.removeprefix(PREFIX).partition("-")[0])
