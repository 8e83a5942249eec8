"""Compiles ``ForEach``, ``Parallel`` and ``Race`` to instructions and threads."""

from __future__ import annotations

import typing
from collections.abc import Callable, Collection
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.program.assembly import Assembly, Compilers, Loop
from workflow_core.program.code import Each, EachOp, ForkOp, Function, JumpOp, OpenOp, RaceOp
from workflow_core.program.functions import function_of, plain_handler
from workflow_core.signatures import parameters
from workflow_core.statements.basic import Section
from workflow_core.statements.fanout import ForEach, Parallel, Race


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
    branches = _branch_names(assembly, statement)
    assembly.emit(OpenOp(name))
    assembly.park(ForkOp(name, branches=branches))
    _spawn(assembly, statement, branches)


def race(assembly: Assembly, statement: Race) -> None:
    name = assembly.name("Race", statement.name, statement.renamed_from)
    branches = _branch_names(assembly, statement)
    prefixes = dict(zip(branches, (section.prefix for section in statement.branches), strict=True))
    then: Callable[..., Any] | None = statement.then
    keywords: tuple[str, ...] = ()
    if then is not None:
        takes = "the workflow and the prefix of the section that ended first"
        then, keywords = plain_handler(assembly, "Race", name, then, 2, takes)
        _check_then(assembly, f"then of Race {name!r}", then, keywords, prefixes.values())
    assembly.emit(OpenOp(name))
    assembly.park(RaceOp(name, branches=branches, prefixes=prefixes, then=then, keywords=keywords))
    _spawn(assembly, statement, branches)


def _check_then(
    assembly: Assembly, where: str, then: Callable[..., Any], keywords: Collection[str], prefixes: Collection[str]
) -> None:
    """Checks that a function can receive each of the prefixes."""
    _, parameter = parameters(where, then, 2, 2, "", keywords=keywords)
    hint = assembly.scope.hints(where, then).get(parameter, str)
    if typing.get_origin(hint) is typing.Literal:
        missing = [prefix for prefix in prefixes if prefix not in typing.get_args(hint)]
        if missing:
            raise DefinitionError(
                where, f"its parameter {parameter!r} does not allow {missing[0]!r}", "Add it to the Literal."
            )
    elif isinstance(hint, type) and not issubclass(str, hint):
        raise DefinitionError(
            where, f"its parameter {parameter!r} is a {hint.__name__}, but the prefix is a str", "Annotate it with str."
        )


def _spawn(assembly: Assembly, statement: Parallel | Race, branches: tuple[str, ...]) -> None:
    for branch, section in zip(branches, statement.branches, strict=True):
        assembly.spawn(branch, Section((section,)), branch=True)


def _branch_names(assembly: Assembly, statement: Parallel | Race) -> tuple[str, ...]:
    """Registers the branches of a statement, and returns their qualified names."""
    result = []
    for number, branch in enumerate(statement.branches):
        names = (statement.name, *statement.renamed_from)
        marks = (branch.prefix or number, *(former or number for former in branch.renamed_from))
        local, *former_names = dict.fromkeys(f"{name}[{mark}]" for name in names for mark in marks)
        result.append(assembly.name(f"branch of {type(statement).__name__}", local, tuple(former_names)))
    return tuple(result)


COMPILERS: Compilers = {ForEach: for_each, Parallel: parallel, Race: race}
