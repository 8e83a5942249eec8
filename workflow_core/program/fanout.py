"""Compiles ``ForEach`` and ``Parallel`` to instructions and threads."""

from __future__ import annotations

from workflow_core.program.assembly import Assembly, Loop
from workflow_core.program.code import Each, EachOp, ForkOp, Function, JumpOp, OpenOp
from workflow_core.program.functions import function_of
from workflow_core.statements.basic import Section
from workflow_core.statements.fanout import ForEach, Parallel


def for_each(assembly: Assembly, statement: ForEach) -> None:
    name = assembly.name("ForEach", statement.name, statement.renamed_from)
    items = function_of(assembly, "ForEach", name, statement.items, "items")
    assembly.emit(OpenOp(name, counts=not statement.parallel))
    outer = assembly.each
    if statement.parallel:
        assembly.park(ForkOp(name, items=items, branches=(name,), limit=statement.limit))
        assembly.each = Each(name, items, outer)
        assembly.spawn(name, statement.body, branch=True)
        assembly.each = outer
    else:
        _rounds(assembly, name, items, statement.body)


def _rounds(assembly: Assembly, name: str, items: Function, body: Section) -> None:
    """Emits a loop over the items."""
    outer = assembly.each
    loop = Loop(start=len(assembly.code), can_pause=True)
    head = assembly.emit(EachOp(name, items=items))
    assembly.nest.append(loop)
    assembly.each = Each(name, items, outer)
    assembly.section(body)
    assembly.each = outer
    assembly.nest.pop()
    assembly.emit(JumpOp(target=loop.start))
    assembly.land([head, *loop.breaks])


def parallel(assembly: Assembly, statement: Parallel) -> None:
    name = assembly.name("Parallel", statement.name, statement.renamed_from)
    branches = tuple(_branch_name(assembly, statement, number) for number in range(len(statement.branches)))
    assembly.emit(OpenOp(name))
    assembly.park(ForkOp(name, branches=branches))
    for branch, section in zip(branches, statement.branches, strict=True):
        assembly.spawn(branch, Section((section,)), branch=True)


def _branch_name(assembly: Assembly, statement: Parallel, number: int) -> str:
    branch = statement.branches[number]
    names = (statement.name, *statement.renamed_from)
    marks = (branch.prefix or number, *(former or number for former in branch.renamed_from))
    local, *former_names = dict.fromkeys(f"{name}[{mark}]" for name in names for mark in marks)
    return assembly.name("branch of Parallel", local, tuple(former_names))
