"""The threads of an instance that has many of them, most of which only wait for events.

After each transition, the machine looks for the next thread that may move. In a list of 1,000 threads, that takes a
tenth of a millisecond. This list remembers which threads only wait for events, and leaves them out until they wake.

Invariant: a thread that is left out waits for events that are not buffered, and for nothing else. A waiting thread
wakes in two places, ``leave_wait`` and ``handle_alone``, which call ``woken``. The methods that change the list itself
forget what is remembered. A thread whose attributes are set in another way would be missed; only the machine may set
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from workflow_core.execution import Thread, ThreadStatus
from workflow_core.parked import active
from workflow_core.wait_types import EventWait

CROWD_MIN = 32
"""With fewer threads, it takes less time to look at all of them."""

_WAITING = ThreadStatus.WAITING


class Crowd(list[Thread]):
    """A list of threads that knows which of them may move without an event."""

    __slots__ = ("_awake", "_is_ordered", "_places")

    def __init__(self, threads: Iterable[Thread] = ()) -> None:
        super().__init__(threads)
        self._awake: dict[str, Thread] | None = None
        self._is_ordered = True
        self._places: dict[str, int] = {}

    def awake(self) -> list[Thread]:
        """Returns the threads that may move without an event, in their order.

        While the branches of a parallel loop start, all are awake: then this is called for each of them, and must take
        little longer than a look at each thread.
        """
        if self._awake is None:
            self._places = {thread.id: place for place, thread in enumerate(self)}
            self._awake, self._is_ordered = {thread.id: thread for thread in self}, True
        for id in [id for id, thread in self._awake.items() if thread.status is _WAITING and _only_waits(thread)]:
            del self._awake[id]
        if not self._is_ordered:
            self._awake = dict(sorted(self._awake.items(), key=lambda entry: self._places[entry[0]]))
            self._is_ordered = True
        return list(self._awake.values())

    def unordered(self) -> Iterable[Thread]:
        """Returns the threads that may move without an event, and others, in any order."""
        return self if self._awake is None else self._awake.values()

    def lone(self) -> Thread | None:
        """Returns the thread that may move without an event if there is only one. It may still wait for an event."""
        awake = self._awake
        if awake is None or len(awake) != 1:
            found = self.awake()
            return found[0] if len(found) == 1 else None
        return next(iter(awake.values()))

    def woken(self, thread: Thread) -> None:
        """Reports that a thread no longer waits."""
        if self._awake is not None and thread.id in self._places:
            self._is_ordered = self._is_ordered and thread.id in self._awake
            self._awake[thread.id] = thread

    def append(self, thread: Thread) -> None:
        """Adds a thread, which counts as awake."""
        self._places[thread.id] = len(self)
        super().append(thread)
        if self._awake is not None:
            self._awake[thread.id] = thread

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (list(self),)


def _forgetting(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def call(self: Crowd, *args: Any, **given: Any) -> Any:
        self._awake = None
        return method(self, *args, **given)

    return call


for _name in (
    *("__delitem__", "__iadd__", "__imul__", "__setitem__", "clear", "extend", "insert", "pop", "remove", "reverse"),
    "sort",
):
    setattr(Crowd, _name, _forgetting(_name))


def _only_waits(thread: Thread) -> bool:
    """Whether a waiting thread waits for events, and for nothing else."""
    waits = thread.waits
    if not waits or type(waits[-1]) is not EventWait:  # a timeout mostly comes last
        return False
    return all(type(wait) is EventWait and not wait.buffered for wait in waits)


def awake(threads: list[Thread]) -> Iterable[Thread]:
    """Returns the threads that may move without an event, in their order, and others."""
    return threads.awake() if type(threads) is Crowd else active(threads)


def unordered(threads: list[Thread]) -> Iterable[Thread]:
    """Returns the threads that may move without an event, and others, in any order."""
    return threads.unordered() if type(threads) is Crowd else active(threads)
