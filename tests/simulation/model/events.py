"""Events, and the responses to their senders.

The rule: an event takes effect only when the executor accepts or buffers it, and at most once, even if it is sent
several times with one key. Buffered events of one name are handled in the order in which they arrived. The model
records which events were accepted at each time, so that it can check a rejection afterwards: an event may be rejected
only if it was not accepted at some moment between the request and the response.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import Instance, KeyRecord
from cloud_adapter.engine.idempotency import sent_key
from cloud_adapter.history import HistoryEntry
from tests.simulation.model.executor import Offer
from tests.simulation.model.leases import DELIVERIES, is_call
from tests.simulation.model.violations import Violation, require
from tests.simulation.model.writes import WITHOUT_EFFECT, is_outcome

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.model.writes import Move
    from tests.simulation.requests import Call

KEPT = object()
"""The output of an event that was kept, and is handled later."""

Accepted = frozenset[tuple[str, str, str]]
"""Event, thread and wait of what is accepted; thread and wait are empty for what would be kept."""


class Events:
    """The events of one instance.

    Attributes:
        states: since when which events were accepted, the first of these when the instance was created.
        accepted_at: the same by pc.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.states: list[tuple[float, Accepted]] = []
        self.accepted_at: dict[int, Accepted] = {}
        self.outcomes: dict[str, KeyRecord] = {}

    @property
    def keepable(self) -> list[str]:
        """The events that are kept where nobody waits for them."""
        return sorted(self.model.executor.buffered) if self.model.exists else []

    def recorded(self, moves: Sequence[Move], keys: Sequence[KeyRecord], new: Instance) -> None:
        """The keys of requests are recorded: they must be new, or have expired."""
        until = {sent_key(key.key): key.expires_at for key in keys}
        assert new.execution.updated_at is not None
        calls: list[Any] = [act.actor for act, _ in moves if is_call(act.actor) and act.kind != "created"]
        self.outcomes = {key.key.partition("\t")[2]: key for key in keys if is_outcome(key)}
        self.model.world.kept.check_outcomes(self.model.id, calls, list(self.outcomes.values()))
        for act, _ in moves:
            request = getattr(act.actor, "request", None)
            if request is not None and request.key is not None and act.kind not in WITHOUT_EFFECT:
                if request.group.known_until is not None:
                    self.model.world.say("the key %s is used anew", request.key)
                request.group.recorded(until[request.key], new.execution.updated_at)

    def settled(self) -> None:
        """What is accepted has changed; only who is decided next can see it, unless a commit follows."""
        self.states.append((self.model.world.timeline.now, self.model.executor.accepts()))

    def committed(self, pc: int) -> None:
        """What is accepted is the same until the next commit, and everybody can see it."""
        self.accepted_at[pc] = self.states[-1][1]

    def accepted_all_along(self, since: float, event: str, thread_id: str | None, wait_id: str | None) -> bool:
        """Whether the event was accepted at each moment since then."""
        always = bool(self.states) and self.states[0][0] <= since
        for i, (_, accepts) in enumerate(self.states):
            if i + 1 < len(self.states) and self.states[i + 1][0] < since:
                continue
            always = always and any(
                name == event and thread_id in (None, thread) and wait_id in (None, wait)
                for name, thread, wait in accepts
            )
        return always

    def created(self, actor: Any) -> Any:
        """A client has created the instance: gives its first fields."""
        actor.request.group.commits.append((actor, None))
        return json.loads(actor.request.body or b"{}")

    def follow(self, actor: Any, entry: HistoryEntry) -> None:
        kept = self.model.world.kept
        if is_call(actor):
            kept.decide(self.model.id, actor)
        if entry.kind == "event rejected" and is_call(actor):
            self.model.executor.pc += 1
            require(actor.token in self.outcomes, f"the refusal of {actor.name} is not recorded")
            self._check_refusal(actor, entry.error)
        elif entry.kind == "buffered":
            self._keep(actor, entry.statement)
        elif entry.kind in DELIVERIES and not is_call(actor):
            message = entry.error.partition(": ")[2]
            self.model.executor.deliver_kept(entry.thread, entry.statement, entry.kind, message)
        else:
            require(
                entry.kind == "event", f"{actor.name} has sent an event, and the history has an entry {entry.kind!r}"
            )
            self._handle(actor, entry.statement, entry.thread)

    def _keep(self, actor: Any, event: str) -> None:
        """An event came that nobody waits for."""
        require(is_call(actor), f"{actor.name} has kept the event {event!r}")
        request, executor = actor.request, self.model.executor
        require(request.event == event, f"the history tells of {event!r}, and {request.event!r} was sent")
        require(executor.keeps(event) and not executor.paused, f"{event!r} is kept, which is not to be")
        is_kept, is_buffered = hasattr(actor, "token"), getattr(actor, "is_buffered", False)
        require(is_kept or len(executor.buffer) < executor.kept_max, f"more than {executor.kept_max} events are kept")
        require(request.thread_id is request.wait_id is None, f"{request.what} was for a certain wait, and is kept")
        waiting = [name for _, _, name in executor.accepted() if name == event]
        require(is_buffered or not waiting, f"{event!r} is kept, and could be handled")
        executor.keep(event, json.loads(request.body))
        self._take_effect(actor, KEPT)
        if is_kept:
            self.model.world.kept.check_outcome(actor, None, self.outcomes[actor.token])

    def _handle(self, actor: Any, event: str, thread_id: str) -> None:
        request = actor.request
        require(request.event == event, f"the history tells of {event!r}, and {request.event!r} was sent")
        thread, case, name = self.offer(event, thread_id)
        require(not self.model.executor.comes_later(case), f"{request.what} has overtaken an earlier one")
        body = json.loads(request.body) if request.body else None
        output = self.model.executor.handle(thread, case, name, body)
        self._take_effect(actor, output)
        if hasattr(actor, "token"):
            expected = json.loads(json.dumps([output]))[0]
            answer = json.loads(self.outcomes[actor.token].response)["answer"]
            require(json.loads(answer) == expected, f"the outcome of {actor.name} is {answer}, not {output!r}")

    def repeated(self, actor: Any) -> None:
        """An event that was kept has taken effect before, under its key: it has the same outcome."""
        self.model.world.kept.decide(self.model.id, actor)
        outputs = [output for _, output in (*actor.request.group.commits, *actor.request.group.earlier)]
        known = ["" if output is KEPT else json.loads(json.dumps([output]))[0] for output in outputs]
        answer = json.loads(self.outcomes[actor.token].response)["answer"]
        require((answer and json.loads(answer)) in known, f"the outcome of {actor.name} is {answer}, not {known}")

    def _check_refusal(self, actor: Any, error: str) -> None:
        """An event that was kept is refused: it needs a reason, as the refusal of any event."""
        reason, request, world = error.partition(":")[0], actor.request, self.model.world
        same = [call for call, _ in request.group.commits if call.request.body == request.body]
        if not request.group.may_have_expired(world.now + timedelta(seconds=2 * world.settings.skew)):
            require(not same, f"{actor.name} has taken effect, and is refused: {error}")
        if reason == "EventNotAccepted":
            is_accepted = any(
                name == request.event and request.thread_id in (None, thread) and request.wait_id in (None, wait)
                for name, thread, wait in self.model.executor.accepts()
            )
            require(not is_accepted, f"{actor.name} is refused, and is accepted")
        else:
            known = reason in ("EventRejected", "UserCodeError", "InvalidInput", "DuplicateThread", "TooLarge")
            known = known or (reason == "IdempotencyKeyReused" and bool(request.group.requests))
            known = known or world.settings.has_mistakes
            require(known, f"{actor.name} is refused: {error}")

    def offer(self, event: str, thread_id: str) -> Offer:
        """What the executor accepts of that name in that thread."""
        offer = self.model.executor.offer(event, thread_id)
        if offer is None:
            raise Violation(f"{event!r} of thread {thread_id!r} has happened, and is not waited for")
        return offer

    @staticmethod
    def _take_effect(actor: Call, output: Any) -> None:
        group = actor.request.group
        require(not group.commits, f"{actor.request.what} has taken effect twice")
        require(not actor.refused, f"{actor.request.what} has taken effect though it was refused")
        group.commits.append((actor, output))
