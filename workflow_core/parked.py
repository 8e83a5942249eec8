"""Groups of parked threads that are loaded and saved again and again without a change.

An instance with many threads is loaded and saved for each event, and an event moves few of them. The others are stored
as groups (see ``workflow_core.compact``) whose text stays the same. Reading a group of 1,000 threads takes 5 ms and
writing it 5 ms, so both are done once for each text:

* A process remembers the threads of the texts that it has read last. If it loads one of these texts again, it copies
  the threads. If they only wait for events, it does so when they are needed (``Grouped``), and does not even parse
  the groups of an execution that has all of them in the same places.
* The list of threads of a loaded execution remembers the text of each group and the threads it contained. If they are
  all still there and equal, the text is written again.

Invariant: what is read and written is the same as without this module. Therefore ``originals`` are never handed out,
except to be read (``samples``); all attributes are compared; JSON data, where ``1`` is not ``True``, is compared by its
text; and a group is written again only if no other thread could be in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from types import NoneType
from typing import Any, Generic, Protocol, TypeVar

from workflow_core.wait_types import ActivityWait, AnyWait, ConditionWait, EventWait, TimerWait, WaitStatus

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
    status: Any
    attempt: int
    retry_at: Any
    parent: str
    watches: str
    covers: list[Any]


_T = TypeVar("_T", bound=AnyThread)


class Stored(Generic[_T]):
    """A group as it is stored.

    Attributes:
        text: the group as JSON, without the places of its threads.
        originals: its threads as they are in the text.
        has_json: whether they contain JSON data.
        is_idle: whether they all wait for the same events, and nothing else can happen to them.
    """

    __slots__ = ("has_json", "is_idle", "originals", "text")

    def __init__(self, text: bytes, originals: Sequence[_T]) -> None:
        self.text = text
        self.originals = originals
        self.has_json = not all(_is_without_json(thread) for thread in originals)
        events = [wait.event for wait in originals[0].waits]
        self.is_idle = not self.has_json and all(_is_idle(thread, events) for thread in originals)


class Group(Generic[_T]):
    """A group of an execution that was loaded: ``members`` are the threads that were copied from those in the text."""

    __slots__ = ("members", "stored")

    def __init__(self, stored: Stored[_T], members: Sequence[_T]) -> None:
        self.stored = stored
        self.members = members


class Grouped(list[_T]):
    """The threads of an execution that was loaded from the compact form.

    Idle groups are copied when the list is used. Until then, they are in ``parked``, and the list contains the other
    threads. Every method of ``list`` sees all threads. Only C code that reads a list without its methods, like pydantic
    does, would not: convert it to a ``list`` first.

    Attributes:
        parked: the places and the content of the groups that were not copied yet.
        groups: those that were.
    """

    __slots__ = ("_first", "groups", "parked")

    def __init__(
        self,
        threads: Iterable[_T] = (),
        groups: Sequence[Group[_T]] = (),
        parked: Sequence[tuple[Sequence[int], Stored[_T]]] = (),
    ) -> None:
        super().__init__(threads)
        self.groups = list(groups)
        self.parked = list(parked)
        self._first = min((at[0] if isinstance(at, range) else min(at) for at, _ in parked), default=0)

    def unpark(self) -> None:
        """Copies the threads that were not copied yet to their places."""
        if not self.parked:
            return
        parked, self.parked = self.parked, []
        at_place: dict[int, _T] = {}
        for at, stored in parked:
            members = [copied_thread(original) for original in stored.originals]
            at_place.update(zip(at, members, strict=True))
            self.groups.append(Group(stored, members))
        others = list.__iter__(self)
        total = list.__len__(self) + len(at_place)
        whole = [at_place[place] if place in at_place else next(others) for place in range(total)]
        list.__setitem__(self, slice(None), whole)

    def active(self) -> Iterator[_T]:
        """Yields the threads that may move without an event."""
        return list.__iter__(self)

    def samples(self) -> Iterator[_T]:
        """Yields the threads in their order, but only the first one of each group that was not copied yet. They must
        only be read."""
        first = {at[0]: stored.originals[0] for at, stored in self.parked}
        inside = [at if isinstance(at, range) else frozenset(at) for at, _ in self.parked]
        others, place, total = list.__iter__(self), 0, len(self)
        while place < total:
            if place in first:
                yield first[place]
            around = next((at for at in inside if place in at), None)
            if around is None:
                yield next(others)
            place = around.stop if isinstance(around, range) else place + 1

    def __iter__(self) -> Iterator[_T]:
        return self._each() if self.parked else list.__iter__(self)

    def _each(self) -> Iterator[_T]:
        place = 0
        while place < len(self):
            if place >= self._first:
                self.unpark()
            yield list.__getitem__(self, place)
            place += 1

    def __len__(self) -> int:
        return list.__len__(self) + sum(len(at) for at, _ in self.parked)

    def __bool__(self) -> bool:
        return len(self) > 0

    def __getitem__(self, place: Any) -> Any:
        if not (isinstance(place, int) and 0 <= place < self._first):
            self.unpark()
        return list.__getitem__(self, place)

    def append(self, thread: _T) -> None:
        list.append(self, thread)  # its place is behind all others

    def __radd__(self, others: list[Any]) -> list[Any]:
        return [*others, *self]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


def _of_all(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def call(self: Grouped[Any], *args: Any, **given: Any) -> Any:
        self.unpark()
        return method(self, *(list(each) if isinstance(each, Grouped) else each for each in args), **given)

    return call


for _name in (
    *("__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__gt__", "__iadd__", "__imul__", "__le__"),
    *("__lt__", "__mul__", "__ne__", "__repr__", "__reversed__", "__rmul__", "__setitem__", "clear", "copy", "count"),
    *("extend", "index", "insert", "pop", "remove", "reverse", "sort"),
):
    setattr(Grouped, _name, _of_all(_name))


def active(threads: list[_T]) -> Iterator[_T]:
    """Yields the threads that may move without an event: all that do not just wait for events, and others."""
    return threads.active() if isinstance(threads, Grouped) else iter(threads)


def mapped(threads: list[_T], change: Callable[[_T], _T]) -> list[_T]:
    """Returns the threads, of which those that may move without an event are replaced by what ``change`` returns."""
    changed = [change(thread) for thread in active(threads)]
    return Grouped(changed, threads.groups, threads.parked) if isinstance(threads, Grouped) else changed


def side_by_side(threads: list[_T], others: list[_T]) -> Iterator[tuple[_T, _T]]:
    """Yields the threads of two lists of the same threads, without those that were not copied yet."""
    is_parked = (
        isinstance(threads, Grouped) and isinstance(others, Grouped) and len(threads.parked) == len(others.parked)
    )
    return zip(active(threads), active(others), strict=True) if is_parked else zip(threads, others, strict=True)


def samples(threads: list[_T]) -> Iterator[_T]:
    """Yields threads in their order so that those that are left out have the same statement, status and events as one
    of them. They must only be read."""
    return threads.samples() if isinstance(threads, Grouped) else iter(threads)


def _is_idle(thread: AnyThread, events: list[str]) -> bool:
    """Whether a thread just waits for these events."""
    if thread.status != "waiting" or not thread.waits or [wait.event for wait in thread.waits] != events:
        return False
    is_alone = not (thread.attempt or thread.retry_at or thread.parent or thread.watches)
    return is_alone and all(_is_idle_wait(wait) for wait in thread.waits)


def _is_idle_wait(wait: AnyWait) -> bool:
    return isinstance(wait, EventWait) and wait.status is WaitStatus.SET_UP and not wait.buffered and not wait.known_as


def _is_without_json(thread: AnyThread) -> bool:
    is_plain = not (thread.locals or thread.error or thread.errors or thread.pending or thread.leaving)
    return is_plain and all(isinstance(wait, EventWait | TimerWait | ConditionWait) for wait in thread.waits)


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
        [*thread.covers],
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
