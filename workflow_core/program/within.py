"""Compiles ``Within`` to a guard, and to a timer in a thread of its own."""

from __future__ import annotations

from functools import partial

from workflow_core.program.assembly import Assembly, Compilers, Timed
from workflow_core.program.cases import SelectOp, TimerCase
from workflow_core.program.code import ExpireOp, Guard, JumpOp, WithinOp, WithoutOp
from workflow_core.program.control import late
from workflow_core.program.functions import value_of
from workflow_core.signatures import OfFrame, OfItem
from workflow_core.statements.basic import Delay
from workflow_core.statements.within import Within


def within(assembly: Assembly, statement: Within) -> None:
    name = assembly.name_wait("Within", statement.name, statement.renamed_from)
    delay = value_of(assembly, "Within", name, statement.delay, "delay")
    if isinstance(delay, OfFrame):
        assembly.entry_locals[name] = delay.locals
    outer = assembly.guard
    guard = Guard(name, (), outer, assembly.region, depth=len(assembly.cleanups))
    assembly.guards.append(guard)
    assembly.emit(WithinOp(name, within=guard))
    assembly.guard = guard
    assembly.nest.append(Timed(name))
    assembly.section(statement.body)
    assembly.nest.pop()
    assembly.guard = outer
    assembly.emit(WithoutOp(name))
    end = assembly.emit(JumpOp())
    guard.late_at = len(assembly.code)
    failure = f"{name} timeout"
    if statement.late is None:
        former = tuple(f"{old} timeout" for old in statement.renamed_from)
        failure = assembly.name("Within", f"{statement.name} timeout", former)
    late(assembly, failure, statement.late, f"{name!r} did not end in time")
    assembly.land([end])
    guard.timer = SelectOp(name)
    assembly.spawn_timer(name, partial(_timer, guard.timer, delay))


def _timer(instruction: SelectOp, delay: Delay | OfItem | OfFrame, assembly: Assembly) -> None:
    """Emits the code of the timer's thread."""
    name = instruction.name
    assembly.park(instruction)
    instruction.cases = {name: TimerCase(name, len(assembly.code), delay=delay)}
    assembly.emit(ExpireOp(name))


COMPILERS: Compilers = {Within: within}
