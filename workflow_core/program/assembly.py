"""Assembly: a program that is being made. What the functions of the compiler share.

The files of the compiler hold plain functions that take an ``Assembly`` and a statement, and emit the instructions of
that. Each file imports only those to its right:

    compiler → failures → control, selects, calls, fanout → functions → assembly → names → code

One call has to go the other way: a statement with sections in it compiles them, whatever statements they hold. It goes
through ``Assembly.section``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workflow_core.execution import MAIN_THREAD, LeaveKind
from workflow_core.program.code import ClientCase, Each, EndOp, Guard, Instruction, JumpOp, SelectOp
from workflow_core.program.names import Names
from workflow_core.statements.basic import Section

_I = TypeVar("_I", bound=Instruction)


@dataclass(slots=True)
class Loop:
    """Where ``Break`` and ``Continue`` jump to in the loop being compiled."""

    start: int
    breaks: list[JumpOp] = field(default_factory=list)
    can_pause: bool = False


@dataclass(slots=True)
class Crossing:
    """A ``Try`` being compiled whose ``finally_`` section is passed by all that leaves it."""

    guard: Guard
    exits: dict[LeaveKind, None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cleanup:
    """A ``finally_`` section being compiled: nothing leaves it but errors, else a cancellation could be lost in it."""

    name: str


@dataclass(frozen=True, slots=True)
class Body:
    """The statements of a thread, which are compiled behind all others, and what stands around them.

    Attributes:
        shelter: the ``finally_`` section around them, be it of this thread or of one that waits for it.
    """

    name: str
    section: Section
    prefixes: tuple[str, tuple[str, ...]] = ("", ())
    region: str = ""
    shelter: str = ""
    caught: str = ""
    each: Each | None = None


class Assembly:
    """A program that is being made, and where in the tree the compiler is.

    Attributes:
        nest: the loops and ``finally_`` sections around, within the thread.
        guard: with ``region``, ``caught`` and ``each``, what each instruction emitted now gets.
        outline: the digest that becomes the version of the program.
    """

    def __init__(self, workflow: str, definition: Section, namespace: Mapping[str, Any]) -> None:
        self.workflow = workflow
        self.definition = definition
        self.namespace = namespace
        self.code: list[Instruction] = []
        self.rests: dict[str, Instruction] = {}
        self.entries: dict[str, int] = {}
        self.events: dict[str, list[tuple[str, ClientCase]]] = {}
        self.async_parts: list[str] = []
        self.names = Names()
        self.nest: list[Loop | Crossing | Cleanup] = []
        self.guard: Guard | None = None
        self.guards: list[Guard] = []
        self.region = ""
        self.shelter = ""
        self.caught = ""
        self.each: Each | None = None
        self.bodies = [Body(MAIN_THREAD, definition)]
        self.outline = hashlib.sha256()

    def section(self, section: Section) -> None:
        """Compiles the statements of a section; see ``workflow_core.program.compiler``."""
        raise NotImplementedError

    # --- names -------------------------------------------------------------------------------

    def name(self, kind: str, name: str, renamed_from: tuple[str, ...] = ()) -> str:
        """The qualified name of a statement, noted as used."""
        name = self.names.add(kind, name, renamed_from)
        self.note(f"{kind} {name}\n")
        return name

    def name_wait(self, kind: str, name: str, renamed_from: tuple[str, ...]) -> str:
        """The qualified name of what is waited for and no client sends."""
        name = self.names.add_wait(kind, name, renamed_from)
        self.note(f"{kind} {name}\n")
        return name

    def note(self, text: str) -> None:
        """Makes a text part of what the version of the program is made of."""
        self.outline.update(text.encode())

    # --- instructions ------------------------------------------------------------------------

    def emit(self, instruction: _I) -> _I:
        """Puts an instruction behind the others."""
        instruction.guard, instruction.region = self.guard, self.region
        instruction.caught, instruction.each = self.caught, self.each
        self.code.append(instruction)
        return instruction

    def park(self, instruction: _I) -> _I:
        """Emits a statement that a thread can stand on."""
        self.can_pause()
        self.rests[instruction.name] = instruction
        return self.emit(instruction)

    def can_pause(self) -> None:
        """Notes that the loops around may end, or rest, by what is compiled here."""
        for part in self.nest:
            if isinstance(part, Loop):
                part.can_pause = True

    def land(self, jumps: list[JumpOp]) -> None:
        """Lets these jumps end at the instruction that comes next."""
        for jump in jumps:
            jump.target = len(self.code)

    def spawn(self, name: str, body: Section, *, branch: bool = False) -> None:
        """Compiles the statements of a thread, later.

        Args:
            branch: another thread waits for its end, and is canceled in its place.
        """
        shelter = self.region or self.shelter
        region = "" if branch else shelter
        prefixes = self.names.prefix, self.names.former_prefixes
        self.bodies.append(Body(name, body, prefixes, region, shelter, self.caught, self.each))

    # --- links -------------------------------------------------------------------------------

    def link(self) -> None:
        """Joins each instruction to those it leads to, so that a thread need not pass the jumps between them."""
        for address, instruction in enumerate(self.code):
            if not isinstance(instruction, EndOp):
                instruction.next = self._destination(address + 1)
            if isinstance(instruction, JumpOp):
                instruction.other = self._destination(instruction.target)
            elif isinstance(instruction, SelectOp):
                for case in instruction.cases.values():
                    case.entry = self._destination(case.target)
        for guard in self.guards:
            for clause in guard.clauses:
                clause.entry = self._destination(clause.target)
            if guard.cleanup_at >= 0:
                guard.cleanup = self._destination(guard.cleanup_at)

    def _destination(self, address: int) -> Instruction:
        """What a thread reaches from there by jumps alone; it ends, as every way round a loop has its branch."""
        while type(instruction := self.code[address]) is JumpOp:
            address = instruction.target
        return instruction
