"""The queries for many instances at a time, and what is read of their documents."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from itertools import product
from typing import Any, TypeVar

from google.cloud.firestore import AsyncClient, AsyncCollectionReference, AsyncQuery, FieldFilter, Or

from cloud_adapter.document import Instance
from cloud_adapter.errors import DamagedDocument, InvalidRequest
from cloud_adapter.names import check_id
from cloud_adapter.ports import Order
from cloud_adapter.stores.damage import readable
from cloud_adapter.stores.firestore.calls import Calls
from cloud_adapter.stores.firestore.documents import (
    DUE_PATHS,
    INBOX,
    INSTANCES,
    LOAD_PATHS,
    SUMMARY_PATHS,
    Snapshot,
    due_of,
    instance_of,
    instance_reference,
    lacks_error,
    summary_of,
)
from cloud_adapter.stores.firestore.shards import Shards
from cloud_adapter.stores.listings import read_cursor
from cloud_adapter.summaries import Due, Summary

T = TypeVar("T")

EXECUTIONS_PER_CALL = 20
"""The most executions that a list reads in one RPC."""

INSTANCES_PER_CALL = 25
"""How many whole instances of a shard are read in one RPC. They may be large, and several shards are read at a time."""

TIMES = {Order.UPDATED: "updated_at", Order.CREATED: "created_at"}
"""The field by which an order sorts first."""


def listing(
    collection: AsyncCollectionReference,
    status: str | None,
    search: Mapping[str, Sequence[Any]],
    order: Order,
    cursor: str | None,
    shards: Shards,
) -> Sequence[AsyncQuery]:
    """Returns the queries of a listing, from the page of the cursor: one, or one for each combination of values if
    shards are read, because a query has at most 30 alternatives."""
    query = collection.order_by("__name__") if order is Order.ID else shards.ordered(_by_time(collection, order))
    query = _with_status(query, status).select(SUMMARY_PATHS)
    if cursor is not None:
        at, id = read_cursor(order, cursor)
        place: dict[str, Any] = {} if order is Order.ID else {TIMES[order]: at}
        place["__name__"] = collection.document(_cursor_id(id))
        query = query.start_after(place)
    if order is Order.ID or not shards.are_read:
        return [_searched(query, search)]
    combinations = product(*search.values())
    return [
        _searched(query, {name: [value] for name, value in zip(search, values, strict=True)}) for values in combinations
    ]


async def instances_in_shard(
    calls: Calls, collection: AsyncCollectionReference, shards: Shards, shard: Sequence[int], status: str | None
) -> AsyncGenerator[Instance | str]:
    """See ``ports.ShardedStore.in_shard``. An instance that is read costs one read, not two as in a listing."""
    query = _with_status(shards.ordered(_by_time(collection, Order.UPDATED), shard), status)
    query = query.select([*LOAD_PATHS, TIMES[Order.UPDATED]]).limit(INSTANCES_PER_CALL)
    while True:
        snapshots = await calls.run(query)
        for snapshot in snapshots:
            try:
                yield instance_of(snapshot)
            except DamagedDocument as error:
                yield str(error)
        if len(snapshots) < INSTANCES_PER_CALL:
            return
        query = query.start_after(snapshots[-1])


def _by_time(collection: AsyncCollectionReference, order: Order) -> AsyncQuery:
    down = AsyncQuery.DESCENDING
    query: AsyncQuery = collection.order_by(TIMES[order], direction=down).order_by("__name__", direction=down)
    return query


def _with_status(query: AsyncQuery, status: str | None) -> AsyncQuery:
    return query if status is None else query.where(filter=FieldFilter("status", "==", status))


def _searched(query: AsyncQuery, search: Mapping[str, Sequence[Any]]) -> AsyncQuery:
    for name, values in search.items():
        # The name is quoted if it has letters outside ASCII.
        path = AsyncClient.field_path("search", name)
        # Not `in`, which does not find null.
        equal = [FieldFilter(path, "==", value) for value in values]
        query = query.where(filter=equal[0] if len(equal) == 1 else Or([*equal]))
    return query


def _cursor_id(id: str) -> str:
    """Returns the id in a cursor. Raises ``InvalidRequest`` if no instance can have it."""
    try:
        return check_id(id)
    except InvalidRequest as error:
        raise InvalidRequest(f"this is not a cursor of this list: {error}") from error


async def summaries(
    calls: Calls, client: AsyncClient, snapshots: Sequence[Snapshot], damaged: list[str]
) -> Sequence[Summary]:
    """Reads summaries. For failed instances that an earlier release has written, it also reads their executions."""
    executions: dict[str, Snapshot] = {}
    old = [snapshot.reference for snapshot in snapshots if lacks_error(snapshot)]
    for first in range(0, len(old), EXECUTIONS_PER_CALL):
        read = await calls.get_all(client, old[first : first + EXECUTIONS_PER_CALL], ["execution"])
        executions |= {snapshot.reference.path: snapshot for snapshot in read}
    return list(readable(snapshots, lambda found: summary_of(found, executions.get(_path(found))), damaged, _path))


async def due_instances(
    calls: Calls,
    client: AsyncClient,
    condition: FieldFilter,
    limit: int,
    after: Due | None,
    shards: Shards,
    shard: Sequence[int] | None = None,
) -> Sequence[Due]:
    """Returns the instances that meet a condition on a time, in the order of that time.

    Args:
        condition: on ``wake_at``, or on ``postponed_until``, which says nothing if a commit has replaced ``wake_at``.
        after: only later ones are returned.
        shard: only those in it are returned.
    """
    path = condition.field_path
    group = client.collection_group(INSTANCES).where(filter=condition)
    query: AsyncQuery = group.order_by(path).order_by("__name__")
    query = (shards.ordered(query, shard) if path == "wake_at" else query).select(DUE_PATHS)
    if after is not None:
        reference = instance_reference(client, after.workflow, after.id)
        query = query.start_after({path: after.wake_at, "__name__": reference})
    found: list[Due] = []
    while True:
        wanted = limit - len(found)
        snapshots = await calls.run(query.limit(wanted))
        is_wanted = [snapshot for snapshot in snapshots if path == "wake_at" or _is_postponed(snapshot)]
        found += readable(is_wanted, due_of, [], _path)
        if len(snapshots) < wanted or len(found) == limit:
            return found
        query = query.start_after(snapshots[-1])


def _is_postponed(snapshot: Snapshot) -> bool:
    document = snapshot.to_dict() or {}
    return document.get("postponed_until") == document.get("wake_at")


async def owners(
    calls: Calls, client: AsyncClient, before: datetime, limit: int, since: datetime | None
) -> Sequence[tuple[str, str]]:
    """Returns workflow and id of the instances of the oldest inbox entries, without duplicates."""
    group = client.collection_group(INBOX).where(filter=FieldFilter("at", "<=", before))
    if since is not None:
        group = group.where(filter=FieldFilter("at", ">", since))
    found: dict[tuple[str, str], None] = {}
    for entry in await calls.run(group.order_by("at").order_by("__name__").select([]).limit(limit)):
        match entry.reference.path.split("/"):
            case ["workflows", workflow, "instances", id, _, _]:
                found[workflow, id] = None
    return list(found)


def _path(snapshot: Snapshot) -> str:
    path: str = snapshot.reference.path
    return path
