"""The threads of an instance that has many of them.

After each transition, the machine looks for the next thread that may move, and for the threads that belong to another
one. In a list of 1,000 threads, each of these takes a tenth of a millisecond, so the time to start, to move and to end
all of them would grow with the square of their number. This list has an index, with which each takes about the same
time for any number of threads.

Each thread has a number; numbers grow along the list. The index has three sorted lists of numbers:

* ``restless``: the threads that ``next_work`` has to look at, because they may move without an event;
* ``steps``: the threads that are at a step;
* ``activities``: the threads that wait for an activity, which a caller may run itself.

All other threads only wait, and are left out until they wake. A thread is put into the right list when the machine
looks at it for the first time after a change; until then, it is restless.

Invariant: a thread that is not restless is at a step and in ``steps``, or it is parked on waits that need nothing but a
report from outside. ``woken`` makes a thread restless: ``leave_wait`` and ``handle_alone`` call it, because the thread
no longer only waits, and ``park``, because it no longer is at its step. ``append`` and ``drop`` update the index; the
other methods that change the list discard it. A thread whose attributes are set in another way would be missed; only
the machine may set them. ``parent`` and ``watches`` do not change after ``append``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from heapq import merge
from typing import Any

from workflow_core.execution import Thread, ThreadStatus
from workflow_core.parked import active
from workflow_core.wait_types import ActivityWait, AnyWait, ConditionWait, EventWait, WaitStatus

CROWD_MIN = 32
"""With fewer threads, it takes less time to look at all of them."""

_EXECUTING, _WAITING = ThreadStatus.EXECUTING, ThreadStatus.WAITING
_SET_UP = WaitStatus.SET_UP


class _Index:
    """See the theory of operation above.

    Attributes:
        numbers: the number of each thread, by its id.
        threads: the threads by their numbers.
        branches: the branches of each thread that has some, by its id.
        live: their numbers.
        timers: the timers of each thread that has had some, by its id.
        end: the number of the next thread.
    """

    __slots__ = ("activities", "branches", "end", "live", "numbers", "restless", "steps", "threads", "timers")

    def __init__(self, threads: Iterable[Thread]) -> None:
        self.numbers: dict[str, int] = {}
        self.threads: dict[int, Thread] = {}
        self.branches: dict[str, dict[int, Thread]] = {}
        self.timers: dict[str, dict[int, Thread]] = {}
        self.live = Counter[str]()
        self.restless: list[int] = []
        self.steps: list[int] = []
        self.activities: list[int] = []
        self.end = 0
        for thread in threads:
            self.add(thread)

    def add(self, thread: Thread) -> None:
        number = self.end
        self.end = number + 1
        self.numbers[thread.id] = number
        self.threads[number] = thread
        self.restless.append(number)
        if parent := thread.parent:
            self.branches.setdefault(parent, {})[number] = thread
            self.live[parent] += 1
        if thread.watches:
            self.timers.setdefault(thread.watches, {})[number] = thread

    def remove(self, thread: Thread) -> None:
        number = self.numbers.pop(thread.id)
        del self.threads[number]
        for numbers in self.restless, self.steps, self.activities:
            _discard(numbers, number)
        if parent := thread.parent:
            del self.branches[parent][number]
            self.live[parent] -= 1
            if not self.live[parent]:
                del self.branches[parent], self.live[parent]
        if thread.watches:
            del self.timers[thread.watches][number]

    def is_restless(self, number: int, thread: Thread) -> bool:
        """Whether a thread may move without an event. If it is at a step or waits for an activity, puts it into the
        list of these."""
        if thread.status is _EXECUTING:
            _add(self.steps, number)
            return False
        waits = thread.waits
        if thread.status is not _WAITING or not waits or type(waits[-1]) is ConditionWait:
            return True
        if any(type(wait) is ActivityWait for wait in waits):
            _add(self.activities, number)
        return not all(map(_needs_report, waits))


class Crowd(list[Thread]):
    """A list of many threads that finds some of them without a look at each."""

    __slots__ = ("_known",)

    def __init__(self, threads: Iterable[Thread] = ()) -> None:
        super().__init__(threads)
        self._known: _Index | None = None

    @property
    def _index(self) -> _Index:
        if self._known is None:
            self._known = _Index(self)
        return self._known

    def restless(self) -> Iterator[Thread]:
        """Yields the threads that may move without an event, in their order. The machine must change none of them
        meanwhile."""
        index, place = self._index, 0
        numbers = index.restless
        while place < len(numbers):
            number = numbers[place]
            thread = index.threads[number]
            if index.is_restless(number, thread):
                yield thread
                place += 1
            else:
                del numbers[place]

    def working(self, with_activities: bool) -> Iterator[Thread]:
        """Yields the threads that are at a step, and those that wait for an activity, in their order. Call ``restless``
        first."""
        index = self._index
        for number in merge(index.steps, index.activities) if with_activities else index.steps:
            yield index.threads[number]

    def lone(self) -> Thread | None:
        """Returns the thread that may move without an event if there is only one. It may still wait for an event.

        The thread stays restless while it moves from step to step.
        """
        index = self._known
        if index is not None and len(index.restless) == 1 and not (index.steps or index.activities):
            return index.threads[index.restless[0]]  # as after the last event
        index, found = self._index, None
        for thread in self.restless():
            if found is not None:
                return None
            found = thread
        if found is None and len(index.steps) == 1:
            index.restless, index.steps = index.steps, index.restless
            found = index.threads[index.restless[0]]
        return None if index.steps or index.activities else found

    def any_moves(self) -> bool:
        """Whether any thread does not wait."""
        return any(thread.status is not _WAITING for thread in self.restless()) or any(
            thread.status is not _WAITING for thread in self.working(False)
        )

    def woken(self, thread: Thread) -> None:
        """Reports that a thread no longer waits, or no longer is at its step."""
        index = self._known
        if index is None or (number := index.numbers.get(thread.id)) is None or index.restless == [number]:
            return
        if _add(index.restless, number):
            _discard(index.steps, number)
            _discard(index.activities, number)

    @property
    def ids(self) -> Collection[str]:
        """The ids of the threads. Does not stay the same when the list changes."""
        return self._index.numbers

    @property
    def live(self) -> Mapping[str, int]:
        """The number of branches by the id of the thread that waits for them; 0 for all other ids."""
        return self._index.live

    def find(self, id: str) -> Thread | None:
        """Returns the thread with this id, if there is one."""
        index = self._index
        number = index.numbers.get(id)
        return None if number is None else index.threads[number]

    def branches(self, id: str) -> Collection[Thread]:
        """Returns the branches of the thread with this id, in their order."""
        return self._index.branches.get(id, {}).values()

    def timers(self, id: str) -> Collection[Thread]:
        """Returns the timers of the thread with this id, in their order."""
        return self._index.timers.get(id, {}).values()

    def append(self, thread: Thread) -> None:
        super().append(thread)
        if self._known is not None:
            self._known.add(thread)

    def drop(self, thread: Thread) -> None:
        """Removes a thread that has ended."""
        index = self._index
        numbers = index.numbers
        number = numbers.get(thread.id)
        if number is not None and index.threads[number] is thread:
            super().__delitem__(bisect_left(self, number, key=lambda other: numbers[other.id]))
            index.remove(thread)

    def __contains__(self, thread: object) -> bool:
        return isinstance(thread, Thread) and self.find(thread.id) is thread

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


def _forgetting(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def call(self: Crowd, *args: Any, **given: Any) -> Any:
        self._known = None
        return method(self, *args, **given)

    return call


for _name in (
    *("__delitem__", "__iadd__", "__imul__", "__setitem__", "clear", "extend", "insert", "pop", "remove", "reverse"),
    "sort",
):
    setattr(Crowd, _name, _forgetting(_name))


def _needs_report(wait: AnyWait) -> bool:
    """Whether nothing but a report from outside ends a wait or changes it."""
    if type(wait) is EventWait:
        return not wait.buffered
    return type(wait) is not ConditionWait and wait.status is _SET_UP


def _add(numbers: list[int], number: int) -> bool:
    """Adds a number to a sorted list. Returns False if it was there."""
    place = bisect_left(numbers, number)
    if place < len(numbers) and numbers[place] == number:
        return False
    numbers.insert(place, number)
    return True


def _discard(numbers: list[int], number: int) -> None:
    place = bisect_left(numbers, number)
    if place < len(numbers) and numbers[place] == number:
        del numbers[place]


def awake(threads: list[Thread]) -> Iterable[Thread]:
    """Returns the threads that may move without an event, in their order, and others; of a ``Crowd``, without those
    that are at a step or wait for an activity."""
    return threads.restless() if type(threads) is Crowd else active(threads)


def ids_of(threads: list[Thread]) -> Collection[str]:
    """Returns the ids of the threads."""
    return threads.ids if type(threads) is Crowd else {thread.id for thread in threads}


def with_id(threads: list[Thread], id: str) -> Thread | None:
    """Returns the thread with this id, if there is one."""
    if type(threads) is Crowd:
        return threads.find(id)
    return next((thread for thread in threads if thread.id == id), None)
