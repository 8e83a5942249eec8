"""The ports: all that the engine knows of the outside world. Adapters implement them; nothing here does anything.

Each port has one contract suite in ``tests/contract`` that every adapter passes. An adapter lets no error of its
platform through: it raises what is named here, or ``Unavailable``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from cloud_adapter.document import InboxEntry, Instance, KeyRecord

PAGE_SIZE = 50
"""How many instances a page of a listing has if nobody says how many."""

PAGE_SIZE_MAX = 200
"""How many instances a client may ask for in one page. A store gives more to the project's own code."""

TASK_BYTES_MAX = 1_000_000
"""How large a task's body may be, as JSON. Cloud Tasks takes 1 MiB, with all that it adds to it."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    Attributes:
        cursor: asks for the next page, None on the last.
        damaged: for each document that was left out because it cannot be read, what is wrong with it.
    """

    instances: Sequence[Instance]
    cursor: str | None
    damaged: Sequence[str] = ()


class Store(Protocol):
    """Where instances are kept. A commit succeeds only on the very version that was loaded."""

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """Stores a new instance, and in the same atomic write the key.

        Raises:
            InstanceExists: there is one of that workflow and id.
            DuplicateKey: the instance's key is recorded already.
            TooLarge: see ``document.encode``.
        """
        ...

    async def load(self, workflow: str, id: str) -> Instance:
        """The instance as it is now.

        Raises:
            InstanceNotFound: there is none.
            DamagedDocument: it cannot be read.
        """
        ...

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """Writes a loaded and changed instance, and in the same atomic write records the keys and deletes the entries
        of its inbox that were taken in. Returns the instance with its new version.

        Args:
            keys: each of another text.
            taken: entries that ``inbox`` gave; one that is gone is no error.

        Raises:
            Conflict: the document is no longer ``instance.version``. Nothing was written.
            DuplicateKey: one of the keys is recorded already (and not expired). Nothing was written.
            TooLarge: see ``document.encode``. Nothing was written.
        """
        ...

    async def post(self, entry: InboxEntry) -> None:
        """Puts an entry into an instance's inbox. The instance's document is neither read nor written, so any number of
        callers can do so at the same time. An entry whose name is there already changes nothing and is no error.

        Raises:
            TooLarge: the body has more than ``document.INBOX_ENTRY_BYTES_MAX``. Nothing was written.
            InvalidRequest: the name of the entry is not one. Nothing was written.
        """
        ...

    async def inbox(self, workflow: str, id: str, limit: int = 100) -> Sequence[InboxEntry]:
        """The first entries of an instance's inbox, by ``at`` and ``name``. Load the instance before, not after: then
        an entry that another commit takes in meanwhile makes the commit that is based on that load a conflict."""
        ...

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """Deletes entries of inboxes that nobody will take in, as their instance has ended or is gone. One that is gone
        is no error."""
        ...

    async def uncollected(self, before: datetime, limit: int = 100) -> Sequence[tuple[str, str]]:
        """Workflow and id of the instances, each once, whose inbox has an entry that was posted not after ``before``,
        the oldest first; the instance itself may be gone. Looks at ``limit`` entries at most."""
        ...

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """What is recorded under an instance's key, unless it had expired by ``now``."""
        ...

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Any] | None = None,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """The instances of a workflow, those that were updated last first.

        Args:
            search: only those whose search fields have these values: texts, numbers, booleans or None.

        Raises:
            InvalidRequest: the cursor is not one that this method gave.
        """
        ...

    async def workflows(self) -> Sequence[str]:
        """The names of the workflows that have instances, in any order."""
        ...

    async def due(self, before: datetime, limit: int = 100, *, after: Instance | None = None) -> Sequence[Instance]:
        """Instances whose ``wake_at`` is not after ``before``, the longest overdue first; damaged ones are left out.

        Args:
            after: one that this method gave: only those that follow it.
        """
        ...

    async def ping(self) -> None:
        """Reads as little as shows that the store answers.

        Raises:
            Unavailable: the store does not answer.
        """
        ...

    async def close(self) -> None:
        """Releases what the store holds open."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """A request that a queue makes later.

    Attributes:
        name: 1 to 500 of the characters ``A-Za-z0-9_-``; a queue takes each name once. Empty: the queue names it, and
            takes it each time that it is created.
        path: one of those in ``cloud_adapter.engine.tasks``.
        body: JSON data.
        at: when it is due; None: now.
        deadline: how long the request may take before it counts as failed; None: as the queue has it. A queue may have
            limits of its own.
        group: tasks of one group take turns with those of others, where the queue can see to it; it is no part of what
            is delivered.
    """

    name: str
    path: str
    body: dict[str, Any]
    at: datetime | None = None
    deadline: timedelta | None = None
    group: str = ""


class TaskQueue(Protocol):
    """Makes requests later: at least once, in no order, again and again until one is acknowledged.

    Attributes:
        calls_max: how many calls are best made at the same time; 1 where a call costs no round trip.
    """

    @property
    def calls_max(self) -> int: ...

    async def create(self, task: Task) -> None:
        """Adds a task. A name that the queue has, or had lately, changes nothing and is no error.

        Raises:
            InvalidRequest: the name is not one, or the task is due in more than 30 days.
            TooLarge: the body has more than ``TASK_BYTES_MAX``.
            Unavailable: whether it was added is not known; try again.
        """
        ...

    async def delete(self, name: str) -> None:
        """Takes a task out; one that is not there (any more) is no error."""
        ...


class Clock(Protocol):
    """The time, and waiting for it to pass."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Returns after that time."""
        ...
