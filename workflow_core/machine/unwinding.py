"""Unwinding: how a thread leaves the sections around it, because of an error or a cancellation.

Each instruction knows the innermost ``Try`` around it (``guard``), and each guard knows the next outer one. A thread
that leaves has a reason, a ``Leave``, and moves outwards (``depart``):

* An ``except_`` section that catches the error ends the departure: the thread continues there.
* A ``finally_`` section interrupts the departure: the ``Leave`` is stored in ``thread.pending``. At the end of the
  section (``LeftOp``), the ``Leave`` is removed and the departure continues. The reason therefore survives a save, and
  a ``finally_`` section may contain steps and waits like any other section.
* The first branch of a race to end cancels the others in the same way (``finish``); its parent stores in
  ``thread.leaving`` that the race is won, and goes on when the last branch has ended.
* The deadline of a ``Within`` interrupts its thread (``expire``): the thread departs with the reason ``LATE``, to the
  ``Within`` of that name. Whatever leaves a ``Within`` ends its timer.
* If no section is left, the thread ends. The error of a branch goes to its parent, which cancels the other branches,
  stores the reason in ``thread.leaving`` and departs when the last branch has ended. The error of a thread that was
  started inside of a ``Try`` is thrown in the thread that started it, if that is still inside (``_throw``): it departs
  to this ``Try``, past the ``except_`` sections inside. Any other error fails the instance; the thread is moved back to
  the statement that failed, so that ``retry`` begins there. So are threads whose error was thrown and not caught.

Invariants:

* A ``finally_`` section runs to its end, or to an error of its own, once it is entered. If its thread is canceled
  in the meantime, the cancellation replaces the pending ``Leave`` and applies at the end of the section.
* A deadline that has passed is not lost if a cleanup fails afterwards: if an ``except_`` section inside of the
  ``Within`` would catch the error, the thread leaves for the deadline instead. If the error leaves the ``Within``, the
  deadline no longer matters.
* A cancellation cannot be caught. If a cleanup raises an error while its thread is canceled, an ``except_`` section
  around that cleanup does not catch the error; only a ``Try`` inside the cleanup does.

To preserve these, never move a thread past a guard without ``depart``, and never drop a ``Leave`` before it was
applied, unless another one has overtaken it (``workflow_core.machine.pending``).
"""

from __future__ import annotations

from dataclasses import replace

from workflow_core.accidents import refuse_accident
from workflow_core.crowd import with_id
from workflow_core.error_texts import error_info
from workflow_core.execution import Cover, Leave, Status, Thread
from workflow_core.machine.frames import for_retry
from workflow_core.machine.pending import drop_overtaken, forget, left_try, overdue_of, target_of
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import branches_of, end, start_of, timers_of, unwatch, watch
from workflow_core.machine.transitions import ThreadHappening, change_thread, check_thread, land
from workflow_core.machine.values import keywords
from workflow_core.machine.waits import leave_wait
from workflow_core.program.code import Clause, ForkOp, Guard, Instruction, RaceOp, StepOp, guards_around
from workflow_core.retry import Retry
from workflow_core.stored_parts import ErrorInfo, LeaveKind

_ERROR, _CANCEL = LeaveKind.ERROR, LeaveKind.CANCEL
_WON, _LATE = LeaveKind.WON, LeaveKind.LATE

# --- whether an error is retried or caught ---------------------------------------------------


def tries_again(machine: MachineState, policy: Retry | None, failures: int, error: BaseException) -> bool:
    """Whether the retry policy allows another attempt after ``failures`` failed attempts, the last one with ``error``.

    Args:
        policy: the policy of the statement; if None, the ``default_retry`` of the workflow applies.
    """
    policy = policy or machine.workflow.default_retry
    return policy is not None and policy.delay(failures, error) is not None


def catches(machine: MachineState, thread: Thread, instruction: Instruction, error: BaseException) -> bool:
    """Whether an error at the instruction is caught or reaches a ``finally_`` section."""
    return _is_caught(machine, thread, instruction.guard, error_info(error, instruction.name))


def _is_caught(machine: MachineState, thread: Thread, guard: Guard | None, error: ErrorInfo) -> bool:
    # A thread that waits for its canceled branches will leave with the cancellation.
    doomed = _is_doomed(thread) or (thread.leaving is not None and thread.leaving.kind is _CANCEL)
    while guard is not None:
        if guard.cleanup_at >= 0 or _clause(guard, error, doomed) is not None:
            return True
        guard = guard.outer
    if not thread.parent:
        return _covering(machine, thread, error) is not None
    parent = with_id(machine.execution.threads, thread.parent)
    return parent is not None and _is_caught(machine, parent, start_of(machine, parent).guard, error)


def _clause(guard: Guard, error: ErrorInfo, doomed: bool) -> Clause | None:
    """Returns the ``except_`` section that catches the error, if there is one."""
    for clause in guard.clauses if guard.region or not doomed else ():
        if clause.names is None or error.fits(clause.names):
            return clause
    return None


def _is_doomed(thread: Thread) -> bool:
    """Whether the thread is being canceled: with the instance, or because another branch has failed."""
    return any(leave.kind is _CANCEL for leave in thread.pending.values())


# --- leaving ---------------------------------------------------------------------------------


def depart(machine: MachineState, thread: Thread, leave: Leave, guard: Guard | None) -> Instruction | None:
    """Moves a thread out of the sections around it. Returns where it continues; None if it has ended."""
    error = leave.error
    doomed = leave.kind is _CANCEL or _is_doomed(thread)
    while guard is not None:
        if guard.is_try and (thread.pending or leave.until):
            leave = left_try(thread, guard, leave)
        clause = None if error is None or leave.until else _clause(guard, error, doomed)
        if clause is not None and (overdue := overdue_of(thread, guard)) is not None:
            leave, error, clause = overdue, overdue.error, None
        if clause is not None:
            assert error is not None
            _land(machine, thread)
            thread.errors[clause.name] = error
            drop_overtaken(thread, clause.entry)
            if clause.then is not None:
                machine.touched = True
                given = keywords(machine, thread, clause.each, clause.keywords) if clause.keywords else {}
                output = clause.then(machine.workflow, error, **given)
                refuse_accident(output, f"the function of except_ {clause.name!r}")
            return clause.entry
        if guard.cleanup_at >= 0:
            _land(machine, thread)
            if error is not None and leave.locals is None:
                leave.locals = for_retry(machine, thread)
            thread.pending[guard.name] = leave
            return guard.cleanup
        if guard.late_at >= 0:
            unwatch(machine, thread, guard.name)
            forget(thread, guard.name)
            if leave.kind is _LATE and leave.step == guard.name:
                _land(machine, thread)
                return guard.late
        guard = guard.outer
    if error is None:
        end(machine, thread)
    elif thread.parent:
        _fail_branch(machine, thread, error)
    elif (covering := _covering(machine, thread, error)) is not None:
        _throw(machine, thread, leave, *covering)
    else:
        leave_wait(machine.execution, thread)  # torn down before what the other threads wait for
        # A repair begins at the statement that failed, not at the end of the last finally_ section.
        _stand_at(machine, thread, leave)
        live = {other.id for other in machine.execution.threads}
        machine.execution.threads.extend(failed for failed in leave.failed if failed.id not in live)
        fail_instance(machine, error)
    return None


def _stand_at(machine: MachineState, thread: Thread, leave: Leave) -> None:
    """Moves a thread that has failed back to the statement that failed."""
    thread.step, thread.pc = leave.step, leave.pc
    if leave.locals is not None:
        thread.locals = leave.locals
        machine.values.get(thread.id, {}).clear()  # what the finally_ sections have assigned
    is_step = isinstance(machine.program.rests.get(leave.step), StepOp)
    land(thread, ThreadHappening.FAILED_ON_STEP if is_step else ThreadHappening.FAILED)


def _land(machine: MachineState, thread: Thread) -> None:
    leave_wait(machine.execution, thread)
    thread.attempt = 0
    thread.retry_at = thread.error = None


def _fail_branch(machine: MachineState, thread: Thread, error: ErrorInfo) -> None:
    """Ends a branch that has failed, and cancels the other branches. When they have ended, their parent fails."""
    execution = machine.execution
    parent = with_id(execution.threads, thread.parent)
    end(machine, thread)
    if parent is None:
        return
    if parent.leaving is not None:
        if parent.leaving.kind in (_WON, _LATE):
            if parent.leaving.kind is _LATE:  # it stays due if the error is caught inside of the Within
                parent.pending[parent.leaving.step] = parent.leaving
            parent.leaving = Leave(_ERROR, error, parent.step, parent.pc)
        elif parent.leaving.error is None:
            # A cleanup failed while all branches were canceled: the parent is canceled too, but keeps the error.
            parent.leaving = Leave(_CANCEL, error, parent.step, parent.pc)
        return
    parent.leaving = Leave(_ERROR, error, parent.step, parent.pc)
    for other in branches_of(execution, parent):
        cancel_thread(machine, other)


def finish(machine: MachineState, thread: Thread) -> None:
    """Ends a thread that has reached the end of its statements. In a race, it cancels the other branches."""
    execution = machine.execution
    end(machine, thread)
    if thread.name not in machine.program.racers:
        return
    parent = with_id(execution.threads, thread.parent)
    if parent is None or parent.leaving is not None or type(machine.program.rests.get(parent.step)) is not RaceOp:
        return
    parent.leaving = Leave(_WON, None, thread.name)
    for other in branches_of(execution, parent):
        cancel_thread(machine, other)


def fail_statement(machine: MachineState, thread: Thread, error: ErrorInfo) -> None:
    """Applies an error without a further attempt, as one transition: the thread continues where the error is caught,
    or fails."""
    check_thread(thread, ThreadHappening.GIVEN_UP)
    machine.execution.pc += 1
    machine.allowances = None
    leave = Leave(_ERROR, error, thread.step, thread.pc)
    landed = depart(machine, thread, leave, start_of(machine, thread).guard)
    if landed is not None:
        machine.run(thread, landed)


def cancel_thread(machine: MachineState, thread: Thread) -> None:
    """Cancels a thread: it leaves all sections and runs their ``finally_`` sections. If it is in a ``finally_``
    section, it first runs that to its end."""
    leave = Leave(_CANCEL)
    instruction = start_of(machine, thread)
    if instruction.region:
        thread.pending[instruction.region] = leave
        return
    if not thread.step:
        end(machine, thread)
        return
    if isinstance(instruction, ForkOp) and (branches := branches_of(machine.execution, thread)):
        thread.leaving = leave
        for branch in branches:
            cancel_thread(machine, branch)
        return
    thread.leaving = None  # its branches have failed and ended, but it has not moved on yet
    landed = depart(machine, thread, leave, instruction.guard)
    if landed is not None:
        machine.run(thread, landed)


# --- leaving for a statement further out -----------------------------------------------------


def expire(machine: MachineState, thread: Thread, name: str) -> None:
    """The deadline of the ``Within`` of that name has passed: the thread leaves its section. A cancellation comes
    first, and what leads further out."""
    instruction = start_of(machine, thread)
    guard = next((guard for guard in guards_around(instruction) if guard.name == name and guard.late_at >= 0), None)
    if guard is None:
        return  # the code has changed in the meantime
    if not _comes_first(_reason(thread, instruction, guard), guard):
        _interrupt(machine, thread, instruction, guard, Leave(_LATE, None, name))


def _covering(machine: MachineState, thread: Thread, error: ErrorInfo) -> tuple[Thread, Guard, Cover] | None:
    """Returns where an error that nothing in a thread catches is thrown: a thread that is still in the ``Try`` in which
    the failed one was started, and this ``Try``. None if all of them were left, or if nothing catches the error there
    and no ``finally_`` section is on its way."""
    for cover in thread.covers:
        inside = with_id(machine.execution.threads, cover.thread)
        if inside is None or not inside.step:
            continue
        instruction = start_of(machine, inside)
        guard = next(
            (part for part in guards_around(instruction) if part.name == cover.statement and part.is_try), None
        )
        if guard is None:
            continue
        reason = _reason(inside, instruction, guard)
        if _comes_first(reason, guard) and not (reason and reason.until):
            continue  # it is on its way out
        first = next(part for part in guards_around(instruction) if part is guard or part.cleanup_at >= 0)
        if first is not guard or _is_caught(machine, inside, guard, error):
            return inside, guard, cover
    return None


def _throw(machine: MachineState, thread: Thread, leave: Leave, inside: Thread, guard: Guard, cover: Cover) -> None:
    """Ends a thread that has failed, and throws its error in the thread that is still in its ``Try``. If another error
    already leads there or further out, that one is thrown alone."""
    assert leave.error is not None
    _stand_at(machine, thread, leave)
    end(machine, thread)
    failed = [] if cover.by_branch else [*leave.failed, thread]
    instruction = start_of(machine, inside)
    reason = _reason(inside, instruction, guard)
    if reason is not None and reason.until and (reason.until == guard.name or _comes_first(reason, guard)):
        reason.failed.extend(failed)
        return
    if reason is not None and reason.kind is _ERROR:
        at = reason
    else:
        at = Leave(_ERROR, None, inside.step, inside.pc, locals=for_retry(machine, inside))
    thrown = replace(at, error=leave.error, until=guard.name, failed=[*at.failed, *failed])
    _interrupt(machine, inside, instruction, guard, thrown)


def _interrupt(machine: MachineState, thread: Thread, instruction: Instruction, guard: Guard, leave: Leave) -> None:
    """Lets a thread leave for a guard around it. If it is in a ``finally_`` section inside of that, it first runs it to
    its end; if it waits for branches, they are canceled first."""
    if inside := instruction.cleanups[guard.depth :]:
        thread.pending[inside[0]] = leave
        return
    if isinstance(instruction, ForkOp) and (branches := branches_of(machine.execution, thread)):
        thread.leaving = leave
        for branch in branches:
            cancel_thread(machine, branch)
        return
    thread.leaving = None
    thread.caused_by = ""
    landed = depart(machine, thread, leave, instruction.guard)
    if landed is not None:
        machine.run(thread, landed)


def _reason(thread: Thread, instruction: Instruction, guard: Guard) -> Leave | None:
    """Returns why a thread is going to leave that is inside of a guard, once a ``finally_`` section there or its
    branches have ended; None if it is not."""
    inside = instruction.cleanups[guard.depth :]
    return thread.pending.get(inside[0]) if inside else thread.leaving


def _comes_first(leave: Leave | None, guard: Guard) -> bool:
    """Whether a pending reason is a cancellation, or leads further out than a guard."""
    if leave is None or leave.kind is _CANCEL:
        return leave is not None
    outer, target = guard.outer, target_of(leave)
    while target and outer is not None and outer.name != target:
        outer = outer.outer
    return bool(target) and outer is not None


def watch_again(machine: MachineState, thread: Thread) -> None:
    """Adjusts the timers of a thread that was moved, or whose instance is retried: each ``Within`` around its statement
    has a timer, and no other."""
    if not thread.step or thread.watches:
        return
    timers = {timer.name for timer in timers_of(machine.execution, thread)}
    around: list[Guard] = []
    guard = start_of(machine, thread).guard
    while guard is not None:
        if guard.late_at >= 0:
            around.append(guard)
        guard = guard.outer
    for guard in reversed(around):
        if guard.name not in timers:
            watch(machine, thread, guard)
    for name in timers - {guard.name for guard in around}:
        unwatch(machine, thread, name)


def fail_instance(machine: MachineState, error: ErrorInfo) -> None:
    """Ends the instance as failed. Its threads keep their positions, and their events are torn down."""
    execution = machine.execution
    execution.status = Status.FAILED
    execution.error = error
    for thread in execution.threads:
        leave_wait(execution, thread)
        change_thread(thread, ThreadHappening.INSTANCE_FAILED)
