"""The instructions that only plain definitions have; see ``workflow_core.plain``."""

from __future__ import annotations

from workflow_core.error_texts import Place
from workflow_core.execution import Status, Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, land
from workflow_core.machine.values import Frame
from workflow_core.program.cases import SelectOp
from workflow_core.program.code import (
    BranchOfItemOp,
    CodeOp,
    DoOp,
    EachOp,
    FrameStepOp,
    GoOp,
    Instruction,
    WaitForOp,
    WithinOp,
)
from workflow_core.program.program import Program
from workflow_core.signatures import OfFrame

_ASKING = frozenset({SelectOp, GoOp, EachOp, WithinOp, DoOp, CodeOp})
"""The instructions that compute values before they change anything, so that an error can be caught, ``Do``, and code of
a plain definition. Conditions belong to no statement that can fail, but those of a plain definition are its code."""


def run_code(machine: MachineState, thread: Thread, instruction: CodeOp, _: Allowance) -> Instruction:
    """Runs code of a plain definition. Returns where the thread continues."""
    machine.touched = True
    kind = instruction.function.function(machine.workflow, Frame(machine, thread, instruction.each))
    return instruction.next if kind is None else instruction.exits[kind]


def reach_step(machine: MachineState, thread: Thread, instruction: FrameStepOp, _: Allowance) -> None:
    """Parks the thread: the step is due. It cannot run at once, because its arguments must be saved first."""
    land(thread, ThreadHappening.REACHED_STEP)
    thread.step, thread.pc, machine.execution.status = instruction.name, machine.execution.pc, Status.RUNNING


def can_catch(instruction: Instruction) -> bool:
    """Whether a ``Try`` can catch an error that an instruction raises."""
    if type(instruction) is BranchOfItemOp or type(instruction) is WaitForOp:
        return isinstance(instruction.cond, OfFrame)
    return type(instruction) in _ASKING


def place_of(machine: MachineState, thread: Thread, instruction: Instruction) -> tuple[str, int]:
    """Returns the statement and the pc at which a repair begins after an error of an instruction. A thread cannot stand
    at code, which has no name, nor at a ``ForEach`` or a ``Go`` of a plain definition, where no locals are stored: what
    came before it runs again."""
    if type(instruction) is CodeOp or (machine.program.is_plain and instruction.name in machine.program.heads):
        return thread.step, thread.pc
    return instruction.name, machine.execution.pc


def note_place(program: Program, instruction: Instruction, error: BaseException) -> None:
    """Notes in an error which instruction raised it. Code notes its own line."""
    if type(instruction) is not CodeOp:
        note = f"raised at {instruction.name!r} of workflow {program.workflow!r}"
        error.add_note(Place(instruction.name, note))
