"""The values that an instance has stored for code that runs later, after the code has changed.

Its threads store the inputs of the activities that they wait for, and the locals of a plain definition. Whether such a
value still fits shows only when code reads it, and that is too late: attempts of an activity would fail until none is
left, and a step would have run for nothing. An instance with a value that does not fit must wait until the code accepts
the value, as when a statement is missing.

Buffered events are not checked. They belong to no thread, so no repair would move the instance past one, and the select
that will take it may be one that the instance never reaches. One that does not fit is rejected when it is delivered.

Only values of another version of the definition are looked at. One that this version has stored is what its own code
has made of it: if that does not fit, it is an error of the code, which fails an attempt and can be caught. The version
in the execution is therefore set only by commits of callers that have checked the values.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic_core import to_json

from workflow_core.errors import ExecutionError, InvalidInput, UnknownStatement
from workflow_core.execution import Execution, Thread
from workflow_core.machine.frames import load
from workflow_core.machine.state import MachineState
from workflow_core.parked import samples
from workflow_core.program.cases import ActivityCase, SelectOp
from workflow_core.program.program import Program
from workflow_core.records import record
from workflow_core.statements.inline import Local
from workflow_core.wait_types import ActivityWait


@record(frozen=True, slots=True)
class Unfit:
    """A stored value that the code cannot use.

    Attributes:
        thread: the thread that has stored it.
        what: what does not fit, as a sentence about the instance.
        fix: what to change in the code; empty if there is nothing.
    """

    thread: str
    what: str
    fix: str


def check_values(machine: MachineState) -> None:
    """Checks that the code can use what the instance has stored. The caller has found that another version of the code
    has stored it.

    Raises:
        UnknownStatement: it cannot use a value.
    """
    program, execution = machine.program, machine.execution
    if execution.ended:
        return
    for unfit in unfit_values(program, execution):
        fix = f"{unfit.fix}, deploy" if unfit.fix else "deploy"
        raise UnknownStatement(
            f"an instance of {program.workflow!r} cannot continue in thread {unfit.thread!r}: {unfit.what}. To "
            f"continue it, {fix} the former code again, or repair the instance"
        )


def note_version(machine: MachineState) -> None:
    """Records that this version of the definition has moved the instance last."""
    machine.execution.definition_version = machine.program.version


def unfit_values(program: Program, execution: Execution) -> Iterator[Unfit]:
    """Yields the stored values of an instance that the code cannot use."""
    for thread in samples(execution.threads):
        yield from _inputs(program, thread)
        yield from _locals(program, thread)


def _inputs(program: Program, thread: Thread) -> Iterator[Unfit]:
    """Yields the inputs of activities that their functions no longer take."""
    instruction = program.rests.get(thread.step)
    cases = instruction.cases if isinstance(instruction, SelectOp) else {}
    for wait in thread.waits:
        case = cases.get(wait.event) if isinstance(wait, ActivityWait) else None
        if not isinstance(wait, ActivityWait) or not isinstance(case, ActivityCase):
            continue
        signature = case.activity.signature
        try:
            if signature.takes_input:
                signature.load(wait.event, to_json(wait.input))
        except InvalidInput as error:
            yield Unfit(
                thread.id,
                f"the input of activity {wait.event!r} is no longer valid for its function: {reasons_of(error)}",
                "make the function accept the old input too",
            )


def _locals(program: Program, thread: Thread) -> Iterator[Unfit]:
    """Yields the locals that a thread lacks, or whose types no longer take them."""
    for local in _needed(program, thread):
        if local.stored_key(thread.locals) is not None:
            try:
                load(thread, local)
            except ExecutionError as error:
                yield Unfit(thread.id, str(error), "annotate the local with a type that also accepts the stored value")
        elif local.is_assigned and not local.has_default:
            what = f"it is at {thread.step!r}, where the code now needs {local.in_words}, which it does not have"
            yield Unfit(thread.id, what, "" if local.is_hidden else f"assign it with {local.with_default}")


def _needed(program: Program, thread: Thread) -> tuple[Local, ...]:
    """Returns the locals that the code after the place of a thread may read."""
    if not thread.step:
        return program.entry_locals.get(thread.name, ())
    instruction = program.rests.get(thread.step)
    return () if instruction is None else instruction.kept


def reasons_of(error: InvalidInput) -> str:
    """Returns what is wrong with an input."""
    return "; ".join(f"{detail['field'] or 'input'}: {detail['message']}" for detail in error.errors)
