"""Threads: how they start and how they end.

Invariants:

* Ids of live threads are unique, so a thread id and a pc identify one visit to a statement. Only ``_start`` adds a
  thread. Its caller must check whether the id is taken.
* A thread that has ended is no longer in the list.
* A thread that ``watches`` another one is the timer of a ``Within``. It lives only while that thread is in the section
  of the ``Within``.
* A thread with ``covers`` was started inside of a ``Try`` of another thread, which may have left it since. Entering the
  ``Try`` again removes it from these threads, so the other thread is in the same visit if it is inside.
* A thread with a ``parent`` is a branch. Its parent stays parked on a parallel statement until all its branches have
  ended.

The end of the main thread ends all other threads, except while the instance is being canceled: then each thread still
has to run its ``finally_`` sections, and the last thread to end also ends the instance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from workflow_core.crowd import CROWD_MIN, Crowd, ids_of, with_id
from workflow_core.errors import DuplicateThread, ExecutionError
from workflow_core.execution import Cover, Execution, Status, Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.frames import handed_down
from workflow_core.machine.state import MachineState
from workflow_core.machine.surroundings import check_surroundings
from workflow_core.machine.values import items_of, value_of
from workflow_core.machine.waits import leave_wait, park, summarize
from workflow_core.parked import samples
from workflow_core.program.code import ForkOp, GoOp, Guard, Instruction
from workflow_core.stored_parts import MAIN_THREAD

_FINISHED = Status.FINISHED


def start_of(machine: MachineState, thread: Thread) -> Instruction:
    """Returns the instruction that the thread rests on, or the first one if it has not started.

    Raises:
        UnknownStatement: the definition no longer contains it.
    """
    return machine.program.start_of(thread.name, thread.step)


def check(machine: MachineState) -> None:
    """Checks that the definition still contains every statement that a thread is at, and the sections around it.

    Raises:
        UnknownStatement: a statement or a section is missing.
    """
    rests = machine.program.rests
    for thread in samples(machine.execution.threads):
        instruction = rests.get(thread.step) or start_of(machine, thread)
        if thread.positions or thread.pending or thread.errors:
            check_surroundings(machine.program, thread, instruction)


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
            raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}. Return a text")
    is_taken = with_id(machine.execution.threads, id) is not None
    started = _start(machine, thread, id, instruction.name, is_taken=is_taken)
    started.covers = _covers(machine, thread, instruction.guard)


def _covers(machine: MachineState, thread: Thread, guard: Guard | None) -> list[Cover]:
    """Returns the covers of a thread that another one starts: each ``Try`` around the ``Go``, also those around the
    threads that wait for the other one, and the covers of the other one itself."""
    found: list[Cover] = []
    by_branch = False
    while True:
        inside = guard
        while inside is not None:
            if inside.is_try:
                found.append(Cover(inside.name, thread.id, by_branch))
            inside = inside.outer
        parent = with_id(machine.execution.threads, thread.parent) if thread.parent else None
        if parent is None:
            return [*found, *thread.covers]
        thread, guard, by_branch = parent, start_of(machine, parent).guard, True


def uncover(execution: Execution, thread: Thread, name: str) -> None:
    """Lets a ``Try`` no longer cover what a thread has started in an earlier visit to it."""
    for other in execution.threads:
        if other.covers:
            other.covers = [cover for cover in other.covers if (cover.statement, cover.thread) != (name, thread.id)]


def _own_id(machine: MachineState, name: str) -> str:
    """Returns the id of the only thread of a ``Go``: its name, or its former name if the thread started under it."""
    renamed = machine.program.renamed
    former = (thread.id for thread in machine.execution.threads if renamed.get(thread.id) == name) if renamed else ()
    return next(iter(former), name)


def _start(machine: MachineState, by: Thread, id: str, name: str, *, is_taken: bool, parent: str = "") -> Thread:
    if is_taken:
        raise DuplicateThread(
            f"Go {name!r}: a thread with the id {id!r} is still live. Set a unique id for each thread: "
            f"Go(name, ..., id=lambda w: ...), or go(..., id=...) in an async def run"
        )
    positions, errors = dict(by.positions), dict(by.errors)
    thread = Thread(id, name, parent=parent, positions=positions, errors=errors, caused_by=by.caused_by)
    thread.locals = handed_down(machine, by, name)
    execution = machine.execution
    execution.threads.append(thread)
    if len(execution.threads) >= CROWD_MIN and type(execution.threads) is list:
        gather(execution)
    return thread


def gather(execution: Execution) -> None:
    """Replaces the list of threads by one that finds some of them without a look at each."""
    if type(execution.threads) is not Crowd:
        execution.threads = Crowd(execution.threads)


def watch(machine: MachineState, thread: Thread, guard: Guard) -> None:
    """Starts the timer of a ``Within``: a thread that waits for the deadline.

    If the function of its delay raises an error, nothing has changed.
    """
    execution, name = machine.execution, guard.name
    id = name if thread.id == MAIN_THREAD else f"{thread.id}/{name}"
    timer = Thread(id, name, watches=thread.id)
    assert guard.timer is not None
    timer.locals = handed_down(machine, thread, name)  # the delay may be one
    park(machine, timer, guard.timer)
    timer.locals = {}
    unwatch(machine, thread, name)
    if with_id(execution.threads, id) is not None:
        raise DuplicateThread(
            f"Within {name!r}: its timer is a thread, and one with the id {id!r} is still live. "
            f"Set another id for that one"
        )
    execution.threads.append(timer)


def unwatch(machine: MachineState, thread: Thread, name: str) -> None:
    """Ends the timer of the ``Within`` of that name, if the thread has one."""
    for timer in timers_of(machine.execution, thread):
        if timer.name == name:
            end(machine, timer)


def timers_of(execution: Execution, thread: Thread) -> list[Thread]:
    """Returns the timers of each ``Within`` that a thread is in."""
    threads = execution.threads
    if type(threads) is Crowd:
        return list(threads.timers(thread.id))
    return [other for other in threads if other.watches == thread.id]


# --- branches --------------------------------------------------------------------------------


def branch_count(machine: MachineState, thread: Thread, instruction: ForkOp) -> int:
    """Returns the number of branches that a parallel statement has now; 0 if the thread is leaving."""
    if thread.leaving is not None:
        return 0
    return len(instruction.branches if instruction.items is None else items_of(machine, thread, instruction))


def start_branches(
    machine: MachineState, thread: Thread, instruction: ForkOp, allowance: Allowance, total: int
) -> tuple[int, bool]:
    """Starts the branches of a parallel statement that may run now, unless the thread is leaving.

    Args:
        total: see ``branch_count``.

    Returns:
        The number of live branches, and whether this call started branches that the statement had at its entry.
    """
    execution = machine.execution
    live = len(branches_of(execution, thread))
    if thread.leaving is not None:
        return live, False
    name, branches = instruction.name, instruction.branches
    has_items = instruction.items is not None
    first = position = thread.positions.get(name, 0)
    most = total if instruction.limit is None else min(total, position + instruction.limit - live)
    if most - position >= CROWD_MIN:
        gather(execution)
    taken: Collection[str] = ids_of(execution.threads) if position < most else ()
    while position < most:
        branch = branches[0] if has_items else branches[position]
        id = f"{branch}[{position}]" if has_items else branch
        id = id if thread.id == MAIN_THREAD else f"{thread.id}/{id}"
        child = _start(machine, thread, id, branch, is_taken=id in taken, parent=thread.id)
        if has_items:
            child.positions[name] = position
        position, live = position + 1, live + 1
    thread.positions[name] = position
    if not first:
        allowance.rounds.pop(name, None)
    return live, position > first and allowance.round(name, position, total)


def can_fork(machine: MachineState, thread: Thread, instruction: ForkOp, live: int) -> bool:
    """Whether a thread that waits for ``live`` branches can move: all have ended, or more may start."""
    if not live or thread.leaving is not None or instruction.limit is None or live >= instruction.limit:
        return not live
    return thread.positions.get(instruction.name, 0) < len(items_of(machine, thread, instruction))


def live_branches(execution: Execution) -> Mapping[str, int]:
    """Returns the number of live branches by the id of the thread that waits for them; 0 for all other ids."""
    threads = execution.threads
    return threads.live if type(threads) is Crowd else Counter([thread.parent for thread in threads])


def branches_of(execution: Execution, thread: Thread) -> list[Thread]:
    """Returns the live branches that a thread waits for."""
    threads = execution.threads
    if type(threads) is Crowd:
        return list(threads.branches(thread.id))
    return [other for other in threads if other.parent == thread.id]


# --- ending ----------------------------------------------------------------------------------


def end(machine: MachineState, thread: Thread) -> None:
    """Ends a thread and its timers. The main thread also ends the instance; during a cancellation, the last thread
    does."""
    execution = machine.execution
    if thread.id == MAIN_THREAD and not execution.canceling:
        end_all(execution, _FINISHED)
        return
    for timer in timers_of(execution, thread) if machine.program.has_deadlines else ():
        end(machine, timer)
    leave_wait(execution, thread)
    _remove(execution, thread)
    if machine.allowances:
        machine.allowances.pop(thread.id, None)
    if execution.threads or not execution.canceling:
        summarize(execution)
    else:
        close(execution, Status.CANCELED)


def _remove(execution: Execution, thread: Thread) -> None:
    threads = execution.threads
    if type(threads) is Crowd:
        threads.drop(thread)
        if len(threads) < CROWD_MIN:
            execution.threads = list(threads)
        return
    # By identity: list.remove would compare all attributes of each thread before this one.
    for index, other in enumerate(threads):
        if other is thread:
            del threads[index]
            break


def end_all(execution: Execution, status: Status) -> None:
    """Ends the instance with all its threads, and without their ``finally_`` sections. Waits are torn down."""
    for thread in execution.threads:
        if thread.waits:
            leave_wait(execution, thread)
    close(execution, status)


def close(execution: Execution, status: Status) -> None:
    """Ends the instance, whose threads have left their waits."""
    execution.threads = []
    execution.buffer = []
    execution.canceling = False
    execution.status = status
