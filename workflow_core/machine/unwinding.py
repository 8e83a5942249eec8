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
  stores the reason in ``thread.leaving`` and departs when the last branch has ended. The error of a thread without a
  parent fails the instance; the thread is moved back to the statement that failed, so that ``retry`` begins there.

Invariants:

* A ``finally_`` section runs to its end, or to an error of its own, once it is entered. If its thread is canceled
  in the meantime, the cancellation replaces the pending ``Leave`` and applies at the end of the section.
* A deadline that has passed is not lost if a cleanup fails afterwards: if an ``except_`` section inside of the
  ``Within`` would catch the error, the thread leaves for the deadline instead. If the error leaves the ``Within``, the
  deadline no longer matters.
* A cancellation cannot be caught. If a cleanup raises an error while its thread is canceled, an ``except_`` section
  around that cleanup does not catch the error; only a ``Try`` inside the cleanup does.

To preserve these, never move a thread past a guard without ``depart``, and never drop a ``Leave`` before it was
applied.
"""

from __future__ import annotations

from workflow_core.accidents import refuse_accident
from workflow_core.error_texts import error_info
from workflow_core.execution import ErrorInfo, Leave, LeaveKind, Status, Thread
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import branches_of, end, start_of, timers_of, unwatch, watch
from workflow_core.machine.transitions import ThreadHappening, change_thread, check_thread, land
from workflow_core.machine.values import keywords
from workflow_core.machine.waits import leave_wait
from workflow_core.program.code import Clause, ForkOp, Guard, Instruction, RaceOp, StepOp
from workflow_core.retry import Retry

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
    parent = machine.execution.thread(thread.parent) if thread.parent else None
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
        clause = None if error is None else _clause(guard, error, doomed)
        if clause is not None and (late := _overdue(thread, guard, clause)) is not None:
            leave, error, clause = late, None, None
        if clause is not None:
            assert error is not None
            _land(machine, thread)
            thread.errors[clause.name] = error
            if clause.then is not None:
                machine.touched = True
                given = keywords(machine, thread, clause.each, clause.keywords) if clause.keywords else {}
                output = clause.then(machine.workflow, error, **given)
                refuse_accident(output, f"the function of except_ {clause.name!r}")
            return clause.entry
        if guard.cleanup_at >= 0:
            _land(machine, thread)
            thread.pending[guard.name] = leave
            return guard.cleanup
        if guard.late_at >= 0:
            unwatch(machine, thread, guard.name)
            _forget(thread, guard.name)
            if leave.kind is _LATE and leave.step == guard.name:
                _land(machine, thread)
                return guard.late
        guard = guard.outer
    if error is None:
        end(machine, thread)
    elif thread.parent:
        _fail_branch(machine, thread, error)
    else:
        # A repair begins at the statement that failed, not at the end of the last finally_ section.
        thread.step, thread.pc = leave.step, leave.pc
        is_step = isinstance(machine.program.rests.get(leave.step), StepOp)
        land(thread, ThreadHappening.FAILED_ON_STEP if is_step else ThreadHappening.FAILED)
        fail_instance(machine, error)
    return None


def _overdue(thread: Thread, guard: Guard, clause: Clause) -> Leave | None:
    """Returns the deadline that an error has overtaken which an ``except_`` section is about to catch: it passed, and
    then a cleanup inside has failed. The deadline of the outermost ``Within`` counts."""
    found: Leave | None = None
    around = guard.outer
    while around is not None:
        if around.late_at >= 0 and not clause.entry.cleanups[around.depth :]:
            leaves = thread.pending.values()
            found = next((leave for leave in leaves if leave.kind is _LATE and leave.step == around.name), found)
        around = around.outer
    return found


def _forget(thread: Thread, within: str) -> None:
    """Forgets the deadline of a ``Within`` that a thread leaves."""
    for name, leave in list(thread.pending.items()):
        if leave.kind is _LATE and leave.step == within:
            del thread.pending[name]


def _land(machine: MachineState, thread: Thread) -> None:
    leave_wait(machine.execution, thread)
    thread.attempt = 0
    thread.retry_at = thread.error = None


def _fail_branch(machine: MachineState, thread: Thread, error: ErrorInfo) -> None:
    """Ends a branch that has failed, and cancels the other branches. When they have ended, their parent fails."""
    execution = machine.execution
    parent = execution.thread(thread.parent)
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
    parent = execution.thread(thread.parent)
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


def expire(machine: MachineState, thread: Thread, name: str) -> None:
    """The deadline of the ``Within`` of that name has passed: the thread leaves its section. If it is in a ``finally_``
    section inside, it first runs that to its end. A cancellation that is pending there comes first."""
    guard = (instruction := start_of(machine, thread)).guard
    while guard is not None and guard.name != name:
        guard = guard.outer
    if guard is None or guard.late_at < 0:
        return  # the code has changed in the meantime
    leave = Leave(_LATE, None, name)
    if inside := instruction.cleanups[guard.depth :]:
        if not _comes_first(thread.pending.get(inside[0]), guard):
            thread.pending[inside[0]] = leave
        return
    if isinstance(instruction, ForkOp) and (branches := branches_of(machine.execution, thread)):
        if not _comes_first(thread.leaving, guard):
            thread.leaving = leave
        for branch in branches:
            cancel_thread(machine, branch)
        return
    thread.leaving = None
    thread.caused_by = ""
    landed = depart(machine, thread, leave, instruction.guard)
    if landed is not None:
        machine.run(thread, landed)


def _comes_first(leave: Leave | None, guard: Guard) -> bool:
    """Whether a pending reason leads further out than the deadline of a ``Within``: a cancellation, or the deadline of
    a ``Within`` around it."""
    if leave is None or leave.kind not in (_CANCEL, _LATE):
        return False
    outer = guard.outer
    while outer is not None and outer.name != leave.step:
        outer = outer.outer
    return leave.kind is _CANCEL or outer is not None


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
