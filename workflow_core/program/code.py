"""Code: the instructions that a definition is compiled to, the cases of its selects, and the guards of its ``Try``s.

Each kind of instruction is a class with what it needs and nothing else; the class says what it does to the thread that
reaches it. All of them are shared by all instances: only the compiler sets their attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

from workflow_core.events import EventHandler
from workflow_core.execution import LeaveKind
from workflow_core.retry import Retry
from workflow_core.signatures import HandlerSignature, OfItem
from workflow_core.statements.basic import Delay
from workflow_core.wait_types import WAITS, AnyWait, WaitKind

Function = Callable[..., Any] | OfItem
"""A function of the workflow, and of the item of a ``ForEach`` if it takes that."""


# --- what stands around an instruction -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Each:
    """A ``ForEach`` around an instruction, and the next one around that."""

    name: str
    items: Function
    outer: Each | None


@dataclass(slots=True)
class Clause:
    """An ``except_`` of a ``Try``: where the thread goes on at ``target``, and ``entry`` is the instruction there.

    Attributes:
        names: the classes of errors, as ``ErrorInfo.bases`` has them; None: every error.
    """

    name: str
    types: tuple[type[BaseException], ...]
    names: frozenset[str] | None
    then: Callable[..., Any] | None
    target: int = -1
    entry: Instruction = field(init=False, repr=False, compare=False)


@dataclass(slots=True)
class Guard:
    """The ``Try`` around an instruction, and the next one around that; in its ``except_`` sections without ``clauses``.

    Attributes:
        region: the ``finally_`` section that it stands in; see ``Instruction.region``.
        cleanup_at: where its ``finally_`` section begins, -1 for none; ``cleanup`` is the instruction there.
    """

    name: str
    clauses: tuple[Clause, ...]
    outer: Guard | None
    region: str = ""
    cleanup_at: int = -1
    cleanup: Instruction = field(init=False, repr=False, compare=False)


# --- instructions ----------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Instruction:
    """One instruction.

    Attributes:
        name: that of the statement.
        guard: the innermost ``Try`` around it.
        region: the outermost ``finally_`` section of its thread that it stands in, by the name of the ``Try``; in a
            thread that ``Go`` has started in such a section, that one.
        caught: the innermost ``except_`` section that it stands in.
        each: the innermost ``ForEach`` around it.
        next: where a thread goes on that does not jump; set when the whole program is known.
    """

    name: str = ""
    guard: Guard | None = field(default=None, init=False, repr=False)
    region: str = field(default="", init=False)
    caught: str = field(default="", init=False)
    each: Each | None = field(default=None, init=False, repr=False)
    next: Instruction = field(init=False, repr=False)


@dataclass(slots=True, eq=False)
class JumpOp(Instruction):
    """Go on at ``target``; ``other`` is the instruction there, set with ``next``."""

    target: int = -1
    other: Instruction = field(init=False, repr=False)


@dataclass(slots=True, eq=False, kw_only=True)
class BranchOp(JumpOp):
    """Go on at ``target`` unless ``cond`` holds."""

    cond: Callable[..., Any]


@dataclass(slots=True, eq=False, kw_only=True)
class BranchOfItemOp(JumpOp):
    """A ``BranchOp`` whose ``cond`` takes the item."""

    cond: Callable[..., Any]


@dataclass(slots=True, eq=False, kw_only=True)
class EachOp(JumpOp):
    """Take the next of ``items``; go on at ``target`` when there is none."""

    items: Function


@dataclass(slots=True, eq=False, kw_only=True)
class StepOp(Instruction):
    """Park the thread: a step is due."""

    action: Callable[..., Any]
    takes_context: bool
    retry: Retry | None
    timeout: timedelta | None


@dataclass(slots=True, eq=False, kw_only=True)
class SelectOp(Instruction):
    """Park the thread until one of ``cases`` happens."""

    cases: Mapping[str, SelectCase] = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class WaitForOp(Instruction):
    """Park the thread until ``cond`` holds; then call ``handler``, if there is one."""

    cond: Function
    handler: Callable[[Any], Any] | None


@dataclass(slots=True, eq=False, kw_only=True)
class ForkOp(Instruction):
    """Start ``branches``, or the one branch for each of ``items``, ``limit`` at a time; park the thread until all have
    ended."""

    branches: tuple[str, ...]
    items: Function | None = None
    limit: int | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class GoOp(Instruction):
    """Start a thread at the entry of that name."""

    id: str | Function | None


@dataclass(slots=True, eq=False)
class EndOp(Instruction):
    """End the thread."""


@dataclass(slots=True, eq=False)
class OpenOp(Instruction):
    """Forget what an earlier visit to the statement has left in the thread."""


@dataclass(slots=True, eq=False, kw_only=True)
class FailOp(Instruction):
    """Fail with ``message``."""

    message: str | Function


@dataclass(slots=True, eq=False, kw_only=True)
class LeaveOp(Instruction):
    """Leave a ``Try`` for the reason ``leave``: go on at the ``finally_`` section of ``crossed``."""

    leave: LeaveKind
    crossed: Guard = field(repr=False)


@dataclass(slots=True, eq=False)
class LeftOp(Instruction):
    """The end of the ``finally_`` section of ``name``: go on as the thread was going to when it came in.

    Attributes:
        exits: where a thread goes on that leaves by ``Return``, ``Break`` or ``Continue``.
    """

    exits: dict[LeaveKind, Instruction] = field(default_factory=dict, init=False, repr=False)


# --- cases of a select -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ActivitySpec:
    """How an activity is run; see ``workflow_core.statements.calls.Activity``."""

    function: Callable[..., Any]
    signature: HandlerSignature
    takes_context: bool
    input: Function | None
    retry: Retry | None
    timeout: timedelta | None
    heartbeat: timedelta | None


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How a child is started; see ``workflow_core.statements.calls.Child``."""

    workflow: str
    id: str | Function | None
    input: Function | None
    detached: bool


@dataclass(slots=True, eq=False)
class SelectCase:
    """One of the things that a select waits for.

    Attributes:
        event: the name of the event, or of the timeout, the activity or the child.
        target: where the thread goes on after it happened; ``entry`` is the instruction there.
        signature: the types of the handler; None if there is none.
        takes_input: whether the handler takes an input.
    """

    kind: ClassVar[WaitKind]

    event: str
    target: int
    signature: HandlerSignature | None = field(default=None, kw_only=True)
    takes_input: bool = field(init=False)
    entry: Instruction = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.takes_input = self.signature is not None and self.signature.takes_input

    @property
    def wait_type(self) -> type[AnyWait]:
        """The class of the waits for it."""
        return WAITS[self.kind]

    @property
    def from_clients(self) -> bool:
        """Whether clients send it."""
        return self.wait_type.from_clients


@dataclass(slots=True, eq=False, kw_only=True)
class ClientCase(SelectCase):
    """An event that clients send.

    Attributes:
        role: who is meant to send it.
        buffered: it is kept if it comes before it is waited for.
    """

    signature: HandlerSignature
    role: str | None
    buffered: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class HandlerCase(ClientCase):
    """An event with an ``EventHandler`` object."""

    kind = WaitKind.HANDLER

    event_handler: EventHandler


@dataclass(slots=True, eq=False, kw_only=True)
class EventCase(ClientCase):
    """An event whose handler is a function of the workflow."""

    kind = WaitKind.EVENT

    handler: Callable[..., Any]
    takes_item: bool


@dataclass(slots=True, eq=False, kw_only=True)
class TimerCase(SelectCase):
    """A timeout, or the end of a sleep."""

    kind = WaitKind.TIMEOUT

    delay: Delay | OfItem


@dataclass(slots=True, eq=False, kw_only=True)
class ResultCase(SelectCase):
    """The end of an activity or a child; ``handler`` is its ``then``."""

    handler: Callable[..., Any] | None = None
    takes_item: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class ActivityCase(ResultCase):
    """The end of an activity."""

    kind = WaitKind.ACTIVITY

    activity: ActivitySpec


@dataclass(slots=True, eq=False, kw_only=True)
class ChildCase(ResultCase):
    """The end of a child."""

    kind = WaitKind.CHILD

    child: ChildSpec
