"""Parts: the source of ``run`` as a tree of what runs at once and what a thread waits for.

``scan`` makes the tree. ``flow`` adds which locals each part needs. ``lower`` makes statements of it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import field
from typing import Any

from workflow_core.plain.source import Source
from workflow_core.records import record
from workflow_core.stored_parts import LeaveKind

RESULT = ".result"
"""The variable with the result of the wait that has just ended. It is read at once."""

NOW = ".now"
"""The variable with the time at which a piece of code runs."""

RETURNED = ".return"
"""The variable with the return value of a section."""


@record(eq=False)
class Frame:
    """One use of a function: ``run``, or a section that it calls.

    Attributes:
        prefix: the prefix of its names and of the keys of its locals: ``deliver/``.
        derived: how the loop variables and caught errors around the current part get their values again, outermost
            first; see ``Derived``.
        names: the names that are taken, with their lines.
        place: the first call in the current statement, for the names of temporary variables.
        others: see ``variables``.
        looped: the variables of the loops around the current part.
    """

    source: Source
    prefix: str
    outer: Frame | None = None
    derived: tuple[Derived, ...] = ()
    names: dict[str, int] = field(default_factory=dict)
    place: str = ""
    temporaries: dict[str, int] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    looped: frozenset[str] = frozenset()

    @property
    def variables(self) -> frozenset[str]:
        """The local variables, and those of the generators that were made branches."""
        return self.source.locals | self.others

    def key(self, name: str) -> str:
        """The key of a variable among the locals of its thread."""
        return name[1:] if name.startswith("/") else self.prefix + name

    def temporary(self) -> str:
        """The name of a new variable. It has that of the first call in its statement, so that it stays the same when
        other statements are added."""
        count = self.temporaries[self.place] = self.temporaries.get(self.place, 0) + 1
        return f".{self.place} {count}"


@record(frozen=True, eq=False)
class Derived:
    """Variables that are not stored, because each piece of code can get them again.

    Attributes:
        names: the variables.
        statement: assigns them from the variable ``source``.
        source: the variable that stands for the item of a loop or for a caught error; a thread computes it.
        name: the name of the loop or of the ``except_`` section.
        is_item: whether it is an item.
        types: for an error, the classes that are caught.
        reads: the keys of the locals that it is derived from.
        items: for an item, the collection that contains it.
    """

    names: frozenset[str]
    statement: ast.stmt
    source: str
    name: str
    is_item: bool
    types: tuple[type[BaseException], ...] = ()
    reads: frozenset[str] = frozenset()
    items: ast.expr | None = None


@record(eq=False, kw_only=True)
class Part:
    """A part of the source.

    Attributes:
        line: the node that it stands at.
        derived: see ``Frame.derived``.
        live: the keys of the locals that are needed after it; set by ``flow``.
        assigned: the keys of the locals that are assigned on every path to it, as far as is known; set by ``flow``.
            None: it is never reached.
        unbound: variables that it reads and that only it assigns, perhaps too late: Python checks that.
    """

    frame: Frame
    line: ast.AST
    derived: tuple[Derived, ...] = ()
    live: frozenset[str] = frozenset()
    unbound: set[str] = field(default_factory=set)
    assigned: frozenset[str] | None = None

    @property
    def place(self) -> tuple[str, int]:
        """The file and the line that it stands in."""
        return self.frame.source.file, getattr(self.line, "lineno", 0)


@record(eq=False, kw_only=True)
class Code(Part):
    """Statements that run at once.

    Attributes:
        kept: variables that it may leave as they are, although it assigns them; see ``Usage.may_keep``.
    """

    statements: list[ast.stmt]
    exits: tuple[LeaveKind, ...] = ()
    kept: set[str] = field(default_factory=set)


@record(eq=False, kw_only=True)
class Branch(Part):
    """An ``if``.

    Attributes:
        given: variables that are assigned if the test is true.
    """

    test: ast.expr
    label: str
    body: list[Part]
    orelse: list[Part]
    given: frozenset[str] = frozenset()


@record(eq=False, kw_only=True)
class Loop(Part):
    """A ``while``; ``test`` None: forever."""

    test: ast.expr | None
    label: str
    body: list[Part]


@record(eq=False, kw_only=True)
class Each(Part):
    """A ``for``.

    Attributes:
        items: an expression of the items, which is computed for each of them.
        limit: for a parallel one, how many run at once.
    """

    name: str
    items: ast.expr
    body: list[Part]
    parallel: bool = False
    limit: int | None = None
    inner: tuple[Derived, ...] = ()


@record(eq=False, kw_only=True)
class Handler:
    """An ``except`` clause."""

    name: str
    types: tuple[type[BaseException], ...]
    body: list[Part]


@record(eq=False, kw_only=True)
class Guarded(Part):
    """A ``try``."""

    name: str
    body: list[Part]
    handlers: list[Handler]
    final: list[Part] | None


@record(eq=False, kw_only=True)
class Limited(Part):
    """An ``async with timeout``; ``delay`` is a constant, or a variable with the duration or the time."""

    name: str
    delay: ast.expr
    body: list[Part]


@record(eq=False, kw_only=True)
class Exit(Part):
    """A ``return``, ``break`` or ``continue``."""

    kind: LeaveKind


@record(eq=False, kw_only=True)
class Wait(Part):
    """What a thread waits for: a step, an activity, a child, a select, a sleep or a condition.

    Attributes:
        reads: the variables that its functions read.
        make: makes its statement; it is given a function that compiles expressions.
        takes_context: whether it is a step with a context, in which it finds the error that an ``except`` has caught.
    """

    name: str
    reads: frozenset[str]
    make: Callable[[Any], Any]
    takes_context: bool = False


@record(eq=False, kw_only=True)
class Called(Part):
    """The statements of a section; ``inner`` is its frame."""

    name: str
    inner: Frame
    body: list[Part]
    renamed_from: tuple[str, ...] = ()


@record(eq=False, kw_only=True)
class Fork(Part):
    """Branches that run in parallel.

    Attributes:
        is_race: whether the first one to end cancels the others.
    """

    name: str
    branches: list[list[Part]]
    is_race: bool = False


@record(eq=False, kw_only=True)
class Spawn(Part):
    """A thread that is started."""

    name: str
    id: ast.expr | None
    body: list[Part]
