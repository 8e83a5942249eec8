"""Assembly: a program that is being compiled. The functions of the compiler share it.

The files of the compiler contain plain functions that take an ``Assembly`` and a statement, and emit the instructions
of the statement. Each file imports only files to its right:

    compiler → inline, failures → control, selects, fanout → calls → functions → assembly → names, scope → cases → code

One call goes in the opposite direction: a statement with sections compiles them, and they may contain any statement.
This call goes through ``Assembly.section``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

from workflow_core.program.cases import ClientCase, EventCase, SelectOp, WatchOp
from workflow_core.program.code import Each, EndOp, Guard, Instruction, JumpOp
from workflow_core.program.names import Names
from workflow_core.program.scope import Scope
from workflow_core.records import record
from workflow_core.statements.basic import Section, Statement
from workflow_core.statements.inline import Local
from workflow_core.stored_parts import MAIN_THREAD, LeaveKind

_I = TypeVar("_I", bound=Instruction)


@record()
class Loop:
    """A loop that is being compiled, and the targets of its ``Break`` and ``Continue``."""

    start: int
    breaks: list[JumpOp] = field(default_factory=list)
    can_pause: bool = False


@record()
class Crossing:
    """A ``Try`` with a ``finally_`` section that is being compiled. Every exit from it passes this section."""

    guard: Guard
    exits: dict[LeaveKind, None] = field(default_factory=dict)


@record()
class Called:
    """A section that is being compiled and that a ``Return`` leaves, and the jumps to its end."""

    returns: list[JumpOp] = field(default_factory=list)


@record(frozen=True)
class Timed:
    """A ``Within`` that is being compiled. Every exit from it ends its timer."""

    name: str


@record(frozen=True)
class Cleanup:
    """A ``finally_`` section that is being compiled. Only errors may leave it early, because another exit could lose a
    pending cancellation."""

    name: str


@record(frozen=True)
class Body:
    """The statements of a thread, which are compiled after those of the threads found earlier, and their surroundings.

    Attributes:
        shelter: the ``finally_`` section around them, in this thread or in a thread that waits for it.
        code: emits the code in place of a section, for the timer of a ``Within``.
    """

    name: str
    section: Section
    prefixes: tuple[str, tuple[str, ...]] = ("", ())
    region: str = ""
    shelter: str = ""
    caught: tuple[str, ...] = ()
    each: Each | None = None
    code: Callable[[Assembly], None] | None = None


class Assembly:
    """A program that is being compiled, and the position of the compiler in the tree.

    Attributes:
        nest: the loops and ``finally_`` sections around the current statement, within its thread.
        guard: with ``region``, ``cleanups``, ``caught`` and ``each``, the attributes of what is emitted now.
        outline: the texts that the version of the program is the digest of.
        described: the keys of the locals whose types the outline contains.
    """

    def __init__(self, workflow: str, definition: Section, scope: Scope) -> None:
        self.workflow = workflow
        self.definition = definition
        self.scope = scope
        self.code: list[Instruction] = []
        self.rests: dict[str, Instruction] = {}
        self.entries: dict[str, int] = {}
        self.events: dict[str, list[tuple[str, ClientCase]]] = {}
        self.async_parts: list[str] = []
        self.names = Names()
        self.nest: list[Loop | Crossing | Called | Cleanup | Timed] = []
        self.cleanups: tuple[str, ...] = ()
        self.guard: Guard | None = None
        self.guards: list[Guard] = []
        self.region = ""
        self.shelter = ""
        self.caught: tuple[str, ...] = ()
        self.each: Each | None = None
        self.thread = MAIN_THREAD
        self.entry_locals: dict[str, tuple[Local, ...]] = {}
        self.bodies = [Body(MAIN_THREAD, definition)]
        self.outline: list[str | Callable[[], str]] = []
        self.described: set[str] = set()

    def section(self, section: Section) -> None:
        """Compiles the statements of a section; see ``workflow_core.program.compiler``."""
        raise NotImplementedError

    # --- names -------------------------------------------------------------------------------

    def name(self, kind: str, name: str, renamed_from: tuple[str, ...] = ()) -> str:
        """Registers a statement, and returns its qualified name."""
        name = self.names.add(kind, name, renamed_from)
        self.note(f"{kind} {name}\n")
        return name

    def label(self, kind: str, name: str) -> str:
        """Returns the qualified name of a decision or a loop. An instance never stores it, so it need not be unique."""
        name = self.names.prefix + name
        self.note(f"{kind} {name}\n")
        return name

    def name_wait(self, kind: str, name: str, renamed_from: tuple[str, ...]) -> str:
        """Registers a statement that waits for something that clients do not send, and returns its qualified name."""
        name = self.names.add_wait(kind, name, renamed_from)
        self.note(f"{kind} {name}\n")
        return name

    def note(self, text: str | Callable[[], str]) -> None:
        """Adds a text, or a function that returns it, to what the version of the program is the digest of."""
        self.outline.append(text)

    # --- instructions ------------------------------------------------------------------------

    def emit(self, instruction: _I) -> _I:
        """Appends an instruction."""
        instruction.guard, instruction.region = self.guard, self.region
        instruction.cleanups = self.cleanups
        instruction.caught, instruction.each = self.caught, self.each
        self.code.append(instruction)
        return instruction

    def park(self, instruction: _I) -> _I:
        """Emits an instruction that a thread can rest on."""
        self.can_pause()
        self.rests[instruction.name] = instruction
        return self.emit(instruction)

    def can_pause(self) -> None:
        """Records that the statement being compiled lets the loops around it end or rest."""
        for part in self.nest:
            if isinstance(part, Loop):
                part.can_pause = True

    def land(self, jumps: list[JumpOp]) -> None:
        """Sets the target of these jumps to the next instruction."""
        for jump in jumps:
            jump.target = len(self.code)

    def spawn(self, name: str, body: Section, *, branch: bool = False) -> None:
        """Schedules the statements of a thread for compilation.

        Args:
            branch: whether another thread waits for its end. A cancellation then reaches it through that thread.
        """
        shelter = self.region or self.shelter
        region = "" if branch else shelter
        prefixes = self.names.prefix, self.names.former_prefixes
        self.bodies.append(Body(name, body, prefixes, region, shelter, self.caught, self.each))

    def spawn_timer(self, name: str, code: Callable[[Assembly], None]) -> None:
        """Schedules the code of the timer of a ``Within``."""
        prefixes = self.names.prefix, self.names.former_prefixes
        self.bodies.append(Body(name, Section(()), prefixes, each=self.each, code=code))

    # --- links -------------------------------------------------------------------------------

    def link(self) -> None:
        """Links each instruction directly to its successors, so that threads need not pass the jumps between them."""
        for address, instruction in enumerate(self.code):
            if not isinstance(instruction, EndOp):
                instruction.next = self._destination(address + 1)
            if isinstance(instruction, JumpOp):
                instruction.other = self._destination(instruction.target)
            elif isinstance(instruction, SelectOp):
                for case in instruction.cases.values():
                    case.entry = self._destination(case.target)
                events = [case for case in instruction.cases.values() if type(case) is EventCase]
                if len(events) == len(instruction.cases):
                    instruction.events = tuple((case.event, case.buffered) for case in events)
                for when in instruction.whens if isinstance(instruction, WatchOp) else ():
                    when.entry = self._destination(when.target)
        for guard in self.guards:
            for clause in guard.clauses:
                clause.entry = self._destination(clause.target)
            if guard.cleanup_at >= 0:
                guard.cleanup = self._destination(guard.cleanup_at)
            if guard.late_at >= 0:
                guard.late = self._destination(guard.late_at)

    def _destination(self, address: int) -> Instruction:
        """Follows jumps from an address to the first other instruction. This ends, because every loop contains a
        branch."""
        while type(instruction := self.code[address]) is JumpOp:
            address = instruction.target
        return instruction


Compilers = dict[type[Statement], Callable[[Assembly, Any], None]]
"""The functions that compile each kind of statement."""
