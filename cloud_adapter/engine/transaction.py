"""The only loop that loads an instance, makes decisions on it, and commits them together.

Everything that arrives for an instance is a ``Decision``. Waiting decisions are in a ``Line``, in the order of their
arrival. This module does not depend on the kinds of decisions. ``lanes.py`` decides when to make a batch.

Theory of operation. Each decision of a batch has the same outcome as if it were made alone, because:

* Nothing is answered before the commit on which it depends is complete. This applies to answers and to refusals,
  because a refusal may be caused by an earlier decision of the same batch. Only a refusal that was made before any
  change depends on the stored state alone.
* The changes of a decision that raises an error are undone. If this is not possible in memory, the decisions before it
  are made again without it, on a new load. It then decides first, on the stored state.
* If another process commits first, all decisions of the batch are made again. If a commit fails because of one decision
  (the document is too large, or a field is invalid), each decision is repeated in its own commit, so that one does not
  make another fail.
* A decision that has to wait (``NotNow``) keeps its place. It is made again when something has changed, until its time
  limit.

What breaks this: an answer that is sent before its commit; a decision that changes anything other than the session,
because such a change cannot be undone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from datetime import datetime, timedelta
from types import CoroutineType

from cloud_adapter.document import Instance
from cloud_adapter.engine.awaited import Interrupted, awaited, busy
from cloud_adapter.engine.commits import Committer, Reloaded, Superseded, no_turn
from cloud_adapter.engine.decisions import ByItself, Decision, NotNow
from cloud_adapter.engine.kept_events import KeptEvents
from cloud_adapter.engine.line import Item, Line, Verdict, item_reads, item_wants_events
from cloud_adapter.engine.recent_sessions import RecentSessions
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.errors import Busy, Conflict, DuplicateKey, InstanceNotFound, Unavailable
from workflow_core import NewerVersion, UnknownStatement
from workflow_core.records import record

BATCH_BYTES_MAX = 500_000
"""A batch ends after this many bytes of inputs and answers."""

BATCH_TIME_MAX = timedelta(milliseconds=50)
"""A batch ends after this time, so that others in this process get a turn."""

TURN_TIME_MAX = timedelta(milliseconds=1)
"""Other requests in this process get a turn after this time, also in the middle of a batch."""

TOLD_AT_A_TIME = 10
"""The number of answers that are sent before others get a turn. Each answer lets its request continue."""

LARGE_BATCH = 10
"""From this size on, a batch takes long enough that others get a turn between its parts."""

LAX_BYTES_MIN = 4_000
"""From this size on, fields are checked once for each batch instead of once for each decision."""


@record(eq=False)
class Transactor:
    """Makes and commits the decisions for one instance, one batch at a time.

    Args:
        line: the waiting decisions of the instance. The decisions of a batch stay in it until they have an answer.
        let_others: gives others in this process a turn.
        kept_events: the events of clients that are kept in the inbox.
        recent: the sessions to continue with, if the instance has not changed since.

    Attributes:
        leased: whether the instance had a live lease at the last load.
        session: the instance as of the last commit, if other decisions were waiting or are expected. The next batch
            continues with it. A successful commit proves that no other process had changed the instance. A decision
            that would be answered without a commit is made again, on a new load.
        conflicts: the number of batches that met a conflict one after another.
        current: the stored instance, if it was just read after a conflict.
        commits_since: when the last commit of a large batch began. The lane resets it.
    """

    committer: Committer
    ref: InstanceRef
    line: Line
    let_others: Callable[[], Awaitable[None]]
    kept_events: KeptEvents
    recent: RecentSessions
    leased: bool = False
    session: Session | None = None
    conflicts: int = 0
    current: Instance | None = None
    commits_since: datetime | None = None

    def now(self) -> datetime:
        return self.committer.clock.now()

    async def decide(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Loads the instance, makes the decisions of a batch, and commits. Returns the decisions to make again at once.

        Raises:
            Conflict: another process has committed meanwhile. Nothing that depends on the changes was answered.
        """
        first = batch[0].decision
        wants_events = any(map(item_wants_events, batch))
        anew = first.alone or wants_events
        if anew and self.session is not None:
            self.recent.keep(self.session)
        kept, self.session = None if anew else self.session, None
        current, self.current = self.current, None
        try:
            session = kept or await self._loaded(batch, current, is_sure=wants_events)
            is_assumed = session.is_assumed
            session.conflicts = None if is_assumed else self.conflicts
            if (wants_events or session.may_have_events) and self._is_after_events(session, batch):
                if await self._take_event(session):
                    return batch
                if not session.has_no_events:
                    session = await self.committer.load(self.ref)
        except InstanceNotFound as error:
            for item in batch:
                await self._missing(item, error)
            return ()
        except Conflict:
            raise
        except Exception as error:
            for item in batch:
                item.refuse(error)
            return ()
        self.leased = session.instance.lease is not None and session.leased(self.now())
        is_lax = len(batch) > 1 and len(session.instance.fields) >= LAX_BYTES_MIN
        session.is_lax = is_lax and all(item.decision.lax for item in batch)
        is_large = len(batch) >= LARGE_BATCH
        if is_large:
            await self.let_others()  # loading, deciding and saving a large batch each take long
        held, rest = await self._ask_all(session, batch, is_loaded=not (kept or is_assumed))
        changed = [verdict.item for verdict in held if verdict.has_changed]
        if not changed:
            if all(item.over for item in batch):
                self.session = kept  # the session was only read
            return [*(verdict.item for verdict in held), *rest]
        if is_large:
            await self.let_others()
        try:
            again = await self._commit(session, held, changed=changed, is_large=is_large)
        except Conflict as error:
            if not is_assumed:
                raise
            self.recent.was_wrong(self.ref)
            self.current = error.current if isinstance(error, Reloaded) else None
            return [*(verdict.item for verdict in held), *rest]
        if not again and not first.alone:
            if not (is_large or self.line.waiting()):
                self.recent.keep(session)
            elif session.instance.lease is None and not session.may_have_events:
                self.session = session
        return [*again, *rest]

    async def _loaded(self, batch: Sequence[Item], current: Instance | None, *, is_sure: bool) -> Session:
        """Returns the stored instance for a batch, or what is assumed to be stored, unless it has to be sure."""
        first, recent = batch[0].decision, None
        if first.shows_history or current:
            self.recent.forget(self.ref)  # out of date after the next commit, if not already now
        else:
            is_sure = is_sure or any(map(item_reads, batch))
            recent = await self.recent.take(self.ref, assumes=not is_sure)
        rewrite = first.rewrite if first.alone else None
        return recent or await self.committer.load(self.ref, rewrite, history=first.shows_history, current=current)

    def _is_after_events(self, session: Session, batch: Sequence[Item]) -> bool:
        """Whether events of clients that are in the inbox have to be decided before this batch."""
        return not session.leased(self.now()) and all(item.decision.after_events for item in batch)

    async def _take_event(self, session: Session) -> bool:
        """Decides the first event that is kept in the inbox, in a commit of its own. Returns whether it has left the
        inbox. If none is kept, the session knows it.

        Raises:
            Conflict: another process has committed meanwhile.
        """
        entries = await self.kept_events.first(self.ref)
        session.has_no_events = not entries
        if not entries:
            return False
        decision = await self.kept_events.open(self.ref, entries[0])
        session.has_no_events = len(entries) == 1  # after its commit
        error = None if decision is None else await self._decide_alone(session, decision)
        session.has_no_events = False
        if decision is not None and error is None:
            return True
        if isinstance(error, (Busy, Unavailable, UnknownStatement, NewerVersion)):
            return False
        recording = (
            None if decision is None or error is None else await self.kept_events.without(self.ref, decision, error)
        )
        if recording is None:
            await self.committer.store.discard(entries[:1])
            return True
        again = await self.committer.load(self.ref)
        if again.instance.version != session.instance.version:
            raise Conflict(f"{self.ref} has changed since an event was refused")
        failed = await self._decide_alone(again, recording)
        if isinstance(failed, DuplicateKey):  # an outcome is recorded: the entry was posted again, and came late
            await self.committer.store.discard(entries[:1])
        return failed is None or isinstance(failed, DuplicateKey)

    async def _decide_alone(self, session: Session, decision: Decision) -> BaseException | None:
        """Makes a decision that no request waits for, and commits it. Returns its error.

        Raises:
            Conflict: another process has committed meanwhile.
        """
        item = Item(decision, self.now(), copy_context(), asyncio.get_running_loop().create_future())
        self.line.items.insert(0, item)
        try:
            held, _ = await self._ask_all(session, [item], is_loaded=True)
            changed = [verdict.item for verdict in held if verdict.has_changed]
            if changed:
                await self._commit(session, held, changed=changed, is_large=False)
        finally:
            self.line.items.remove(item)
        if not item.over:
            item.answer.cancel()
            return busy(self.ref) if item.waits is None else item.waits.error
        return item.answer.exception()

    async def _missing(self, item: Item, error: InstanceNotFound) -> None:
        try:
            item.resolve(item.decision.missing(error, self.now()))
        except NotNow as wait:
            await self._put_off(item, wait)
        except Exception as raised:
            item.refuse(raised)

    async def _ask_all(
        self, session: Session, batch: Sequence[Item], *, is_loaded: bool
    ) -> tuple[list[Verdict], Sequence[Item]]:
        """Makes the decisions of a batch on a session, which may have just been loaded. Returns the verdicts to send
        after the commit, and the decisions to repeat. Verdicts that depend on the stored state alone are sent now."""
        loaded_pc = session.execution.pc
        now = began = yielded_at = self.now()
        held: list[Verdict] = []
        size = told = 0
        for number, item in enumerate(batch):
            if item.over:
                continue
            if told >= TOLD_AT_A_TIME:
                await asyncio.sleep(0)
                told = 0
            if number:
                now = self.now()
            if held and (now - began >= BATCH_TIME_MAX or size > BATCH_BYTES_MAX):
                return held, batch[number:]
            if now - yielded_at >= TURN_TIME_MAX:
                await self.let_others()
                yielded_at = self.now()
            mark = session.mark()
            try:
                verdict = await self._hear(session, item, now)
            except ByItself:
                item.single = True
                if session.undo(mark):
                    return held, batch[number:]
                return [], [*(earlier.item for earlier in held), *batch[number:]]
            except NotNow:
                return held, batch[number:]
            except Interrupted:
                item.waits = NotNow(busy(self.ref))
                self.line.put_last(item)
                return [], batch[number + 1 :]
            if verdict is None:
                continue
            if (item.over or verdict.refusal is not None) and not session.undo(mark):
                if held:  # make the earlier decisions again without this one, which then decides on the stored state
                    item.single = True
                    return [], [*(verdict.item for verdict in held), *batch[number:]]
                if not is_loaded:
                    return [], batch[number:]
                verdict.tell()
                return [], batch[number:]  # if nobody receives the error, the instance fails before what came later
            if session.execution.pc == loaded_pc and (is_loaded or item.decision.reads):
                verdict.tell()
                told += 1
            else:
                held.append(verdict)
                for record in item.decision.records:
                    size += len(record.response)
        return held, ()

    async def _hear(self, session: Session, item: Item, now: datetime) -> Verdict | None:
        """Makes a decision. Returns its verdict; None if it has to wait.

        Raises:
            ByItself, Interrupted
            NotNow: it would have to wait, if what is assumed is true.
        """
        before, verdict = session.execution.pc, Verdict(item)
        session.machine.begin(now)
        item.waits = None
        try:
            answer = item.context.run(item.decision.decide, session, now)
            if isinstance(answer, CoroutineType):
                answer = await awaited(self.committer, self.ref, self.line, item, answer, now)
            verdict.answer = answer
            session.check_fields()
            verdict.has_changed = session.execution.pc != before
            if session.execution.error is not None:
                item.context.run(session.note_failure, now)  # in the context of the request, for its log line
        except NotNow as wait:
            if session.is_assumed:
                raise
            await self._put_off(item, wait)
            return None
        except (ByItself, Interrupted):
            raise
        except Exception as error:
            verdict.refusal = error
        except asyncio.CancelledError:
            if not item.over:
                raise
        return verdict

    async def _put_off(self, item: Item, wait: NotNow) -> None:
        item.waits = wait
        if item.has_waited:
            # With many decisions, a round takes long, and queues deliver their tasks again meanwhile. If only the wait
            # after a round refused them, more would arrive than are refused.
            item.refuse_overdue(self.now(), self.committer.options.max_wait)
            return
        item.has_waited = True
        try:
            answer = await item.begin(item.decision.before_waiting())
        except Exception as error:
            item.refuse(error)
        except asyncio.CancelledError:
            if not item.over:
                raise
        else:
            if answer is not None:
                item.resolve(answer)

    async def _commit(
        self, session: Session, held: Sequence[Verdict], *, changed: Sequence[Item], is_large: bool
    ) -> Sequence[Item]:
        """Commits the changes of ``changed`` and sends the verdicts. Returns the decisions to make again at once.

        Raises:
            Conflict
        """
        if is_large:
            self.commits_since = self.now()
        try:
            if changed[0].decision.alone:
                await changed[0].decision.commit(self.committer, session)
            else:
                await self.committer.commit(
                    session,
                    keys=[record for item in changed for record in item.decision.records],
                    taken=[entry for item in changed for entry in item.decision.taken],
                    turn=self.let_others if is_large else no_turn,
                )
        except Superseded:
            pass
        except Conflict:
            raise
        except Exception as error:
            if session.is_assumed and not isinstance(error, Unavailable):
                return [verdict.item for verdict in held]  # the stored state may allow it, or a sender may not see this
            if isinstance(error, DuplicateKey):
                await self._refuse_duplicates(changed, error)
                return [verdict.item for verdict in held]
            if len(changed) == 1 or isinstance(error, Unavailable):
                for item in changed:
                    item.fail(error)
            for item in changed:
                item.single = True
            return [verdict.item for verdict in held]
        for number, verdict in enumerate(held, 1):
            verdict.tell()
            if not number % TOLD_AT_A_TIME:
                await asyncio.sleep(0)
        return [verdict.item for verdict in held if not verdict.item.over]

    async def _refuse_duplicates(self, changed: Sequence[Item], error: DuplicateKey) -> None:
        """Refuses the decisions whose key is already recorded. The store does not report which keys are."""
        keyed = [item for item in changed if item.decision.key is not None]
        for item in keyed:
            assert item.decision.key is not None
            at = self.ref.workflow, self.ref.id, item.decision.key, self.now()
            try:
                known = len(keyed) == 1 or await self.committer.store.load_key(*at) is not None
            except Exception as raised:
                item.refuse(raised)
            else:
                if known:
                    item.refuse(error)
