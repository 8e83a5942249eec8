"""What comes for an instance while other processes commit to it, and needs no answer at once.

A database sustains about one write a second to a document. The results of a wide fan-out would meet each other at its
instance's document again and again. So what meets another process there, or a step that runs for long, is posted: it
becomes a small document of its own beside the instance, which nobody contends for. A collecting task, one per instance
and second, brings the whole inbox in with one commit.

Why nothing is lost and nothing counts twice:

* An entry is posted before its collecting task is created, and both before the request is acknowledged.
* An entry is deleted by the very commit that takes it in. Taken in once more, by whoever has read the inbox before, it
  finds that nobody waits for it any more: each names the wait that it is for, which never comes back.
* A task's name is taken once, so an entry that is posted just after the task of its second has run, by a clock that is
  behind, would be left. A second task comes after every ten seconds, later than clocks may differ, and looks again.
* Recovery finds entries that nobody collects, as after a purge of the queue.

This file knows no kind of entry: whoever posts one registers how it is opened.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import InboxEntry
from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX, Committer
from cloud_adapter.engine.decisions import Contended, Decision, Leased
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.tasks import CollectTask
from cloud_adapter.errors import Busy, InstanceNotFound, Unavailable
from cloud_adapter.observability import logs
from workflow_core import Workflow
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key

COLLECT_MAX = 200
"""How many entries are read at a time."""


class Deferrable(Decision):
    """A decision that can wait in the inbox.

    Attributes:
        kind: how it is opened again.
        stale: nobody waited for it (any more).
    """

    kind: str
    stale: bool = False

    def name(self) -> str:
        """What it is known by in the inbox of its instance: posted twice, it is one entry."""
        raise NotImplementedError

    def content(self) -> Mapping[str, Any]:
        """What it is made of again, as JSON data."""
        raise NotImplementedError


Opener = Callable[[Mapping[str, Any]], Deferrable]


class NotListening(Busy):
    """A paused instance takes nothing in: its inbox is collected when it is unpaused."""


@dataclass(frozen=True, slots=True)
class _Left:
    """An entry that could not be taken in. ``at``: when it can be tried again; None: something else sees to that."""

    at: datetime | None


class Inbox:
    """Brings deferrable decisions in: at once, or by way of the inbox."""

    def __init__(self, committer: Committer, lanes: Lanes) -> None:
        self.committer = committer
        self.lanes = lanes
        self._openers: dict[str, Opener] = {}

    def register(self, kind: str, opener: Opener) -> None:
        """Says how the entries of a kind become decisions again."""
        self._openers[kind] = opener

    async def deliver(self, ref: InstanceRef, decision: Deferrable) -> None:
        """Lets a decision be made, or posts it where the instance is busy. When it returns, the decision is committed
        or will be.

        Raises:
            TooLarge: it had to be posted, and is too large for that.
            InstanceNotFound, Unavailable
        """
        at = self.committer.clock.now()
        if not self.lanes.is_contended(ref):
            decision.defers = True
            try:
                await self.lanes.decide(ref, decision)
                return
            except (Contended, Unavailable):
                pass  # if it was committed all the same, nobody will want the entry
            except Leased as error:
                at = error.until
        await self._post(ref, decision, at)

    async def _post(self, ref: InstanceRef, decision: Deferrable, at: datetime) -> None:
        now = self.committer.clock.now()
        body = json.dumps({"kind": decision.kind, **decision.content()}, ensure_ascii=False)
        entry = InboxEntry(ref.workflow, ref.id, decision.name(), body, now)
        for attempt in range(WRITE_ATTEMPTS_MAX):
            try:
                await self.committer.store.post(entry)
                break
            except Unavailable:
                if attempt + 1 == WRITE_ATTEMPTS_MAX:
                    raise
                await self.committer.pause(attempt)
        await self.committer.queue.create(CollectTask.after(ref.workflow, ref.id, max(now, at), now))
        logs.transition("posted", ref.workflow, ref.id, statement=decision.statement or "", detail=decision.kind)

    async def run(self, ref: InstanceRef, body: CollectTask) -> None:
        """Does what a collecting task asks for.

        Raises:
            Unavailable: try again.
        """
        now, queue = self.committer.clock.now(), self.committer.queue
        if now < body.due:
            await queue.create(body.later(body.due, now, body.pc))  # early, by the clock of the queue
            return
        again = await self.collect(ref)
        if again is not None:
            now = self.committer.clock.now()
            await queue.create(body.later(max(again, now), now, body.pc))
        if not body.is_last:
            await queue.create(body.last(self.committer.clock.now()))

    async def collect(self, ref: InstanceRef) -> datetime | None:
        """Takes an instance's inbox in. Gives when what is left is to be tried again; None: that is not needed.

        Raises:
            DamagedDocument, Unavailable
            WorkflowError: the instance cannot move. What it is about stays in the inbox.
        """
        store = self.committer.store
        while entries := await store.inbox(ref.workflow, ref.id, COLLECT_MAX):
            outcomes = await asyncio.gather(*(self._take(ref, entry) for entry in entries), return_exceptions=True)
            stale = [entry for entry, outcome in zip(entries, outcomes, strict=True) if outcome is True]
            if stale:
                await store.discard(stale)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            left = [outcome for outcome in outcomes if isinstance(outcome, _Left)]
            if left:
                return min((entry.at for entry in left if entry.at is not None), default=None)
            if len(entries) < COLLECT_MAX:
                return None
        return None

    async def _take(self, ref: InstanceRef, entry: InboxEntry) -> _Left | bool:
        """Takes an entry in. True: nobody wants it, it is to be discarded; False: a commit has deleted it."""
        try:
            decision = self._open(entry)
        except (KeyError, TypeError, ValueError) as error:
            about = {"level": logging.ERROR, "error": error_text(error)[:500]}
            logs.transition("damaged inbox entry", entry.workflow, entry.id, **about)  # type: ignore[arg-type]
            return True
        decision.taken = (entry,)
        try:
            await self.lanes.decide(ref, decision)
            return decision.stale
        except InstanceNotFound:
            return True
        except NotListening:
            return _Left(None)
        except Leased as error:
            return _Left(error.until)
        except Busy:
            return _Left(self.committer.clock.now())

    def _open(self, entry: InboxEntry) -> Deferrable:
        data = json.loads(entry.body)
        return self._openers[data["kind"]](data)

    async def recover(self, workflows: Mapping[str, type[Workflow]], before: datetime, salt: str, limit: int) -> int:
        """Creates collecting tasks for the inboxes that have an entry from ``before``. Gives how many.

        Raises:
            Unavailable: try again.
        """
        now = self.committer.clock.now()
        found: Sequence[tuple[str, str]] = await self.committer.store.uncollected(before, limit)
        served = [(workflow, id) for workflow, id in found if workflow in workflows]
        for workflow, id in served:
            task = CollectTask(workflow=workflow, id=id, pc=0, created_at=now, due=now, is_last=True)
            await self.committer.queue.create(task.task(salt))
        return len(served)


def entry_name(kind: str, *about: object) -> str:
    """The name of an entry."""
    return f"{kind}-{stable_key(*about)}"


UNCOLLECTED_AFTER = timedelta(seconds=30)
"""An entry that is older is missed by its collecting tasks."""
