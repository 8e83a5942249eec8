"""Which statements and events of a workflow a test has used."""

from __future__ import annotations

from cloud_adapter.document import Instance
from workflow_core import TimedOut, Workflow
from workflow_core.program.code import FailOp, Instruction, WaitForOp


class Coverage:
    """The statements at which an instance can stand, and the events that it waits for, and which of them were used.

    Attributes:
        statements: the names of all statements at which an instance can stand, without conditions: one that is true at
            once is passed without a trace.
        reached: those at which one has stood.
        events: the names of all events.
        handled: those that were handled.
    """

    def __init__(self, workflow: type[Workflow]) -> None:
        program = workflow.__program__
        self.statements = frozenset(name for name, rest in program.rests.items() if not _may_be_passed(rest))
        self.events = frozenset(name for name, cases in program.events.items())
        self.reached: set[str] = set()
        self.handled: set[str] = set()

    @property
    def missing(self) -> list[str]:
        """The statements that no instance has reached and the events that none has handled, sorted."""
        return sorted([*self.statements - self.reached, *self.events - self.handled])

    def add(self, instance: Instance) -> None:
        """Counts what an instance has just saved."""
        self.reached.update({thread.step for thread in instance.execution.threads} & self.statements)
        for entry in instance.new_entries:
            self.reached.update({entry.statement, entry.select} & self.statements)
            if entry.kind == "event":
                self.handled.add(entry.statement)


def _may_be_passed(rest: Instruction) -> bool:
    """Whether nothing shows that an instance was there: a condition that is true at once, or the end of an
    ``async with timeout(...)``, which no source names."""
    return isinstance(rest, WaitForOp) or (isinstance(rest, FailOp) and rest.error is TimedOut)
