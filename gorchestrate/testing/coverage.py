"""Which statements and events of a workflow a test has used."""

from __future__ import annotations

from cloud_adapter.document import Instance
from workflow_core import Workflow


class Coverage:
    """The statements at which an instance can stand, and the events that it waits for, and which of them were used.

    Attributes:
        statements: the names of all statements at which an instance can stand.
        reached: those at which one has stood.
        events: the names of all events.
        handled: those that were handled.
    """

    def __init__(self, workflow: type[Workflow]) -> None:
        program = workflow.__program__
        self.statements = frozenset(program.rests)
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
