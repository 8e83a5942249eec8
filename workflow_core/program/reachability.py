"""Which statements no path through a program leads to.

The search goes from the first instruction along everything that may come next. Where it cannot know, it assumes that
every way is taken: each condition may be true or false, each statement may fail, each event may come. So a statement
that it does not find is never reached, except by threads that stand there from earlier code, or that an operator moves
there; but one that it finds may still never be reached.

It knows these ends: the end of a thread, a ``Fail``, code that always raises an error or returns, and a condition that
is a constant. What follows a fork is reached only if its branches can end, and what follows a ``finally_`` section only
if something can enter the section other than by an error, a ``Return``, a ``Break`` or a ``Continue``.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from workflow_core.errors import TimedOut
from workflow_core.program.cases import SelectOp, WatchOp
from workflow_core.program.code import (
    BranchOfItemOp,
    BranchOp,
    CodeOp,
    EachOp,
    EndOp,
    ExpireOp,
    FailOp,
    ForkOp,
    GoOp,
    Guard,
    Instruction,
    JumpOp,
    LeaveOp,
    LeftOp,
    RaceOp,
    WaitForOp,
    WithinOp,
)
from workflow_core.program.program import Program
from workflow_core.signatures import OfFrame, OfItem
from workflow_core.stored_parts import MAIN_THREAD, LeaveKind

_CONSTANT_OPS = frozenset(("LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"))
_OTHER_OPS = frozenset(("RESUME", "NOP", "RETURN_VALUE"))


def unreachable(program: Program) -> list[str]:
    """Returns the names of the steps and waits that no path leads to, in their order."""
    search = _Search(program)
    return [
        name
        for name, rest in program.rests.items()
        if rest not in search.seen and not (isinstance(rest, FailOp) and rest.error is TimedOut)
    ]


class _Search:
    """Finds all instructions that can be reached.

    Attributes:
        found: they, in the order in which they were found; ``seen`` is the same as a set.
        left_by: for each ``finally_`` section, as the name of its ``Try``, the exits that enter it.
        entered: the sections that are entered after the end of what stands before them.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: list[Instruction] = []
        self.seen: set[Instruction] = set()
        self.left_by: set[tuple[str, LeaveKind]] = set()
        self.entered: set[str] = set()
        self._cleanups = {guard.cleanup: guard.name for guard in _guards(program.code) if guard.cleanup_at >= 0}
        self._ends = self._ends_of_threads()
        self._reach(self._entry(MAIN_THREAD))
        known = -1
        while known != self._state():  # what was seen first may depend on what was seen later
            known = self._state()
            for instruction in self.found:  # grows while it is iterated over
                self._pass(instruction)

    def _state(self) -> int:
        return len(self.found) + len(self.left_by) + len(self.entered)

    def _reach(self, instruction: Instruction) -> None:
        if instruction not in self.seen:
            self.seen.add(instruction)
            self.found.append(instruction)

    def _pass(self, instruction: Instruction) -> None:
        """Reaches what may come after an instruction, and where its errors may go."""
        for following in self._following(instruction):
            if (name := self._cleanups.get(following)) is not None and name not in instruction.cleanups:
                self.entered.add(name)
            self._reach(following)
        if isinstance(instruction, LeaveOp):
            self.left_by.add((instruction.crossed.name, instruction.leave))
            self._reach(instruction.crossed.cleanup)
        guard = instruction.guard
        while guard is not None:
            for clause in guard.clauses:
                self._reach(clause.entry)
            if guard.cleanup_at >= 0:
                self._reach(guard.cleanup)
            guard = guard.outer

    def _following(self, instruction: Instruction) -> Iterable[Instruction]:
        match instruction:
            case EndOp() | ExpireOp() | FailOp() | LeaveOp():
                return ()
            case BranchOp(cond=cond) | BranchOfItemOp(cond=cond):
                is_true = constant(cond)
                ways = {True: instruction.next, False: instruction.other}
                return ways.values() if is_true is None else (ways[is_true],)
            case EachOp():
                return instruction.next, instruction.other
            case JumpOp():
                return (instruction.other,)
            case CodeOp(function=function, exits=exits):
                return exits.values() if function.ends else (*exits.values(), instruction.next)
            case WaitForOp(cond=cond):
                return () if constant(cond) is False else (instruction.next,)
            case GoOp(name=name):
                return self._entry(name), instruction.next
            case ForkOp(branches=branches):
                started = map(self._entry, branches)
                return (*started, instruction.next) if self._is_joined(instruction) else started
            case WithinOp(within=guard):
                assert guard.timer is not None
                return guard.timer, guard.late, instruction.next
            case SelectOp():
                return self._cases(instruction)
            case LeftOp(name=name, exits=exits):
                ways_out = [way for kind, way in exits.items() if (name, kind) in self.left_by]
                return [*ways_out, instruction.next] if name in self.entered else ways_out
        return (instruction.next,)

    def _cases(self, instruction: SelectOp) -> Iterator[Instruction]:
        yield from (case.entry for case in instruction.cases.values())
        if isinstance(instruction, WatchOp):
            yield from (when.entry for when in instruction.whens if constant(when.cond) is not False)

    def _is_joined(self, fork: ForkOp) -> bool:
        """Whether the thread that waits for the branches of a fork can go on."""
        if fork.items is not None:
            return True  # there may be no item
        ends = (not self._ends[branch].isdisjoint(self.seen) for branch in fork.branches)
        return any(ends) if isinstance(fork, RaceOp) else all(ends)

    def _entry(self, thread: str) -> Instruction:
        return self.program.code[self.program.entries[thread]]

    def _ends_of_threads(self) -> dict[str, set[Instruction]]:
        """Returns the instructions that end each thread."""
        entries = self.program.entries
        starts = sorted((address, name) for name, address in entries.items())
        limits = [address for address, _ in starts[1:]] + [len(self.program.code)]
        return {
            name: {part for part in self.program.code[start:end] if isinstance(part, EndOp)}
            for (start, name), end in zip(starts, limits, strict=True)
        }


def _guards(code: Iterable[Instruction]) -> Iterable[Guard]:
    found: dict[int, Guard] = {}
    for instruction in code:
        guard = instruction.guard
        while guard is not None:
            found[id(guard)] = guard
            guard = guard.outer
    return found.values()


def constant(condition: Callable[..., Any] | OfItem | OfFrame) -> bool | None:
    """Returns the truth of a condition that is a constant, such as ``lambda w: True``; None for others."""
    if isinstance(condition, OfFrame):
        return condition.constant
    code = getattr(condition.function if isinstance(condition, OfItem) else condition, "__code__", None)
    if code is None:
        return None
    values = [op for op in dis.get_instructions(code) if op.opname not in _OTHER_OPS]
    return bool(values[0].argval) if len(values) == 1 and values[0].opname in _CONSTANT_OPS else None
