"""A compiled definition: a flat program in which a statement's name is its address.

It is shared by all instances, and immutable but for ``rebind``. Nothing here depends on an instance or runs anything.
``compiler.py`` creates it, and ``workflow_core.machine`` interprets it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from functools import cached_property
from hashlib import sha256
from typing import Any

from workflow_core.errors import UnknownStatement
from workflow_core.program.cases import ClientCase, EventCase, SelectCase, SelectOp, WatchOp
from workflow_core.program.code import (
    CodeOp,
    EachOp,
    ForkOp,
    GoOp,
    Instruction,
    LeftOp,
    RaceOp,
    StepOp,
    WithinOp,
    guards_around,
)
from workflow_core.records import record
from workflow_core.statements.basic import Section
from workflow_core.statements.inline import Local
from workflow_core.stored_parts import MAIN_THREAD


def _nothing(workflow: object) -> None:
    """Is the action of a step that does nothing."""


@record(frozen=True)
class Program:
    """A compiled definition.

    Attributes:
        workflow: the name of the workflow.
        definition: the tree that it was compiled from.
        code: the instructions.
        rests: the instructions that a thread may rest on, by the name of their statement.
        entries: the address in ``code`` where each thread starts, by the name of the thread.
        events: for each event, the selects and cases that wait for it.
        async_parts: the names of the steps, activities and events whose code is asynchronous.
        outline: texts, and functions that return one, that change when a statement is added, removed or moved, or when
            its name or schema changes.
        digest: that of the outline, once it was needed; see ``version``.
        renamed: the current names of statements and threads, by their former names.
        renamed_waits: the current names of events, timeouts, activities and children, by their former names.
        fields_version: the version of the workflow, which is also the version of its fields.
        methods: the methods of the workflow's class that the instructions call, by their name.
        unwatched: the names of those that belong to a class that does not notice if they are replaced.
        bound: what the instructions call now in place of each method.
        entry_locals: the locals that a thread gets from the one that starts it, by the name of the thread.
        is_plain: whether it was compiled from ``async def run``.
        has_renamed: whether ``renamed`` or ``renamed_waits`` has an entry.
        has_watches: whether a select waits for a condition.
        has_deadlines: whether there is a ``Within``.
        racers: the names of the branches of races.
        heads: the instructions of ``Go`` and ``ForEach`` that compute an id or items, by the name of their statement. A
            thread stands there only if that has failed the instance.
        verified: the cases with ``verify``, by their event.
        alone: the steps that ``workflow_core.machine.alone`` may perform, by their name; under an empty name, a step
            that does nothing, before the first statement of the main thread.
        handlers: the cases that it may handle, by the name of the select and their event.
    """

    workflow: str
    definition: Section
    code: tuple[Instruction, ...]
    rests: Mapping[str, Instruction]
    entries: Mapping[str, int]
    events: Mapping[str, tuple[tuple[str, ClientCase], ...]]
    async_parts: tuple[str, ...]
    outline: tuple[str | Callable[[], str], ...]
    renamed: Mapping[str, str]
    renamed_waits: Mapping[str, str]
    fields_version: int
    methods: Mapping[str, Callable[..., Any]]
    unwatched: tuple[str, ...]
    entry_locals: Mapping[str, tuple[Local, ...]]
    digest: str = field(default="", init=False, repr=False)
    bound: dict[str, Callable[..., Any]] = field(init=False, repr=False)
    is_plain: bool = field(init=False)
    has_renamed: bool = field(init=False)
    has_watches: bool = field(init=False)
    has_deadlines: bool = field(init=False)
    racers: frozenset[str] = field(init=False, repr=False)
    heads: Mapping[str, Instruction] = field(init=False, repr=False)
    verified: Mapping[str, tuple[ClientCase, ...]] = field(init=False, repr=False)
    alone: Mapping[str, StepOp] = field(init=False, repr=False)
    handlers: Mapping[str, Mapping[str, EventCase]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bound", dict(self.methods))
        object.__setattr__(self, "has_watches", any(type(instruction) is WatchOp for instruction in self.code))
        races = (instruction for instruction in self.code if isinstance(instruction, RaceOp))
        object.__setattr__(self, "racers", frozenset(branch for race in races for branch in race.branches))
        heads = {part.name: part for part in self.code if isinstance(part, (EachOp, GoOp))}
        object.__setattr__(self, "heads", heads)
        object.__setattr__(self, "has_deadlines", any(type(instruction) is WithinOp for instruction in self.code))
        is_plain = any(type(part) is CodeOp or part.kept for part in self.code)
        object.__setattr__(self, "is_plain", is_plain)
        object.__setattr__(self, "has_renamed", bool(self.renamed or self.renamed_waits))
        verified = {
            event: tuple(case for _, case in cases if case.verify is not None) for event, cases in self.events.items()
        }
        object.__setattr__(self, "verified", {event: cases for event, cases in verified.items() if cases})
        object.__setattr__(self, "alone", {} if self.async_parts or self._is_complex else self._steps())
        object.__setattr__(self, "handlers", {} if self._is_complex else self._handlers())

    @property
    def _is_complex(self) -> bool:
        return self.is_plain or self.has_renamed

    def _steps(self) -> dict[str, StepOp]:
        start = StepOp(action=_nothing, is_async=False, takes_context=False, retry=None, timeout=None)
        start.next = self.code[self.entries[MAIN_THREAD]]
        return {"": start} | {name: rest for name, rest in self.rests.items() if type(rest) is StepOp}

    def _handlers(self) -> dict[str, dict[str, EventCase]]:
        return {
            name: {case.event: case for case in rest.cases.values() if type(case) is EventCase and not case.keywords}
            for name, rest in self.rests.items()
            if type(rest) is SelectOp and rest.events is not None
        }

    @property
    def version(self) -> str:
        """Changes when a statement is added, removed or moved, or when its name or schema changes. It is computed when
        it is first read: most of the schemas are made for it."""
        if not self.digest:  # no __getattr__: with that, all attributes of the class take several times as long
            texts = (text if isinstance(text, str) else text() for text in self.outline)
            object.__setattr__(self, "digest", sha256("".join(texts).encode()).hexdigest()[:12])
        return self.digest

    @cached_property
    def sections(self) -> frozenset[str]:
        """The names under which a thread stores its position in a loop, the error that it has caught, why it is in a
        ``finally_`` section, or that a deadline has passed."""
        names = {part.name for part in self.code if isinstance(part, (EachOp, ForkOp, LeftOp))}
        guards = [guard for part in self.code for guard in guards_around(part)]
        names |= {clause.name for guard in guards for clause in guard.clauses}
        return frozenset(names.union(guard.name for guard in guards if guard.late_at >= 0))

    @cached_property
    def _places(self) -> Mapping[str, list[tuple[object, str]]]:
        """Where the code contains each method. Only tests replace methods."""
        from workflow_core.program.places import places_of

        return places_of(self.code, self.methods)

    def rebind(self, name: str, method: Callable[..., Any]) -> None:
        """Calls another function in place of a method from now on, as a test does that replaces it by a fake."""
        self.bound[name] = method
        for part, attribute in self._places[name]:
            object.__setattr__(part, attribute, method)

    def refresh(self, cls: type, names: Iterable[str]) -> None:
        """Calls the methods that a class has now."""
        for name in names:
            if (method := getattr(cls, name)) is not self.bound[name]:
                self.rebind(name, method)

    def event(self, name: str) -> str:
        """Returns the current name of an event, a timeout, an activity or a child. ``name`` may be a former name."""
        return self.renamed_waits.get(name, name)

    def max_bytes(self, event: str, default: int) -> int:
        """Returns the most bytes that a client's input of an event may have: the largest limit of its cases.

        Args:
            default: the limit of a case without ``max_bytes``, and of an unknown event.
        """
        cases = self.events.get(self.event(event), ())
        return max((case.max_bytes or default for _, case in cases), default=default)

    def at(self, statement: str) -> Instruction:
        """Returns the instruction that a thread stands at.

        Raises:
            UnknownStatement: the definition has no such statement.
        """
        try:
            return self.rests[statement]
        except KeyError:
            if (head := self.heads.get(statement)) is None:
                raise self.unknown(statement) from None
            return head

    def start_of(self, thread: str, statement: str) -> Instruction:
        """Returns the instruction that a thread rests on, or the first one of the thread if it has not started.

        Args:
            thread: the name of the thread.
            statement: the statement that it rests on; empty before the first.

        Raises:
            UnknownStatement: the definition no longer contains it.
        """
        if statement:
            return self.at(statement)
        try:
            return self.code[self.entries[thread]]
        except KeyError:
            raise self.unknown(thread) from None

    def step(self, name: str) -> StepOp:
        """Returns the instruction of a step.

        Raises:
            UnknownStatement: the definition has no such step.
        """
        instruction = self.at(name)
        if not isinstance(instruction, StepOp):
            raise self.unknown(name)
        return instruction

    def select(self, name: str) -> SelectOp:
        """Returns the instruction of a select, or of another statement that waits for something from outside.

        Raises:
            UnknownStatement: the definition has no such select.
        """
        instruction = self.at(name)
        if not isinstance(instruction, SelectOp):
            raise self.unknown(name)
        return instruction

    def case(self, statement: str, event: str) -> SelectCase | None:
        """Returns the case of a statement for an event, a timeout or a result; None if it does not wait for it.

        Raises:
            UnknownStatement: the definition has no such statement.
        """
        instruction = self.at(statement)
        return instruction.cases.get(event) if isinstance(instruction, SelectOp) else None

    def statements_of(self, thread: str) -> list[str]:
        """Returns the names of the steps and waits of a thread, in their order. ``thread`` is the name of its ``Go`` or
        branch.

        Raises:
            UnknownStatement: the definition has no such thread.
        """
        if thread not in self.entries:
            raise self.unknown(thread)
        start = self.entries[thread]
        end = min((entry for entry in self.entries.values() if entry > start), default=len(self.code))
        return [rest.name for rest in self.code[start:end] if self.rests.get(rest.name) is rest]

    def unknown(self, statement: str) -> UnknownStatement:
        """Returns the error for an instance at a statement that the definition no longer contains."""
        return UnknownStatement(
            f"an instance of {self.workflow!r} is at {statement!r}, which the definition no longer contains. Restore a "
            f"step or wait with this name, set renamed_from={statement!r} on the statement that replaces it "
            f"(.named({statement!r}) on a call in run), or repair the instance"
        )
