"""The instructions of handlers and of sections with a deadline. Each returns where the thread continues, if it does."""

from __future__ import annotations

from workflow_core.accidents import refuse_accident
from workflow_core.crowd import with_id
from workflow_core.execution import Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import end, unwatch, watch
from workflow_core.machine.unwinding import expire
from workflow_core.machine.values import keywords
from workflow_core.program.code import DoOp, ExpireOp, Instruction, RaceOp, WithinOp, WithoutOp


def do(machine: MachineState, thread: Thread, instruction: DoOp, _: Allowance) -> Instruction:
    """Calls a handler that changes the fields."""
    machine.touched = True
    given = keywords(machine, thread, instruction.each, instruction.keywords) if instruction.keywords else {}
    refuse_accident(instruction.handler(machine.workflow, **given), f"the handler of {instruction.name!r}")
    return instruction.next


def call_winner(machine: MachineState, thread: Thread, instruction: RaceOp, branch: str) -> None:
    """Calls the ``then`` of a race."""
    if instruction.then is None:
        return
    if branch not in instruction.prefixes:
        raise machine.program.unknown(branch)
    machine.touched = True
    given = keywords(machine, thread, instruction.each, instruction.keywords)
    output = instruction.then(machine.workflow, instruction.prefixes[branch], **given)
    refuse_accident(output, f"the then of {instruction.name!r}")


def enter_section(machine: MachineState, thread: Thread, instruction: WithinOp, _: Allowance) -> Instruction:
    """Starts the timer of a ``Within``."""
    watch(machine, thread, instruction.within)
    return instruction.next


def leave_section(machine: MachineState, thread: Thread, instruction: WithoutOp, _: Allowance) -> Instruction:
    """Ends the timer of a ``Within``."""
    unwatch(machine, thread, instruction.name)
    return instruction.next


def end_section(machine: MachineState, thread: Thread, instruction: ExpireOp, _: Allowance) -> None:
    """The deadline of a ``Within`` has passed: ends the timer, and lets the thread leave the section."""
    watched = with_id(machine.execution.threads, thread.watches)
    end(machine, thread)
    if watched is not None:
        expire(machine, watched, instruction.name)
