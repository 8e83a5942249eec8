"""The statements of the store. They contain constants only; all values are parameters.

Theory of operation. A commit is one statement: it changes the instance if its revision is the expected one, and each of
its other parts (entries of the history, keys, the inbox, tasks) does something only if that has changed a row. A key
that is recorded and has not expired must make the whole statement fail. Its part then sets a column to NULL that must
not be NULL, and PostgreSQL reverts everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cloud_adapter.document import InboxEntry, KeyRecord
from cloud_adapter.ports import Order
from cloud_adapter.postgresql import tasks
from cloud_adapter.stores.columns import COLUMNS, DUE_COLUMNS, EXPIRED_KEYS_PER_COMMIT, FIXED, new_revision, numbered
from cloud_adapter.stores.postgresql.rows import CHANGED, STORED
from cloud_adapter.summaries import SUMMARY_FIELDS

SELECT = f"SELECT revision, {', '.join(COLUMNS)} FROM gorchestrate.instances WHERE workflow = $1 AND id = $2"  # nosec B608
SELECT_ALL = (
    f"SELECT revision, {', '.join(COLUMNS)}, "  # nosec B608
    "(SELECT array_agg(number || ' ' || entry ORDER BY number) FROM gorchestrate.history_entries AS entries "
    "WHERE entries.workflow = instances.workflow AND entries.id = instances.id) "
    "FROM gorchestrate.instances WHERE workflow = $1 AND id = $2"
)
ENTRIES = (
    "SELECT number || ' ' || entry FROM gorchestrate.history_entries WHERE workflow = $1 AND id = $2 ORDER BY number"
)
KEY = (
    "SELECT fingerprint, response, expires_at FROM gorchestrate.idempotency_keys "
    "WHERE workflow = $1 AND id = $2 AND key = $3 AND expires_at > $4"
)
KEYS = (
    "SELECT key, fingerprint, response, expires_at FROM gorchestrate.idempotency_keys "
    "WHERE workflow = $1 AND id = $2 AND expires_at > $3 AND key > $4 ORDER BY key LIMIT $5"
)
KNOWN_KEYS = (
    "SELECT key FROM gorchestrate.idempotency_keys WHERE workflow = $1 AND id = $2 AND key = ANY($3::text[]) "
    "AND (expires_at <= $4) IS NOT TRUE ORDER BY key"
)
POST = (
    "INSERT INTO gorchestrate.inbox (workflow, id, name, at, body) VALUES ($1, $2, $3, $4, $5) "
    "ON CONFLICT (workflow, id, name) DO NOTHING"
)
DISCARD = (
    "DELETE FROM gorchestrate.inbox USING unnest($1::text[], $2::text[], $3::text[]) AS gone (workflow, id, name) "
    "WHERE inbox.workflow = gone.workflow AND inbox.id = gone.id AND inbox.name = gone.name"
)
INBOX = "SELECT name, at, body FROM gorchestrate.inbox WHERE workflow = $1 AND id = $2 ORDER BY at, name LIMIT $3"
INBOX_PREFIX = (
    "SELECT name, at, body FROM gorchestrate.inbox WHERE workflow = $1 AND id = $2 AND name >= $4 AND name < $5 "
    "ORDER BY name LIMIT $3"
)
UNCOLLECTED = (
    "SELECT workflow, id FROM gorchestrate.inbox WHERE at <= $1 AND ($3::timestamptz IS NULL OR at > $3) "
    "ORDER BY at, workflow, id LIMIT $2"
)
LIST = f"SELECT {', '.join(SUMMARY_FIELDS)}, error FROM gorchestrate.instances WHERE workflow = $1"  # nosec B608
ORDERS = {
    Order.UPDATED: ("updated_at", "updated_at DESC, id DESC"),
    Order.CREATED: ("created_at", "created_at DESC, id DESC"),
    Order.ID: ("", "id"),
}
"""For each order: the column of the time by which it sorts first, and the sorting."""
# Finds the next name with the index, because reading all rows for their different names takes long.
WORKFLOWS = (
    "WITH RECURSIVE found AS ((SELECT workflow FROM gorchestrate.instances ORDER BY workflow LIMIT 1) UNION ALL "
    "SELECT (SELECT workflow FROM gorchestrate.instances WHERE workflow > found.workflow ORDER BY workflow LIMIT 1) "
    "FROM found WHERE found.workflow IS NOT NULL) SELECT workflow FROM found WHERE workflow IS NOT NULL"
)
_SELECT_DUE = f"SELECT {', '.join(DUE_COLUMNS)} FROM gorchestrate.instances"  # nosec B608
DUE = f"{_SELECT_DUE} WHERE wake_at <= $1 ORDER BY wake_at, workflow, id LIMIT $2"
DUE_AFTER = DUE.replace("ORDER BY", "AND (wake_at, workflow, id) > ($3, $4, $5) ORDER BY")
POSTPONED = (
    f"{_SELECT_DUE} WHERE postponed_until > $1 AND postponed_until = wake_at "
    "ORDER BY postponed_until, workflow, id LIMIT $2"
)
POSTPONED_AFTER = POSTPONED.replace("ORDER BY", "AND (postponed_until, workflow, id) > ($3, $4, $5) ORDER BY")
POSTPONE = (
    "UPDATE gorchestrate.instances SET revision = $6, wake_at = $4, postponed = $5, postponed_until = $4 "
    "WHERE workflow = $1 AND id = $2 AND revision = $3"
)
PING = "SELECT 1 FROM gorchestrate.instances LIMIT 1"


@dataclass(slots=True)
class Statement:
    """A statement of several parts, and its parameters. The first part has the name ``changed``."""

    parts: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The whole statement. It returns whether the first part has changed a row."""
        return f"WITH {', '.join(self.parts)} SELECT count(*) FROM changed"  # nosec B608

    def add(self, name: str, part: Callable[[int], str], *values: object) -> None:
        """Adds a part. ``part`` returns its text, given the number of its first parameter."""
        self.parts.append(f"{name} AS ({part(len(self.values) + 1)})")
        self.values += values

    def change_history(self, workflow: str, id: str, kept: Sequence[str], stored: Sequence[str]) -> None:
        """Adds those of the kept entries that are not stored, and removes those of the stored ones that are not
        kept."""
        old = frozenset(stored)
        new = numbered(text for text in kept if text not in old)
        gone = [number for number, _ in numbered(old.difference(kept))]
        if new:
            self.add("added", _added, workflow, id, [number for number, _ in new], [entry for _, entry in new])
        if gone:
            self.add("removed", _removed, workflow, id, gone)

    def record(self, workflow: str, id: str, keys: Sequence[KeyRecord], now: datetime | None) -> None:
        """Records keys, and deletes some that have expired by ``now``; None: no key has."""
        if not keys:
            return
        columns = zip(*((key.key, key.expires_at, key.fingerprint, key.response) for key in keys), strict=True)
        self.add("recorded", _recorded, workflow, id, now, *map(list, columns))
        names = [key.key for key in keys]
        self.add("purged", _purged, workflow, id, names, now, EXPIRED_KEYS_PER_COMMIT * len(keys))

    def take(self, entries: Sequence[InboxEntry]) -> None:
        """Deletes entries of the inbox."""
        if entries:
            self.add("taken", _taken, *names_of(entries))

    def change_tasks(self, create: Sequence[tasks.NewTask], delete: Sequence[str], now: datetime) -> None:
        """Creates and deletes tasks."""
        if create:
            self.add("created", lambda first: tasks.creation(first, "changed"), *tasks.values_of(create))
        if delete:
            self.add("deleted", lambda first: tasks.deletion(first, "changed"), delete, now)


def creation(values: Sequence[object]) -> Statement:
    """Returns the statement that creates an instance, with the values of ``STORED``."""
    statement = Statement()
    numbers = ", ".join(f"${number}" for number in range(1, len(STORED) + 2))
    statement.add(
        "changed",
        lambda _: (
            f"INSERT INTO gorchestrate.instances ({', '.join(STORED)}, revision) VALUES ({numbers}) "  # nosec B608
            "ON CONFLICT (workflow, id) DO NOTHING RETURNING revision"
        ),
        *values,
        new_revision(),
    )
    return statement


def change(version: object, revision: int, values: Sequence[object]) -> Statement:
    """Returns the statement that writes an instance, with the values of ``STORED`` and a new revision, if it has the
    version that was loaded."""
    statement = Statement()
    assignments = ", ".join(f"{name} = ${number}" for number, name in enumerate(("revision", *CHANGED), 4))
    statement.add(
        "changed",
        lambda _: (
            f"UPDATE gorchestrate.instances SET {assignments} "  # nosec B608
            "WHERE workflow = $1 AND id = $2 AND revision = $3 RETURNING revision"
        ),
        *(*values[:2], version, revision, *values[len(FIXED) :]),
    )
    return statement


def names_of(entries: Sequence[InboxEntry]) -> Sequence[Sequence[str]]:
    """Returns the parameters of ``DISCARD``."""
    return (
        [entry.workflow for entry in entries],
        [entry.id for entry in entries],
        [entry.name for entry in entries],
    )


def _added(first: int) -> str:
    return (
        f"INSERT INTO gorchestrate.history_entries (workflow, id, number, entry) "  # nosec B608
        f"SELECT ${first}, ${first + 1}, new.* "
        f"FROM unnest(${first + 2}::bigint[], ${first + 3}::text[]) AS new, changed"
    )


def _removed(first: int) -> str:
    return (
        f"DELETE FROM gorchestrate.history_entries USING changed WHERE workflow = ${first} "  # nosec B608
        f"AND id = ${first + 1} AND number = ANY(${first + 2}::bigint[])"
    )


def _recorded(first: int) -> str:
    workflow, id, now, key, expires_at, fingerprint, response = (f"${first + place}" for place in range(7))
    return (
        "INSERT INTO gorchestrate.idempotency_keys AS known (workflow, id, key, expires_at, fingerprint, response) "  # nosec B608
        f"SELECT {workflow}, {id}, new.* "
        f"FROM unnest({key}::text[], {expires_at}::timestamptz[], {fingerprint}::text[], {response}::text[]) AS new"
        ", changed ON CONFLICT (workflow, id, key) DO UPDATE SET "
        f"expires_at = excluded.expires_at, response = excluded.response, "
        f"fingerprint = CASE WHEN known.expires_at <= {now}::timestamptz THEN excluded.fingerprint END"
    )


def _purged(first: int) -> str:
    # Not those that the same statement replaces. Not those that another one deletes.
    workflow, id, names, now, count = (f"${first + place}" for place in range(5))
    return (
        "DELETE FROM gorchestrate.idempotency_keys USING (SELECT workflow, id, key "  # nosec B608
        f"FROM gorchestrate.idempotency_keys WHERE expires_at <= {now}::timestamptz "
        f"AND NOT (workflow = {workflow} AND id = {id} AND key = ANY({names}::text[])) "
        f"ORDER BY expires_at LIMIT {count} FOR UPDATE SKIP LOCKED) AS old "
        "WHERE idempotency_keys.workflow = old.workflow AND idempotency_keys.id = old.id "
        "AND idempotency_keys.key = old.key"
    )


def _taken(first: int) -> str:
    arrays = ", ".join(f"${first + place}::text[]" for place in range(3))
    return DISCARD.replace("$1::text[], $2::text[], $3::text[]", arrays).replace(" WHERE", ", changed WHERE", 1)
