"""The state that the functions of the machine share: one instance in memory, with its program.

The files of the machine contain plain functions that take a ``MachineState``. Each file imports only files to its
right:

    alone → machine → operations → results → due → outside_work → work → calls → events → instructions → sections,
    endless → unwinding → threads → waits → transitions, values → state
    machine → saves → state
    machine → stored_values → frames → state

One call goes in the opposite direction: a branch that fails cancels its siblings (``unwinding``), a canceled sibling
runs its ``finally_`` section (``instructions``), and that section may fail again. This call goes through
``MachineState.run``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from workflow_core.callbacks import CallbackUrls
from workflow_core.errors import UnknownStatement
from workflow_core.execution import Execution, Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.renaming import rename
from workflow_core.migration import check_version
from workflow_core.principal import Principal
from workflow_core.program.code import Instruction
from workflow_core.program.program import Program
from workflow_core.workflow import Workflow


def program_of(workflow: Workflow, execution: Execution, now: datetime | None) -> Program:
    """Returns the program of an instance. Gives the execution the version of the class and the current names.

    Raises:
        UnknownStatement, NewerVersion, ValueError: see ``MachineState``.
    """
    program: Program = workflow.__program__
    if execution.workflow != program.workflow:
        raise UnknownStatement(
            f"the execution belongs to workflow {execution.workflow!r}, but the fields belong to "
            f"{program.workflow!r}. Pass the fields and the execution of the same instance"
        )
    if now is not None and now.tzinfo is None:
        raise ValueError(f"now is {now}, which has no time zone. Pass datetime.now(UTC)")
    if execution.fields_version != program.fields_version:
        check_version(type(workflow), execution.fields_version)
        execution.fields_version = program.fields_version
    if program.unwatched:
        program.refresh(type(workflow), program.unwatched)
    if program.has_renamed:
        rename(execution, program)
    return program


class MachineState:
    """One instance in memory.

    Args:
        now: the current time, in UTC. If omitted, timeouts get no deadline, and every next attempt is due immediately.
        alone: the caller runs activities itself, so they are due like steps.

    Attributes:
        principal: who causes the following transitions; None: code of this process, or nobody.
        callback_urls: returns the URLs of callbacks, for steps and setups; None: nothing receives callbacks.
        salt: returns a random text for the id of a child, so that nobody can foresee it and take it first; None: the
            id depends only on the wait.
        awaited: the result of the wait that has just ended, for the code that follows; see ``machine.frames``.
        values: the locals of the threads that are moving, as objects, by the id of the thread.
        touched: whether code that may change the fields was called since the last ``use`` or ``take_touched``.
        is_unused: whether no code of the workflow can have got the fields since the last ``use``.

    Raises:
        UnknownStatement: the execution belongs to another workflow.
        NewerVersion: a newer version of the workflow saved the execution.
        ValueError: ``now`` has no time zone.
    """

    __slots__ = (
        "allowances",
        "alone",
        "awaited",
        "callback_urls",
        "execution",
        "is_unused",
        "now",
        "principal",
        "program",
        "salt",
        "touched",
        "values",
        "workflow",
    )

    def __init__(
        self, workflow: Workflow, execution: Execution, now: datetime | None = None, alone: bool = False
    ) -> None:
        program = program_of(workflow, execution, now)
        self.program = program
        self.workflow = workflow
        self.execution = execution
        self.now = now
        self.alone = alone
        self.principal: Principal | None = None
        self.salt: Callable[[], str] | None = None
        self.callback_urls: CallbackUrls | None = None
        self.awaited: Any = None
        self.values: dict[str, dict[str, Any]] = {}
        self.touched = False
        self.is_unused = True
        self.allowances: dict[str, Allowance] | None = None
        """The allowances of the threads that rest on a condition or on branches; None after a step or an event."""

    def run(self, thread: Thread, instruction: Instruction) -> None:
        """See ``workflow_core.machine.instructions.run``. ``Machine`` sets this method."""
        raise NotImplementedError

    def set_time(self, now: datetime) -> None:
        """Sets the time of the following transitions."""
        self.now = now

    def begin(self, now: datetime) -> None:
        """Sets the time of the following transitions, and resets everything else that concerned the last ones: the
        allowances of all threads, as after a load, and the principal."""
        self.now = now
        self.principal = None
        self.allowances = None
        self.is_unused = False

    def use(self, workflow: Workflow) -> None:
        """Replaces the fields."""
        self.workflow = workflow
        self.touched = False
        self.is_unused = True

    def take_touched(self) -> bool:
        """Whether code that may change the fields was called since the last call. Resets ``touched``."""
        touched, self.touched = self.touched, False
        return touched

    def is_due(self, retry_at: datetime | None) -> bool:
        """Whether the time of the next attempt has come. None: the attempt is due immediately."""
        return retry_at is None or self.now is None or retry_at <= self.now
