"""Events that were kept in the inbox: who has sent them, and what must become of them.

The rule: an event that is answered as kept is decided once: it takes effect, or is refused. It is decided before every
event that was sent after its answer. Its outcome tells what has become of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from cloud_adapter.document import InboxEntry, KeyRecord
from cloud_adapter.engine import kept_events
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.events import SendEvent
from cloud_adapter.engine.kept_events import PREFIX, KeptEvent, KeptEvents
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.errors import Conflict
from tests.simulation.actors import CURRENT
from tests.simulation.model.sizes import check_entry_size
from tests.simulation.model.violations import require
from tests.simulation.requests import Call

if TYPE_CHECKING:
    from tests.simulation.world import World

OUTCOME = "outcome\t"


@dataclass(eq=False, kw_only=True)
class KeptCall(Call):
    """The decision about an event that was kept.

    Attributes:
        token: identifies the event.
        is_buffered: it is only added to the buffer.
    """

    token: str
    is_buffered: bool


class Kept:
    """The events of one run that were kept.

    Attributes:
        authors: the calls that have kept each event first, by the instance and the token of the event.
        answered: when their senders were told so.
        decided: those that were decided.
        recorded_outcomes: what was recorded of them: an answer, or an error; and until when.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.authors: dict[tuple[str, str], Call] = {}
        self.answered: dict[tuple[str, str], float] = {}
        self.decided: set[tuple[str, str]] = set()
        self.recorded_outcomes: dict[tuple[str, str], tuple[dict[str, Any], datetime]] = {}

    def answer(self, call: Call) -> None:
        """A client is told that its event was kept."""
        mine = [at for at, author in self.authors.items() if author.request.group is call.request.group]
        require(mine, f"{call.name} is told that its event is kept, and it is not")
        for at in mine:
            self.answered.setdefault(at, self.world.timeline.now)

    def decide(self, id: str, call: Call) -> None:
        """An event is decided, in a write that has landed."""
        for at, told in self.answered.items():
            earlier = at[0] == id and at not in self.decided and told < call.started
            if earlier and not (isinstance(call, KeptCall) and at[1] == call.token):
                require(False, f"{call.name} has overtaken the event of {self.authors[at].name}, kept since {told}")
        if isinstance(call, KeptCall):
            require((id, call.token) not in self.decided, f"{call.name} is decided twice")
            self.decided.add((id, call.token))

    def outcome(self, id: str, token: str) -> dict[str, Any] | None:
        """What has become of an event; None: it waits."""
        return self.recorded_outcomes.get((id, token), (None, None))[0]

    def is_forgotten(self, id: str, token: str, now: datetime) -> bool:
        """Whether a process may no longer know what has become of an event."""
        until = self.recorded_outcomes.get((id, token), (None, None))[1]
        return until is not None and until <= now + timedelta(seconds=2 * self.world.settings.skew)

    def check_outcomes(self, id: str, calls: list[Call], records: list[KeyRecord]) -> None:
        """The outcomes that a write records are those of the events that it decides."""
        kept = sorted(call.token for call in calls if isinstance(call, KeptCall))
        for record in records:
            outcome = json.loads(record.response)
            known = {name: outcome[name] for name in ("answer", "error") if name in outcome}
            self.recorded_outcomes[id, record.key.removeprefix(OUTCOME)] = known, record.expires_at
        require(kept == sorted(record.key.removeprefix(OUTCOME) for record in records), f"outcomes of {kept}")

    def check_outcome(self, call: KeptCall, output: Any, record: KeyRecord) -> None:
        """What is recorded of an event is what has become of it."""
        outcome = json.loads(record.response)
        expected = "" if output is None else json.dumps(output)
        require("answer" in outcome and outcome["answer"] == expected, f"the outcome of {call.name} is {outcome}")

    def check_rest(self) -> None:
        """Each event that was answered as kept was decided, unless its instance is paused."""
        for at in self.answered.keys() - self.decided:
            paused = self.world.models[at[0]].executor.paused
            kept = any(name.endswith(at[1]) for _, id, name in self.world.database.entries if id == at[0])
            require(paused and kept, f"the event of {self.authors[at].name} is lost")

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records inside the block who has sent what is decided."""
        post, withhold = Committer.post, SendEvent._keep
        keep, take, decide_alone = KeptEvents.keep, Transactor._take_event, Transactor._decide_alone
        finish, buffer, refuse = KeptEvent._finish, KeptEvent._buffer, kept_events._WithoutEffect.decide

        async def withholding(sending: SendEvent, *rest: Any) -> bytes:
            CURRENT.get().traffic.withheld += 1
            return await withhold(sending, *rest)

        async def keeping(events: KeptEvents, ref: Any, sending: Any, lease: Any) -> bool:
            CURRENT.get().traffic.kept += 1
            return await keep(events, ref, sending, lease)

        async def posting(committer: Committer, entry: InboxEntry) -> None:
            actor = CURRENT.get()
            if entry.name.startswith(PREFIX):
                assert isinstance(actor, Call)
                self.authors.setdefault((entry.id, kept_events._token_of(entry)), actor)
            check_entry_size(self.world.vault.entry(entry), len(actor.request.body) if isinstance(actor, Call) else 0)
            await post(committer, entry)

        async def taking(transactor: Transactor, session: Any) -> bool:
            traffic = CURRENT.get().traffic
            traffic.looked += 1
            failed = traffic.failed["commit"]
            try:
                return await take(transactor, session)
            except Conflict:  # without a commit: the read that comes before it has shown another version
                traffic.unrecorded += traffic.failed["commit"] == failed
                raise

        async def deciding_alone(transactor: Transactor, session: Any, decision: Any) -> BaseException | None:
            error = await decide_alone(transactor, session, decision)
            is_unrecorded = isinstance(decision, kept_events._WithoutEffect) and error is not None
            CURRENT.get().traffic.unrecorded += is_unrecorded
            return error

        def of_sender(method: Any, event: Any) -> Any:
            def called(decision: Any, session: Any, *rest: Any) -> Any:
                kept = event(decision)
                if not isinstance(kept, KeptEvent):
                    return method(decision, session, *rest)
                token = kept.request.outcome
                author = self.authors[session.instance.id, token]
                about: Any = {"request": author.request, "started": author.started, "seen_pc": author.seen_pc}
                about["principal"] = author.principal
                process, name = CURRENT.get().process, f"kept {author.name}"
                call = KeptCall(
                    process, name, token=token, is_buffered=kept.is_buffered, refused=author.refused, **about
                )
                before = CURRENT.set(call)
                try:
                    return method(decision, session, *rest)
                finally:
                    CURRENT.reset(before)

            return called

        def itself(decision: Any) -> Any:
            return decision

        with (
            patch.object(SendEvent, "_keep", withholding),
            patch.object(KeptEvents, "keep", keeping),
            patch.object(Committer, "post", posting),
            patch.object(Transactor, "_take_event", taking),
            patch.object(Transactor, "_decide_alone", deciding_alone),
            patch.object(KeptEvent, "_finish", of_sender(finish, itself)),
            patch.object(KeptEvent, "_buffer", of_sender(buffer, itself)),
            patch.object(kept_events._WithoutEffect, "decide", of_sender(refuse, lambda decision: decision.kept)),
        ):
            yield
