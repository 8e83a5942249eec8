"""What a definition is compiled to: a flat program, in which a statement's name is its address.

It is immutable and shared by all instances; nothing here knows an instance or runs anything. ``compiler.py``
makes it, ``workflow_core.machine`` walks through it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from workflow_core.errors import UnknownStatement
from workflow_core.program.code import ClientCase, Instruction, SelectCase, SelectOp, StepOp
from workflow_core.statements.basic import Section


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
    events: Mapping[str, tuple[tuple[str, ClientCase], ...]]
    async_parts: tuple[str, ...]
    version: str
    renamed: Mapping[str, str]
    renamed_waits: Mapping[str, str]
    fields_version: int
    has_renamed: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_renamed", bool(self.renamed or self.renamed_waits))

    def event(self, name: str) -> str:
        """The present name of an event, a timeout, an activity or a child, which may come under a former one."""
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

    def step(self, name: str) -> StepOp:
        """The instruction of a step.

        Raises:
            UnknownStatement: the definition has no such step.
        """
        instruction = self.at(name)
        if not isinstance(instruction, StepOp):
            raise self.unknown(name)
        return instruction

    def select(self, name: str) -> SelectOp:
        """The instruction of a select, or of another statement that waits for something that comes from outside.

        Raises:
            UnknownStatement: the definition has no such select.
        """
        instruction = self.at(name)
        if not isinstance(instruction, SelectOp):
            raise self.unknown(name)
        return instruction

    def case(self, statement: str, event: str) -> SelectCase | None:
        """The case of a statement for an event, a timeout or a result; None if it does not wait for that.

        Raises:
            UnknownStatement: the definition has no such statement.
        """
        instruction = self.at(statement)
        return instruction.cases.get(event) if isinstance(instruction, SelectOp) else None

    def statements_of(self, thread: str) -> list[str]:
        """The steps and waits of a thread, by the name of its ``Go`` or its branch, in their order.

        Raises:
            UnknownStatement: the definition has no such thread.
        """
        if thread not in self.entries:
            raise self.unknown(thread)
        start = self.entries[thread]
        end = min((entry for entry in self.entries.values() if entry > start), default=len(self.code))
        return [rest.name for rest in self.code[start:end] if self.rests.get(rest.name) is rest]

    def unknown(self, statement: str) -> UnknownStatement:
        """The error for a statement that an instance stands on and the definition no longer has."""
        return UnknownStatement(
            f"an instance of {self.workflow!r} stands on {statement!r}, which the definition no longer has: "
            f"bring a step or wait of that name back, give the one that has taken its place "
            f"renamed_from={statement!r}, or repair the instance"
        )
