"""The history of an instance: its entries, the texts as which they are stored, and which of them are kept.

A commit adds entries without reading the earlier ones. Each entry is stored as a text of its own: its number, a space,
and JSON. Because of the number, all texts of an instance differ, as Firestore adds to an array only what it does not
contain. Now and then, a commit also removes what is not kept, and reads the stored texts for that; see
``document.replaces_history``. No decision depends on the history, so a text that cannot be read stops nothing but its
display. This module does not depend on a database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, ConfigDict, TypeAdapter
from pydantic_core import from_json

from workflow_core.records import record

HISTORY_MAX = 50
"""How many history entries an instance keeps; fewer if they take too many bytes."""

FIRST_KEPT = 5
"""How many of them are its first ones. The others are the newest."""

OPERATIONS_KEPT = 15
"""How many of them are of operators, even if that many others are newer."""


class HistoryKind(StrEnum):
    """The kind of a history entry. The values are stored: add new ones, but never change one."""

    CREATED = "created"
    FAILED = "failed"
    """The instance has failed."""
    EVENT = "event"
    EVENT_FAILED = "event failed"
    EVENT_REJECTED = "event rejected"
    """A buffered event was rejected when it was delivered. The instance continues without it."""
    BUFFERED = "buffered"
    TIMEOUT = "timeout"
    STEP = "step"
    STEP_FAILED = "step failed"
    SETUP = "setup"
    SETUP_FAILED = "setup failed"
    TEARDOWN = "teardown"
    TEARDOWN_FAILED = "teardown failed"
    ACTIVITY = "activity"
    ACTIVITY_FAILED = "activity failed"
    CHILD = "child"
    CHILD_FAILED = "child failed"
    TELL = "tell"
    TELL_FAILED = "tell failed"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RETRY = "retry"
    GOTO = "goto"
    SET = "set"

    @property
    def failed(self) -> bool:
        """Whether the instance has failed, or an attempt of some code has."""
        return self in _FAILED


OPERATIONS = frozenset(
    (
        HistoryKind.CANCEL,
        HistoryKind.PAUSE,
        HistoryKind.UNPAUSE,
        HistoryKind.RETRY,
        HistoryKind.GOTO,
        HistoryKind.SET,
        HistoryKind.TERMINATE,
    )
)
"""The kinds of what operators do."""

_FAILED = frozenset(
    (
        HistoryKind.FAILED,
        HistoryKind.EVENT_FAILED,
        HistoryKind.STEP_FAILED,
        HistoryKind.SETUP_FAILED,
        HistoryKind.TEARDOWN_FAILED,
        HistoryKind.ACTIVITY_FAILED,
        HistoryKind.CHILD_FAILED,
        HistoryKind.TELL_FAILED,
    )
)

_KINDS: Mapping[str, str] = {kind.value: kind for kind in HistoryKind}


def _known_kind(text: str) -> str:
    # A newer release may have stored a kind that this release does not know. No decision depends on the history, so
    # such an entry must not make the instance unreadable. The kind stays a text, which is shown and stored unchanged.
    return _KINDS.get(text, text)


@record(slots=True)
class HistoryEntry:
    """One thing that happened to an instance. Nothing changes an entry, but to make a frozen record of so many values
    takes several times as long.

    Attributes:
        kind: ``created`` or ``failed``; what was done: ``event``, ``timeout``, ``step``, ``setup``, ``teardown``,
            ``activity``, ``child`` or ``tell``, followed by ``failed`` if it failed; ``buffered`` or ``event
            rejected``; what an operator did: the name of the operation.
        statement: the step or event of the entry.
        select: for an event that was handled, the select that waited for it.
        duration_ms: how long the user's code ran.
        error: the error of a failure.
        by: who did it: the name of the principal, or what the operator wrote if there is no principal.
        by_id: the id of the principal.
        claimed: the name that the principal wrote in its request, if it is another one.
        reason: the reason, if the operator has given one.
        detail: what the operator has changed.
    """

    at: AwareDatetime
    kind: Annotated[str, AfterValidator(_known_kind)]  # a HistoryKind, or the text of an unknown one
    statement: str = ""
    thread: str = ""
    pc: int = 0
    duration_ms: float = 0
    error: str = ""
    select: str = ""
    by: str = ""
    reason: str = ""
    detail: str = ""
    by_id: str = ""
    claimed: str = ""


_ENTRY: TypeAdapter[HistoryEntry] = TypeAdapter(HistoryEntry)
_entry_json = _ENTRY.serializer.to_json
"""``_ENTRY.dump_json`` takes half as long again."""
_ENTRIES: TypeAdapter[tuple[HistoryEntry, ...]] = TypeAdapter(
    tuple[HistoryEntry, ...], config=ConfigDict(defer_build=True)
)


def entry_texts(entries: Iterable[HistoryEntry], first: int) -> list[str]:
    """Returns the texts of new entries. ``first`` is the number of the first one."""
    return [
        f"{number} {_entry_json(entry, exclude_defaults=True).decode()}" for number, entry in enumerate(entries, first)
    ]


def read_texts(texts: Iterable[str]) -> tuple[HistoryEntry, ...]:
    """The inverse of ``entry_texts``. Raises ``ValueError`` if a text cannot be read."""
    return tuple(_ENTRY.validate_json(text.partition(" ")[2]) for text in texts)


def read_old_history(history: str) -> tuple[HistoryEntry, ...]:
    """Reads a history that an earlier release has stored as one JSON array. Raises ``ValueError`` if that fails."""
    return _ENTRIES.validate_json(history or "[]")


def readable_old_history(history: str) -> tuple[HistoryEntry, ...]:
    """Reads the same, and returns nothing if that fails."""
    try:
        return read_old_history(history) if history else ()
    except ValueError:
        return ()


def bytes_of(texts: Iterable[str]) -> int:
    """Returns the bytes that a database counts for texts."""
    return sum(len(text.encode()) + 1 for text in texts)


def kept_entries(history: tuple[HistoryEntry, ...]) -> tuple[HistoryEntry, ...]:
    """Returns the entries that an instance keeps: the first ones, the newest ones, and the last ``OPERATIONS_KEPT`` of
    operators. Events, of which a client can send any number, therefore do not wash these out."""
    if len(history) <= HISTORY_MAX:
        return history
    order = _by_importance([entry.kind in OPERATIONS for entry in history])
    return tuple(history[place] for place in sorted(islice(order, HISTORY_MAX)))


def kept_texts(texts: Sequence[str], bytes_max: int) -> list[str]:
    """Returns the texts of the entries that an instance keeps; see ``kept_entries``. If they have more than
    ``bytes_max``, the least important ones are left out."""
    kept: list[int] = []
    left = bytes_max
    for place in islice(_by_importance([_is_of_operator(text) for text in texts]), HISTORY_MAX):
        size = bytes_of((texts[place],))
        if size <= left:
            kept.append(place)
            left -= size
    return [texts[place] for place in sorted(kept)]


def _by_importance(of_operators: Sequence[bool]) -> Iterable[int]:
    """Returns the places of entries, the most important ones first.

    Args:
        of_operators: for each entry, whether an operator caused it.
    """
    newest = range(len(of_operators) - 1, -1, -1)
    operations = [place for place in newest if of_operators[place]][:OPERATIONS_KEPT]
    first = range(min(FIRST_KEPT, len(of_operators)))
    return dict.fromkeys((*operations, *first, *newest))


def _is_of_operator(text: str) -> bool:
    try:
        entry = from_json(text.partition(" ")[2])
    except ValueError:
        return False
    return isinstance(entry, Mapping) and entry.get("kind") in OPERATIONS
