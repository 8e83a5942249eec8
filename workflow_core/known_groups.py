"""The compact form of an execution: known groups are neither parsed nor encoded again; see ``workflow_core.parked``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, Protocol, TypeVar

from pydantic_core import from_json, to_json

from workflow_core.compact import FOLDED, FOLDED_MIN, Json, fold, places_of, thread_groups, unfold
from workflow_core.parked import AnyThread, Group, Grouped, Stored, active, copied_thread
from workflow_core.wait_types import ActivityWait, ConditionWait, EventWait, TimerWait

KNOWN_MAX = 10_000
"""The maximum number of threads that a process remembers. Each takes about 1,000 bytes."""


class _AnyExecution(Protocol):
    threads: list[Any]


_T = TypeVar("_T", bound=AnyThread)
_E = TypeVar("_E", bound=_AnyExecution)


class _Known:
    """The groups that were read last, by their texts."""

    def __init__(self) -> None:
        self._groups: dict[bytes, Stored[Any]] = {}
        self._size = 0
        self._lock = Lock()

    def get(self, text: bytes) -> Stored[Any] | None:
        with self._lock:
            found = self._groups.pop(text, None)
            if found is not None:
                self._groups[text] = found  # as the newest
            return found

    def add(self, stored: Stored[Any]) -> None:
        with self._lock:
            if len(stored.originals) > KNOWN_MAX or stored.text in self._groups:
                return
            self._groups[stored.text] = stored
            self._size += len(stored.originals)
            while self._size > KNOWN_MAX:
                self._size -= len(self._groups.pop(next(iter(self._groups))).originals)


_known = _Known()


# --- loading ---------------------------------------------------------------------------------


def unfolded_form(data: Any, validate: Callable[[Any], _E]) -> tuple[_E, Grouped[Any]]:
    """Returns an execution from its compact form, and its threads with the groups that they come from.

    Args:
        data: JSON data; consumed.
        validate: returns the execution from its plain form, in which some threads may be objects already.

    Raises:
        ValueError: the data is damaged.
    """
    groups = thread_groups(data)
    places, texts = [places_of(group) for group in groups], [_text_of(group) for group in groups]
    known = [_known.get(text) for text in texts]
    parked = [(at, stored) for at, stored in zip(places, known, strict=True) if stored is not None and stored.is_idle]
    if groups and len(parked) == len(groups) and _fit(data, parked):
        del data[FOLDED]["threads"]
        execution = validate(unfold(data))
        return execution, Grouped(execution.threads, parked=parked)
    for group, at, stored in zip(groups, places, known, strict=True):
        if stored is not None and len(stored.originals) == len(at):
            spans = group["at"]
            group.clear()
            group.update(at=spans, each=[copied_thread(original) for original in stored.originals])
    execution = validate(unfold(data))
    threads = execution.threads
    found = []
    for text, at, stored in zip(texts, places, known, strict=True):
        members = [threads[place] for place in at]
        if not members:
            continue
        if stored is None:
            stored = Stored(text, [copied_thread(member) for member in members])
            _known.add(stored)
        found.append(Group(stored, members))
    return execution, Grouped(threads, found)


def _fit(data: Json, parked: Sequence[tuple[Sequence[int], Stored[Any]]]) -> bool:
    """Whether the groups have the right places. ``unfold`` raises the error for others."""
    others, count = data.get("threads"), sum(len(stored.originals) for _, stored in parked)
    if not isinstance(others, list) or not all(len(at) == len(stored.originals) for at, stored in parked):
        return False
    is_one_range = len(parked) == 1 and isinstance(parked[0][0], range)
    if not is_one_range and len({place for at, _ in parked for place in at}) != count:
        return False  # two of them have the same place
    return all((at[-1] if isinstance(at, range) else max(at)) < count + len(others) for at, _ in parked)


def _text_of(group: Json) -> bytes:
    return to_json({key: content for key, content in group.items() if key != "at"})


# --- saving ----------------------------------------------------------------------------------


def folded_form(threads: list[_T], data_of: Callable[[list[_T]], Json]) -> Json | None:
    """Returns the compact form of an execution; None if no threads or teardowns are similar.

    Args:
        data_of: returns the plain form of the execution with some of its threads.
    """
    known = _unchanged(threads)
    is_parked = isinstance(threads, Grouped) and bool(threads.parked)
    others = list(active(threads)) if is_parked else []
    if is_parked and len(others) < FOLDED_MIN:
        return fold(data_of(others), known)
    inside = {place for at, _ in known for place in at}
    rest = [place for place in range(len(threads)) if place not in inside]
    return fold(data_of(others or [threads[place] for place in rest]), known, rest)


def _unchanged(threads: Sequence[_T]) -> list[tuple[Sequence[int], Json]]:
    """Returns the groups that can be written again: the places of their threads, and their columns."""
    if not isinstance(threads, Grouped):
        return []
    if threads.parked:
        others = {_kind(thread) for thread in threads.active()}
        if not threads.groups and not any(_kind(stored.originals[0]) in others for _, stored in threads.parked):
            return [(at, from_json(stored.text)) for at, stored in threads.parked]
        threads.unpark()
    place_of = {id(thread): place for place, thread in enumerate(threads)}
    same = [group for group in threads.groups if _is_same(group, place_of)]
    places: list[Sequence[int]] = [[place_of.pop(id(member)) for member in group.members] for group in same]
    # Another thread of the same kind could belong to the group. Its threads are then grouped again.
    others = {_kind(threads[place]) for place in place_of.values()}
    return [
        (at, from_json(group.stored.text))
        for group, at in zip(same, places, strict=True)
        if _kind(group.members[0]) not in others
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
