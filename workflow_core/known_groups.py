"""The compact form of an execution: known groups are neither parsed nor encoded again; see ``workflow_core.parked``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Generic, Protocol, TypeVar

from pydantic_core import from_json, to_json

from workflow_core.compact import (
    FOLDED,
    FOLDED_MIN,
    Json,
    fold,
    joined,
    parts_of,
    places_of,
    text_of_groups,
    thread_groups,
    unfold,
)
from workflow_core.parked import AnyThread, Group, Grouped, Stored, active, copied_thread
from workflow_core.wait_types import ActivityWait, ConditionWait, EventWait, TimerWait

KNOWN_MAX = 10_000
"""The maximum number of threads that a process remembers. Each takes about 1,000 bytes."""


class _AnyExecution(Protocol):
    threads: list[Any]
    teardowns: list[Any]


_T = TypeVar("_T", bound=AnyThread)
_E = TypeVar("_E", bound=_AnyExecution)
_Form = TypeVar("_Form", covariant=True)
_Text = TypeVar("_Text", str, bytes)
_Value = TypeVar("_Value")

_Parked = list[tuple[Sequence[int], Stored[Any]]]


class Form(Protocol[_Form]):
    """How an execution is validated: a ``TypeAdapter``."""

    def validate_python(self, data: Any, /) -> _Form: ...

    def validate_json(self, data: str, /) -> _Form: ...


class _Recent(Generic[_Text, _Value]):
    """What was read last, by its text: as much as contains ``KNOWN_MAX`` threads."""

    def __init__(self) -> None:
        self._values: dict[_Text, tuple[_Value, int]] = {}
        self._size = 0
        self._lock = Lock()

    def get(self, text: _Text) -> _Value | None:
        with self._lock:
            found = self._values.pop(text, None)
            if found is None:
                return None
            self._values[text] = found  # as the newest
            return found[0]

    def add(self, text: _Text, value: _Value, size: int) -> None:
        with self._lock:
            if size > KNOWN_MAX or text in self._values:
                return
            self._values[text] = value, size
            self._size += size
            while self._size > KNOWN_MAX:
                self._size -= self._values.pop(next(iter(self._values)))[1]


class _Known:
    """The groups of threads that were read last.

    Attributes:
        groups: each of them, by the text of its columns.
        together: all of an execution with their places, if they are parked, by the text of all.
    """

    def __init__(self) -> None:
        self.groups = _Recent[bytes, Stored[Any]]()
        self.together = _Recent[str, _Parked]()


_known = _Known()


# --- loading ---------------------------------------------------------------------------------


def read(text: str, form: Form[_E]) -> tuple[_E, Grouped[Any]]:
    """Returns an execution from its compact form, and its threads with the groups that they come from.

    Raises:
        ValueError: the text is damaged.
    """
    head, rest = parts_of(text)
    together = _known.together.get(head) if head else None
    if together is not None:
        execution = form.validate_json(rest)
        if execution.threads and _fit(execution.threads, together):
            return execution, Grouped(execution.threads, parked=together)
    data = from_json(text)
    groups = thread_groups(data)
    places, texts = [places_of(group) for group in groups], [_text_of(group) for group in groups]
    known = [_known.groups.get(text) for text in texts]
    parked = [(at, stored) for at, stored in zip(places, known, strict=True) if stored is not None and stored.is_idle]
    if groups and len(parked) == len(groups) and _fit(data.get("threads"), parked):
        if text_of_groups(zip(places, texts, strict=True)).decode() == head:
            _known.together.add(head, parked, sum(map(len, places)))
        del data[FOLDED]["threads"]
        execution = form.validate_python(unfold(data))
        return execution, Grouped(execution.threads, parked=parked)
    for group, at, stored in zip(groups, places, known, strict=True):
        if stored is not None and len(stored.originals) == len(at):
            spans = group["at"]
            group.clear()
            group.update(at=spans, each=[copied_thread(original) for original in stored.originals])
    execution = form.validate_python(unfold(data))
    threads = execution.threads
    found = []
    for columns, at, stored in zip(texts, places, known, strict=True):
        members = [threads[place] for place in at]
        if not members:
            continue
        if stored is None:
            stored = Stored(columns, [copied_thread(member) for member in members])
            _known.groups.add(columns, stored, len(members))
        found.append(Group(stored, members))
    return execution, Grouped(threads, found)


def _fit(others: Any, parked: _Parked) -> bool:
    """Whether the groups have the right places beside the other threads. ``unfold`` raises the error for others."""
    count = sum(len(stored.originals) for _, stored in parked)
    if not isinstance(others, list) or not all(len(at) == len(stored.originals) for at, stored in parked):
        return False
    is_one_range = len(parked) == 1 and isinstance(parked[0][0], range)
    if not is_one_range and len({place for at, _ in parked for place in at}) != count:
        return False  # two of them have the same place
    return all((at[-1] if isinstance(at, range) else max(at)) < count + len(others) for at, _ in parked)


def _text_of(group: Json) -> bytes:
    return to_json({key: content for key, content in group.items() if key != "at"})


# --- saving ----------------------------------------------------------------------------------


def folded_text(
    execution: _AnyExecution, data_of: Callable[[list[Any]], Json], text_of: Callable[[list[Any]], bytes]
) -> bytes | None:
    """Returns the compact form of an execution; None if no threads or teardowns are similar.

    Args:
        data_of: returns the plain form of the execution with some of its threads.
        text_of: returns its text.
    """
    threads = execution.threads
    known = _unchanged(threads)
    is_parked = isinstance(threads, Grouped) and bool(threads.parked)
    others = list(active(threads)) if is_parked else []
    if is_parked and others and len(others) < FOLDED_MIN and len(execution.teardowns) < FOLDED_MIN:
        return joined(text_of_groups(known), text_of(others))
    groups = [(at, from_json(columns)) for at, columns in known]
    if is_parked and len(others) < FOLDED_MIN:
        return _text(fold(data_of(others), groups))
    inside = {place for at, _ in known for place in at}
    rest = [place for place in range(len(threads)) if place not in inside]
    return _text(fold(data_of(others or [threads[place] for place in rest]), groups, rest))


def _text(folded: Json | None) -> bytes | None:
    return None if folded is None else to_json(folded)


def _unchanged(threads: Sequence[_T]) -> list[tuple[Sequence[int], bytes]]:
    """Returns the groups that can be written again: the places of their threads, and the texts of their columns."""
    if not isinstance(threads, Grouped):
        return []
    if threads.parked:
        others = {_kind(thread) for thread in threads.active()}
        if not threads.groups and not any(_kind(stored.originals[0]) in others for _, stored in threads.parked):
            return [(at, stored.text) for at, stored in threads.parked]
        threads.unpark()
    place_of = {id(thread): place for place, thread in enumerate(threads)}
    same = [group for group in threads.groups if _is_same(group, place_of)]
    places: list[Sequence[int]] = [[place_of.pop(id(member)) for member in group.members] for group in same]
    # Another thread of the same kind could belong to the group. Its threads are then grouped again.
    others = {_kind(threads[place]) for place in place_of.values()}
    return [
        (at, group.stored.text) for group, at in zip(same, places, strict=True) if _kind(group.members[0]) not in others
    ]


def _kind(thread: AnyThread) -> tuple[str, str]:
    return thread.name, thread.step


def _is_same(group: Group[_T], place_of: dict[int, int]) -> bool:
    members, stored = group.members, group.stored
    if members != stored.originals or not all(id(member) in place_of for member in members):
        return False
    return not stored.has_json or all(map(_has_same_json, members, stored.originals))


def _has_same_json(thread: AnyThread, original: AnyThread) -> bool:
    """Whether the JSON data of two equal threads is certainly the same: there, ``1 == True`` does not mean that."""
    if thread.locals or thread.error or thread.errors or thread.pending or thread.leaving:
        return False
    for wait, other in zip(thread.waits, original.waits, strict=True):
        if isinstance(wait, ActivityWait):
            if _json_of(wait) != _json_of(other):
                return False
        elif not isinstance(wait, EventWait | TimerWait | ConditionWait):
            return False
    return True


def _json_of(wait: ActivityWait) -> bytes:
    return to_json((wait.input, wait.shown, wait.progress))
