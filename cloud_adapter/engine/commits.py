"""Loads and commits instances. Only this module writes instances, and it always writes by compare-and-set.

The order of the calls matters: the tasks that a state needs are created before its commit, and the timers that it no
longer needs are deleted after the commit. If the queue is in the database of the store, the commit does both. This
module makes no decisions about what an instance does.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from functools import partial
from typing import TypeVar

from cloud_adapter.document import TOKENS_MAX, InboxEntry, Instance, KeyRecord, written
from cloud_adapter.engine.open_attempts import OpenAttempts
from cloud_adapter.engine.plan import RELEASE, Change, Hold, LeasePolicy
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.secrets import Secrets
from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    Unavailable,
)
from cloud_adapter.history import HistoryEntry, HistoryKind
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Clock, Store, TaskQueue, TransactionalQueue, Writer
from workflow_core import WorkflowError
from workflow_core.callbacks import CallbackUrls
from workflow_core.error_texts import error_text

WRITE_ATTEMPTS_MAX = 5

_FAILED = HistoryKind.FAILED

T = TypeVar("T")

Write = Callable[[Instance], Awaitable[Instance]]
"""Writes an instance, and returns it as it is ``written``."""

WriteBy = Callable[[Writer, Instance], Awaitable[Instance]]
"""Does the same with a writer."""


async def no_turn() -> None:
    """Returns immediately, without a turn for others."""


class Superseded(WorkflowError):
    """The commit was applied, but its reply was lost, and others have committed after it."""


class Reloaded(Conflict):
    """Another commit came first. The stored instance was then read, to see whether the commit was applied after all.

    Attributes:
        current: the stored instance, with its secrets encrypted. The next attempt need not load it.
    """

    def __init__(self, message: str, current: Instance) -> None:
        super().__init__(message)
        self.current = current


class Committer:
    """Loads sessions and commits them.

    Args:
        rng: generates tokens and jitter. With a seeded generator, a run is repeatable.
        secrets: encrypts what is stored, and decrypts it.
        callback_urls: returns the URLs of callbacks.

    Attributes:
        attempts: the attempts of activities that run in this process.
    """

    def __init__(
        self,
        store: Store,
        queue: TaskQueue,
        clock: Clock,
        options: EngineOptions,
        rng: random.Random,
        secrets: Secrets,
        callback_urls: CallbackUrls | None = None,
    ) -> None:
        self.store = store
        self.queue = queue
        self._transactional = queue if isinstance(queue, TransactionalQueue) else None
        self.clock = clock
        self.options = options
        self.rng = rng
        self.callback_urls = callback_urls
        self.attempts = OpenAttempts()
        # A copy, so that a seeded run draws the same tokens whether or not it has children.
        self._salts = rng if isinstance(rng, random.SystemRandom) else copy(rng)
        self.secrets = secrets

    def token(self) -> str:
        """Returns a new random token."""
        return self.rng.randbytes(8).hex()

    def salt(self) -> str:
        """Returns a random text for the id of a child."""
        return f"{self._salts.getrandbits(128):032x}"

    async def pause(self, attempt: int) -> None:
        """Waits before another attempt: 20 ms, doubled up to 640 ms, with jitter."""
        await self.clock.sleep(0.02 * 2 ** min(attempt, 5) * self.rng.uniform(0.5, 1.0))

    async def load(
        self,
        ref: InstanceRef,
        rewrite: Callable[[Instance], Instance] | None = None,
        *,
        history: bool = False,
        current: Instance | None = None,
    ) -> Session:
        """Loads the current state of an instance, if wanted with its history. ``rewrite`` changes the stored data
        before it is read. Without a history, it is not loaded if ``current`` was just loaded."""
        if current is None or history:
            current = await self.store.load(ref.workflow, ref.id, history=history)
        instance = await self.secrets.opened(current)
        session = Session(ref.cls, instance if rewrite is None else rewrite(instance), self.clock.now(), self.salt)
        session.machine.callback_urls = self.callback_urls
        return session

    async def load_key(self, ref: InstanceRef, key: str) -> KeyRecord | None:
        """Returns the record of an instance's key; None if there is none or it has expired."""
        record = await self.store.load_key(ref.workflow, ref.id, key, self.clock.now())
        return None if record is None else await self.secrets.opened_record(record, ref.workflow, ref.id)

    async def create(self, session: Session, key: KeyRecord | None = None) -> None:
        """Stores a new instance.

        Raises:
            InstanceExists: the instance already exists. Nothing was written.
        """
        session.seal()
        change = await self._encoded(session.prepare(self.token(), self.clock.now(), RELEASE, self.options))
        sealed_key = None if key is None else await self._sealed_key(session, key)

        async def write(writer: Writer, instance: Instance) -> Instance:
            await writer.create(instance, sealed_key)
            return written(instance, instance.version)

        await self._apply(session, change, write)

    async def commit(
        self,
        session: Session,
        *,
        keys: Sequence[KeyRecord] = (),
        taken: Sequence[InboxEntry] = (),
        lease: LeasePolicy = RELEASE,
        dry_run: bool = False,
        turn: Callable[[], Awaitable[None]] = no_turn,
    ) -> None:
        """Saves the session's state, if the document is still the version that was loaded.

        Args:
            keys: the idempotency keys to record in the same atomic write.
            taken: the inbox entries that were processed; they are deleted in the same atomic write.
            lease: what happens to the document's lease.
            dry_run: only check whether the state could be saved.
            turn: gives others in this process a turn; called between the slow parts of a commit.

        Raises:
            Reloaded: another commit came first. Nothing was written. If another attempt follows, this call has paused
                before it has read what is stored, for longer after more ``session.conflicts``.
            Conflict: the same, but the instance was deleted.
            DuplicateKey: one of the keys is already recorded. Nothing was written.
            TooLarge: see ``document.encode``. Nothing was written, and no task was created.
            Superseded: the commit was applied, and another commit followed.
            Unavailable: it is unknown whether the commit was applied.
        """
        if not (isinstance(lease, Hold) and lease.renews):
            session.seal()
            await turn()
        change = session.prepare(self.token(), self.clock.now(), lease, self.options)
        await turn()
        change = await self._encoded(change)
        if dry_run:
            session.committed(written(change.instance, change.instance.version), change)
            return
        sealed_keys = [await self._sealed_key(session, key) for key in keys]
        await turn()
        await self._apply(session, change, lambda writer, instance: writer.commit(instance, sealed_keys, taken))

    async def _encoded(self, change: Change) -> Change:
        return change.encoded(await self.secrets.sealed(change.instance))

    async def _sealed_key(self, session: Session, key: KeyRecord) -> KeyRecord:
        return await self.secrets.sealed_record(key, session.instance.workflow, session.instance.id)

    async def post(self, entry: InboxEntry) -> None:
        """Adds an entry to an inbox, in several attempts. The same entry twice is one entry.

        Raises:
            TooLarge, InvalidRequest, Unavailable
        """
        for attempt in range(WRITE_ATTEMPTS_MAX):
            try:
                await self.store.post(entry)
                return
            except Unavailable:
                if attempt + 1 == WRITE_ATTEMPTS_MAX:
                    raise
                await self.pause(attempt)

    async def _apply(self, session: Session, change: Change, write: WriteBy) -> None:
        assert change.instance.document is not None
        session.chars = len(change.instance.fields) + len(change.instance.document["execution"])
        writer: Writer = self.store
        transactional = self._transactional  # its commits create and delete the tasks, too
        if transactional is not None:
            writer = transactional.writer(change.create, change.delete)
        elif change.create:
            await concurrently(self.queue.create, change.create, self.queue.calls_max)
        if change.leases and change.create:
            # Set only now, because creating the tasks took time.
            change = change.lease_until(self.clock.now() + self.options.lease)
        tell = _teller(session, change.instance)
        try:
            session.committed(await self._write(change, partial(write, writer), session.conflicts), change)
            self.attempts.committed(change.instance)
        except Superseded:
            tell()
            raise
        except (Conflict, DuplicateKey, InstanceExists):
            if transactional is None:
                await self._delete(change.instance, change.own_names)
            raise
        tell()
        if change.delete and transactional is None:
            await self._delete(change.instance, change.delete)

    async def _delete(self, instance: Instance, names: Sequence[str]) -> None:
        """Deletes tasks that would find nothing to do. A failed deletion is logged and does no harm."""

        async def delete(name: str) -> None:
            try:
                await self.queue.delete(name)
            except WorkflowError as error:
                text = error_text(error)[:ERROR_CHARS_MAX]
                logs.transition("timer not deleted", instance.workflow, instance.id, level=logging.WARNING, error=text)

        await concurrently(delete, names, self.queue.calls_max)

    async def _write(self, change: Change, write: Write, conflicts: int | None) -> Instance:
        attempt, token = 0, change.instance.tokens[-1]
        while True:
            try:
                return await write(change.instance)
            except (Conflict, DuplicateKey, InstanceExists, Unavailable) as error:
                if isinstance(error, Conflict) and conflicts is not None:
                    # Before the instance is read, so that the next attempt can use what was read.
                    await self.pause(conflicts)
                try:
                    current = await self._reload(change.instance)
                except DamagedDocument:
                    raise error from None  # a damaged document was not written by this commit
                if current is not None and token in current.tokens:
                    if current.tokens[-1] != token:
                        raise Superseded("the commit was applied, and other commits followed") from error
                    return written(change.instance, current.version, current.entries_bytes)
                is_certain = isinstance(error, DuplicateKey) or (
                    isinstance(error, Conflict) and error.is_certain and attempt == 0
                )
                if current is not None and not is_certain and _forgotten(change, current):
                    raise Unavailable(
                        "it is unknown whether the commit was applied, because too many commits followed; try again"
                    ) from error
                # Not applied so far. Repeating the same write is safe, because it is compared like the first.
                attempt += 1
                if isinstance(error, Conflict):
                    telemetry.conflict(change.instance.workflow)
                    if current is not None:
                        raise Reloaded(str(error), current) from error
                if not isinstance(error, Unavailable) or attempt >= WRITE_ATTEMPTS_MAX:
                    raise
                await self.pause(attempt)

    async def _reload(self, instance: Instance) -> Instance | None:
        attempt = 0
        while True:
            try:
                return await self.store.load(instance.workflow, instance.id)
            except InstanceNotFound:
                return None
            except Unavailable:
                attempt += 1
                if attempt >= WRITE_ATTEMPTS_MAX:
                    raise
                await self.pause(attempt)


async def concurrently(call: Callable[[T], Awaitable[None]], arguments: Sequence[T], calls_max: int) -> None:
    """Makes a call for each argument, in their order, up to ``calls_max`` at a time.

    Raises:
        BaseException: the first error of a call. The other calls were cancelled and have ended.
    """
    rest = iter(arguments)

    async def some() -> None:
        for argument in rest:
            await call(argument)

    if calls_max == 1 or len(arguments) <= 1:
        await some()
        return
    running = [asyncio.ensure_future(some()) for _ in arguments[:calls_max]]
    try:
        await asyncio.gather(*running)
    except BaseException:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
        raise


def _forgotten(change: Change, current: Instance) -> bool:
    """Whether so many commits followed the version on which the change is based that its own token may be gone."""
    base = change.instance.tokens[-2:-1]
    if not base and change.instance.execution.created_at != current.execution.created_at:
        return False  # the change is a creation, and the stored instance was created by another one
    return len(current.tokens) >= TOKENS_MAX and not set(base) & set(current.tokens)


def _teller(session: Session, instance: Instance) -> Callable[[], None]:
    """Returns a function that logs a commit after it was applied: one line for each entry that it adds to the
    history."""
    entries, contexts = session.entries, session.contexts
    raised, had_ended = session.raised, session.had_ended
    status, ended = instance.execution.status, instance.execution.ended

    def tell() -> None:
        for entry, context in zip(entries, contexts, strict=True):
            if not logs.logger.isEnabledFor(level := _level(entry)):
                continue
            context.run(
                logs.transition,
                entry.kind,
                instance.workflow,
                instance.id,
                level=level,
                raised=raised if raised is not None and error_text(raised)[:ERROR_CHARS_MAX] == entry.error else None,
                thread=entry.thread,
                statement=entry.statement,
                pc=entry.pc,
                duration_ms=entry.duration_ms,
                error=entry.error,
            )
        if instance.version is None:
            telemetry.started(instance.workflow)
        if ended and not had_ended:
            telemetry.ended(instance.workflow, status.value)

    return tell


def _level(entry: HistoryEntry) -> int:
    if entry.kind is _FAILED:
        return logging.ERROR
    return logging.WARNING if entry.error else logging.INFO
