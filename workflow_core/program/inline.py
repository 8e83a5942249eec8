"""Compiles the statements of plain definitions: code, rests with locals, calls of sections, starts of threads."""

from __future__ import annotations

from workflow_core.program.assembly import Assembly, Called, Compilers
from workflow_core.program.cases import SelectOp
from workflow_core.program.code import CodeOp, JumpOp
from workflow_core.program.control import leave
from workflow_core.statements.basic import Section
from workflow_core.statements.inline import CallOf, Entry, Inline, Resting


def inline(assembly: Assembly, statement: Inline) -> None:
    assembly.can_pause()  # it may change the condition of a loop
    code = assembly.emit(CodeOp(statement.name, function=statement.function))
    if not statement.exits:
        return
    skip = assembly.emit(JumpOp())
    for kind in statement.exits:
        code.exits[kind] = leave(assembly, kind)
    assembly.land([skip])
    assembly.note(f"exits {' '.join(sorted(kind.value for kind in statement.exits))}\n")


def resting(assembly: Assembly, statement: Resting) -> None:
    start = len(assembly.code)
    assembly.section(Section((statement.statement,)))
    rest = next(part for part in assembly.code[start:] if assembly.rests.get(part.name) is part)
    rest.kept = statement.locals
    assembly.note(f"locals {' '.join(local.key for local in statement.locals)}\n")
    for local in statement.locals:
        if local.form is not None and local.key not in assembly.described:  # its type is the same everywhere
            assembly.described.add(local.key)
            assembly.note(local.form.described)
    if isinstance(rest, SelectOp):
        for case in rest.cases.values():
            case.keeps_result = True


def call_of(assembly: Assembly, statement: CallOf) -> None:
    called = Called()
    assembly.nest.append(called)
    assembly.section(statement.body)
    assembly.nest.pop()
    assembly.land(called.returns)


def entry(assembly: Assembly, statement: Entry) -> None:
    assembly.entry_locals[assembly.thread] = statement.locals


COMPILERS: Compilers = {Inline: inline, Resting: resting, CallOf: call_of, Entry: entry}
