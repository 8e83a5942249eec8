"""Statements that only the compiler of plain definitions makes; see ``workflow_core.plain``."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from workflow_core.records import record
from workflow_core.signatures import OfFrame
from workflow_core.statements.basic import Section, Statement
from workflow_core.statements.local_keys import local_in_words
from workflow_core.stored_parts import LeaveKind
from workflow_core.value_form import ValueForm

ObjectPath = tuple[object, ...]
"""Where in the object of a local another object is: names of attributes, keys and indexes, or the following steps."""

ANY = None
"""The step to each part of an object."""

ANYWHERE = ...
"""The last step: to the object itself, and to everything inside."""

AUGMENTED: Final = object()
"""The last step: to the object itself, if ``+=`` and the like change it."""


@record(frozen=True)
class Local:
    """A local variable of a plain definition.

    Attributes:
        key: its name, after the prefix of its section.
        form: the form of its type; None: plain JSON.
        has_default: whether a thread that was saved without it has ``default``.
        former: the keys that it had before its section or its step was renamed.
        changes: where in its object code changes an object in place after it was loaded.
        is_untyped: whether nothing tells its type, so that it is stored as plain JSON.
        is_assigned: whether it is assigned on every path to the place, so that each thread there has it. Later code may
            also read locals that are only assigned after the place.
    """

    key: str
    form: ValueForm | None
    has_default: bool = False
    default: Any = None
    changes: frozenset[ObjectPath] = frozenset()
    former: tuple[str, ...] = ()
    is_untyped: bool = False
    is_assigned: bool = True

    def stored_key(self, stored: Container[str]) -> str | None:
        """Returns the key under which a thread has stored it; None if it has not."""
        return next((key for key in (self.key, *self.former) if key in stored), None)

    @property
    def is_hidden(self) -> bool:
        """Whether the compiler made it, for example for the items of a loop."""
        return self.key.rpartition("/")[2].startswith(".")

    @property
    def with_default(self) -> str:
        """The assignment that gives it a default, in the source."""
        name = self.key.rpartition("/")[2]
        return f"{name} = local({name!r}, default=...)"

    @property
    def in_words(self) -> str:
        """What an error calls it."""
        return local_in_words(self.key)


@record(frozen=True)
class Inline(Statement):
    """Runs code in the commit at hand.

    Attributes:
        name: where it stands in the source.
        function: a function of the frame that returns how the code is left.
        exits: the exits that it may return.
        lines: the first and the last line of the user's code; 0: the compiler made all of it, for example to assign the
            result of an ``await``.
        next_line: the line of the statement that follows, such as a ``try``, if code prepares it; 0: not known.
    """

    name: str
    function: OfFrame
    exits: tuple[LeaveKind, ...] = ()
    lines: tuple[int, int] = (0, 0)
    next_line: int = 0


@record(frozen=True)
class Resting(Statement):
    """A statement that a thread rests on.

    Attributes:
        locals: the locals that a thread stores there.
        place: the file and the line of its source; line 0: not known.
    """

    statement: Statement
    locals: tuple[Local, ...] = ()
    place: tuple[str, int] = ("", 0)


@record(frozen=True)
class CallOf(Statement):
    """A section that ``Return`` leaves, without ending the thread."""

    body: Section


@record(frozen=True)
class Entry(Statement):
    """The start of a thread.

    Attributes:
        locals: the locals that it gets from the thread that starts it.
    """

    locals: tuple[Local, ...]
