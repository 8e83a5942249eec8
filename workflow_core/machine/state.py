"""What the functions of the machine share: one instance in memory, with the program that moves it.

The files of the machine hold plain functions that take a ``MachineState``. Each file imports only those to its right:

    machine → operations → results → due → outside_work → work → calls → events → instructions → unwinding → threads →
    waits → transitions, values → state
    machine → saves → state

One call has to go the other way: a branch that fails cancels its siblings (``unwinding``), a canceled sibling runs its
``finally_`` section (``instructions``), and that may fail again. This call goes through ``MachineState.run``.
"""

from __future__ import annotations

from datetime import datetime

from workflow_core.errors import UnknownStatement
from workflow_core.execution import Execution, Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.renaming import rename
from workflow_core.program.code import Instruction
from workflow_core.program.program import Program
from workflow_core.workflow import Workflow, check_version


class MachineState:
    """One instance in memory.

    Args:
        now: the current time, in UTC. Without it timeouts get no deadline, and waits for a next attempt count
            as over.
        alone: there is nobody else to run activities: they are due like steps.

    Attributes:
        touched: whether code that may change the fields was called since they were given by ``use``, or since
            ``take_touched``.

    Raises:
        UnknownStatement: the execution is one of another workflow.
        NewerVersion: it was saved by a newer version of the workflow.
        ValueError: ``now`` has no time zone.
    """

    __slots__ = ("allowances", "alone", "execution", "now", "program", "touched", "workflow")

    def __init__(
        self, workflow: Workflow, execution: Execution, now: datetime | None = None, alone: bool = False
    ) -> None:
        program: Program = workflow.__program__
        if execution.workflow != program.workflow:
            raise UnknownStatement(
                f"the execution is one of workflow {execution.workflow!r}, the fields are of "
                f"{program.workflow!r}: pass the two that belong together"
            )
        if now is not None and now.tzinfo is None:
            raise ValueError(f"now is {now}, which has no time zone: pass datetime.now(UTC)")
        if execution.fields_version != program.fields_version:
            check_version(type(workflow), execution.fields_version)
            execution.fields_version = program.fields_version
        if program.has_renamed:
            rename(execution, program)
        self.program = program
        self.workflow = workflow
        self.execution = execution
        self.now = now
        self.alone = alone
        self.touched = False
        self.allowances: dict[str, Allowance] | None = None
        """Of the threads that rest on a condition, or on branches; None after a step or an event."""

    def run(self, thread: Thread, instruction: Instruction) -> None:
        """See ``workflow_core.machine.instructions.run``, which ``Machine`` puts here."""
        raise NotImplementedError

    def set_time(self, now: datetime) -> None:
        """What follows happens at this time."""
        self.now = now

    def begin(self, now: datetime) -> None:
        """What follows happens at this time, and its threads may move as often as after a load."""
        self.now = now
        self.allowances = None

    def use(self, workflow: Workflow) -> None:
        """Goes on with these fields."""
        self.workflow = workflow
        self.touched = False

    def take_touched(self) -> bool:
        """Whether code that may change the fields was called since it was asked last."""
        touched, self.touched = self.touched, False
        return touched

    def is_due(self, retry_at: datetime | None) -> bool:
        """Whether the time of a next attempt has come; None: it need not be waited for."""
        return retry_at is None or self.now is None or retry_at <= self.now
