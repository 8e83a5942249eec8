"""Which statements and events of a workflow a test has used."""

from __future__ import annotations

from cloud_adapter.cli.access_matrix import unsendable
from cloud_adapter.document import Instance
from workflow_core import Status, TimedOut, Workflow
from workflow_core.program.code import FailOp, Instruction, WaitForOp
from workflow_core.program.reachability import unreachable


class Coverage:
    """The statements at which an instance can stand, and the events that it waits for, and which of them were used.

    Attributes:
        statements: the names of all statements at which an instance can stand, without conditions: one that is true at
            once is passed without a trace.
        reached: those at which one has stood.
        events: the names of all events.
        handled: those that were handled.
        left: the statements that an instance has left, other than by the end of the instance.
        unsendable: the events that no role may send; see ``gorchestrate check``.
        unreachable: the statements that no path through the program leads to, so that no test can reach them.
    """

    def __init__(self, workflow: type[Workflow]) -> None:
        program = workflow.__program__
        self.statements = frozenset(name for name, rest in program.rests.items() if not _may_be_passed(rest))
        self.events = frozenset(name for name, cases in program.events.items())
        self.reached: set[str] = set()
        self.handled: set[str] = set()
        self.left: set[str] = set()
        self.unsendable = unsendable(workflow)
        self.unreachable = unreachable(program)
        self._conditions: set[str] = set()
        """The conditions at which an instance has stood. They are not part of ``statements``."""
        self._rests = program.rests
        self._places: dict[str, dict[str, str]] = {}

    @property
    def missing(self) -> list[str]:
        """The statements that no instance has reached and the events that none has handled, sorted."""
        return sorted((self.statements - self.reached) | (self.events - self.handled))

    @property
    def never_left(self) -> list[str]:
        """The statements that instances have reached and none has left, sorted: waits that nothing has ended, and steps
        that have never succeeded."""
        return sorted((self.reached | self._conditions) - self.left)

    def add(self, instance: Instance) -> None:
        """Counts what an instance has just saved."""
        self.reached.update({thread.step for thread in instance.execution.threads} & self.statements)
        for entry in instance.new_entries:
            self.reached.update({entry.statement, entry.select} & self.statements)
            if entry.kind == "event":
                self.handled.add(entry.statement)
                self.left.add(entry.select)
            elif entry.kind in ("step", "activity", "timeout"):
                self.left.add(entry.statement)
        self._compare(instance)

    def _compare(self, instance: Instance) -> None:
        """Finds out which statements the threads of an instance have left since it was saved last."""
        execution = instance.execution
        now = {thread.id: thread.step for thread in execution.threads}
        for thread, place in self._places.get(instance.id, {}).items():
            went_on = thread in now and now[thread] != place
            ended = thread not in now and (execution.live or (thread == "main" and execution.status == Status.FINISHED))
            if went_on or ended:
                self.left.add(place)
        self._conditions.update(name for name in now.values() if isinstance(self._rests.get(name), WaitForOp))
        self._places[instance.id] = now


def _may_be_passed(rest: Instruction) -> bool:
    """Whether nothing shows that an instance was there: a condition that is true at once, or the end of an
    ``async with timeout(...)``, which no source names."""
    return isinstance(rest, WaitForOp) or (isinstance(rest, FailOp) and rest.error is TimedOut)
