"""The TaskQueue port on PostgreSQL, in the database of the instances. Any number of processes deliver its tasks.

Theory of operation. A process takes due tasks with ``FOR UPDATE SKIP LOCKED``, so that no two processes take the same
one, and moves their ``due_at`` to the end of its claim. While it delivers them, it moves the end on. If it dies, the
claims end, and the tasks are due again for the others. A task that has ended stays for an hour, because its name stays
taken. The number of attempts is the fence: a process whose claim has ended cannot move what another one has taken.

A process that creates a task wakes its own dispatcher. The others look for tasks once a second, and when the next task
that they have seen is due. This needs no ``NOTIFY``, which would serialize all commits of the database, and no
connection of its own, which a pooler would not allow.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import uuid4

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.ports import Clock, Task, Writer
from cloud_adapter.postgresql import tasks
from cloud_adapter.postgresql.connections import Connections
from cloud_adapter.postgresql.tasks import NewTask
from cloud_adapter.queues.bodies import encoded_body
from cloud_adapter.queues.local import LOCAL_LIMITS, LOCAL_RETRY, LOCAL_SHARES, Deliver
from cloud_adapter.queues.retries import TASK_LIFE_MAX, RetryConfig
from cloud_adapter.queues.rules import RETENTION, checked_time
from cloud_adapter.queues.runner import attempts_ended, first_of
from cloud_adapter.queues.turns import Shares

POLL_SECONDS: Final = 1.0
"""How often a process looks for tasks of others."""

CLAIM_SECONDS: Final = 10.0
"""How long a crashed process can hold up its tasks."""

RENEW_SECONDS: Final = 3.0
"""How often a process renews its claims."""

CLAIMED_AT_A_TIME: Final = 50
"""The most tasks that one statement takes."""

RETRY_SECONDS: Final = 0.5
"""The pause after a call that the database did not answer."""

PURGE_SECONDS: Final = 60.0
PURGED_AT_A_TIME: Final = 5_000

logger = logging.getLogger("gorchestrate.queue")


class TaskWriter(Protocol):
    """A store that writes tasks and instances in one transaction."""

    async def create_with(
        self, instance: Instance, key: KeyRecord | None, tasks: Sequence[NewTask], now: datetime | None
    ) -> None: ...

    async def commit_with(
        self,
        instance: Instance,
        keys: Sequence[KeyRecord],
        taken: Sequence[InboxEntry],
        create: Sequence[NewTask],
        delete: Sequence[str],
        now: datetime | None,
    ) -> Instance: ...


@dataclass(slots=True, eq=False)
class _Claim:
    """A task that this process has taken.

    Attributes:
        attempt: the number of this attempt.
        ends: when it is due again; None: it has ended. Set when the attempt has ended.
        is_over: whether the attempt has ended, and the database does not know it yet.
    """

    task: Task
    turns: str
    attempt: int
    created_at: datetime
    first_attempt_at: datetime
    ends: datetime | None = None
    is_over: bool = False


class PostgresqlQueue:
    """A task queue in a PostgreSQL database.

    Due tasks are delivered in the order of time. A group gets at most its share of the concurrent deliveries of each
    process, so that no group of tasks starves the others.

    Attributes:
        calls_max: how many connections calls may use at a time.

    Args:
        connections: the connections of the store. The queue does not close them.
        store: the store, which creates and deletes tasks with its commits.
        deliver: receives a task and the number of previous retries, and returns whether the task is acknowledged. If it
            returns False or raises an error (which is logged), it is called again after a backoff. It must end by
            itself: the queue does not limit its time.
        clock: the clock for due times.
        retry: how failed deliveries are retried; by default as in Cloud Tasks, but at most 10 s apart.
        concurrent_max: how many deliveries run at a time in a process.
        shares: how many of them one group may have.
    """

    calls_max: Final = 4

    def __init__(
        self,
        connections: Connections,
        store: TaskWriter,
        deliver: Deliver,
        clock: Clock,
        *,
        retry: RetryConfig = LOCAL_RETRY,
        concurrent_max: int = LOCAL_LIMITS.max_concurrent_dispatches,
        shares: Shares = LOCAL_SHARES,
    ) -> None:
        self._connections = connections
        self._store = store
        self._deliver = deliver
        self._clock = clock
        self._retry = retry
        self._concurrent_max = concurrent_max
        self._shares = shares
        self._claims: set[_Claim] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()  # there may be a task to deliver
        self._ended = asyncio.Event()  # an attempt has ended
        self._reporting = asyncio.Lock()
        self._is_limited = False  # whether there may be due tasks that wait for others to end

    async def create(self, task: Task) -> None:
        """Adds a task. If the queue has or had a task of that name within the last hour, nothing changes and it is not
        an error. A task without a name gets one.

        Raises:
            InvalidRequest: the name is invalid, the body is not JSON, or the task is due in more than 30 days.
            TooLarge: the body exceeds ``TASK_BYTES_MAX``.
            Unavailable: the database did not answer.
        """
        new = self._new(task)
        await self._connections.write(tasks.creation(1), *tasks.values_of([new]))
        self._created([new])

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error. A running delivery continues."""
        await self._connections.write(tasks.deletion(1), [name], self._clock.now())

    def writer(self, create: Sequence[Task], delete: Sequence[str]) -> Writer:
        """See ``ports.TransactionalQueue``."""
        return _Writer(self._store, [self._new(task) for task in create], delete, self._clock.now(), self._created)

    async def start(self, context: Context | None = None) -> None:
        """Starts to deliver.

        Args:
            context: the context variables of the deliveries; by default none. Each delivery runs in a copy.

        Raises:
            RuntimeError: the queue was already started.
        """
        if self._loops:
            raise RuntimeError("a queue can be started only once: create a new one")
        context = Context() if context is None else context
        for loop in (self._dispatch, self._report, self._keep):
            coroutine = _surviving(loop, self._clock)
            self._loops.append(asyncio.create_task(coroutine, name="gorchestrate-queue", context=context.copy()))

    async def close(self, grace_seconds: float = 10) -> None:
        """Stops dispatching, gives the running deliveries that time to end, then cancels them. May be called again.
        Other processes, or the next one, deliver what is left."""
        try:
            async with attempts_ended(self._attempts, self._clock, grace_seconds):
                await _cancelled(self._loops[:1])  # the others are needed until the deliveries have ended
        finally:
            await _cancelled(self._loops)
        try:
            await self._report_ended()
        except Unavailable as error:
            logger.warning("the tasks that have ended are delivered again: %s", error)

    def _new(self, task: Task) -> NewTask:
        now, name = self._clock.now().astimezone(UTC), task.name or uuid4().hex
        body = encoded_body(task)
        try:
            at = checked_time(name, task.at, now)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        return NewTask(name, task.path, body, task.group, at, now)

    def _created(self, new: Sequence[NewTask]) -> None:
        """Wakes the dispatcher, unless it looks for tasks anyway before the new ones are due."""
        before = self._clock.now() + timedelta(seconds=POLL_SECONDS)
        if any(task.scheduled_at < before for task in new):
            self._changed.set()

    # --- loops -------------------------------------------------------------------------------

    async def _dispatch(self) -> None:
        """Takes tasks and starts their deliveries."""
        while True:
            self._changed.clear()
            limit = min(self._concurrent_max - len(self._claims), CLAIMED_AT_A_TIME)
            full = self._full_groups()
            self._is_limited = limit <= 0 or bool(full)
            if limit > 0 and await self._take(limit, full) == limit:
                continue
            if not self._changed.is_set():
                pause = POLL_SECONDS if limit <= 0 else await self._seconds_to_next()
                await first_of(self._changed.wait(), self._clock.sleep(pause))

    async def _take(self, limit: int, full: Sequence[str]) -> int:
        now = self._clock.now()
        until = now + timedelta(seconds=CLAIM_SECONDS)
        rows = await self._connections.write(tasks.CLAIM, now, until, full, limit)
        for row in sorted(rows, key=lambda row: (row["was_due"], row["name"])):
            body = json.loads(row["body"].decode(errors="surrogatepass"))
            task = Task(row["name"], row["path"], body, row["scheduled_at"])
            claim = _Claim(task, row["turns"], row["attempts"], row["created_at"], row["first_attempt_at"])
            self._claims.add(claim)
            attempt = asyncio.create_task(self._attempt(claim), name=f"gorchestrate-task-{task.name}")
            self._attempts.add(attempt)
            attempt.add_done_callback(self._attempts.discard)
        return len(rows)

    def _full_groups(self) -> Sequence[str]:
        """Returns the groups of which no more tasks may be taken now. One statement may take ``CLAIMED_AT_A_TIME`` of a
        group."""
        running = Counter(claim.turns for claim in self._claims)
        beyond_first = len(self._claims) - len(running)
        if beyond_first > self._shares.beyond_first - CLAIMED_AT_A_TIME:
            return list(running)
        return [group for group, count in running.items() if count > self._shares.of_group - CLAIMED_AT_A_TIME]

    async def _seconds_to_next(self) -> float:
        now = self._clock.now()
        rows = await self._connections.read(tasks.NEXT, now)
        return min((rows[0][0] - now).total_seconds(), POLL_SECONDS) if rows else POLL_SECONDS

    async def _attempt(self, claim: _Claim) -> None:
        acknowledged = False
        try:
            acknowledged = bool(await self._deliver(claim.task, claim.attempt - 1))
        except Exception:
            logger.exception("attempt %d of task %s failed", claim.attempt, claim.task.name)
        finally:  # also if cancelled: an attempt that is not reported would keep its task until its claim ends
            claim.ends = None if acknowledged else self._next_attempt(claim)
            claim.is_over = True
            self._ended.set()

    def _next_attempt(self, claim: _Claim) -> datetime | None:
        now = self._clock.now()
        at = now + self._retry.backoff(claim.attempt)
        if self._retry.spent(claim.attempt, claim.first_attempt_at, now) or at - claim.created_at > TASK_LIFE_MAX:
            logger.error("task %s is given up after %d attempts", claim.task.name, claim.attempt)
            return None
        return at

    async def _report(self) -> None:
        """Writes which attempts have ended, many at a time."""
        while True:
            await self._ended.wait()
            await self._report_ended()

    async def _report_ended(self) -> None:
        async with self._reporting:
            self._ended.clear()
            over = [claim for claim in self._claims if claim.is_over]
            try:
                await self._move({claim: claim.ends for claim in over if claim.ends is not None})
                ended = [claim.task.name for claim in over if claim.ends is None]
                if ended:
                    await self._connections.write(tasks.deletion(1), ended, self._clock.now())
            except BaseException:
                self._ended.set()
                raise
            self._claims.difference_update(over)
            if self._is_limited or len(ended) < len(over):
                self._changed.set()

    async def _keep(self) -> None:
        """Renews the claims, and deletes tasks that have ended long ago."""
        purge_at = self._clock.now()
        while True:
            await self._clock.sleep(RENEW_SECONDS)
            now = self._clock.now()
            until = now + timedelta(seconds=CLAIM_SECONDS)
            async with self._reporting:
                await self._move({claim: claim.ends or until for claim in self._claims})
            if now >= purge_at:
                await self._connections.write(tasks.PURGE, now - RETENTION, PURGED_AT_A_TIME)
                purge_at = now + timedelta(seconds=PURGE_SECONDS)

    async def _move(self, ends: dict[_Claim, datetime]) -> None:
        if ends:
            names, attempts = [claim.task.name for claim in ends], [claim.attempt for claim in ends]
            await self._connections.write(tasks.MOVE, names, attempts, list(ends.values()))


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes an instance and its tasks in one transaction."""

    store: TaskWriter
    to_create: Sequence[NewTask]
    to_delete: Sequence[str]
    now: datetime
    tell: Callable[[Sequence[NewTask]], None] = field(repr=False)

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        await self.store.create_with(instance, key, self.to_create, self.now)
        self.tell(self.to_create)

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        written = await self.store.commit_with(instance, keys, taken, self.to_create, self.to_delete, self.now)
        self.tell(self.to_create)
        return written


async def _surviving(loop: Callable[[], Awaitable[None]], clock: Clock) -> None:
    """Runs a loop that never ends, and starts it again if the database does not answer."""
    while True:
        try:
            await loop()
        except Unavailable as error:
            logger.warning("the queue waits for its database: %s", error)
        except Exception:
            logger.exception("the queue has failed and continues: this is a defect of gorchestrate")
        await clock.sleep(RETRY_SECONDS)


async def _cancelled(loops: Sequence[asyncio.Task[None]]) -> None:
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)
