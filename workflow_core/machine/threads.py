"""Threads: how they start and how they end.

Invariants:

* Ids of live threads are unique, so a thread id and a pc identify one visit to a statement. ``_start`` is the only
  place that adds a thread, and it must be told whether the id is taken.
* A thread that has ended is not listed.
* A thread with a ``parent`` is a branch. Its parent stays parked on a parallel statement until no branch of it lives.

The end of the main thread ends all others, except while the instance is canceled: then each thread still has to run
its ``finally_`` sections, and the last thread to end also ends the instance.
"""

from __future__ import annotations

from collections import Counter

from workflow_core.errors import DuplicateThread, ExecutionError
from workflow_core.execution import MAIN_THREAD, Execution, Status, Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.state import MachineState
from workflow_core.machine.values import items_of, value_of
from workflow_core.machine.waits import leave_wait, summarize
from workflow_core.program.code import ForkOp, GoOp, Instruction

_FINISHED = Status.FINISHED


def start_of(machine: MachineState, thread: Thread) -> Instruction:
    """What the thread stands on, or starts with.

    Raises:
        UnknownStatement: the definition no longer has it.
    """
    program = machine.program
    if thread.step:
        return program.at(thread.step)
    try:
        return program.code[program.entries[thread.name]]
    except KeyError:
        raise program.unknown(thread.name) from None


def check(machine: MachineState) -> None:
    """Whether the definition still has every statement that a thread stands on.

    Raises:
        UnknownStatement: it has not.
    """
    for thread in machine.execution.threads:
        start_of(machine, thread)


# --- starting --------------------------------------------------------------------------------


def go(machine: MachineState, thread: Thread, instruction: GoOp) -> None:
    """Starts the thread of a ``Go``."""
    id = instruction.id
    if id is None:
        id = _own_id(machine, instruction.name)
    elif not isinstance(id, str):
        value = value_of(machine, thread, instruction, id)
        id = str(value)
        if value is None or not id:
            raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}: return a text")
    _start(machine.execution, thread, id, instruction.name, is_taken=machine.execution.thread(id) is not None)


def _own_id(machine: MachineState, name: str) -> str:
    """The id of the one thread of a ``Go``: its name, or that under which it lives since before it was renamed."""
    renamed = machine.program.renamed
    former = (thread.id for thread in machine.execution.threads if renamed.get(thread.id) == name) if renamed else ()
    return next(iter(former), name)


def _start(execution: Execution, by: Thread, id: str, name: str, *, is_taken: bool) -> Thread:
    if is_taken:
        raise DuplicateThread(
            f"Go {name!r}: a thread {id!r} still lives; give each thread an id of its own: "
            f"Go(name, ..., id=lambda w: ...)"
        )
    thread = Thread(id, name, positions=dict(by.positions), errors=dict(by.errors))
    execution.threads.append(thread)
    return thread


# --- branches --------------------------------------------------------------------------------


def start_branches(
    machine: MachineState, thread: Thread, instruction: ForkOp, allowance: Allowance
) -> tuple[int, bool]:
    """Starts the branches of a parallel statement that may run now, unless the thread is on its way out.

    Returns:
        How many branches live, and whether some that the statement had at its entry were started.
    """
    execution = machine.execution
    live = len(branches_of(execution, thread))
    if thread.leaving is not None:
        return live, False
    name, branches = instruction.name, instruction.branches
    has_items = instruction.items is not None
    total = len(items_of(machine, thread, instruction)) if has_items else len(branches)
    first = position = thread.positions.get(name, 0)
    most = total if instruction.limit is None else min(total, position + instruction.limit - live)
    taken = {other.id for other in execution.threads} if position < most else ()
    while position < most:
        branch = branches[0] if has_items else branches[position]
        id = f"{branch}[{position}]" if has_items else branch
        id = id if thread.id == MAIN_THREAD else f"{thread.id}/{id}"
        child = _start(execution, thread, id, branch, is_taken=id in taken)
        child.parent = thread.id
        if has_items:
            child.positions[name] = position
        position, live = position + 1, live + 1
    thread.positions[name] = position
    if not first:
        allowance.rounds.pop(name, None)
    return live, position > first and allowance.round(name, position, total)


def can_fork(machine: MachineState, thread: Thread, instruction: ForkOp, live: int) -> bool:
    """Whether a thread that waits for so many live branches has something to do."""
    if not live or thread.leaving is not None or instruction.limit is None or live >= instruction.limit:
        return not live
    return thread.positions.get(instruction.name, 0) < len(items_of(machine, thread, instruction))


def live_branches(execution: Execution) -> Counter[str]:
    """How many threads have been started, and are waited for, by the thread of an id."""
    return Counter([thread.parent for thread in execution.threads])


def branches_of(execution: Execution, thread: Thread) -> list[Thread]:
    """The live branches that a thread waits for."""
    return [other for other in execution.threads if other.parent == thread.id]


# --- ending ----------------------------------------------------------------------------------


def end(machine: MachineState, thread: Thread) -> None:
    """Ends a thread, and the instance with its main thread, or with its last one while it is canceled."""
    execution = machine.execution
    if thread.id == MAIN_THREAD and not execution.canceling:
        for other in execution.threads:
            if other.waits:
                leave_wait(execution, other)
        _finish(execution, _FINISHED)
        return
    leave_wait(execution, thread)
    # By identity: list.remove compares all that threads hold, for each thread before this one.
    for index, other in enumerate(execution.threads):
        if other is thread:
            del execution.threads[index]
            break
    if machine.allowances:
        machine.allowances.pop(thread.id, None)
    if execution.threads or not execution.canceling:
        summarize(execution)
    else:
        _finish(execution, Status.CANCELED)


def _finish(execution: Execution, status: Status) -> None:
    execution.threads = []
    execution.buffer = []
    execution.canceling = False
    execution.status = status
