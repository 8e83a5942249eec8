"""Groups of parked threads that are loaded and saved again and again without a change.

An instance with many threads is loaded and saved for each event, and an event moves few of them. The others are stored
as groups (see ``workflow_core.compact``) whose text stays the same. Reading a group of 1,000 threads takes 5 ms and
writing it 5 ms, so both are done once for each text:

* ``Grouped``, the list of threads of a loaded execution, remembers the text of each group and the threads it contained.
  If they are all still there and equal, the text is written again.
* A process remembers the threads of the last texts. If it loads one of these texts again, it copies the threads.

Invariant: what is read and written is the same as without this module. Therefore ``originals`` are never handed out;
all attributes are compared; JSON data, where ``1`` is not ``True``, is compared by its text; and a group is written
again only if no other thread could be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from threading import Lock
from types import NoneType
from typing import Any, Generic, Protocol, TypeVar

from pydantic_core import from_json, to_json

from workflow_core.compact import Json, fold, places_of, thread_groups, unfold
from workflow_core.wait_types import ActivityWait, AnyWait, ConditionWait, EventWait, TimerWait

KNOWN_MAX = 10_000
"""The maximum number of threads that a process remembers. Each takes about 1,000 bytes."""

_FIXED = frozenset((str, int, bool, float, NoneType))
"""Types of values that cannot be changed."""


class AnyThread(Protocol):
    """The part of ``Thread`` that this file uses."""

    name: str
    step: str
    waits: list[Any]
    locals: dict[str, Any]
    error: Any
    errors: dict[str, Any]
    pending: dict[str, Any]
    leaving: Any


class _AnyExecution(Protocol):
    threads: list[Any]


_T = TypeVar("_T", bound=AnyThread)
_E = TypeVar("_E", bound=_AnyExecution)


class Stored(Generic[_T]):
    """A group as it is stored.

    Attributes:
        text: the group as JSON, without the places of its threads.
        originals: its threads as they are in the text.
        has_json: whether they contain JSON data.
    """

    __slots__ = ("has_json", "originals", "text")

    def __init__(self, text: bytes, originals: Sequence[_T]) -> None:
        self.text = text
        self.originals = originals
        self.has_json = not all(_is_without_json(thread) for thread in originals)


class Group(Generic[_T]):
    """A group of an execution that was loaded: ``members`` are the threads that were copied from those in the text."""

    __slots__ = ("members", "stored")

    def __init__(self, stored: Stored[_T], members: Sequence[_T]) -> None:
        self.stored = stored
        self.members = members


class Grouped(list[_T]):
    """The threads of an execution that was loaded from the compact form."""

    __slots__ = ("groups",)

    def __init__(self, threads: Iterable[_T] = (), groups: Sequence[Group[_T]] = ()) -> None:
        super().__init__(threads)
        self.groups = groups


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
        if stored is None:
            stored = Stored(text, [copied_thread(member) for member in members])
            _known.add(stored)
        found.append(Group(stored, members))
    return execution, Grouped(threads, found)


def _text_of(group: Json) -> bytes:
    return to_json({key: content for key, content in group.items() if key != "at"})


# --- saving ----------------------------------------------------------------------------------


def folded_form(threads: Sequence[_T], data_of: Callable[[list[_T]], Json]) -> Json | None:
    """Returns the compact form of an execution; None if no threads or teardowns are similar.

    Args:
        data_of: returns the plain form of the execution with some of its threads.
    """
    known = _unchanged(threads)
    inside = {place for at, _ in known for place in at}
    rest = [place for place in range(len(threads)) if place not in inside]
    return fold(data_of([threads[place] for place in rest]), known, rest)


def _unchanged(threads: Sequence[_T]) -> list[tuple[list[int], Json]]:
    """Returns the groups that can be written again: the places of their threads, and their columns."""
    if not isinstance(threads, Grouped):
        return []
    place_of = {id(thread): place for place, thread in enumerate(threads)}
    same = [group for group in threads.groups if _is_same(group, place_of)]
    places = [[place_of.pop(id(member)) for member in group.members] for group in same]
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


def _is_without_json(thread: AnyThread) -> bool:
    is_plain = not (thread.locals or thread.error or thread.errors or thread.pending or thread.leaving)
    return is_plain and all(isinstance(wait, EventWait | TimerWait | ConditionWait) for wait in thread.waits)


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


# --- copies ----------------------------------------------------------------------------------


def copied(value: Any) -> Any:
    """Returns a copy of a value, or the value itself if it cannot be changed."""
    return value if type(value) in _FIXED else deepcopy(value)


def copied_thread(thread: Any) -> Any:
    """Returns a copy of a thread that shares nothing that can be changed. ``deepcopy`` takes 30 times as long."""
    return type(thread)(
        thread.id,
        thread.name,
        thread.status,
        thread.step,
        thread.pc,
        [copied_wait(wait) for wait in thread.waits],
        thread.attempt,
        thread.retry_at,
        deepcopy(thread.error) if thread.error else None,
        thread.parent,
        {**thread.positions},
        deepcopy(thread.errors) if thread.errors else {},
        deepcopy(thread.pending) if thread.pending else {},
        deepcopy(thread.leaving) if thread.leaving else None,
        thread.caused_by,
        thread.watches,
        deepcopy(thread.locals) if thread.locals else {},
    )


def copied_wait(wait: AnyWait) -> AnyWait:
    """Returns a copy of a wait that shares nothing that can be changed."""
    if type(wait) is EventWait:
        return EventWait(wait.event, wait.status, wait.id, wait.buffered, wait.known_as)
    if type(wait) is ActivityWait:
        parts = copied(wait.input), wait.known_as, copied(wait.shown), copied(wait.progress)
        times = wait.deadline, copied(wait.task), wait.attempt, wait.retry_at
        return ActivityWait(wait.event, wait.status, wait.id, *times, wait.error, *parts)
    return deepcopy(wait)
