"""The ports: the interfaces through which the engine reaches stores, queues and clocks. Adapters implement them.

Each port has one contract suite in ``tests/contract`` that every adapter passes. An adapter raises no errors of its
platform, only the errors that are named here, or ``Unavailable``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.summaries import Due, Summary
from workflow_core.records import record

PAGE_SIZE = 50
"""The default number of instances in a page of a listing."""

PAGE_SIZE_MAX = 200
"""The maximum number of instances that a client may request in one page. Internal callers may request more."""

PAGE_BYTES_MAX = 2_000_000
"""About how many bytes the summaries of a page have; more only if one instance alone has more."""

TASK_BYTES_MAX = 1_000_000
"""The maximum size of a task's body, as JSON. Cloud Tasks allows 1 MiB, including its own overhead."""

LONG = "-long"
"""The end of the name of a task whose request may take long: an attempt of an activity. A queue may treat it apart, so
that it does not hold up others. It is in the name because a deletion knows only the name."""


class Order(StrEnum):
    """The order of a listing. An instance that changes while a caller reads page after page keeps its place in the
    orders ``CREATED`` and ``ID``. In the order ``UPDATED`` it moves before the first page, where the caller misses it.
    """

    UPDATED = "updated"
    """The most recently updated first."""
    CREATED = "created"
    """The newest first."""
    ID = "id"
    """By the bytes of the id."""


@record(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        cursor: requests the next page; None on the last page.
        damaged: the reason for each document that was left out because its summary cannot be read.
    """

    instances: Sequence[Summary]
    cursor: str | None
    damaged: Sequence[str] = ()


class Store(Protocol):
    """Stores instances. A commit succeeds only if the stored version is the one that was loaded.

    No instance has a version twice, even if it is deleted and created again: a process may hold an earlier state.
    """

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """Stores a new instance with its ``new_entries`` as its history and, in the same atomic write, the key.

        Raises:
            InstanceExists: an instance with that workflow and id exists.
            DuplicateKey: the key is already recorded.
            TooLarge: see ``document.encode``.
        """
        ...

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Instance:
        """Returns the current instance.

        Args:
            history: also reads its history, which can be much larger than the rest. Without it,
                ``Instance.history`` raises, and a damaged history is not found.

        Raises:
            InstanceNotFound: no such instance exists.
            DamagedDocument: the document cannot be read.
        """
        ...

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """Writes a changed instance. The same atomic write adds its ``new_entries`` to the stored history, records the
        keys, and deletes the inbox entries that were processed. The stored history is read only if the write
        ``replaces_history``. Returns the instance as it is ``written``.

        Args:
            keys: must have different texts.
            taken: entries that ``inbox`` returned; a missing entry is not an error.

        Raises:
            Conflict: the stored version is not ``instance.version``. Nothing was written.
            DuplicateKey: one of the keys is already recorded and not expired. Nothing was written.
            TooLarge: see ``document.encode``. Nothing was written.
        """
        ...

    async def post(self, entry: InboxEntry) -> None:
        """Adds an entry to an instance's inbox. The instance's document is neither read nor written, so that any number
        of callers can post at the same time. An entry whose name exists changes nothing and is not an error.

        Raises:
            TooLarge: the body exceeds ``document.INBOX_ENTRY_BYTES_MAX``. Nothing was written.
            InvalidRequest: the name of the entry is invalid. Nothing was written.
        """
        ...

    async def inbox(
        self, workflow: str, id: str, limit: int = 100, *, prefix: str | None = None
    ) -> Sequence[InboxEntry]:
        """Returns the first entries of an instance's inbox, ordered by ``at`` and ``name``. Load the instance first: if
        another commit then processes an entry, the commit based on that load conflicts.

        Args:
            prefix: returns only entries whose names begin with this text, ordered by ``name``.
        """
        ...

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """Deletes inbox entries that will never be processed, because their instance has ended or does not exist. A
        missing entry is not an error."""
        ...

    async def uncollected(
        self, before: datetime, limit: int = 100, *, since: datetime | None = None
    ) -> Sequence[tuple[str, str]]:
        """Returns workflow and id of each instance whose inbox has an entry posted at or before ``before``, oldest
        first and without duplicates. The instance itself may not exist. Reads at most ``limit`` entries.

        Args:
            since: leaves out entries that were posted at or before this time.
        """
        ...

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """Returns the record of an instance's key, or None if there is none or it expired by ``now``."""
        ...

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Sequence[Any]] | None = None,
        order: Order = Order.UPDATED,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """Returns the summaries of the instances of a workflow. It reads no whole documents. A page has fewer than
        ``limit`` instances if they have more than ``PAGE_BYTES_MAX``.

        Args:
            search: for each search field to filter by, the values that it may have: texts, numbers, booleans or None.

        Raises:
            InvalidRequest: the cursor was not returned by this method, or for another order.
        """
        ...

    async def workflows(self) -> Sequence[str]:
        """Returns the names of the workflows that have instances, in any order."""
        ...

    async def due(self, before: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """Returns instances whose ``wake_at`` is at or before ``before``, the longest overdue first. Their documents
        are not read, so ``load`` may find one damaged, changed or deleted.

        Args:
            after: an instance that this method returned; only later ones are returned.
        """
        ...

    async def postpone(self, due: Due, until: datetime) -> None:
        """Moves the ``wake_at`` of an instance that cannot move, and counts how often. Its document is not read, and
        nothing else in it is changed. The next commit computes ``wake_at`` anew, which ends the postponement. If the
        instance was changed since ``due`` was read, or no longer exists, nothing is changed.

        Args:
            due: the instance, as ``due`` or ``postponed`` returned it.
        """
        ...

    async def postponed(self, now: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """Returns the instances that are postponed beyond ``now``, the soonest first. Their documents are not read.

        Args:
            after: an instance that this method returned; only later ones are returned.
        """
        ...

    async def ping(self) -> None:
        """Checks with a minimal read that the store answers.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    async def close(self) -> None:
        """Releases all resources of the store."""
        ...


@runtime_checkable
class LocalStore(Store, Protocol):
    """A store on the same machine, which can tell much faster than it loads whether an instance has changed."""

    async def is_current(self, workflow: str, id: str, version: Any) -> bool:
        """Whether the stored instance has this version. False if there is no such instance.

        Raises:
            Unavailable: the store does not answer.
        """
        ...


@runtime_checkable
class ShardedStore(Store, Protocol):
    """A store whose instances may be in shards, which can be read side by side."""

    @property
    def shards(self) -> Sequence[Sequence[int]]:
        """The shards in which all instances are, each as the numbers by which the store names it; empty if shards are
        not read."""
        ...

    async def due(
        self, before: datetime, limit: int = 100, *, after: Due | None = None, shard: Sequence[int] | None = None
    ) -> Sequence[Due]:
        """See ``Store.due``. If a shard is given, it returns only the instances in it."""
        ...

    def in_shard(
        self, workflow: str, shard: Sequence[int], *, status: str | None = None
    ) -> AsyncGenerator[Instance | str]:
        """Yields the instances of a shard without their histories, the most recently updated first. It yields the
        reason instead of a document that cannot be read. Instances that are updated meanwhile may be missing.

        Raises:
            Unavailable: the store does not answer.
        """
        ...


class CopyableStore(Store, Protocol):
    """A store whose instances can be copied to another store, with everything that belongs to them."""

    async def keys(
        self, workflow: str, id: str, now: datetime, limit: int = 100, *, after: str | None = None
    ) -> Sequence[KeyRecord]:
        """Returns the records of an instance's keys that have not expired by ``now``, in any order.

        Args:
            after: a key that this method returned; only later ones are returned.
        """
        ...


@record(frozen=True, slots=True)
class Task:
    """A request that a queue makes later.

    Attributes:
        name: 1 to 500 of the characters ``A-Za-z0-9_-``; a queue accepts each name once. If empty, the queue chooses a
            name and accepts every such task.
        path: one of the paths in ``cloud_adapter.engine.tasks``.
        body: JSON data.
        at: when it is due; None: now.
        deadline: how long the request may take before it counts as failed; None: the default of the queue. A queue may
            have its own limits.
        group: tasks of one group take turns with those of other groups, if the queue supports groups. The group is not
            delivered.
    """

    name: str
    path: str
    body: dict[str, Any]
    at: datetime | None = None
    deadline: timedelta | None = None
    group: str = ""


class TaskQueue(Protocol):
    """Makes requests later: at least once, in any order, repeatedly until one is acknowledged.

    Attributes:
        calls_max: the best number of concurrent calls; 1 if a call needs no round trip.
    """

    @property
    def calls_max(self) -> int: ...

    async def create(self, task: Task) -> None:
        """Adds a task. If the queue has or recently had a task of that name, nothing changes and it is not an error.

        Raises:
            InvalidRequest: the name is invalid, or the task is due in more than 30 days.
            TooLarge: the body exceeds ``TASK_BYTES_MAX``.
            Unavailable: it is unknown whether the task was added; try again.
        """
        ...

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error."""
        ...


class Writer(Protocol):
    """Writes instances, as a store does."""

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``Store.create``."""
        ...

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``Store.commit``."""
        ...


@runtime_checkable
class TransactionalQueue(TaskQueue, Protocol):
    """A queue in the database of the store. An instance and its tasks are written in one transaction, so no task is
    delivered before its commit, and a commit that fails leaves no task behind."""

    def writer(self, create: Sequence[Task], delete: Sequence[str]) -> Writer:
        """Returns a writer for one instance that also creates and deletes these tasks. Each of its calls may be
        repeated.

        Raises:
            InvalidRequest, TooLarge: see ``TaskQueue.create``.
        """
        ...


class Codec(Protocol):
    """Encrypts secrets before they are stored."""

    async def encrypt(self, text: bytes, context: str) -> str:
        """Returns the encrypted text, as printable ASCII.

        Args:
            context: where the text is stored. It is not secret, and the same one is needed to decrypt the text.

        Raises:
            Unavailable: the service that has the key did not answer; try again.
        """
        ...

    async def decrypt(self, text: str, context: str) -> bytes:
        """The inverse of ``encrypt``.

        Raises:
            SecretsUnreadable: the key is missing, or the text was changed or encrypted for another context.
            Unavailable: the service that has the key did not answer; try again.
        """
        ...

    async def close(self) -> None:
        """Releases all resources."""
        ...


class Clock(Protocol):
    """Tells the time and waits."""

    def now(self) -> datetime:
        """Returns the current time, timezone-aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits for that time."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], object]:
        """Calls ``callback`` in the event loop after that time. Returns a function that prevents it. Much cheaper than
        a task that sleeps, if the time is hardly ever reached."""
        ...
