"""The one loop that loads an instance, decides what becomes of it, and commits: one lane per instance in a process.

Whatever comes for an instance (events, timers, results, ends of children, operations, a lease to be taken) is a
``Decision``. Decisions wait in their instance's lane in the order of their arrival; one drainer loads the instance
once, lets as many of them decide as wait, and commits once for all. This file knows no kind of decision.

Why the promises hold that each decision would have alone:

* Nothing is answered before the commit that it rests on has landed: neither an answer nor a refusal, as a refusal may
  be due to what an earlier decision of the same batch did. Only what was refused before anything had changed rests on
  the stored state itself.
* A decision that raises is taken back. Where that cannot be done in memory, those before it are made again without it,
  on a new load; then it decides first, on what is stored.
* A commit that loses to another process is decided anew, all of it. One that fails for what one decision did (it has
  become too large, a field is invalid) is repeated with each decision by itself, so that one does not fail another.
* A decision that has to wait (``NotNow``) keeps its place, and is asked again when something has changed, until its
  time is over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any

from cloud_adapter.engine.commits import Committer, Superseded, no_turn
from cloud_adapter.engine.decisions import ByItself, Contended, Decision, NotNow, check_lease
from cloud_adapter.engine.session import Session
from cloud_adapter.errors import Busy, Conflict, DuplicateKey, InstanceNotFound, Unavailable, UserCodeError
from cloud_adapter.observability import telemetry
from cloud_adapter.queues.runner import first_of
from workflow_core import UnknownStatement, Workflow

BATCH_MAX = 200
"""How many decisions one commit makes at most."""

BATCH_BYTES_MAX = 500_000
"""After so many bytes of inputs and answers a batch is full."""

BATCH_SECONDS_MAX = 0.05
"""After that time a batch is full: others in this process want a turn."""

CONTENDED_SECONDS = 5.0
"""For how long an instance counts as contended for after a conflict."""

TURN_SECONDS_MAX = 0.002
"""After that time other requests in this process have a turn, in the middle of a batch too."""

SHARED_FROM = 10
SHARED_BATCH_MAX = 100
REST_SECONDS = 0.002
REST_SECONDS_MAX = 0.2
"""A round of so many decisions is followed by a rest of so long for each of them, if others were served within
``SERVED_SECONDS``: an instance with thousands of results takes about half of a process then, not all of it."""

SERVED_SECONDS = 0.2

TOLD_AT_A_TIME = 10
"""So many answers are told before others have a turn: each makes its request go on."""

TURN_SECONDS, TURNS_MAX = 0.002, 10
"""A large batch waits so often for so long while anything is decided for other instances."""

LAX_BYTES_MIN = 4_000
"""From this size of the fields on, they are checked once a batch."""


@dataclass(eq=False, slots=True)
class _Item:
    """A decision in its lane.

    Attributes:
        since: when it came.
        context: that of its request, in which it decides.
        answer: what its request waits for; cancelled with the request.
        waits: why it was put off.
        single: it gets a commit of its own.
    """

    decision: Decision
    since: datetime
    context: Context
    answer: asyncio.Future[Any]
    waits: NotNow | None = None
    has_waited: bool = False
    single: bool = False

    @property
    def over(self) -> bool:
        return self.answer.done()

    def resolve(self, value: Any) -> None:
        """Tells the answer."""
        if not self.answer.done():
            self.answer.set_result(value)

    def refuse(self, error: BaseException) -> None:
        """Tells why not."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def fail(self, error: Exception) -> None:
        """Tells why not; or lets the instance fail, if nobody is to be told of an error of its code."""
        decision = self.decision
        if decision.statement is None or isinstance(error, (Busy, Unavailable, UnknownStatement)):
            self.refuse(error)
            return
        # What a condition has raised is kept as it is, like what a step has raised.
        cause = error.__cause__ if isinstance(error, UserCodeError) else None
        self.decision = _Failure(cause if isinstance(cause, Exception) else error, decision)
        self.waits, self.single = None, True


class _Failure(Decision):
    """Ends an instance as failed, by an error of its code."""

    def __init__(self, error: Exception, of: Decision) -> None:
        self.error = error
        self.failed_at = of.statement or ""
        self.taken = of.taken

    def decide(self, session: Session, now: datetime) -> None:
        check_lease(session, now)
        if not session.execution.ended:
            session.machine.fail(self.error, self.failed_at)
            session.raised = self.error


class _Interrupted(Exception):
    """A handler is to be called again later."""


class Lanes:
    """The lanes of the instances that something waits for in this process."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._contended: dict[tuple[str, str], datetime] = {}
        self._served: deque[tuple[datetime, tuple[str, str]]] = deque(maxlen=100)

    async def decide(self, cls: type[Workflow], id: str, decision: Decision) -> Any:
        """Lets a decision be made and committed; gives its answer.

        Raises:
            Busy: it had to wait for too long. Nothing was changed.
            DuplicateKey: its key is recorded already. Nothing was changed.
            Unavailable: whether it was committed is not known.
            Exception: what the decision raises, or loading or saving the instance. Nothing was changed.
        """
        at = cls.__workflow_name__, id
        lane = self._lanes.get(at)
        if lane is None:
            lane = self._lanes[at] = _Lane(self, cls, id)
            self._served.append((lane.now(), at))
        return await lane.add(decision)

    def serves_others(self, lane: _Lane) -> bool:
        """Whether something came for another instance lately."""
        since, served = lane.now() - timedelta(seconds=SERVED_SECONDS), self._served
        while served and served[0][0] < since:
            served.popleft()
        return any(at != (lane.cls.__workflow_name__, lane.id) for _, at in served)

    async def let_others(self, lane: _Lane) -> None:
        """Lets what is being decided for other instances go first, but not for long."""
        if not self.serves_others(lane):
            await asyncio.sleep(0)
            return
        for _ in range(TURNS_MAX):
            await self.committer.clock.sleep(TURN_SECONDS)
            if not any(other.is_busy for other in self._lanes.values() if other is not lane):
                break

    def wake(self, workflow: str, id: str) -> None:
        """Somebody in this process has committed another way: what waits may be decided now."""
        if (lane := self._lanes.get((workflow, id))) is not None:
            lane.woken.set()
            lane.session = None

    def is_contended(self, cls: type[Workflow], id: str) -> bool:
        """Whether another process has committed to the instance lately, at the same time as this one."""
        self._forget_contended()
        return (cls.__workflow_name__, id) in self._contended

    def met_others(self, lane: _Lane) -> None:
        """Another process has committed to the instance of a lane at the same time."""
        self._forget_contended()
        until = self.committer.clock.now() + timedelta(seconds=CONTENDED_SECONDS)
        self._contended[lane.cls.__workflow_name__, lane.id] = until

    def _forget_contended(self) -> None:
        now = self.committer.clock.now()
        for at in [at for at, until in self._contended.items() if until <= now]:
            del self._contended[at]

    def closed(self, lane: _Lane) -> None:
        """Nothing waits in a lane any more."""
        del self._lanes[lane.cls.__workflow_name__, lane.id]


@dataclass(eq=False)
class _Lane:
    """What waits for one instance.

    Attributes:
        session: the instance as it was committed last, if others were waiting by then, or are about to come. The next
            batch goes on with it. What it commits proves that nobody else had changed it; what would answer without a
            commit is asked again, on a new load.
    """

    lanes: Lanes
    cls: type[Workflow]
    id: str
    items: list[_Item] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    leased: bool = False
    session: Session | None = None
    is_busy: bool = False
    drainer: asyncio.Task[None] | None = None

    async def add(self, decision: Decision) -> Any:
        item = _Item(decision, self.now(), copy_context(), asyncio.get_running_loop().create_future())
        self.items.append(item)
        if not self.leased or decision.alone:
            self.woken.set()
        if self.drainer is None:
            # In a context of its own: it serves all that come.
            self.drainer = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        return await item.answer

    @property
    def committer(self) -> Committer:
        return self.lanes.committer

    def now(self) -> datetime:
        return self.committer.clock.now()

    async def _drain(self) -> None:
        error: BaseException = Unavailable(f"{self.id!r} is no longer served here; try again")
        attempt = 0
        try:
            while self._waiting():
                self.woken.clear()
                before = len(self.items)
                self.is_busy = True
                conflict = await self._round()
                self.is_busy = False
                waiting = self._waiting()
                attempt = 0 if len(waiting) < before and not conflict else attempt
                if waiting and all(item.waits is not None for item in waiting):
                    await self._wait(waiting, attempt, wakes=not conflict)
                    attempt += 1
                await self._give_way(before - len(self._waiting()))
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            error = raised  # a defect of ours: whoever waits is to hear of it
        finally:
            self.lanes.closed(self)
            for item in self.items:
                item.refuse(error)

    async def _give_way(self, decided: int) -> None:
        """Lets other instances of this process have their share: after many decisions, while others are served too,
        what comes meanwhile is left to wait for the next round."""
        if decided >= SHARED_FROM and self.lanes.serves_others(self):
            await self.committer.clock.sleep(min(decided * REST_SECONDS, REST_SECONDS_MAX))
        else:
            await asyncio.sleep(0)

    def _waiting(self) -> list[_Item]:
        self.items = [item for item in self.items if not item.over]
        return self.items

    async def _wait(self, waiting: Sequence[_Item], attempt: int, *, wakes: bool) -> None:
        """Waits until something may have changed; who has waited for too long is told."""
        committer = self.committer
        now, ends = self.now(), []
        for item in waiting:
            assert item.waits is not None
            patience = item.waits.patience
            ends.append(item.since + (committer.options.max_wait if patience is None else patience))
            if ends[-1] <= now:
                item.refuse(item.waits.error)
            else:
                telemetry.busy_wait(self.cls.__workflow_name__)
        if not self._waiting():
            return
        pause = committer.pause(attempt)
        await (first_of(self.woken.wait(), pause) if wakes else pause)

    async def _round(self) -> bool:
        """Asks everybody who waits, in their order. Whether another process has committed meanwhile."""
        todo = sorted(self.items, key=lambda item: not item.decision.reads)
        while todo:
            batch = self._batch(todo)
            # In the context of its first: what a batch of one does belongs to that request.
            task = asyncio.get_running_loop().create_task(self._decide(batch), context=batch[0].context.copy())
            try:
                again = await task
            except Conflict as error:
                self.lanes.met_others(self)
                message = f"{self.cls.__workflow_name__!r} {self.id!r} is busy: many others commit to it; try again"
                busy = Busy(message)
                busy.__cause__ = error
                for item in self.items:
                    if item.decision.defers:
                        item.refuse(Contended(message))
                    item.waits = item.waits or NotNow(busy)
                return True
            todo = [item for item in [*again, *todo[len(batch) :]] if not item.over]
        return False

    def _batch(self, todo: Sequence[_Item]) -> Sequence[_Item]:
        """Those that are decided next, together."""
        keys: set[str] = set()
        size = 0
        most = SHARED_BATCH_MAX if self.lanes.serves_others(self) else BATCH_MAX
        for number, item in enumerate(todo[:most]):
            decision = item.decision
            by_itself = decision.alone or item.single
            if number and (by_itself or decision.key in keys or size > BATCH_BYTES_MAX):
                return todo[:number]
            if by_itself:
                return todo[:1]
            size += decision.size
            if decision.key is not None:
                keys.add(decision.key)
        return todo[:most]

    async def _decide(self, batch: Sequence[_Item]) -> Sequence[_Item]:
        """Loads the instance, lets a batch decide, and commits. Gives those that are to be asked again at once.

        Raises:
            Conflict: another process has committed meanwhile; nobody was told anything that rests on what was changed.
        """
        first = batch[0].decision
        kept, self.session = None if first.alone else self.session, None
        try:
            session = kept or await self.committer.load(self.cls, self.id, first.mend if first.alone else None)
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
        is_large = len(batch) >= SHARED_FROM
        if is_large:
            await self.lanes.let_others(self)  # loading, deciding and saving much take their time each
        held, rest = await self._ask_all(session, batch, is_loaded=kept is None)
        if not any(one.has_changed for one in held):
            if all(item.over for item in batch):
                self.session = kept  # it was only read
            return [*(one.item for one in held), *rest]
        if is_large:
            await self.lanes.let_others(self)
        again = await self._commit(session, held, is_large=is_large)
        if not again and not first.alone and session.instance.lease is None and (is_large or self._waiting()):
            self.session = session
        return [*again, *rest]

    async def _missing(self, item: _Item, error: InstanceNotFound) -> None:
        try:
            item.resolve(item.decision.missing(error, self.now()))
        except NotNow as wait:
            await self._put_off(item, wait)
        except Exception as raised:
            item.refuse(raised)

    async def _ask_all(
        self, session: Session, batch: Sequence[_Item], *, is_loaded: bool
    ) -> tuple[list[_Held], Sequence[_Item]]:
        """Lets a batch decide. Gives what is to be told once the changes are committed, and who is to be asked again.
        What rests on the stored state alone is told at once.

        Args:
            is_loaded: the session is what is stored, as far as can be known.
        """
        loaded_pc, yielded_at = session.execution.pc, self.now()
        until = yielded_at + timedelta(seconds=BATCH_SECONDS_MAX)
        held: list[_Held] = []
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
                await self.lanes.let_others(self)
                yielded_at = self.now()
            mark, one = session.mark(), _Held(item)
            session.machine.now, session.machine.allowances, item.waits = now, None, None
            try:
                one.answer = await self._ask(item, session, now)
                session.check_fields()
                one.has_changed = session.execution.pc != mark.pc
                item.context.run(session.note_failure, now)  # its line in the log belongs to this request
            except NotNow as wait:
                await self._put_off(item, wait)
                continue
            except ByItself:
                item.single = True
                if session.undo(mark):
                    return held, batch[number:]
                return [], [*(earlier.item for earlier in held), *batch[number:]]
            except _Interrupted:
                item.waits = NotNow(self._busy())
                self.items.remove(item)
                self.items.append(item)
                return [], batch[number + 1 :]
            except Exception as error:
                one.refusal = error
            except asyncio.CancelledError:
                if not item.over:
                    raise
            if (item.over or one.refusal is not None) and not session.undo(mark):
                if held:  # they are made again without this one, and then it decides on what is stored
                    item.single = True
                    return [], [*(one.item for one in held), *batch[number:]]
                if not is_loaded:
                    return [], batch[number:]
                one.tell()
                return [], batch[number + 1 :]
            if session.execution.pc == loaded_pc and (is_loaded or item.decision.reads):
                one.tell()
                told += 1
            else:
                held.append(one)
                size += len(item.decision.record.response) if item.decision.record is not None else 0
        return held, ()

    async def _ask(self, item: _Item, session: Session, now: datetime) -> Any:
        answer = item.context.run(item.decision.decide, session, now)
        if not isawaitable(answer):
            return answer
        task = self._begin(item, answer)
        try:
            while not task.done():
                await self._until_more(task, item)
                if not task.done() and any(other.decision.urgent and not other.over for other in self.items):
                    raise _Interrupted
            return await task
        finally:
            task.cancel()

    async def _until_more(self, task: asyncio.Task[Any], item: _Item) -> None:
        """Waits until a handler has ended or something new has come, or tells others that they have waited too long."""
        max_wait, now = self.committer.options.max_wait, self.now()
        behind = [other for other in self.items if other is not item and not other.over]
        for other in behind:
            if other.since + max_wait <= now:
                other.refuse(self._busy())
        seconds = [(other.since + max_wait - now).total_seconds() for other in behind if not other.over]
        self.woken.clear()
        waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(self.woken.wait())]
        waits += [asyncio.ensure_future(self.committer.clock.sleep(min(seconds)))] if seconds else []
        try:
            await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _begin(self, item: _Item, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Begins what is done for a request; it is interrupted when that is cancelled."""

        async def awaited() -> Any:
            return await work

        task = asyncio.get_running_loop().create_task(awaited(), context=item.context)
        item.answer.add_done_callback(lambda _: task.cancel())
        return task

    def _busy(self) -> Busy:
        return Busy(f"{self.cls.__workflow_name__!r} {self.id!r} is busy: many others ask for it; try again")

    async def _put_off(self, item: _Item, wait: NotNow) -> None:
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

    async def _commit(self, session: Session, held: Sequence[_Held], *, is_large: bool) -> Sequence[_Item]:
        """Commits what was changed, and tells everybody. Gives those that are to be asked again at once.

        Raises:
            Conflict
        """
        changed = [one.item for one in held if one.has_changed]

        async def turn() -> None:
            await self.lanes.let_others(self)

        try:
            if changed[0].decision.alone:
                await changed[0].decision.commit(self.committer, session)
            else:
                records = (item.decision.record for item in changed)
                await self.committer.commit(
                    session,
                    keys=[record for record in records if record is not None],
                    taken=[entry for item in changed for entry in item.decision.taken],
                    turn=turn if is_large else no_turn,
                )
        except Superseded:
            pass
        except Conflict:
            raise
        except DuplicateKey as error:
            await self._refuse_duplicates(changed, error)
            return [one.item for one in held]
        except Exception as error:
            if len(changed) == 1 or isinstance(error, Unavailable):
                for item in changed:
                    item.fail(error)
            for item in changed:
                item.single = True
            return [one.item for one in held]
        for number, one in enumerate(held, 1):
            one.tell()
            if not number % TOLD_AT_A_TIME:
                await asyncio.sleep(0)
        return ()

    async def _refuse_duplicates(self, changed: Sequence[_Item], error: DuplicateKey) -> None:
        """Tells those whose key is recorded already; a store does not say which it is."""
        keyed = [item for item in changed if item.decision.key is not None]
        for item in keyed:
            assert item.decision.key is not None
            at = self.cls.__workflow_name__, self.id, item.decision.key, self.now()
            try:
                known = len(keyed) == 1 or await self.committer.store.load_key(*at) is not None
            except Exception as raised:
                item.refuse(raised)
            else:
                if known:
                    item.refuse(error)


@dataclass(eq=False, slots=True)
class _Held:
    """What a decision has come to, until it may be told."""

    item: _Item
    answer: Any = None
    refusal: Exception | None = None
    has_changed: bool = False

    def tell(self) -> None:
        if self.refusal is None:
            self.item.resolve(self.answer)
        else:
            self.item.fail(self.refusal)
