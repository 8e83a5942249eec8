"""The compact stored form of many similar threads: shared data is stored once.

A waiting branch of a parallel ``ForEach`` takes 300 to 1,000 bytes as JSON, and almost all of it is the same in other
branches. Entries of the same shape (threads or teardowns) are therefore stored as one group of columns. A column is an
object with one key:

``same``: the value of all entries · ``runs``: value, count, value, count, ... · ``each``: one value per entry ·
``of``: for objects with the same keys, a column per key · ``items``: for lists of the same length, a column per
position

``at`` contains the places of a group's entries in their list, as first, count, first, count, ... Entries that are in no
group stay in their list unchanged and take the remaining places. Ids that can be derived are omitted: the id of a
thread from its name, its position and its parent, the id of a wait from its thread.

This module processes only JSON data; the result is validated when it is loaded. Invariant: ``unfold(fold(data)) ==
data`` for every execution. It holds because values are only moved, never interpreted: an id is omitted only if the
function that restores it returns the same text, and values are shared only if they are equal and have the same type
(``1`` is neither ``True`` nor ``1.0``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby, islice
from typing import Any

from pydantic_core import to_json

FOLDED = "folded"
"""The key that contains the groups. Data without it is in the plain form."""

FOLDED_MIN = 8
"""The minimum number of entries in a group. Shorter lists keep the plain form."""

CELLS_MAX = 2_000_000
"""The maximum number of values in all groups, so that a damaged document cannot exhaust the memory of its reader."""

_LISTS = ("threads", "teardowns")
_DEPTH_MAX = 6
_ITEMS_MAX = 20
_SHARED: tuple[set[type], ...] = ({str}, {int}, {bool}, {type(None)}, {str, type(None)}, {int, type(None)})
"""Types whose equal values are interchangeable, unlike ``1``, ``True`` and ``1.0``, or ``0.0`` and ``-0.0``."""

_FREE = object()
_PREFIX = f'{{"{FOLDED}":'
_REST = ',"id":"'
_END = f"}}]}}{_REST}"
"""Where the groups end and the rest begins: an execution begins with its id."""

Json = dict[str, Any]


def is_folded(text: str) -> bool:
    """Whether ``text``, a result of ``Execution.to_json``, is in the compact form."""
    return text.startswith(_PREFIX)


def fold(data: Json, known: Sequence[tuple[Sequence[int], Json]] = (), rest: Sequence[int] = ()) -> Json | None:
    """Returns the compact form of an execution; None if no entries are similar. Consumes ``data``, the plain form.

    Args:
        known: groups of threads that are not in ``data``: their places, and their columns.
        rest: with ``known``, the places of the threads in ``data``.
    """
    groups: dict[str, list[Json]] = {}
    cells_left = CELLS_MAX
    if known:
        data.setdefault("threads", [])
    for at, columns in known:
        cells_left -= len(at) * _width(columns, _DEPTH_MAX)
        groups.setdefault("threads", []).append({"at": _spans(at), **columns})
    for name in _LISTS:
        entries = data.get(name, ())
        if len(entries) < FOLDED_MIN:
            continue
        grouped: set[int] = set()
        for places in _alike(entries):
            column = _column([entries[place] for place in places], _DEPTH_MAX)
            cells = len(places) * _width(column, _DEPTH_MAX)
            if cells <= cells_left:
                cells_left -= cells
                at = [rest[place] for place in places] if known and name == "threads" else places
                groups.setdefault(name, []).append({"at": _spans(at), **column})
                grouped.update(places)
        data[name] = [_with_ids(entry) for place, entry in enumerate(entries) if place not in grouped]
    return {FOLDED: groups, **data} if groups else None


def thread_groups(data: Any) -> list[Json]:
    """Returns the groups of threads of an execution in the compact form; nothing if they are damaged."""
    folded = data.get(FOLDED) if isinstance(data, dict) else None
    groups = folded.get("threads", []) if isinstance(folded, dict) else []
    is_list = isinstance(groups, list) and all(
        isinstance(group, dict) and _is_flat(group.get("at")) for group in groups
    )
    return groups if is_list else []


def _is_flat(at: Any) -> bool:
    """Whether the places of a group are complete; ``unfold`` refuses all others."""
    return (
        isinstance(at, list) and len(at) % 2 == 0 and all(type(part) is int and 0 <= part <= CELLS_MAX for part in at)
    )


def places_of(group: Json) -> Sequence[int]:
    """Returns the places of the entries of a group in their list."""
    at = group["at"]
    if len(at) == 2:
        return range(at[0], at[0] + at[1])
    return [place for first, count in zip(at[::2], at[1::2], strict=True) for place in range(first, first + count)]


def may_be_folded(text: str | bytes) -> bool:
    """Whether ``text``, which may be any JSON, may be in the compact form. A cheap check, because most texts are
    not."""
    return b'"folded"' in text if isinstance(text, bytes) else '"folded"' in text


def parts_of(text: str) -> tuple[str, str]:
    """Returns the text of the groups of a compact form, and the text of the rest of it, an object. Both are complete if
    the first one is: JSON data may contain what separates them. It is empty if nothing separates them."""
    end = text.find(_END) + len(_END) - len(_REST)
    if end < len(_PREFIX) or not text.startswith(_PREFIX):
        return "", text
    return text[len(_PREFIX) : end], "{" + text[end + 1 :]


def joined(groups: bytes, rest: bytes) -> bytes:
    """Returns the text of a compact form from the text of its groups and of the rest of it, an object."""
    return b"%s%s,%s" % (_PREFIX.encode(), groups, rest[1:])


def text_of_groups(known: Iterable[tuple[Sequence[int], bytes]]) -> bytes:
    """Returns the text of groups of threads from their places and the texts of their columns."""
    groups = (b'{"at":%s,%s' % (to_json(_spans(at)), columns[1:]) for at, columns in known)
    return b'{"threads":[%s]}' % b",".join(groups)


def unfold(data: Any) -> Any:
    """Returns the plain form of an execution. Consumes ``data``, JSON data in either form.

    Raises:
        ValueError: the data is damaged.
    """
    if not isinstance(data, dict) or FOLDED not in data:
        return data
    try:
        groups = data.pop(FOLDED)
        cells = sum(_length(group["at"]) * _width(group, _DEPTH_MAX) for name in groups for group in groups[name])
        if cells > CELLS_MAX:
            raise ValueError(f"its groups contain {cells:,} values, the limit is {CELLS_MAX:,}")
        for name in groups:
            data[name] = _unfold_list(data[name], groups[name])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the compact form is damaged: {type(error).__name__}: {error}") from error
    return data


# --- folding ---------------------------------------------------------------------------------


def _alike(entries: list[Json]) -> list[list[int]]:
    """The places of the entries of each shape that has enough entries for a group."""
    shapes: dict[Any, list[int]] = {}
    for place, entry in enumerate(entries):
        _leave_ids_out(entry)
        shapes.setdefault(_shape(entry), []).append(place)
    return [places for places in shapes.values() if len(places) >= FOLDED_MIN]


def _shape(entry: Json) -> Any:
    """The properties that entries of a group share: the keys and the statement. Everything else may differ."""
    return (*entry, entry.get("name"), entry.get("step"), *map(tuple, entry.get("waits", ())))


def _column(values: list[Any], depth: int) -> Json:
    first, kinds = values[0], set(map(type, values))
    if kinds == {dict} and depth:
        keys = list(first)
        if all([*value] == keys for value in values):
            return {"of": {key: _column([value[key] for value in values], depth - 1) for key in keys}}
    elif kinds == {list} and depth and len(first) <= _ITEMS_MAX:
        if all(len(value) == len(first) for value in values):
            return {"items": [_column([value[i] for value in values], depth - 1) for i in range(len(first))]}
    elif kinds in _SHARED:
        if values.count(first) == len(values):
            return {"same": first}
        runs = [part for value, run in groupby(values) for part in (value, len(list(run)))]
        if len(runs) <= len(values):
            return {"runs": runs}
    return {"each": values}


def _spans(places: Sequence[int]) -> list[int]:
    if isinstance(places, range):
        return [places.start, len(places)]
    spans: list[int] = []
    for place in places:
        if spans and place == spans[-2] + spans[-1]:
            spans[-1] += 1
        else:
            spans += (place, 1)
    return spans


# --- ids that can be derived -----------------------------------------------------------------


def _own_id(entry: Json) -> str:
    """The id that is derived from a thread's name, position and parent. Most threads have this id; see
    ``workflow_core.machine.threads``."""
    name, positions, parent = entry["name"], entry.get("positions", {}), entry.get("parent", "")
    own = f"{name}[{positions[name]}]" if name in positions else name
    return own if parent in ("", "main") else f"{parent}/{own}"


def _wait_id(entry: Json, id: str) -> str:
    return f"{id}@{entry.get('pc', 0)}"


def _leave_ids_out(entry: Json) -> None:
    wait_id = _wait_id(entry, entry["id"])
    for wait in entry.get("waits", ()):
        if wait["id"] == wait_id:
            del wait["id"]
    if "name" in entry and entry["id"] == _own_id(entry):
        del entry["id"]


def _with_ids(entry: Json) -> Json:
    """The inverse of ``_leave_ids_out``."""
    if "id" not in entry:
        entry = {"id": _own_id(entry), **entry}
    if "waits" in entry:
        wait_id = _wait_id(entry, entry["id"])
        for wait in entry["waits"]:
            wait.setdefault("id", wait_id)
    return entry


# --- unfolding -------------------------------------------------------------------------------


def _unfold_list(plain: list[Any], groups: list[Json]) -> list[Any]:
    total = len(plain) + sum(_length(group["at"]) for group in groups)
    places: list[Any] = [_FREE] * total
    for group in groups:
        at = group.pop("at")
        entries = iter(_values(group, _length(at)))
        for first, length in _pairs(at):
            if (
                type(first) is not int
                or first < 0
                or any(place is not _FREE for place in places[first : first + length])
            ):
                raise ValueError(f"the places {first!r:.100} and {length - 1} after it are not free")
            places[first : first + length] = map(_restored, islice(entries, length))
    if len(places) != total:
        raise ValueError(f"there are {len(places)} places, but {total} entries")
    rest = iter(plain)
    return [next(rest) if place is _FREE else place for place in places]


def _restored(entry: Any) -> Any:
    """Returns an entry with its ids. It may already be a thread."""
    return _with_ids(entry) if isinstance(entry, dict) else entry


def _values(column: Json, count: int) -> list[Any]:
    """The ``count`` values of a column."""
    ((kind, content),) = column.items()
    if kind == "same":
        return [content] * count
    if kind == "of":
        columns = [_values(inner, count) for inner in content.values()]
        return [dict(zip(content, row, strict=True)) for row in _rows(columns, count)]
    if kind == "items":
        return [list(row) for row in _rows([_values(inner, count) for inner in content], count)]
    if kind == "runs" and _length(content) == count:
        return [value for value, length in _pairs(content) for _ in range(length)]
    if kind == "each" and isinstance(content, list) and len(content) == count:
        return content
    raise ValueError(f"unknown column {kind!r:.100} of {count} values")


def _rows(columns: list[list[Any]], count: int) -> Iterable[tuple[Any, ...]]:
    return zip(*columns, strict=True) if columns else [()] * count


def _pairs(flat: list[Any]) -> list[tuple[Any, int]]:
    """Places or values, each followed by a count."""
    if not all(type(count) is int and count > 0 for count in flat[1::2]):
        raise ValueError(f"no counts in {flat!r:.100}")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _length(flat: list[Any]) -> int:
    return sum(count for _, count in _pairs(flat))


def _width(column: Json, depth: int) -> int:
    """The number of values in one entry of a column."""
    if depth < 0:
        raise ValueError("its columns are nested too deeply")
    parts = column["of"].values() if "of" in column else column.get("items", ())
    return 1 + sum(_width(part, depth - 1) for part in parts)
