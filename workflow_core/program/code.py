"""Code: the instructions that a definition is compiled to, and the guards of its ``Try``s. Those of selects are in
``workflow_core.program.cases``.

Each kind of instruction is a class with only the attributes that it needs. Its docstring says what happens to a thread
that reaches it. All instances share the instructions, so only the compiler sets their attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from datetime import timedelta
from typing import Any

from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.signatures import OfFrame, OfItem
from workflow_core.statements.inline import Local
from workflow_core.stored_parts import LeaveKind

Function = Callable[..., Any] | OfItem | OfFrame
"""A function of the workflow, and of the item of a ``ForEach`` if it has a second parameter; or of a frame."""


# --- the surroundings of an instruction ------------------------------------------------------


@record(frozen=True)
class Each:
    """A ``ForEach`` around an instruction; ``outer`` is the next ``ForEach`` around it."""

    name: str
    items: Function
    outer: Each | None


@record()
class Clause:
    """An ``except_`` section of a ``Try``. It begins at ``target``; ``entry`` is the instruction there.

    Attributes:
        names: the error classes, in the form of ``ErrorInfo.bases``; None: every error.
        keywords: the keyword arguments of ``then``; ``each``: the ``ForEach`` around the ``Try``.
    """

    name: str
    types: tuple[type[BaseException], ...]
    names: frozenset[str] | None
    then: Callable[..., Any] | None
    keywords: tuple[str, ...] = ()
    each: Each | None = field(default=None, repr=False)
    target: int = -1
    entry: Instruction = field(init=False, repr=False, compare=False)


@record()
class Guard:
    """The ``Try`` around an instruction; ``outer`` is the next ``Try`` around it. In the ``except_`` sections of the
    ``Try``, a guard without ``clauses`` takes its place.

    Attributes:
        region: the ``finally_`` section around the ``Try``; see ``Instruction.region``.
        cleanup_at: where its ``finally_`` section begins; -1 if it has none. ``cleanup`` is the instruction there.
        late_at: for a ``Within``, where ``on_timeout`` begins; -1 otherwise. ``late`` is the instruction there.
        timer: for a ``Within``, the select of its timer, in a thread of its own.
        depth: the number of ``finally_`` sections around it; see ``Instruction.cleanups``.
        is_try: whether it is a ``Try``, and not a ``Within``.
    """

    name: str
    clauses: tuple[Clause, ...]
    outer: Guard | None
    region: str = ""
    cleanup_at: int = -1
    cleanup: Instruction = field(init=False, repr=False, compare=False)
    late_at: int = -1
    late: Instruction = field(init=False, repr=False, compare=False)
    timer: Instruction | None = field(default=None, repr=False, compare=False)
    depth: int = 0
    is_try: bool = False


# --- instructions ----------------------------------------------------------------------------


@record(eq=False)
class Instruction:
    """One instruction.

    Attributes:
        name: the name of its statement.
        guard: the innermost ``Try`` around it.
        region: the outermost ``finally_`` section around it within its thread, as the name of the ``Try``. In a thread
            that a ``Go`` in such a section has started, that section.
        cleanups: all ``finally_`` sections around it within its thread, the outermost first, as the names of the
            ``Try``s.
        caught: the ``except_`` sections around it whose error something there may read, the outermost first.
        each: the innermost ``ForEach`` around it.
        kept: for a rest, the locals that a thread stores there.
        next: where a thread continues if it does not jump; set when the whole program is known.
    """

    name: str = ""
    guard: Guard | None = field(default=None, init=False, repr=False)
    region: str = field(default="", init=False)
    cleanups: tuple[str, ...] = field(default=(), init=False, repr=False)
    caught: tuple[str, ...] = field(default=(), init=False, repr=False)
    each: Each | None = field(default=None, init=False, repr=False)
    kept: tuple[Local, ...] = field(default=(), init=False, repr=False)
    next: Instruction = field(init=False, repr=False)


def guards_around(instruction: Instruction) -> Iterator[Guard]:
    """Yields the guards around an instruction, the innermost first."""
    guard = instruction.guard
    while guard is not None:
        yield guard
        guard = guard.outer


def loops_around(instruction: Instruction) -> Iterator[Each]:
    """Yields the ``ForEach`` statements around an instruction, the innermost first."""
    each = instruction.each
    while each is not None:
        yield each
        each = each.outer


@record(eq=False)
class JumpOp(Instruction):
    """Continue at ``target``; ``other`` is the instruction there, set together with ``next``."""

    target: int = -1
    other: Instruction = field(init=False, repr=False)


@record(eq=False, kw_only=True)
class BranchOp(JumpOp):
    """Continue at ``target`` unless ``cond`` is true."""

    cond: Callable[..., Any]


@record(eq=False, kw_only=True)
class BranchOfItemOp(JumpOp):
    """A ``BranchOp`` whose ``cond`` takes the item or the frame."""

    cond: OfItem | OfFrame


@record(eq=False, kw_only=True)
class EachOp(JumpOp):
    """Take the next of ``items``; continue at ``target`` if there is none."""

    items: Function


@record(eq=False, kw_only=True)
class StepOp(Instruction):
    """Park the thread: a step is due.

    Attributes:
        is_async: whether calling its action returns a coroutine.
    """

    action: Callable[..., Any]
    is_async: bool
    takes_context: bool
    retry: Retry | None
    timeout: timedelta | None


@record(eq=False, kw_only=True)
class FrameStepOp(StepOp):
    """A ``StepOp`` whose ``action`` takes the frame."""

    action: OfFrame


@record(eq=False, kw_only=True)
class CodeOp(Instruction):
    """Run code of a plain definition; it returns how it is left, None if it has run to its end.

    Attributes:
        exits: where the thread continues after a ``Return``, ``Break`` or ``Continue``.
    """

    function: OfFrame
    exits: dict[LeaveKind, Instruction] = field(default_factory=dict, init=False, repr=False)


@record(eq=False, kw_only=True)
class WaitForOp(Instruction):
    """Park the thread until ``cond`` is true."""

    cond: Function


@record(eq=False, kw_only=True)
class DoOp(Instruction):
    """Call ``handler``, which changes the fields."""

    handler: Callable[..., Any]
    keywords: tuple[str, ...]


@record(eq=False, kw_only=True)
class ForkOp(Instruction):
    """Start ``branches``, or the only branch once for each of ``items``, ``limit`` at a time; park the thread until all
    have ended."""

    branches: tuple[str, ...]
    items: Function | None = None
    limit: int | None = None


@record(eq=False, kw_only=True)
class RaceOp(ForkOp):
    """Start ``branches``. The first one to end cancels the others. When all have ended, call ``then``, if there is one.

    Attributes:
        prefixes: what ``then`` receives, by the name of the branch that ended first.
        keywords: the keyword arguments of ``then``.
    """

    prefixes: Mapping[str, str] = field(default_factory=dict)
    then: Callable[..., Any] | None = None
    keywords: tuple[str, ...] = ()


@record(eq=False, kw_only=True)
class GoOp(Instruction):
    """Start a thread at the entry with the name of the instruction."""

    id: str | Function | None


@record(eq=False, kw_only=True)
class WithinOp(Instruction):
    """Start the timer of ``within``."""

    within: Guard = field(repr=False)


@record(eq=False)
class WithoutOp(Instruction):
    """End the timer of the ``Within`` of that name: the thread leaves its section."""


@record(eq=False)
class ExpireOp(Instruction):
    """The timer of the ``Within`` of that name has passed: end the thread, and let the one that it watches leave."""


@record(eq=False)
class EndOp(Instruction):
    """End the thread."""


@record(eq=False)
class OpenOp(Instruction):
    """Remove the data of an earlier visit to the statement from the thread.

    Attributes:
        counts: an ``EachOp`` follows, so the position is set before the first item. A thread without a position is in a
            loop that was put around its statement by a change of the code: it counts as being at the first item.
        covers: it is a ``Try`` in which threads are started. Those of an earlier visit are no longer covered by it.
    """

    counts: bool = False
    covers: bool = False


@record(eq=False, kw_only=True)
class FailOp(Instruction):
    """Fail with an ``error`` of that class and with ``message``."""

    message: str | Function
    error: type[Exception]


@record(eq=False, kw_only=True)
class LeaveOp(Instruction):
    """Leave a ``Try`` for the reason ``leave``: continue in the ``finally_`` section of ``crossed``."""

    leave: LeaveKind
    crossed: Guard = field(repr=False)


@record(eq=False)
class LeftOp(Instruction):
    """The end of the ``finally_`` section of ``name``: continue the exit that led into the section, if any.

    Attributes:
        exits: where the thread continues after a ``Return``, ``Break`` or ``Continue``.
    """

    exits: dict[LeaveKind, Instruction] = field(default_factory=dict, init=False, repr=False)
