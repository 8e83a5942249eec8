"""Compiles ``Try`` and ``Fail`` to instructions and guards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

from workflow_core.errors import DefinitionError, Failure
from workflow_core.program.assembly import Assembly, Cleanup, Compilers, Crossing
from workflow_core.program.code import Clause, FailOp, Guard, JumpOp, LeftOp, OpenOp
from workflow_core.program.control import leave
from workflow_core.program.functions import plain_handler, value_of
from workflow_core.statements.basic import Section
from workflow_core.statements.control import Go
from workflow_core.statements.failures import Except, Fail, Try


def fail(assembly: Assembly, statement: Fail) -> None:
    name = assembly.name("Fail", statement.name, statement.renamed_from)
    message = value_of(assembly, "Fail", name, statement.message, "message")
    if statement.error is not Failure:
        assembly.note(f"{statement.error.__module__}.{statement.error.__qualname__}\n")
    assembly.park(FailOp(name, message=message, error=statement.error))


def try_(assembly: Assembly, statement: Try) -> None:
    name = assembly.name("Try", statement.name, statement.renamed_from)
    if not statement.excepts and statement.cleanup is None:
        raise DefinitionError(f"Try {name!r}", "it catches nothing", "Add .except_(...) or .finally_(...).")
    outer, caught = assembly.guard, assembly.caught
    clauses = tuple(_clause(assembly, clause) for clause in statement.excepts)
    body = Guard(name, clauses, outer, assembly.region, depth=len(assembly.cleanups), is_try=True)
    guards, handling, crossing = [body], outer, Crossing(body)
    if statement.cleanup is not None:
        handling = Guard(name, (), outer, assembly.region, depth=len(assembly.cleanups), is_try=True)
        guards.append(handling)
        assembly.nest.append(crossing)
    covers = _starts_thread((statement.body, statement.excepts))
    if covers or statement.cleanup is not None:
        assembly.emit(OpenOp(name, covers=covers))
    assembly.guards += guards
    assembly.guard = body
    assembly.section(statement.body)
    ends = [assembly.emit(JumpOp())]
    assembly.guard = handling
    for clause, part in zip(clauses, statement.excepts, strict=True):
        clause.target = len(assembly.code)
        assembly.caught = (*caught, clause.name) if part.is_read else caught
        assembly.section(part.body)
        ends.append(assembly.emit(JumpOp()))
    assembly.guard, assembly.caught = outer, caught
    assembly.land(ends)
    if statement.cleanup is not None:
        assembly.nest.pop()
        _cleanup(assembly, name, statement.cleanup, crossing, guards)


def _starts_thread(part: object) -> bool:
    """Whether a part of a definition contains a ``Go``."""
    if isinstance(part, tuple):
        return any(map(_starts_thread, part))
    if isinstance(part, Go) or not type(part).__module__.startswith("workflow_core.statements."):
        return isinstance(part, Go)
    return is_dataclass(part) and any(_starts_thread(getattr(part, field.name)) for field in fields(part))


def _clause(assembly: Assembly, clause: Except) -> Clause:
    name = assembly.name("except_", clause.name, clause.renamed_from)
    then: Callable[..., Any] | None = clause.then
    keywords: tuple[str, ...] = ()
    if then is not None:
        then, keywords = plain_handler(assembly, "except_", name, then, 2, "the workflow and the error")
    catches_all = any(kind in (Exception, BaseException) for kind in clause.types)
    names = frozenset(f"{kind.__module__}.{kind.__qualname__}" for kind in clause.types)
    return Clause(name, clause.types, None if catches_all else names, then, keywords, assembly.each)


def _cleanup(assembly: Assembly, name: str, section: Section, crossing: Crossing, guards: list[Guard]) -> None:
    """Emits a ``finally_`` section, followed by the exits that continue after it."""
    for guard in guards:
        guard.cleanup_at = len(assembly.code)
    # In nested finally_ sections, the outermost one is the region: a thread that is canceled in it runs all of it.
    region, assembly.region = assembly.region, assembly.region or name
    assembly.cleanups = (*assembly.cleanups, name)
    assembly.note("finally")
    assembly.nest.append(Cleanup(name))
    assembly.section(section)
    assembly.nest.pop()
    left = assembly.emit(LeftOp(name))
    assembly.region, assembly.cleanups = region, assembly.cleanups[:-1]
    ends = [assembly.emit(JumpOp())]
    left.exits.update({kind: leave(assembly, kind) for kind in crossing.exits})
    assembly.land(ends)


COMPILERS: Compilers = {Try: try_, Fail: fail}
