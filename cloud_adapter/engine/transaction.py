"""The one loop that loads an instance, lets what has come for it decide, and commits once for all.

Whatever comes for an instance is a ``Decision``; those that wait stand in a ``Line``, in the order of their arrival.
This file knows no kind of decision, and not when a batch is due: see ``lanes.py``.

Theory of operation. Each decision of a batch gets what it would get alone, because:

* Nothing is answered before the commit that it rests on has landed: neither an answer nor a refusal, as a refusal may
  be due to what an earlier decision of the same batch did. Only what was refused before anything had changed rests on
  the stored state itself.
* A decision that raises is taken back. Where that cannot be done in memory, those before it are made again without it,
  on a new load; then it decides first, on what is stored.
* A commit that loses to another process is decided anew, all of it. One that fails for what one decision did (it has
  become too large, a field is invalid) is repeated with each decision by itself, so that one does not fail another.
* A decision that has to wait (``NotNow``) keeps its place, and is asked again when something has changed, until its
  time is over.

What breaks this: an answer that is told before its commit, and a decision that changes anything but the session, which
cannot be taken back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any

from cloud_adapter.engine.commits import Committer, Superseded, no_turn
from cloud_adapter.engine.decisions import ByItself, NotNow
from cloud_adapter.engine.line import Item, Line, Verdict
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.errors import Busy, Conflict, DuplicateKey, InstanceNotFound, Unavailable

BATCH_BYTES_MAX = 500_000
"""After so many bytes of inputs and answers a batch is full."""

BATCH_SECONDS_MAX = 0.05
"""After that time a batch is full: others in this process want a turn."""

TURN_SECONDS_MAX = 0.002
"""After that time other requests in this process have a turn, in the middle of a batch too."""

TOLD_AT_A_TIME = 10
"""So many answers are told before others have a turn: each makes its request go on."""

LARGE_BATCH = 10
"""A batch of so many takes its time: others have a turn between its parts."""

LAX_BYTES_MIN = 4_000
"""From this size of the fields on, they are checked once a batch."""


class Interrupted(Exception):
    """A handler is to be called again later."""


@dataclass(eq=False)
class Transactor:
    """Decides and commits for one instance, a batch at a time.

    Args:
        line: what waits for the instance; those of a batch stand in it until they have an answer.
        let_others: gives others in this process a turn.

    Attributes:
        leased: whether somebody held a live lease when it was loaded last.
        session: the instance as it was committed last, if others were waiting by then, or are about to come. The next
            batch goes on with it. What it commits proves that nobody else had changed it; what would answer without a
            commit is asked again, on a new load.
    """

    committer: Committer
    ref: InstanceRef
    line: Line
    let_others: Callable[[], Awaitable[None]]
    leased: bool = False
    session: Session | None = None

    def now(self) -> datetime:
        return self.committer.clock.now()

    async def decide(self, batch: Sequence[Item]) -> Sequence[Item]:
        """Loads the instance, lets a batch decide, and commits. Gives those that are to be asked again at once.

        Raises:
            Conflict: another process has committed meanwhile; nobody was told anything that rests on what was changed.
        """
        first = batch[0].decision
        kept, self.session = None if first.alone else self.session, None
        try:
            session = kept or await self.committer.load(self.ref, first.rewrite if first.alone else None)
        except InstanceNotFound as error:
            for item in batch:
                await self._missing(item, error)
            return ()
        except Exception as error:
            for item in batch:
                item.refuse(error)
            return ()
        self.leased = session.leased(self.now())
        is_lax = len(session.instance.fields) >= LAX_BYTES_MIN and all(item.decision.lax for item in batch)
        session.is_lax = len(batch) > 1 and is_lax
        is_large = len(batch) >= LARGE_BATCH
        if is_large:
            await self.let_others()  # loading, deciding and saving much take their time each
        held, rest = await self._ask_all(session, batch, is_loaded=kept is None)
        if not any(verdict.has_changed for verdict in held):
            if all(item.over for item in batch):
                self.session = kept  # it was only read
            return [*(verdict.item for verdict in held), *rest]
        if is_large:
            await self.let_others()
        again = await self._commit(session, held, is_large=is_large)
        if not again and not first.alone and session.instance.lease is None and (is_large or self.line.waiting()):
            self.session = session
        return [*again, *rest]

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
        """Lets a batch decide. Gives what is to be told once the changes are committed, and who is to be asked again.
        What rests on the stored state alone is told at once.

        Args:
            is_loaded: the session is what is stored, as far as can be known.
        """
        loaded_pc, yielded_at = session.execution.pc, self.now()
        until = yielded_at + timedelta(seconds=BATCH_SECONDS_MAX)
        held: list[Verdict] = []
        size = told = 0
        for number, item in enumerate(batch):
            if item.over:
                continue
            if told >= TOLD_AT_A_TIME:
                await asyncio.sleep(0)
                told = 0
            now = self.now()
            if held and (now >= until or size > BATCH_BYTES_MAX):
                return held, batch[number:]
            if now - yielded_at >= timedelta(seconds=TURN_SECONDS_MAX):
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
            except Interrupted:
                item.waits = NotNow(self.busy())
                self.line.put_last(item)
                return [], batch[number + 1 :]
            if verdict is None:
                continue
            if (item.over or verdict.refusal is not None) and not session.undo(mark):
                if held:  # they are made again without this one, and then it decides on what is stored
                    item.single = True
                    return [], [*(verdict.item for verdict in held), *batch[number:]]
                if not is_loaded:
                    return [], batch[number:]
                verdict.tell()
                return [], batch[number + 1 :]
            if session.execution.pc == loaded_pc and (is_loaded or item.decision.reads):
                verdict.tell()
                told += 1
            else:
                held.append(verdict)
                size += len(item.decision.record.response) if item.decision.record is not None else 0
        return held, ()

    async def _hear(self, session: Session, item: Item, now: datetime) -> Verdict | None:
        """What a decision comes to; None if it has to wait.

        Raises:
            ByItself, Interrupted
        """
        before, verdict = session.execution.pc, Verdict(item)
        session.machine.begin(now)
        item.waits = None
        try:
            verdict.answer = await self._ask(item, session, now)
            session.check_fields()
            verdict.has_changed = session.execution.pc != before
            item.context.run(session.note_failure, now)  # its line in the log belongs to this request
        except NotNow as wait:
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

    async def _ask(self, item: Item, session: Session, now: datetime) -> Any:
        answer = item.context.run(item.decision.decide, session, now)
        if not isawaitable(answer):
            return answer
        task = self._begin(item, answer)
        try:
            while not task.done():
                await self._until_more(task, item)
                if not task.done() and any(other.decision.urgent and not other.over for other in self.line.items):
                    raise Interrupted
            return await task
        finally:
            task.cancel()

    async def _until_more(self, task: asyncio.Task[Any], item: Item) -> None:
        """Waits until a handler has ended or something new has come, or tells others that they have waited too long."""
        max_wait, now = self.committer.options.max_wait, self.now()
        behind = [other for other in self.line.items if other is not item and not other.over]
        for other in behind:
            if other.since + max_wait <= now:
                other.refuse(self.busy())
        seconds = [(other.since + max_wait - now).total_seconds() for other in behind if not other.over]
        self.line.woken.clear()
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.line.woken.wait())]
        waits += [asyncio.ensure_future(self.committer.clock.sleep(min(seconds)))] if seconds else []
        try:
            await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _begin(self, item: Item, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Begins what is done for a request; it is interrupted when that is cancelled."""

        async def awaited() -> Any:
            return await work

        task = asyncio.get_running_loop().create_task(awaited(), context=item.context)
        item.answer.add_done_callback(lambda _: task.cancel())
        return task

    def busy(self) -> Busy:
        """The error for those who have waited for too long."""
        return Busy(f"{self.ref} is busy: many others ask for it; try again")

    async def _put_off(self, item: Item, wait: NotNow) -> None:
        item.waits = wait
        if item.has_waited:
            return
        item.has_waited = True
        try:
            answer = await self._begin(item, item.decision.before_waiting())
        except Exception as error:
            item.refuse(error)
        except asyncio.CancelledError:
            if not item.over:
                raise
        else:
            if answer is not None:
                item.resolve(answer)

    async def _commit(self, session: Session, held: Sequence[Verdict], *, is_large: bool) -> Sequence[Item]:
        """Commits what was changed, and tells everybody. Gives those that are to be asked again at once.

        Raises:
            Conflict
        """
        changed = [verdict.item for verdict in held if verdict.has_changed]
        try:
            if changed[0].decision.alone:
                await changed[0].decision.commit(self.committer, session)
            else:
                records = (item.decision.record for item in changed)
                await self.committer.commit(
                    session,
                    keys=[record for record in records if record is not None],
                    taken=[entry for item in changed for entry in item.decision.taken],
                    turn=self.let_others if is_large else no_turn,
                )
        except Superseded:
            pass
        except Conflict:
            raise
        except DuplicateKey as error:
            await self._refuse_duplicates(changed, error)
            return [verdict.item for verdict in held]
        except Exception as error:
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
        return ()

    async def _refuse_duplicates(self, changed: Sequence[Item], error: DuplicateKey) -> None:
        """Tells those whose key is recorded already; a store does not say which it is."""
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
