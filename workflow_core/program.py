"""Compiles a definition, once, into a flat program in which a statement's name is its address.

Here stand the checks that take the whole tree. The program is immutable and shared by all instances; nothing
here knows an instance or runs anything.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum
from typing import Any

from workflow_core.errors import DefinitionError, UnknownStatement
from workflow_core.events import EventHandler
from workflow_core.execution import MAIN_THREAD, WaitKind
from workflow_core.signatures import HandlerSignature, handler_signature, is_async, parameters
from workflow_core.statements import (
    Branch,
    Break,
    Continue,
    Go,
    If,
    On,
    Return,
    Section,
    Select,
    Statement,
    Step,
    Switch,
    Timeout,
    WaitFor,
    While,
)


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
    delay: timedelta | Callable[[Any], timedelta] = timedelta()
    entry: Instruction = field(init=False, repr=False, compare=False)


@dataclass(slots=True)
class Instruction:
    """One instruction; which attributes it uses is said at its ``op``.

    Attributes:
        next: where a thread goes on that does not jump; with ``other``, set when the whole program is known.
        other: where it goes on if it does: the instruction at ``target``.
    """

    op: Op
    name: str = ""
    target: int = -1
    cond: Callable[[Any], Any] = _unused
    action: Callable[..., Any] = _unused
    takes_context: bool = False
    handler: Callable[[Any], Any] | None = None
    cases: Mapping[str, SelectCase] = field(default_factory=dict)
    id: str | Callable[[Any], Any] | None = None
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
    """

    workflow: str
    definition: Section
    code: tuple[Instruction, ...]
    rests: Mapping[str, Instruction]
    entries: Mapping[str, int]
    events: Mapping[str, tuple[tuple[str, SelectCase], ...]]
    async_parts: tuple[str, ...]
    version: str

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

    def unknown(self, statement: str) -> UnknownStatement:
        """The error for a statement that an instance stands on and the definition no longer has."""
        return UnknownStatement(
            f"an instance of {self.workflow!r} stands on {statement!r}, which the definition no longer has: "
            f"bring a step or wait of that name back, or repair the instance"
        )


def compile_definition(workflow: str, definition: Any, namespace: Mapping[str, Any]) -> Program:
    """Compiles the definition of the workflow of that name.

    Args:
        namespace: names that handlers' annotations may use beside their globals.

    Raises:
        DefinitionError: there is a mistake in it.
    """
    if not isinstance(definition, Section):
        raise DefinitionError(
            f"workflow {workflow!r}", f"its definition is {definition!r}", "Write definition = S(...)."
        )
    return _Compiler(workflow, definition, namespace).compile()


@dataclass(slots=True)
class _Loop:
    """Where ``Break`` and ``Continue`` jump to in the loop being compiled."""

    start: int
    breaks: list[int] = field(default_factory=list)
    can_pause: bool = False


class _Compiler:
    def __init__(self, workflow: str, definition: Section, namespace: Mapping[str, Any]) -> None:
        self.workflow = workflow
        self.definition = definition
        self.namespace = namespace
        self.code: list[Instruction] = []
        self.names: dict[str, str] = {MAIN_THREAD: "the main thread"}
        self.rests: dict[str, Instruction] = {}
        self.entries: dict[str, int] = {}
        self.events: dict[str, list[tuple[str, SelectCase]]] = {}
        self.async_parts: list[str] = []
        self.timeouts: set[str] = set()
        self.prefix = ""
        self.loops: list[_Loop] = []
        self.threads: list[tuple[str, Section, str]] = []
        self.outline = hashlib.sha256()

    def compile(self) -> Program:
        self.thread(MAIN_THREAD, self.definition, "")
        while self.threads:
            self.thread(*self.threads.pop(0))
        for name in self.events.keys() & self.timeouts:
            raise DefinitionError(
                f"Timeout {name!r}",
                "an event has the same name, so it cannot be told which has happened",
                "Rename one.",
            )
        self.link()
        return Program(
            self.workflow,
            self.definition,
            tuple(self.code),
            self.rests,
            self.entries,
            {event: tuple(cases) for event, cases in self.events.items()},
            tuple(self.async_parts),
            self.outline.hexdigest()[:12],
        )

    # --- helpers -------------------------------------------------------------------------

    def emit(self, instruction: Instruction) -> int:
        self.code.append(instruction)
        return len(self.code) - 1

    def land(self, jumps: list[int]) -> None:
        """Lets these jumps end at the instruction that comes next."""
        for jump in jumps:
            self.code[jump].target = len(self.code)

    def link(self) -> None:
        """Joins each instruction to those it leads to, so that a thread need not pass the jumps between them."""
        for address, instruction in enumerate(self.code):
            if instruction.op is not Op.END:
                instruction.next = self.destination(address + 1)
            if instruction.target >= 0:
                instruction.other = self.destination(instruction.target)
            for case in instruction.cases.values():
                case.entry = self.destination(case.target)

    def destination(self, address: int) -> Instruction:
        """What a thread reaches from there by jumps alone; it ends, as every way round a loop has its branch."""
        while (instruction := self.code[address]).op is Op.JUMP:
            address = instruction.target
        return instruction

    def name(self, kind: str, name: str) -> str:
        """The qualified name of a statement, taken note of as used."""
        name = self.prefix + name
        if name in self.names:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"the name is taken by {self.names[name]}",
                'Rename one, or give one of two sections a prefix: S(..., prefix="...").',
            )
        self.names[name] = f"a {kind}" if kind[0] not in "IO" else f"an {kind}"
        self.outline.update(f"{kind} {name}\n".encode())
        return name

    def park(self, instruction: Instruction) -> None:
        """Emits a statement that a thread can stand on."""
        for loop in self.loops:
            loop.can_pause = True
        self.emit(instruction)
        self.rests[instruction.name] = instruction

    # --- statements ----------------------------------------------------------------------

    def thread(self, name: str, body: Section, prefix: str) -> None:
        self.prefix = prefix
        self.entries[name] = len(self.code)
        self.outline.update(f"thread {name}\n".encode())
        self.section(body)
        self.emit(Instruction(Op.END))

    def section(self, section: Section) -> None:
        outer = self.prefix
        if section.prefix:
            self.prefix = f"{outer}{section.prefix}/"
        self.outline.update(b"(\n")
        for statement in section.statements:
            self.statement(statement)
        self.outline.update(b")\n")
        self.prefix = outer

    def statement(self, statement: Statement) -> None:
        match statement:
            case Section():
                self.section(statement)
            case Step():
                self.step(statement)
            case If():
                self.branches("If", statement.branches)
            case Switch():
                self.name("Switch", statement.name)
                self.branches("Case", statement.branches)
            case While():
                self.loop(statement)
            case Select():
                self.select(statement)
            case WaitFor():
                self.wait_for(statement)
            case Go():
                self.go(statement)
            case Return():
                for loop in self.loops:
                    loop.can_pause = True
                self.emit(Instruction(Op.END))
                self.outline.update(b"Return\n")
            case Break() | Continue():
                self.leave(statement)
            case _:
                raise DefinitionError(f"{statement!r}", "it is no statement known here", "Use those of workflow_core.")

    def step(self, step: Step) -> None:
        name = self.name("Step", step.name)
        takes = "the workflow, or the workflow and a StepContext"
        names = parameters(f"Step {name!r}", step.action, 1, 2, takes)
        if is_async(step.action):
            self.async_parts.append(name)
        self.park(Instruction(Op.STEP, name, action=step.action, takes_context=len(names) == 2))

    def condition(self, kind: str, name: str, cond: Callable[[Any], Any]) -> Callable[[Any], Any]:
        parameters(f"{kind} {name!r}", cond, 1, 1, "the workflow alone")
        if is_async(cond):
            raise DefinitionError(
                f"{kind} {name!r}", "its condition is async", "Compute the value in a Step and test the field."
            )
        return cond

    def branches(self, kind: str, branches: tuple[Branch, ...]) -> None:
        ends: list[int] = []
        self.outline.update(f"{kind} of {len(branches)}\n".encode())
        for branch in branches:
            skip: list[int] = []
            if branch.cond is not None:
                name = self.name(kind, branch.name)
                cond = self.condition(kind, name, branch.cond)
                skip.append(self.emit(Instruction(Op.BRANCH, name, cond=cond)))
            self.section(branch.body)
            if branch is not branches[-1]:
                ends.append(self.emit(Instruction(Op.JUMP)))
            self.land(skip)
        self.land(ends)

    def loop(self, statement: While) -> None:
        name = self.name("While", statement.name)
        cond = self.condition("While", name, statement.cond)
        loop = _Loop(start=self.emit(Instruction(Op.BRANCH, name, cond=cond)))
        self.loops.append(loop)
        self.section(statement.body)
        self.loops.pop()
        if not (loop.can_pause or loop.breaks):
            raise DefinitionError(
                f"While {name!r}",
                "nothing inside it can change its condition, so it would never end",
                "Put a Step, a Select or a WaitFor inside, or leave it with Break.",
            )
        self.emit(Instruction(Op.JUMP, target=loop.start))
        self.land([loop.start, *loop.breaks])

    def leave(self, statement: Break | Continue) -> None:
        kind = type(statement).__name__
        if not self.loops:
            raise DefinitionError(
                f"{kind} in workflow {self.workflow!r}",
                "it stands outside a loop (a Go inside a loop is outside of it)",
                "Put it inside a While, or use Return() to end the thread.",
            )
        loop = self.loops[-1]
        self.outline.update(kind.encode())
        if isinstance(statement, Break):
            loop.breaks.append(self.emit(Instruction(Op.JUMP)))
        else:
            self.emit(Instruction(Op.JUMP, target=loop.start))

    def wait_for(self, statement: WaitFor) -> None:
        name = self.name("WaitFor", statement.name)
        cond = self.condition("WaitFor", name, statement.cond)
        if statement.handler is not None:
            parameters(f"WaitFor {name!r}", statement.handler, 1, 1, "the workflow alone")
            self.plain("WaitFor", name, statement.handler)
        self.park(Instruction(Op.WAIT_FOR, name, cond=cond, handler=statement.handler))

    def go(self, statement: Go) -> None:
        name = self.name("Go", statement.name)
        if callable(statement.id):
            parameters(f"Go {name!r}", statement.id, 1, 1, "the workflow alone")
        self.threads.append((name, statement.body, self.prefix))
        self.emit(Instruction(Op.GO, name, id=statement.id))

    def select(self, statement: Select) -> None:
        name = self.name("Select", statement.name)
        instruction = Instruction(Op.SELECT, name)
        self.park(instruction)
        cases: list[SelectCase] = []
        ends: list[int] = []
        for case in statement.cases:
            compiled = self.timeout(case) if isinstance(case, Timeout) else self.event(case)
            cases.append(compiled)
            if compiled.kind is not WaitKind.TIMEOUT:
                self.events.setdefault(compiled.event, []).append((name, compiled))
            self.section(case.body)
            if case is not statement.cases[-1]:
                ends.append(self.emit(Instruction(Op.JUMP)))
        self.land(ends)
        instruction.cases = {case.event: case for case in cases}

    def timeout(self, case: Timeout) -> SelectCase:
        name = self.name("Timeout", case.name)
        self.timeouts.add(name)
        if callable(case.delay):
            parameters(f"Timeout {name!r}", case.delay, 1, 1, "the workflow alone")
        return SelectCase(name, WaitKind.TIMEOUT, len(self.code), delay=case.delay)

    def event(self, case: On) -> SelectCase:
        where = f"On {case.event!r}"
        if isinstance(case.handler, EventHandler):
            if isinstance(case.handler, type):
                raise DefinitionError(where, "its handler is a class", f"Make an object: {case.handler.__name__}(...).")
            handler = case.handler
            parameters(where, handler.setup, 1, 1, "setup(request)")
            parameters(where, handler.teardown, 2, 2, "teardown(request, handled)")
            takes = "handle(request, input)"
            signature = handler_signature(where, handler.handle, self.namespace, takes=takes, least=2)
            if any(is_async(f) for f in (handler.setup, handler.handle, handler.teardown)):
                self.async_parts.append(case.event)
            compiled = SelectCase(
                case.event,
                WaitKind.HANDLER,
                len(self.code),
                event_handler=handler,
                signature=signature,
                takes_input=signature.takes_input,
                role=case.role,
            )
        else:
            self.plain("On", case.event, case.handler)
            takes = "the workflow and at most one input"
            signature = handler_signature(where, case.handler, self.namespace, takes=takes)
            compiled = SelectCase(
                case.event,
                WaitKind.EVENT,
                len(self.code),
                case.handler,
                signature=signature,
                takes_input=signature.takes_input,
                role=case.role,
            )
        self.outline.update(f"On {case.event} {signature.input_schema} {signature.output_schema}\n".encode())
        return compiled

    def plain(self, kind: str, name: str, handler: Callable[..., Any]) -> None:
        """Refuses what may not be the handler of an event or a condition."""
        if inspect.isclass(handler):
            raise DefinitionError(f"{kind} {name!r}", "its handler is a class", "Give it a function of the workflow.")
        if is_async(handler):
            raise DefinitionError(
                f"{kind} {name!r}",
                "its handler is async, but it runs inside the request and only changes fields",
                "Make it a plain function; put the slow work into a Step behind it.",
            )
