"""The order in which the waiting tasks of a queue are served, so that no group of tasks starves the others.

Theory of operation. A task that is not due yet waits in one heap, ordered by time. When it is due, it moves to the heap
of its group. Groups with due tasks wait in a line and are served one task at a time: the served group goes to the end
of the line. A group that has 20,000 due tasks therefore delays a new group by one dispatch for each group, not for each
task.

Turns alone are not enough: with slow dispatches, one group or a few could use all slots that a queue has for concurrent
dispatches. Two limits prevent this (``Shares``). A group at its limit leaves the line until one of its dispatches ends.
Because the other limit is shared by all groups, there are two lines: one for groups with nothing running, which may
always be served, and one for the others. Each group has the number with which it joined its line. Of the two groups at
the heads of the lines, the one with the lower number is served. It then gets a new, higher number, so no group starves.

Each operation takes O(log n), where n is the number of tasks. The number of groups does not matter.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import field
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

from workflow_core.records import record

_STALE_MAX = 64


class Waiting(Protocol):
    """The properties of a task that determine the order. Tasks are compared by identity."""

    @property
    def group(self) -> str: ...
    @property
    def schedule_time(self) -> datetime: ...
    @property
    def sequence(self) -> int: ...


W = TypeVar("W", bound=Waiting)


@record(frozen=True, slots=True)
class Shares:
    """How many slots for concurrent dispatches a group may use.

    Attributes:
        of_group: how many dispatches of one group may run at a time.
        beyond_first: how many dispatches of all groups may run at a time, without counting the first one of each group.
            The remaining slots are reserved for groups that have nothing running.
    """

    of_group: int
    beyond_first: int

    def __post_init__(self) -> None:
        if self.of_group < 1 or self.beyond_first < 0:
            raise ValueError(
                f"of_group is {self.of_group} and beyond_first is {self.beyond_first}: the minimum is 1 and 0"
            )


class ByTime(Generic[W]):
    """Tasks ordered by schedule time, then by creation."""

    def __init__(self) -> None:
        self._tasks: set[W] = set()
        # The heap also contains removed tasks, which are skipped when they reach the top. Each item has a count of
        # additions before the task, because a retried task may have the time and the sequence of the one it replaces.
        self._heap: list[tuple[datetime, int, int, W]] = []
        self._added = 0

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def kept(self) -> int:
        """The number of tasks in memory, including removed ones."""
        return len(self._heap)

    def add(self, task: W) -> None:
        """Adds a task."""
        self._tasks.add(task)
        self._added += 1
        heappush(self._heap, (task.schedule_time, task.sequence, self._added, task))

    def remove(self, task: W) -> bool:
        """Removes a task. Returns whether it was there."""
        if task not in self._tasks:
            return False
        self._tasks.remove(task)
        # Without this, deleted timers that are far in the future would accumulate in the heap.
        if len(self._heap) > 2 * len(self._tasks) + _STALE_MAX:
            self._heap = [item for item in self._heap if item[-1] in self._tasks]
            heapify(self._heap)
        return True

    def first(self) -> W | None:
        """Returns the first task without removing it."""
        while self._heap:
            task = self._heap[0][-1]
            if task in self._tasks:
                return task
            heappop(self._heap)
        return None


@record(slots=True, eq=False)
class _Group(Generic[W]):
    """A group that has due tasks or running ones.

    Attributes:
        line: the line in which it waits, if any; ``number`` is the number with which it joined.
    """

    name: str
    due: ByTime[W] = field(default_factory=ByTime)
    running: int = 0
    number: int = 0
    line: OrderedDict[str, _Group[W]] | None = None


class Turns(Generic[W]):
    """The waiting tasks of a queue, and the number of running tasks of each group.

    Args:
        shares: None: no limits, groups only take turns. Tasks that all have the same group are ordered only by time.
    """

    def __init__(self, shares: Shares | None = None) -> None:
        self._shares = shares
        self._later: ByTime[W] = ByTime()
        self._groups: dict[str, _Group[W]] = {}
        # The two lines, each ordered by the groups' numbers.
        self._idle: OrderedDict[str, _Group[W]] = OrderedDict()
        self._busy: OrderedDict[str, _Group[W]] = OrderedDict()
        self._number = 0
        self._beyond_first = 0

    @property
    def kept(self) -> int:
        """The number of tasks in memory, including removed ones."""
        return self._later.kept + sum(group.due.kept for group in self._groups.values())

    @property
    def groups(self) -> Collection[str]:
        """The groups that have due tasks or running ones."""
        return self._groups.keys()

    def add(self, task: W, now: datetime) -> None:
        """Adds a waiting task."""
        if task.schedule_time > now:
            self._later.add(task)
        else:
            self._add_due(task)

    def remove(self, task: W) -> None:
        """Removes a waiting task. A missing task changes nothing."""
        group = self._groups.get(task.group)
        if not self._later.remove(task) and group is not None and group.due.remove(task):
            self._line_up(group)

    def started(self, task: W) -> None:
        """Records that a dispatch of the task started. The task no longer waits."""
        group = self._group(task.group)
        if not self._later.remove(task):
            group.due.remove(task)
        group.running += 1
        self._beyond_first += group.running > 1
        self._line_up(group, served=True)

    def ended(self, task: W) -> None:
        """Records that a dispatch of the task ended."""
        group = self._groups[task.group]
        self._beyond_first -= group.running > 1
        group.running -= 1
        self._line_up(group)

    def next(self, now: datetime) -> W | None:
        """Returns the next task without removing it; None if no task is due, or if all due tasks must wait for others
        to end. A task that was due once stays due, even if the clock is set back."""
        while (task := self._later.first()) is not None and task.schedule_time <= now:
            self._later.remove(task)
            self._add_due(task)
        group = next(iter(self._idle.values()), None)
        if self._shares is None or self._beyond_first < self._shares.beyond_first:
            busy = next(iter(self._busy.values()), None)
            if group is None or (busy is not None and busy.number < group.number):
                group = busy
        return None if group is None else group.due.first()

    def next_at(self, now: datetime) -> datetime | None:
        """Returns when ``next`` will return a task: ``now`` or later; None: not before another call changes this."""
        if self.next(now) is not None:
            return now
        later = self._later.first()
        return None if later is None else later.schedule_time

    def _add_due(self, task: W) -> None:
        group = self._group(task.group)
        group.due.add(task)
        self._line_up(group)

    def _group(self, name: str) -> _Group[W]:
        group = self._groups.get(name)
        if group is None:
            group = self._groups[name] = _Group(name)
        return group

    def _line_up(self, group: _Group[W], *, served: bool = False) -> None:
        """Moves a group to the end of the line where it belongs now, unless it is already there and was not served."""
        line = self._line_of(group)
        if line is not group.line or served:
            if group.line is not None:
                del group.line[group.name]
            if line is not None:
                self._number += 1
                group.number = self._number
                line[group.name] = group
            group.line = line
        if not group.running and not group.due:
            del self._groups[group.name]

    def _line_of(self, group: _Group[W]) -> OrderedDict[str, _Group[W]] | None:
        if not group.due or (self._shares is not None and group.running >= self._shares.of_group):
            return None
        return self._busy if group.running else self._idle
