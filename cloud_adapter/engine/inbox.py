"""The inbox of an instance: results that arrive while other processes commit to it, and that need no immediate answer.

A database sustains about one write a second to a document. The results of a wide fan-out would conflict with each other
on their instance's document again and again. If a result conflicts with another process, or with a step that runs for
long, it is therefore posted: it becomes a small document beside the instance, for which no other process competes. A
collecting task, one for each instance and second, processes the whole inbox with one commit.

Why nothing is lost and nothing counts twice:

* An entry is posted before its collecting task is created. Both are done before the request is acknowledged.
* The commit that processes an entry also deletes it. Another process may have read the inbox earlier and process the
  entry again. It then finds that the instance no longer waits for it: each entry names its wait, whose id is never used
  again.
* A queue accepts the name of a task only once. An entry that is posted just after the task of its second has run,
  because a clock is behind, would therefore remain. A second task follows for each ten seconds, later than clocks may
  differ, and checks again.
* Recovery finds entries that are not collected, for example after a purge of the queue.

This module does not depend on the kinds of entries. The code that posts a kind of entry registers how to open it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import InboxEntry
from cloud_adapter.engine.commits import Committer, concurrently
from cloud_adapter.engine.decisions import Contended, Deferrable, Leased, NotListening
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.tasks import CollectTask
from cloud_adapter.errors import Busy, InstanceNotFound, SecretsUnreadable, Unavailable
from cloud_adapter.observability import logs
from workflow_core import NewerVersion, UnknownStatement, Workflow, WorkflowError
from workflow_core.error_texts import error_text
from workflow_core.events import stable_key
from workflow_core.records import record

COLLECT_MAX = 200
"""The most entries that are read at a time."""


ENTRIES_MAX = 10_000
"""The most entries that recovery reads of one range of ages."""

RECENT = timedelta(minutes=10)
OLDEST = 32 * RECENT


Opener = Callable[[Mapping[str, Any]], Deferrable]


@record(frozen=True, slots=True)
class _Left:
    """An entry that could not be processed yet. ``at`` is the time of the next attempt; None: an unpause triggers
    it."""

    at: datetime | None


class Inbox:
    """Delivers deferrable decisions, either immediately or through the inbox."""

    def __init__(self, committer: Committer, lanes: Lanes) -> None:
        self.committer = committer
        self.lanes = lanes
        self._openers: dict[str, Opener] = {}
        self._recovered_at: datetime | None = None

    def register(self, kind: str, opener: Opener) -> None:
        """Registers how entries of a kind are converted back to decisions."""
        self._openers[kind] = opener

    async def deliver(self, ref: InstanceRef, decision: Deferrable) -> None:
        """Makes a decision, or posts it if the instance is busy. After this call, the decision is committed or will be.

        Raises:
            Busy: the decision was made, and refused because of the stored state. It has to be delivered again later.
            TooLarge: the decision had to be posted, but is too large for the inbox.
            InstanceNotFound, Unavailable
        """
        at = self.committer.clock.now()
        if not self.lanes.is_contended(ref):
            decision.defers = True
            try:
                await self.lanes.decide(ref, decision)
                return
            except (Contended, Unavailable):
                pass  # if the decision was committed after all, its entry will be stale
            except (NewerVersion, UnknownStatement, SecretsUnreadable):
                pass  # a process with newer code or keys can take it; what it is about must not be done again
            except Leased as error:
                at = error.until
        await self._post(ref, decision, at)

    async def _post(self, ref: InstanceRef, decision: Deferrable, at: datetime) -> None:
        now = self.committer.clock.now()
        body = json.dumps({"kind": decision.kind, **decision.content()}, ensure_ascii=False)
        name, secrets = decision.name(), self.committer.secrets
        sealed = await secrets.sealed_text(body, ref.workflow, ref.id, "inbox", name, is_secret=decision.is_secret)
        await self.committer.post(InboxEntry(ref.workflow, ref.id, name, sealed, now))
        await self.committer.queue.create(CollectTask.after(ref.workflow, ref.id, max(now, at), now))
        logs.transition("posted", ref.workflow, ref.id, statement=decision.statement or "", detail=decision.kind)

    async def run(self, ref: InstanceRef, body: CollectTask) -> None:
        """Runs a collecting task.

        Raises:
            Unavailable: try again.
        """
        now, queue = self.committer.clock.now(), self.committer.queue
        if now < body.due:
            await queue.create(body.later(body.due, now, body.pc))  # early, because the queue's clock is ahead
            return
        again = await self.collect(ref)
        if again is not None:
            now = self.committer.clock.now()
            await queue.create(body.later(max(again, now), now, body.pc))
        if not body.is_last:
            await queue.create(body.last(self.committer.clock.now()))

    async def collect(self, ref: InstanceRef) -> datetime | None:
        """Processes an instance's inbox. Returns when to try the remaining entries again; None: this is not needed.

        Raises:
            DamagedDocument, Unavailable
            WorkflowError: the instance cannot move. The entry stays in the inbox.
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

    async def try_collect(self, ref: InstanceRef) -> None:
        """Processes an instance's inbox. If this fails, recovery collects the rest later."""
        try:
            await self.collect(ref)
        except WorkflowError as error:
            text = error_text(error)[:500]
            logs.transition("inbox not collected", ref.workflow, ref.id, level=logging.WARNING, error=text)

    async def _take(self, ref: InstanceRef, entry: InboxEntry) -> _Left | bool:
        """Processes an entry. Returns True if the entry is stale and has to be discarded, False if a commit has deleted
        it, or ``_Left`` if it could not be processed yet."""
        try:
            decision = await self._open(entry)
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

    async def _open(self, entry: InboxEntry) -> Deferrable:
        body = await self.committer.secrets.opened_text(entry.body, entry.workflow, entry.id, "inbox", entry.name)
        data = json.loads(body)
        return self._openers[data["kind"]](data)

    async def recover(
        self,
        workflows: Mapping[str, type[Workflow]],
        before: datetime,
        salt: str,
        limit: int,
        *,
        everything: bool,
    ) -> int:
        """Creates collecting tasks for the inboxes that have an entry older than ``before``. Returns how many.

        An entry that cannot be processed, because its instance is paused or cannot move, is looked at less often the
        older it is. Otherwise, such entries would be read by each call, and hide newer ones.

        Args:
            everything: looks at entries of all ages, as the first call does.

        Raises:
            Unavailable: try again.
        """
        now, queue = self.committer.clock.now(), self.committer.queue
        found: dict[tuple[str, str], None] = {}
        last = None if everything else self._recovered_at
        for since, until in [(None, before)] if last is None else ages(last, now, before):
            found |= dict.fromkeys(await self.committer.store.uncollected(until, ENTRIES_MAX, since=since))
        served = [(workflow, id) for workflow, id in found if workflow in workflows][:limit]

        async def collect(owner: tuple[str, str]) -> None:
            workflow, id = owner
            task = CollectTask(workflow=workflow, id=id, pc=0, created_at=now, due=now, is_last=True)
            await queue.create(task.task(salt))

        await concurrently(collect, served, queue.calls_max)
        self._recovered_at = now
        return len(served)


def ages(last: datetime, now: datetime, before: datetime) -> Sequence[tuple[datetime | None, datetime]]:
    """Returns the ranges of times in which the entries were posted that recovery looks at now: always those of the last
    ten minutes, those that are up to twice as old every ten minutes, and so on; those that are older than 320 minutes
    every 320 minutes.

    Args:
        last: when it was called last. It may be called at any times: what came due since then is looked at.
    """
    ranges: list[tuple[datetime | None, datetime]] = [(now - RECENT, before)]
    age = RECENT
    while age <= OLDEST:
        if now.timestamp() // age.total_seconds() > last.timestamp() // age.total_seconds():
            ranges.append((now - 2 * age if age < OLDEST else None, now - age))
        age *= 2
    return ranges


def entry_name(kind: str, *about: object) -> str:
    """Returns the name of an entry."""
    return f"{kind}-{stable_key(*about)}"


UNCOLLECTED_AFTER = timedelta(seconds=30)
"""If an entry is older than this, its collecting tasks have missed it."""
