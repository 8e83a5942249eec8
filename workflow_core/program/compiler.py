"""Compiles a definition, once, into a ``Program``. Here stand the checks that take the whole tree.

Nothing here knows an instance or runs anything.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import EventHandler
from workflow_core.execution import MAIN_THREAD, LeaveKind
from workflow_core.program.program import (
    ActivitySpec,
    ChildSpec,
    Clause,
    Each,
    Function,
    Guard,
    Instruction,
    Op,
    Program,
    SelectCase,
)
from workflow_core.signatures import (
    HandlerSignature,
    OfItem,
    handler_signature,
    is_async,
    of_workflow,
    parameters,
    takes_item,
)
from workflow_core.statements.basic import (
    Branch,
    Break,
    Continue,
    Delay,
    Go,
    If,
    On,
    Return,
    Section,
    Select,
    Sleep,
    Statement,
    Step,
    Switch,
    Timeout,
    WaitFor,
    While,
)
from workflow_core.statements.calls import Activity, Child
from workflow_core.statements.failures import Except, Fail, Try
from workflow_core.statements.fanout import ForEach, Parallel
from workflow_core.wait_types import WaitKind


def compile_definition(
    workflow: str, definition: Any, namespace: Mapping[str, Any], fields_version: int = 1
) -> Program:
    """Compiles the definition of the workflow of that name.

    Args:
        namespace: names that handlers' annotations may use beside their globals.
        fields_version: the version of the workflow.

    Raises:
        DefinitionError: there is a mistake in it.
    """
    if not isinstance(definition, Section):
        raise DefinitionError(
            f"workflow {workflow!r}", f"its definition is {definition!r}", "Write definition = S(...)."
        )
    return _Compiler(workflow, definition, namespace).compile(fields_version)


@dataclass(slots=True)
class _Loop:
    """Where ``Break`` and ``Continue`` jump to in the loop being compiled."""

    start: int
    breaks: list[int] = field(default_factory=list)
    can_pause: bool = False


@dataclass(slots=True)
class _Crossing:
    """A ``Try`` being compiled whose ``finally_`` section is passed by whatever leaves it."""

    guard: Guard
    exits: dict[LeaveKind, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Cleanup:
    """A ``finally_`` section being compiled: nothing leaves it but errors, else a cancellation could be lost in it."""

    name: str


@dataclass(frozen=True, slots=True)
class _Body:
    """The statements of a thread, which are compiled behind all others, and what stands around them.

    Attributes:
        shelter: the ``finally_`` section around them, be it of this thread or of one that waits for it.
    """

    name: str
    section: Section
    prefix: str = ""
    former_prefixes: tuple[str, ...] = ()
    region: str = ""
    shelter: str = ""
    caught: str = ""
    each: Each | None = None


class _Renamed:
    """The former names of one kind, and what each of them is called now."""

    def __init__(self) -> None:
        self.now: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def add(self, kind: str, former: str, name: str) -> None:
        if self.now.setdefault(former, name) != name:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"its former name {former!r} is claimed by {self.kinds[former]} {self.now[former]!r} too",
                "Give renamed_from to the one at which instances are to go on.",
            )
        self.kinds[former] = kind

    def check(self, living: Mapping[str, str]) -> None:
        """Refuses a former name that something has now: it could not be told which an instance stands on."""
        for former, name in self.now.items():
            if former in living:
                raise DefinitionError(
                    f"{self.kinds[former]} {name!r}",
                    f"its former name {former!r} is that of {living[former]} in this definition",
                    "Take it out of renamed_from, or give the other one another name.",
                )


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
        self.internal: dict[str, str] = {}
        self.renamed = _Renamed()
        self.renamed_waits = _Renamed()
        self.prefix = ""
        self.former_prefixes: tuple[str, ...] = ()
        self.nest: list[_Loop | _Crossing | _Cleanup] = []
        self.guard: Guard | None = None
        self.guards: list[Guard] = []
        self.region = ""
        self.shelter = ""
        self.caught = ""
        self.each: Each | None = None
        self.bodies = [_Body(MAIN_THREAD, definition)]
        self.outline = hashlib.sha256()

    def compile(self, fields_version: int) -> Program:
        while self.bodies:
            self.thread(self.bodies.pop(0))
        for name in self.events.keys() & self.internal.keys():
            raise DefinitionError(
                f"{self.internal[name]} {name!r}",
                "an event has the same name, so it cannot be told which has happened",
                "Rename one.",
            )
        self.renamed.check(self.names)
        self.renamed_waits.check(
            dict.fromkeys(self.events, "an event") | {one: self.names[one] for one in self.internal}
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
            self.renamed.now,
            self.renamed_waits.now,
            fields_version,
        )

    # --- helpers -------------------------------------------------------------------------

    def emit(self, instruction: Instruction) -> int:
        instruction.guard, instruction.region = self.guard, self.region
        instruction.caught, instruction.each = self.caught, self.each
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
        for guard in self.guards:
            for clause in guard.clauses:
                clause.entry = self.destination(clause.target)
            if guard.cleanup_at >= 0:
                guard.cleanup = self.destination(guard.cleanup_at)

    def destination(self, address: int) -> Instruction:
        """What a thread reaches from there by jumps alone; it ends, as every way round a loop has its branch."""
        while (instruction := self.code[address]).op is Op.JUMP:
            address = instruction.target
        return instruction

    def name(self, kind: str, name: str, renamed_from: tuple[str, ...] = ()) -> str:
        """The qualified name of a statement, taken note of as used, as are those that it had before."""
        former = self.former(name, renamed_from)
        name = self.prefix + name
        for one in former:
            self.renamed.add(kind, one, name)
        if name in self.names:
            raise DefinitionError(
                f"{kind} {name!r}",
                f"the name is taken by {self.names[name]}",
                'Rename one, or give one of two sections a prefix: S(..., prefix="...").',
            )
        self.names[name] = f"an {kind}" if kind[0] in "IOAe" else f"a {kind}"
        self.outline.update(f"{kind} {name}\n".encode())
        return name

    def former(self, name: str, renamed_from: tuple[str, ...]) -> list[str]:
        """The qualified names that a statement had before, be it that itself or a section around it was renamed."""
        prefixes = (self.prefix, *self.former_prefixes)
        _, *former = (prefix + one for prefix in prefixes for one in (name, *renamed_from))
        return list(dict.fromkeys(former))

    def park(self, instruction: Instruction) -> None:
        """Emits a statement that a thread can stand on."""
        self.can_pause()
        self.emit(instruction)
        self.rests[instruction.name] = instruction

    def can_pause(self) -> None:
        """The loops around may end, or rest, by what is compiled here."""
        for loop in self.nest:
            if isinstance(loop, _Loop):
                loop.can_pause = True

    def function(self, kind: str, name: str, function: Callable[..., Any], what: str = "function") -> Function:
        """A function of the workflow and maybe an item."""
        result = of_workflow(f"{kind} {name!r}", function, in_each=self.each is not None)
        if is_async(function):
            raise DefinitionError(
                f"{kind} {name!r}", f"its {what} is async", "Compute the value in a Step and test the field."
            )
        return result

    def takes_item(self, handler: Callable[..., Any]) -> bool:
        return self.each is not None and takes_item(handler)

    def value(self, kind: str, name: str, value: Any, what: str) -> Any:
        """A plain value, or a function of the workflow."""
        return self.function(kind, name, value, what) if callable(value) else value

    def spawn(self, name: str, body: Section, *, branch: bool = False) -> None:
        """Compiles the statements of a thread, later.

        Args:
            branch: another thread waits for its end, and is canceled in its place.
        """
        shelter = self.region or self.shelter
        region = "" if branch else shelter
        prefixes = self.prefix, self.former_prefixes
        self.bodies.append(_Body(name, body, *prefixes, region, shelter, self.caught, self.each))

    # --- statements ----------------------------------------------------------------------

    def thread(self, body: _Body) -> None:
        self.prefix, self.former_prefixes = body.prefix, body.former_prefixes
        self.region, self.shelter = body.region, body.shelter
        self.caught, self.each = body.caught, body.each
        self.entries[body.name] = len(self.code)
        self.outline.update(f"thread {body.name}\n".encode())
        self.section(body.section)
        self.emit(Instruction(Op.END))

    def section(self, section: Section) -> None:
        outer, former = self.prefix, self.former_prefixes
        if section.prefix:
            self.prefix = f"{outer}{section.prefix}/"
        if section.renamed_from or former:
            parts = [f"{one}/" if one else "" for one in (section.prefix, *section.renamed_from)]
            prefixes = dict.fromkeys(before + part for before in (outer, *former) for part in parts)
            self.former_prefixes = tuple(one for one in prefixes if one != self.prefix)
        self.outline.update(b"(\n")
        for statement in section.statements:
            self.statement(statement)
        self.outline.update(b")\n")
        self.prefix, self.former_prefixes = outer, former

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
                self.can_pause()
                self.exit(LeaveKind.RETURN)
                self.outline.update(b"Return\n")
            case Break() | Continue():
                self.leave(statement)
            case Sleep():
                self.sleep(statement)
            case Try():
                self.try_(statement)
            case Fail():
                self.fail(statement)
            case ForEach():
                self.for_each(statement)
            case Parallel():
                self.parallel(statement)
            case Activity():
                self.activity(statement)
            case Child():
                self.child(statement)
            case _:
                raise DefinitionError(f"{statement!r}", "it is no statement known here", "Use those of workflow_core.")

    def step(self, step: Step) -> None:
        name = self.name("Step", step.name, step.renamed_from)
        takes = "the workflow, or the workflow and a StepContext"
        names = parameters(f"Step {name!r}", step.action, 1, 2, takes)
        if is_async(step.action):
            self.async_parts.append(name)
        elif step.timeout is not None:
            raise DefinitionError(
                f"Step {name!r}",
                "it has a timeout, but its action is not async, so it cannot be interrupted",
                "Write async def, or leave the timeout out.",
            )
        instruction = Instruction(Op.STEP, name, action=step.action, takes_context=len(names) == 2)
        instruction.retry, instruction.timeout = step.retry, step.timeout
        self.park(instruction)

    def branch(self, kind: str, name: str, cond: Callable[..., Any]) -> int:
        """Emits what goes on only if ``cond`` holds."""
        function = self.function(kind, name, cond, "condition")
        if isinstance(function, OfItem):
            return self.emit(Instruction(Op.BRANCH_OF_ITEM, name, cond=function.function))
        return self.emit(Instruction(Op.BRANCH, name, cond=function))

    def branches(self, kind: str, branches: tuple[Branch, ...]) -> None:
        ends: list[int] = []
        self.outline.update(f"{kind} of {len(branches)}\n".encode())
        for branch in branches:
            skip: list[int] = []
            if branch.cond is not None:
                skip.append(self.branch(kind, self.name(kind, branch.name), branch.cond))
            self.section(branch.body)
            if branch is not branches[-1]:
                ends.append(self.emit(Instruction(Op.JUMP)))
            self.land(skip)
        self.land(ends)

    def loop(self, statement: While) -> None:
        name = self.name("While", statement.name)
        loop = _Loop(start=self.branch("While", name, statement.cond))
        self.nest.append(loop)
        self.section(statement.body)
        self.nest.pop()
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
        if not any(isinstance(one, _Loop) for one in self.nest):
            raise DefinitionError(
                f"{kind} in workflow {self.workflow!r}",
                "it stands outside a loop (a Go inside a loop is outside of it, and so is a parallel round)",
                "Put it inside a While or a ForEach, or use Return() to end the thread.",
            )
        self.outline.update(kind.encode())
        self.exit(LeaveKind.BREAK if isinstance(statement, Break) else LeaveKind.CONTINUE)

    def exit(self, kind: LeaveKind) -> int:
        """Emits what leaves the innermost loop, or for ``RETURN`` the thread, past the ``finally_`` sections within."""
        for one in reversed(self.nest):
            if isinstance(one, _Cleanup):
                raise DefinitionError(
                    f"finally_ of Try {one.name!r}",
                    f"a {kind.value.capitalize()} leaves it",
                    "Let a finally_ section run to its end.",
                )
            if isinstance(one, _Crossing):
                one.exits[kind] = None
                at = self.emit(Instruction(Op.LEAVE, leave=kind))
                self.code[at].guard = one.guard
                return at
            if kind is not LeaveKind.RETURN:
                if kind is LeaveKind.CONTINUE:
                    return self.emit(Instruction(Op.JUMP, target=one.start))
                one.breaks.append(self.emit(Instruction(Op.JUMP)))
                return one.breaks[-1]
        return self.emit(Instruction(Op.END))

    def wait_for(self, statement: WaitFor) -> None:
        name = self.name("WaitFor", statement.name, statement.renamed_from)
        cond: Any = self.function("WaitFor", name, statement.cond, "condition")
        if statement.handler is not None:
            parameters(f"WaitFor {name!r}", statement.handler, 1, 1, "the workflow alone")
            self.plain("WaitFor", name, statement.handler)
        self.park(Instruction(Op.WAIT_FOR, name, cond=cond, handler=statement.handler))

    def go(self, statement: Go) -> None:
        name = self.name("Go", statement.name, statement.renamed_from)
        self.spawn(name, statement.body)
        self.emit(Instruction(Op.GO, name, id=self.value("Go", name, statement.id, "id")))

    def select(self, statement: Select) -> None:
        name = self.name("Select", statement.name, statement.renamed_from)
        instruction = Instruction(Op.SELECT, name)
        self.park(instruction)
        cases: list[SelectCase] = []
        ends: list[int] = []
        for case in statement.cases:
            compiled = self.timeout(case) if isinstance(case, Timeout) else self.event(case)
            cases.append(compiled)
            if compiled.from_clients:
                self.events.setdefault(compiled.event, []).append((name, compiled))
            self.section(case.body)
            if case is not statement.cases[-1]:
                ends.append(self.emit(Instruction(Op.JUMP)))
        self.land(ends)
        instruction.cases = {case.event: case for case in cases}

    def timeout(self, case: Timeout) -> SelectCase:
        name = self.waited_for("Timeout", case.name, case.renamed_from)
        return self.timer("Timeout", name, case.delay)

    def waited_for(self, kind: str, name: str, renamed_from: tuple[str, ...]) -> str:
        """The qualified name of what is waited for and no client sends."""
        former = self.former(name, renamed_from)
        name = self.name(kind, name, renamed_from)
        self.internal[name] = kind
        for one in former:
            self.renamed_waits.add(kind, one, name)
        return name

    def timer(self, kind: str, name: str, delay: Delay) -> SelectCase:
        return SelectCase(name, WaitKind.TIMEOUT, len(self.code), delay=self.value(kind, name, delay, "delay"))

    def sleep(self, statement: Sleep) -> None:
        name = self.waited_for("Sleep", statement.name, statement.renamed_from)
        self.wait(name, lambda: self.timer("Sleep", name, statement.delay))

    def wait(self, name: str, case: Callable[[], SelectCase]) -> None:
        """Emits a select of one case; that is made behind it, where the thread goes on."""
        instruction = Instruction(Op.SELECT, name)
        self.park(instruction)
        instruction.cases = {name: case()}

    def event(self, case: On) -> SelectCase:
        where = f"On {case.event!r}"
        for one in case.renamed_from:
            self.renamed_waits.add("On", one, case.event)
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
            signature = self.handler(where, case.handler, takes)
            compiled = SelectCase(
                case.event,
                WaitKind.EVENT,
                len(self.code),
                case.handler,
                signature=signature,
                takes_input=signature.takes_input,
                role=case.role,
                buffered=case.buffered,
                takes_item=self.takes_item(case.handler),
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

    def handler(self, where: str, handler: Callable[..., Any], takes: str) -> HandlerSignature:
        return handler_signature(where, handler, self.namespace, takes=takes, in_each=self.each is not None)

    # --- failures ------------------------------------------------------------------------

    def fail(self, statement: Fail) -> None:
        name = self.name("Fail", statement.name, statement.renamed_from)
        self.can_pause()
        message = self.value("Fail", name, statement.message, "message")
        self.rests[name] = self.code[self.emit(Instruction(Op.FAIL, name, message=message))]

    def try_(self, statement: Try) -> None:
        name = self.name("Try", statement.name, statement.renamed_from)
        if not statement.excepts and statement.cleanup is None:
            raise DefinitionError(f"Try {name!r}", "it catches nothing", "Add .except_(...) or .finally_(...).")
        outer, caught = self.guard, self.caught
        body = Guard(name, tuple(self.clause(name, one) for one in statement.excepts), outer, self.region)
        guards, handling, crossing = [body], outer, _Crossing(body)
        if statement.cleanup is not None:
            handling = Guard(name, (), outer, self.region)
            guards.append(handling)
            self.emit(Instruction(Op.OPEN, name))
            self.nest.append(crossing)
        self.guards += guards
        self.guard = body
        self.section(statement.body)
        ends = [self.emit(Instruction(Op.JUMP))]
        self.guard = handling
        for clause, one in zip(body.clauses, statement.excepts, strict=True):
            clause.target = len(self.code)
            self.caught = clause.name
            self.section(one.body)
            ends.append(self.emit(Instruction(Op.JUMP)))
        self.guard, self.caught = outer, caught
        self.land(ends)
        if statement.cleanup is not None:
            self.nest.pop()
            self.cleanup(name, statement.cleanup, crossing, guards)

    def clause(self, where: str, clause: Except) -> Clause:
        name = self.name("except_", clause.name, clause.renamed_from)
        if clause.then is not None:
            parameters(f"except_ {name!r}", clause.then, 2, 2, "the workflow and the error")
            self.plain("except_", name, clause.then)
        catches_all = any(one in (Exception, BaseException) for one in clause.types)
        names = frozenset(f"{one.__module__}.{one.__qualname__}" for one in clause.types)
        return Clause(name, clause.types, None if catches_all else names, clause.then)

    def cleanup(self, name: str, section: Section, crossing: _Crossing, guards: list[Guard]) -> None:
        """Emits a ``finally_`` section, and behind it the ways on for what has passed it on its way out."""
        for guard in guards:
            guard.cleanup_at = len(self.code)
        # Within another finally_ section the outer one counts: a thread that is canceled in it runs all of it.
        region, self.region = self.region, self.region or name
        self.outline.update(b"finally")
        self.nest.append(_Cleanup(name))
        self.section(section)
        self.nest.pop()
        left = Instruction(Op.LEFT, name)
        self.emit(left)
        self.region = region
        ends = [self.emit(Instruction(Op.JUMP))]
        exits = {kind: self.code[self.exit(kind)] for kind in crossing.exits}
        self.land(ends)
        left.exits = exits

    # --- many ----------------------------------------------------------------------------

    def for_each(self, statement: ForEach) -> None:
        name = self.name("ForEach", statement.name, statement.renamed_from)
        items = self.function("ForEach", name, statement.items, "items")
        self.emit(Instruction(Op.OPEN, name))
        outer = self.each
        inner = Each(name, items, outer)
        if statement.parallel:
            self.park(Instruction(Op.FORK, name, items=items, branches=(name,), limit=statement.limit))
            self.each = inner
            self.spawn(name, statement.body, branch=True)
            self.each = outer
            return
        loop = _Loop(self.emit(Instruction(Op.EACH, name, items=items)), can_pause=True)
        self.nest.append(loop)
        self.each = inner
        self.section(statement.body)
        self.each = outer
        self.nest.pop()
        self.emit(Instruction(Op.JUMP, target=loop.start))
        self.land([loop.start, *loop.breaks])

    def parallel(self, statement: Parallel) -> None:
        name = self.name("Parallel", statement.name, statement.renamed_from)
        branches = tuple(self.branch_name(statement, number) for number in range(len(statement.branches)))
        self.emit(Instruction(Op.OPEN, name))
        self.park(Instruction(Op.FORK, name, branches=branches))
        for branch, section in zip(branches, statement.branches, strict=True):
            self.spawn(branch, Section((section,)), branch=True)

    def branch_name(self, statement: Parallel, number: int) -> str:
        branch = statement.branches[number]
        names = (statement.name, *statement.renamed_from)
        marks = (branch.prefix or number, *(one or number for one in branch.renamed_from))
        local, *former = dict.fromkeys(f"{name}[{mark}]" for name in names for mark in marks)
        return self.name("branch of Parallel", local, tuple(former))

    # --- work done elsewhere -------------------------------------------------------------

    def activity(self, statement: Activity) -> None:
        name = self.waited_for("Activity", statement.name, statement.renamed_from)
        where = f"Activity {name!r}"
        function = statement.function
        takes = "at most the input and an ActivityContext"
        signature = handler_signature(where, function, self.namespace, takes=takes, least=0, before=0)
        if is_async(function):
            self.async_parts.append(name)
        elif statement.heartbeat is not None:
            raise DefinitionError(where, "it has a heartbeat, but its function is not async", "Write async def.")
        if statement.input is not None and not signature.takes_input:
            raise DefinitionError(where, "it has an input, but its function takes none", "Give it a parameter.")
        spec = ActivitySpec(
            function,
            signature,
            len(parameters(where, function, 0, 2, takes)) == 2,
            None if statement.input is None else self.function("Activity", name, statement.input, "input"),
            statement.retry,
            statement.timeout,
            statement.heartbeat,
        )
        self.outline.update(f"{signature.input_schema} {signature.output_schema}\n".encode())
        self.wait(name, lambda: self.result("Activity", name, WaitKind.ACTIVITY, statement.then, activity=spec))

    def child(self, statement: Child) -> None:
        name = self.waited_for("Child", statement.name, statement.renamed_from)
        workflow = statement.workflow
        spec = ChildSpec(
            workflow if isinstance(workflow, str) else workflow.__workflow_name__,
            self.value("Child", name, statement.id, "id"),
            None if statement.input is None else self.function("Child", name, statement.input, "input"),
            statement.detached,
        )
        self.outline.update(f"{spec.workflow} {spec.detached}\n".encode())
        self.wait(name, lambda: self.result("Child", name, WaitKind.CHILD, statement.then, child=spec))

    def result(self, kind: str, name: str, wait: WaitKind, then: Callable[..., Any] | None, **spec: Any) -> SelectCase:
        """The one case of a wait for a result."""
        case = SelectCase(name, wait, len(self.code), **spec)
        if then is not None:
            where = f"then of {kind} {name!r}"
            self.plain(kind, name, then)
            case.handler = then
            case.signature = self.handler(where, then, "the workflow and at most the result")
            case.takes_input = case.signature.takes_input
            case.takes_item = self.takes_item(then)
        return case
