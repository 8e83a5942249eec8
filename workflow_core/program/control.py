"""Compiles steps, branches, loops, exits, conditions and threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workflow_core.errors import DefinitionError, TimedOut
from workflow_core.events import StepContext
from workflow_core.program.assembly import Assembly, Called, Cleanup, Compilers, Crossing, Loop, Timed
from workflow_core.program.cases import TimerCase, WatchOp, WhenCase
from workflow_core.program.code import (
    BranchOfItemOp,
    BranchOp,
    EndOp,
    FailOp,
    FrameStepOp,
    GoOp,
    Instruction,
    JumpOp,
    LeaveOp,
    StepOp,
    WaitForOp,
    WithoutOp,
)
from workflow_core.program.functions import do_op, function_of, value_of
from workflow_core.signatures import OfFrame, OfItem, is_async, parameters, takes_context
from workflow_core.statements.basic import Section
from workflow_core.statements.control import Branch, Break, Continue, Do, Go, If, Return, Step, Switch, WaitFor, While
from workflow_core.stored_parts import LeaveKind


def step(assembly: Assembly, statement: Step) -> None:
    name = assembly.name("Step", statement.name, statement.renamed_from)
    takes = "the workflow, or the workflow and a StepContext"
    action = assembly.scope.current(f"Step {name!r}", statement.action)
    awaits = is_async(action)
    if awaits:
        assembly.async_parts.append(name)
    elif statement.timeout is not None:
        raise DefinitionError(
            f"Step {name!r}",
            "it has a timeout, but its action is not async, so it cannot be interrupted",
            "Use async def, or omit the timeout.",
        )
    if isinstance(action, OfFrame):
        retry, timeout = statement.retry, statement.timeout
        assembly.park(
            FrameStepOp(name, action=action, is_async=awaits, takes_context=False, retry=retry, timeout=timeout)
        )
        return
    names = parameters(f"Step {name!r}", action, 1, 2, takes)
    assembly.park(
        StepOp(
            name,
            action=action,
            is_async=awaits,
            takes_context=takes_context(f"Step {name!r}", action, names, 1, StepContext, assembly.scope),
            retry=statement.retry,
            timeout=statement.timeout,
        )
    )


# --- branches and loops ----------------------------------------------------------------------


def if_(assembly: Assembly, statement: If) -> None:
    _branches(assembly, "If", statement.branches)


def switch(assembly: Assembly, statement: Switch) -> None:
    assembly.label("Switch", statement.name)
    _branches(assembly, "Case", statement.branches)


def _branches(assembly: Assembly, kind: str, branches: tuple[Branch, ...]) -> None:
    ends: list[JumpOp] = []
    assembly.note(f"{kind} of {len(branches)}\n")
    for branch in branches:
        skip: list[JumpOp] = []
        if branch.cond is not None:
            skip.append(_branch(assembly, kind, assembly.label(kind, branch.name), branch.cond))
        assembly.section(branch.body)
        if branch is not branches[-1]:
            ends.append(assembly.emit(JumpOp()))
        assembly.land(skip)
    assembly.land(ends)


def _branch(assembly: Assembly, kind: str, name: str, cond: Callable[..., Any]) -> JumpOp:
    """Emits a branch that continues with the next instruction if ``cond`` is true."""
    function = function_of(assembly, kind, name, cond, "condition")
    if isinstance(function, (OfItem, OfFrame)):
        return assembly.emit(BranchOfItemOp(name, cond=function))
    return assembly.emit(BranchOp(name, cond=function))


def while_(assembly: Assembly, statement: While) -> None:
    name = assembly.label("While", statement.name)
    loop = Loop(start=len(assembly.code))
    head = _branch(assembly, "While", name, statement.cond)
    assembly.nest.append(loop)
    assembly.section(statement.body)
    assembly.nest.pop()
    if not (loop.can_pause or loop.breaks):
        raise DefinitionError(
            f"While {name!r}",
            "no statement inside can change its condition, so it would never end",
            "Add a Step, a Select or a WaitFor inside, or leave the loop with Break.",
        )
    assembly.emit(JumpOp(target=loop.start))
    assembly.land([head, *loop.breaks])


# --- exits -----------------------------------------------------------------------------------


def return_(assembly: Assembly, _: Return) -> None:
    assembly.can_pause()
    leave(assembly, LeaveKind.RETURN)
    assembly.note("Return\n")


def break_or_continue(assembly: Assembly, statement: Break | Continue) -> None:
    kind = type(statement).__name__
    if not any(isinstance(part, Loop) for part in assembly.nest):
        raise DefinitionError(
            f"{kind} in workflow {assembly.workflow!r}",
            "it is outside a loop (the threads of a Go or of a parallel ForEach are not part of a loop around them)",
            "Put it inside a While or a sequential ForEach, or use Return() to end the thread.",
        )
    assembly.note(kind)
    leave(assembly, LeaveKind.BREAK if isinstance(statement, Break) else LeaveKind.CONTINUE)


def leave(assembly: Assembly, kind: LeaveKind) -> Instruction:
    """Emits an exit from the innermost loop, or for ``RETURN`` from the thread, through the ``finally_`` sections
    inside. Returns its first instruction."""
    first: list[Instruction] = []
    for part in reversed(assembly.nest):
        if isinstance(part, Cleanup):
            raise DefinitionError(
                f"finally_ of Try {part.name!r}",
                f"a {kind.value.capitalize()} leaves it",
                "Remove it: a finally_ section must run to its end.",
            )
        if isinstance(part, Timed):
            first.append(assembly.emit(WithoutOp(part.name)))
            continue
        if isinstance(part, Crossing):
            part.exits[kind] = None
            return [*first, assembly.emit(LeaveOp(leave=kind, crossed=part.guard))][0]
        if isinstance(part, Called):
            if kind is LeaveKind.RETURN:
                part.returns.append(assembly.emit(JumpOp()))
                return [*first, part.returns[-1]][0]
            continue
        if kind is LeaveKind.CONTINUE:
            return [*first, assembly.emit(JumpOp(target=part.start))][0]
        if kind is LeaveKind.BREAK:
            part.breaks.append(assembly.emit(JumpOp()))
            return [*first, part.breaks[-1]][0]
    return [*first, assembly.emit(EndOp())][0]


# --- conditions and threads ------------------------------------------------------------------


def wait_for(assembly: Assembly, statement: WaitFor) -> None:
    name = assembly.name("WaitFor", statement.name, statement.renamed_from)
    cond = function_of(assembly, "WaitFor", name, statement.cond, "condition")
    if statement.timeout is None:
        assembly.park(WaitForOp(name, cond=cond))
        _true(assembly, statement, name)
        return
    former = tuple(f"{old} timeout" for old in statement.renamed_from)
    timer = assembly.name_wait("Timeout", f"{statement.name} timeout", former)
    instruction = assembly.park(WatchOp(name))
    instruction.whens = (WhenCase(name, len(assembly.code), cond),)
    _true(assembly, statement, name)
    end = assembly.emit(JumpOp())
    delay = value_of(assembly, "WaitFor", name, statement.timeout, "timeout")
    instruction.cases = {timer: TimerCase(timer, len(assembly.code), delay=delay)}
    late(assembly, timer, statement.late, f"{name!r} did not become true in time")
    assembly.land([end])


def _true(assembly: Assembly, statement: WaitFor, name: str) -> None:
    """Emits the handler of a condition that has become true."""
    if statement.handler is not None:
        do_op(assembly, "WaitFor", name, statement.handler, at=name)


def late(assembly: Assembly, timer: str, section: Section | None, message: str) -> None:
    """Emits what runs after a timeout: a section, or the error ``TimedOut``."""
    if section is None:
        assembly.park(FailOp(timer, message=message, error=TimedOut))
    else:
        assembly.section(section)


def do(assembly: Assembly, statement: Do) -> None:
    do_op(assembly, "Do", assembly.name("Do", statement.name, statement.renamed_from), statement.handler)


def go(assembly: Assembly, statement: Go) -> None:
    name = assembly.name("Go", statement.name, statement.renamed_from)
    assembly.spawn(name, statement.body)
    assembly.emit(GoOp(name, id=value_of(assembly, "Go", name, statement.id, "id")))


COMPILERS: Compilers = {
    Step: step,
    If: if_,
    Switch: switch,
    While: while_,
    Break: break_or_continue,
    Continue: break_or_continue,
    Return: return_,
    WaitFor: wait_for,
    Do: do,
    Go: go,
}
