"""What a definition is compiled to: a flat program, in which a statement's name is its address.

It is immutable and shared by all instances; nothing here knows an instance or runs anything. ``compiler.py``
makes it, ``workflow_core.machine`` walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Any

from workflow_core.errors import UnknownStatement
from workflow_core.events import EventHandler
from workflow_core.execution import LeaveKind
from workflow_core.retry import Retry
from workflow_core.signatures import HandlerSignature, OfItem
from workflow_core.statements.basic import Delay, Section
from workflow_core.wait_types import WAITS, AnyWait, WaitKind

Function = Callable[..., Any] | OfItem
"""A function of the workflow, and of the item of a ``ForEach`` if it takes that."""


class Op(IntEnum):
    """What an instruction does to the thread that reaches it."""

    STEP = 0
    """Park it: a step is due."""
    SELECT = 1
    """Park it until one of ``cases`` happens."""
    WAIT_FOR = 2
    """Park it until ``cond`` holds; then call ``handler``, if there is one."""
    JUMP = 3
    """Go on at ``target``."""
    BRANCH = 4
    """Go on at ``target`` unless ``cond`` holds."""
    GO = 5
    """Start a thread at ``entries[name]``."""
    END = 6
    """End the thread."""
    BRANCH_OF_ITEM = 7
    """A BRANCH whose ``cond`` takes the item."""
    OPEN = 8
    """Forget what an earlier visit to the statement has left in the thread."""
    EACH = 9
    """Take the next of ``items``; go on at ``target`` when there is none."""
    FORK = 10
    """Start ``branches``, or a thread for each of ``items``, ``limit`` at a time; park it until all have ended."""
    FAIL = 11
    """Fail with ``message``."""
    LEAVE = 12
    """Leave a ``Try`` by ``leave``: go on at its ``finally_`` section, which is ``guard.cleanup``."""
    LEFT = 13
    """The end of the ``finally_`` section of ``name``: go on as the thread was going to when it came in."""


def _unused(*_: Any) -> Any:
    raise AssertionError("the instruction has no such function")


@dataclass(slots=True)
class SelectCase:
    """A case of a select as the interpreter sees it.

    Attributes:
        event: the name of the event, or of the timeout.
        target: where the thread goes on after it happened; ``entry`` is the instruction there.
        signature: the types of the handler; None for a timeout.
        takes_input: whether the handler takes an input.
    """

    event: str
    kind: WaitKind
    target: int
    handler: Callable[..., Any] | None = None
    event_handler: EventHandler | None = None
    signature: HandlerSignature | None = None
    takes_input: bool = False
    role: str | None = None
    delay: Delay | OfItem = timedelta()
    buffered: bool = False
    takes_item: bool = False
    activity: ActivitySpec | None = None
    child: ChildSpec | None = None
    entry: Instruction = field(init=False, repr=False, compare=False)

    @property
    def wait_type(self) -> type[AnyWait]:
        """The class of the waits for it."""
        return WAITS[self.kind]

    @property
    def from_clients(self) -> bool:
        """Whether clients send it."""
        return WAITS[self.kind].from_clients


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


@dataclass(slots=True)
class Instruction:
    """One instruction; which attributes it uses is said at its ``op``.

    Attributes:
        guard: the innermost ``Try`` around it.
        region: the outermost ``finally_`` section of its thread that it stands in, by the name of the ``Try``; in a
            thread that ``Go`` has started in such a section, that one.
        caught: the innermost ``except_`` section that it stands in.
        each: the innermost ``ForEach`` around it.
        exits: for ``LEFT``, where a thread goes on that leaves by ``Return``, ``Break`` or ``Continue``.
        next: where a thread goes on that does not jump; with ``other``, set when the whole program is known.
        other: where it goes on if it does: the instruction at ``target``.
    """

    op: Op
    name: str = ""
    target: int = -1
    cond: Callable[..., Any] = _unused
    action: Callable[..., Any] = _unused
    takes_context: bool = False
    retry: Retry | None = None
    timeout: timedelta | None = None
    handler: Callable[[Any], Any] | None = None
    cases: Mapping[str, SelectCase] = field(default_factory=dict)
    id: str | Function | None = None
    items: Function | None = None
    branches: tuple[str, ...] = ()
    limit: int | None = None
    message: str | Function = ""
    leave: LeaveKind = LeaveKind.RETURN
    guard: Guard | None = field(default=None, repr=False, compare=False)
    region: str = ""
    caught: str = ""
    each: Each | None = field(default=None, repr=False, compare=False)
    exits: dict[LeaveKind, Instruction] = field(default_factory=dict, repr=False, compare=False)
    next: Instruction = field(init=False, repr=False, compare=False)
    other: Instruction = field(init=False, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled definition.

    Attributes:
        workflow: the name of the workflow.
        definition: the tree that it was compiled from.
        code: the instructions.
        rests: the instruction of each statement that a thread may rest on, by its name.
        entries: where a thread starts, by its name.
        events: for each event, the selects and cases that wait for it.
        async_parts: the names of the steps and events whose code is asynchronous.
        version: changes when a statement is added, removed, moved, or changes its name or its schema.
        renamed: the former names of statements and threads, and the names that they have now.
        renamed_waits: the same for what can be waited for: events, timeouts, activities and children.
        fields_version: the version of the workflow, which its fields are of.
        has_renamed: whether there are any of the two.
    """

    workflow: str
    definition: Section
    code: tuple[Instruction, ...]
    rests: Mapping[str, Instruction]
    entries: Mapping[str, int]
    events: Mapping[str, tuple[tuple[str, SelectCase], ...]]
    async_parts: tuple[str, ...]
    version: str
    renamed: Mapping[str, str]
    renamed_waits: Mapping[str, str]
    fields_version: int
    has_renamed: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_renamed", bool(self.renamed or self.renamed_waits))

    def event(self, name: str) -> str:
        """The name by now of an event, a timeout, an activity or a child, which may come under a former one."""
        return self.renamed_waits.get(name, name)

    def at(self, statement: str) -> Instruction:
        """The instruction of a step or a wait.

        Raises:
            UnknownStatement: the definition has no such statement.
        """
        try:
            return self.rests[statement]
        except KeyError:
            raise self.unknown(statement) from None

    def step(self, name: str) -> Instruction:
        """The instruction of a step.

        Raises:
            UnknownStatement: the definition has no such step.
        """
        instruction = self.at(name)
        if instruction.op is not Op.STEP:
            raise self.unknown(name)
        return instruction

    def statements_of(self, thread: str) -> list[str]:
        """The steps and waits of a thread, by the name of its ``Go`` or its branch, in their order.

        Raises:
            UnknownStatement: the definition has no such thread.
        """
        if thread not in self.entries:
            raise self.unknown(thread)
        start = self.entries[thread]
        end = min((entry for entry in self.entries.values() if entry > start), default=len(self.code))
        return [one.name for one in self.code[start:end] if self.rests.get(one.name) is one]

    def unknown(self, statement: str) -> UnknownStatement:
        """The error for a statement that an instance stands on and the definition no longer has."""
        return UnknownStatement(
            f"an instance of {self.workflow!r} stands on {statement!r}, which the definition no longer has: "
            f"bring a step or wait of that name back, give the one that has taken its place "
            f"renamed_from={statement!r}, or repair the instance"
        )
