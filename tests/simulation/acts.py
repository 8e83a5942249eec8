"""Records who changed an instance, and in which order, because one write may contain the changes of several requests.

The engine makes many decisions in memory and commits them together. While a world runs, each change is recorded as an
``Act`` of the object that is changed. The observer of a write receives the acts that it contains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import Instance
from cloud_adapter.engine.lanes import Lane
from cloud_adapter.engine.plan import Change, Hold, LeasePolicy
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.history import HistoryEntry
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from tests.simulation.actors import CURRENT, LANE
from tests.simulation.catches import Catches
from workflow_core import Execution, Wait
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ActivityWait, RetriedWait

if TYPE_CHECKING:
    from tests.simulation.actors import Actor

Attempt = tuple[str, str, int]
"""An attempt at an activity: its wait, its name, and how often it has failed before."""


@dataclass(eq=False)
class Arrival:
    """The arrival of a request in a lane.

    Attributes:
        has_waited: it was postponed, so later arrivals may have been decided before it.
    """

    lane: object
    number: int
    has_waited: bool = False


@dataclass(eq=False)
class Act:
    """A change that counts: an entry of the history, a sign of life, or neither, for the sake of a lease.

    Attributes:
        arrival: its arrival, if it arrived in a lane.
        given_up: for a failure of an activity, whether it was the last attempt.
        deadline: for a heartbeat, the new deadline of the attempt.
        report: what it reports, if it does.
    """

    actor: Actor
    arrival: Arrival | None
    entry: HistoryEntry | None = None
    given_up: bool = False
    attempt: Attempt | None = None
    deadline: datetime | None = None
    report: Any = None
    is_written: bool = False

    @property
    def kind(self) -> str:
        return self.entry.kind if self.entry is not None else "tick" if self.attempt is None else "beat"

    def __str__(self) -> str:
        if self.entry is not None:
            return f"{self.entry.kind} {self.entry.statement}".strip()
        return "a lease" if self.attempt is None else "a sign of life"


ARRIVAL: ContextVar[Arrival | None] = ContextVar("ARRIVAL", default=None)
"""How the code that runs now has come to its lane."""


def attempt_of(wait: Wait) -> Attempt:
    return wait.id, wait.event, wait.attempt if isinstance(wait, RetriedWait) else 0


class Acts:
    """The acts that were done in memory and are not yet written."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._by_execution: dict[int, tuple[Execution, list[Act]]] = {}  # which stays alive, so that its id is its own
        self._planned: dict[int, tuple[Task, ...]] = {}
        self.catches = Catches()

    def of(self, instance: Instance) -> tuple[Act, ...]:
        """Returns the acts of the instance that is about to be written."""
        _, acts = self._by_execution.get(id(instance.execution), (None, []))
        kept = {id(entry) for entry in instance.new_entries}  # others were taken back
        return tuple(act for act in acts if not act.is_written and (act.entry is None or id(act.entry) in kept))

    def tasks_of(self, instance: Instance) -> tuple[Task, ...]:
        """Returns the tasks that were created for the instance that is about to be written."""
        return self._planned.get(id(instance.execution), ())

    def add(self, execution: Execution, **what: Any) -> None:
        _, acts = self._by_execution.setdefault(id(execution), (execution, []))
        acts.append(Act(CURRENT.get(), ARRIVAL.get(), **what))

    def saved_as(self, change: Change, session: Session, *, is_renewal: bool) -> None:
        """What was done in a session is about to be written as ``change``, by a copy of its execution."""
        _, acts = self._by_execution.get(id(session.execution), (None, []))
        renewal = [Act(CURRENT.get(), ARRIVAL.get())] if is_renewal else []
        stored = change.instance.execution
        self._by_execution[id(stored)] = stored, [*acts, *renewal]
        self._planned[id(stored)] = change.create
        self.catches.saved_as(stored, session.execution)

    def give_up(self, execution: Execution) -> None:
        """Marks the last recorded failure as that of the last attempt."""
        self._by_execution[id(execution)][1][-1].given_up = True

    def forget_tick(self, execution: Execution) -> None:
        """Forgets the last act, which is that of counting what is about to be recorded."""
        assert self._by_execution[id(execution)][1].pop().kind == "tick"

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Records what is done inside of the block."""
        patched: list[tuple[type, str, Any]] = []

        def replaced(cls: type, name: str) -> Any:
            patched.append((cls, name, getattr(cls, name)))
            return patched[-1][2]

        note, heartbeat = replaced(Session, "note"), replaced(Machine, "heartbeat")
        tick, activity_failed = replaced(Machine, "tick"), replaced(Machine, "activity_failed")
        add, put_off, decide = replaced(Lane, "add"), replaced(Transactor, "_put_off"), replaced(Transactor, "decide")

        prepare, report = replaced(Session, "prepare"), replaced(Machine, "report")

        def preparing(session: Session, token: str, now: datetime, policy: LeasePolicy, options: EngineOptions) -> Any:
            change = prepare(session, token, now, policy, options)
            self.saved_as(change, session, is_renewal=isinstance(policy, Hold) and policy.renews)
            return change

        def noting(session: Session, kind: str, now: datetime, **details: Any) -> None:
            note(session, kind, now, **details)
            if kind == "set" or (kind == "event rejected" and hasattr(CURRENT.get(), "request")):
                self.forget_tick(session.execution)
            self.add(session.execution, entry=session.entries[-1])

        def beating(machine: Machine, accepted: Accepted) -> None:
            heartbeat(machine, accepted)
            assert isinstance(accepted.wait, ActivityWait)
            self.add(machine.execution, attempt=attempt_of(accepted.wait), deadline=accepted.wait.deadline)

        def reporting(machine: Machine, accepted: Accepted, data: Any) -> None:
            report(machine, accepted, data)
            assert isinstance(accepted.wait, ActivityWait)
            attempt, deadline = attempt_of(accepted.wait), accepted.wait.deadline
            self.add(machine.execution, attempt=attempt, deadline=deadline, report=data)

        def ticking(machine: Machine) -> None:
            tick(machine)
            self.add(machine.execution)

        def failing(machine: Machine, accepted: Accepted, error: Any, retry_at: datetime | None) -> None:
            if retry_at is None:
                self.give_up(machine.execution)
            activity_failed(machine, accepted, error, retry_at)

        async def adding(lane: Any, decision: Any) -> Any:
            before = ARRIVAL.set(Arrival(lane.transactor, next(self._numbers)))
            if hasattr(lane.transactor, "is_disturbed"):
                CURRENT.get().disturb()
            try:
                return await add(lane, decision)
            finally:
                ARRIVAL.reset(before)

        async def putting_off(transactor: Any, item: Any, wait: Any) -> None:
            item.context[ARRIVAL].has_waited = True
            await put_off(transactor, item, wait)

        async def deciding(transactor: Any, batch: Sequence[Any]) -> Any:
            LANE.set(transactor)
            return await decide(transactor, batch)

        for (cls, name, _), new in zip(
            patched,
            (noting, beating, ticking, failing, adding, putting_off, deciding, preparing, reporting),
            strict=True,
        ):
            setattr(cls, name, new)
        try:
            with self.catches.recorded():
                yield
        finally:
            for cls, name, original in patched:
                setattr(cls, name, original)
