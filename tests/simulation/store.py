"""The simulated database: the Store port on a dictionary, with the semantics of the real ones.

``Database`` is what is stored, and changes at once; ``SimulatedStore`` is one process's way to it, which may fail.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from cloud_adapter.document import (
    Document,
    InboxEntry,
    Instance,
    KeyRecord,
    check_entry,
    decode,
    encode,
    replaces_history,
    with_whole_history,
    written,
)
from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InstanceNotFound, InvalidRequest, Unavailable
from cloud_adapter.ports import PAGE_SIZE, Order, Page
from cloud_adapter.stores.firestore.shards import SHARD, Shards
from cloud_adapter.stores.listings import PageReader, time_in
from cloud_adapter.summaries import Due, Summary, read_due, summary_of

Call = Callable[[str, Callable[[], Any]], Awaitable[Any]]
"""Makes a call to the outside: gets its name, and what it does when it arrives there."""

Observer = Callable[[Instance | None, Instance, Sequence[KeyRecord], Any], None]
"""Is told of each write of an instance that landed: the instance before and after it, the keys, and what ``holds`` gave
for it."""


class Database:
    """Documents with their whole history, and the version that a commit is compared with. Each write makes one."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], tuple[int, Document]] = {}
        self.damaged: dict[tuple[str, str], Document] = {}
        self.keys: dict[tuple[str, str, str], KeyRecord] = {}
        self.entries: dict[tuple[str, str, str], InboxEntry] = {}
        self.posted: dict[tuple[str, str, str], datetime] = {}
        self.cursors: dict[str, tuple[datetime | None, str]] = {}
        self._versions = itertools.count(1)

    def load(self, workflow: str, id: str) -> Instance:
        try:
            version, document = self.documents[workflow, id]
        except KeyError:
            raise InstanceNotFound(f"there is no instance {id!r} of {workflow!r}") from None
        return decode(document, version)

    def read(self, workflow: str, id: str, *, history: bool) -> Instance:
        """Loads it as a process does, which meets what is damaged."""
        at = workflow, id
        if at not in self.documents:
            raise InstanceNotFound(f"there is no instance {id!r} of {workflow!r}")
        version, document = self.documents[at]
        document = self.damaged.get(at, document)
        if not history:
            document = {name: value for name, value in document.items() if name != "entries"}
        return decode(document, version)

    def write(
        self,
        instance: Instance,
        keys: Sequence[KeyRecord],
        taken: Sequence[InboxEntry],
        *,
        create: bool,
        shard: Document | None = None,
    ) -> Instance:
        """Writes a new instance (``create``), or one whose version is the stored one; gives it as it is written."""
        at, document = (instance.workflow, instance.id), encode(instance)
        version, old = self.documents.get(at, (0, {"entries": []}))
        if create and version:
            raise InstanceExists(f"there is an instance {at}")
        if not create and version != instance.version:
            raise Conflict(f"{at} is not version {instance.version}, but {version}")
        now = document["updated_at"]
        for key in keys:
            known = self.keys.get((*at, key.key))
            if known is not None and (now is None or known.expires_at > now):
                raise DuplicateKey(f"{at} has the key {key.key!r}")
        self.keys |= {(*at, key.key): key for key in keys}
        if replaces_history(instance):
            document = with_whole_history(instance, old["entries"])
        else:
            document = document | {"entries": [*old["entries"], *document["entries"]]}
        self.documents[at] = (new := next(self._versions)), old | document | (shard or {})
        self.damaged.pop(at, None)
        self.discard(taken)
        return written(instance, new, document["entries_bytes"])

    def index(self, shards: Sequence[int] | None = None) -> Iterator[tuple[int, Document]]:
        """The documents with one of the shards; None: all."""
        return (entry for entry in self.documents.values() if shards is None or entry[1].get(SHARD) in shards)

    def due(self, shards: Sequence[int] | None = None) -> list[Due]:
        """What recovery finds, also of documents that are damaged."""
        return [
            read_due(document, version) for version, document in self.index(shards) if document["wake_at"] is not None
        ]

    def add_shards(self, shards: Shards) -> int:
        """Writes the shard of the documents that have none. Gives how many these were."""
        without = [at for at, (_, document) in self.documents.items() if SHARD not in document]
        for at in without:
            _, document = self.documents[at]
            self.documents[at] = next(self._versions), document | shards.fields(*at)
        return len(without)

    def postpone(self, due: Due, until: datetime) -> None:
        version, document = self.documents.get((due.workflow, due.id), (None, {}))
        if version is not None and version == due.version:
            moved = {"wake_at": until, "postponed": due.postponed + 1, "postponed_until": until}
            self.documents[due.workflow, due.id] = next(self._versions), document | moved

    def post(self, entry: InboxEntry) -> None:
        at = entry.workflow, entry.id, entry.name
        if at not in self.entries:
            self.entries[at] = entry
            self.posted.setdefault(at, entry.at)

    def inbox(self, workflow: str, id: str, prefix: str | None = None) -> list[InboxEntry]:
        found = [entry for entry in self.entries.values() if (entry.workflow, entry.id) == (workflow, id)]
        if prefix is not None:
            return sorted((entry for entry in found if entry.name.startswith(prefix)), key=lambda entry: entry.name)
        return sorted(found, key=lambda entry: (entry.at, entry.name))

    def uncollected(self, before: datetime) -> list[InboxEntry]:
        found = [entry for entry in self.entries.values() if entry.at <= before]
        return sorted(found, key=lambda entry: (entry.at, entry.workflow, entry.id, entry.name))

    def discard(self, entries: Sequence[InboxEntry]) -> None:
        for entry in entries:
            self.entries.pop((entry.workflow, entry.id, entry.name), None)

    def readable(self, shards: Sequence[int] | None = None) -> list[Instance]:
        found = [decode(document, version) for version, document in self.index(shards)]
        return [one for one in found if (one.workflow, one.id) not in self.damaged]

    def all(self) -> list[Instance]:
        return [decode(document, version) for version, document in self.documents.values()]


class SimulatedStore:
    """The Store port.

    Args:
        call: carries a call to the database.
        written: told of each write that landed.
        holds: asked, when a write is sent, what is in it.
        shards: asked at each call which shards are written and read, as by ``FirestoreStore``.
    """

    def __init__(
        self,
        database: Database,
        call: Call,
        written: Observer = lambda old, new, keys, held: None,
        holds: Callable[[Instance], Any] = lambda instance: None,
        shards: Callable[[], Shards] = Shards,
    ) -> None:
        self._database = database
        self._carry = call
        self._written = written
        self._holds = holds
        self._shards = shards
        self._closed = False

    async def _call(self, name: str, land: Callable[[], Any]) -> Any:
        if self._closed:
            raise Unavailable("the store is closed")
        return await self._carry(name, land)

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        await self._write("create", instance, () if key is None else (key,), ())

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        written: Instance = await self._write("commit", instance, tuple(keys), tuple(taken))
        return written

    async def _write(
        self, name: str, instance: Instance, keys: Sequence[KeyRecord], taken: Sequence[InboxEntry]
    ) -> Any:
        encode(instance)  # raises before the call
        held, shard = self._holds(instance), self._shards().fields(instance.workflow, instance.id)

        def land() -> Instance:
            at = instance.workflow, instance.id
            old = self._database.load(*at) if at in self._database.documents else None
            written = self._database.write(instance, keys, taken, create=name == "create", shard=shard)
            self._written(old, self._database.load(*at), keys, held)
            return written

        return await self._call(name, land)

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Instance:
        instance: Instance = await self._call("load", lambda: self._database.read(workflow, id, history=history))
        return instance

    async def post(self, entry: InboxEntry) -> None:
        check_entry(entry)
        await self._call("post", lambda: self._database.post(entry))

    async def inbox(
        self, workflow: str, id: str, limit: int = 100, *, prefix: str | None = None
    ) -> Sequence[InboxEntry]:
        entries: Sequence[InboxEntry] = await self._call(
            "inbox", lambda: self._database.inbox(workflow, id, prefix)[:limit]
        )
        return entries

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        gone = tuple(entries)
        await self._call("discard", lambda: self._database.discard(gone))

    async def uncollected(
        self, before: datetime, limit: int = 100, *, since: datetime | None = None
    ) -> Sequence[tuple[str, str]]:
        def look() -> Sequence[tuple[str, str]]:
            found = [one for one in self._database.uncollected(before) if since is None or one.at > since][:limit]
            return list(dict.fromkeys((entry.workflow, entry.id) for entry in found))

        instances: Sequence[tuple[str, str]] = await self._call("uncollected", look)
        return instances

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        record: KeyRecord | None = await self._call("load_key", lambda: self._database.keys.get((workflow, id, key)))
        return record if record is not None and record.expires_at > now else None

    @property
    def shards(self) -> Sequence[Sequence[int]]:
        return self._shards().groups

    async def due(
        self, before: datetime, limit: int = 100, *, after: Due | None = None, shard: Sequence[int] | None = None
    ) -> Sequence[Due]:
        values = self._shards().read_values if shard is None else shard
        return await self._due("due", lambda due: due.wake_at <= before, limit, after, values)

    async def in_shard(
        self, workflow: str, shard: Sequence[int], *, status: str | None = None
    ) -> AsyncGenerator[Instance | str]:
        raise NotImplementedError("no run reads whole instances")
        yield ""

    async def postpone(self, due: Due, until: datetime) -> None:
        await self._call("postpone", lambda: self._database.postpone(due, until))

    async def postponed(self, now: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        return await self._due("postponed", lambda due: due.postponed > 0 and due.wake_at > now, limit, after)

    async def _due(
        self,
        name: str,
        condition: Callable[[Due], bool],
        limit: int,
        after: Due | None,
        shards: Sequence[int] | None = None,
    ) -> Sequence[Due]:
        def place(due: Due) -> tuple[datetime, str, str]:
            return due.wake_at, due.workflow, due.id

        def look() -> Sequence[Due]:
            due = (one for one in self._database.due(shards) if condition(one))
            return sorted((one for one in due if after is None or place(one) > place(after)), key=place)[:limit]

        found: Sequence[Due] = await self._call(name, look)
        return found

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
        cursors = self._database.cursors
        if cursor is not None and (cursor not in cursors or not cursor.startswith(f"{order}-")):
            raise InvalidRequest(f"{cursor!r} is no cursor that this store gave")

        def place(summary: Summary) -> tuple[datetime, str]:
            return time_in(order, summary), summary.id

        shards = None if order is Order.ID else self._shards().read_values

        def look() -> Page:
            found = [summary_of(one) for one in self._database.readable(shards) if one.workflow == workflow]
            found = [one for one in found if status is None or one.status == status]
            wanted = (search or {}).items()
            found = [
                one
                for one in found
                if all(
                    name in one.search and any(_same(one.search[name], value) for value in some)
                    for name, some in wanted
                )
            ]
            down = order is not Order.ID
            found.sort(key=place, reverse=down)
            if cursor is not None:
                last = cursors[cursor]
                found = [one for one in found if (place(one) < last if down else place(one) > last)]
            reader = PageReader(order, limit)
            for one in found:
                if reader.add(one):
                    break
            page = reader.page()
            if page.cursor is None:
                return page
            cursors[following := f"{order}-{len(cursors)}"] = place(page.instances[-1])
            return replace(page, cursor=following)

        page: Page = await self._call("list", look)
        return page

    async def workflows(self) -> Sequence[str]:
        names: Sequence[str] = await self._call("workflows", lambda: list({one for one, _ in self._database.documents}))
        return names

    async def ping(self) -> None:
        await self._call("ping", lambda: None)

    async def close(self) -> None:
        self._closed = True


def _is_among(value: Any, values: Sequence[Any]) -> bool:
    return any(_same(value, other) for other in values)


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) is isinstance(other, bool)


class LocalSimulatedStore(SimulatedStore):
    """The LocalStore port."""

    async def is_current(self, workflow: str, id: str, version: Any) -> bool:
        found: bool = await self._call(
            "is_current", lambda: self._database.documents.get((workflow, id), (None,))[0] == version
        )
        return found
