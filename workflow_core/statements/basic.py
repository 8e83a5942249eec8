"""What all statements of a definition share: their base class, sections, and the checks of their arguments.

Statements form an immutable tree; they only describe a workflow and run nothing. Each constructor checks its own
arguments. ``workflow_core.program.compiler`` finds mistakes that depend on the whole tree: duplicate names, ``Break``
outside a loop, annotations of handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar, Concatenate

from workflow_core.errors import DefinitionError
from workflow_core.printable import is_printable
from workflow_core.records import record
from workflow_core.retry import Retry

Function = Callable[[Any], Any] | Callable[Concatenate[Any, ...], Any]
"""A function of the workflow, and of what else a statement passes to it, such as a context or an item."""

Condition = Function
"""A function of the workflow whose result is used as true or false. It must not change the fields. Inside a ``ForEach``
it may also receive the item."""

Delay = timedelta | datetime | Callable[..., timedelta | datetime]
"""A duration, a time to wait for (timezone-aware), or a function of the workflow that returns one of them."""

RenamedFrom = str | tuple[str, ...]
"""The former names of a statement. Instances at one of these names continue at the statement."""


class Statement:
    """The base class of everything that a section may contain."""


class Part:
    """A case of a statement. It is allowed in one kind of statement only."""

    place: ClassVar[str]
    """The statement that it belongs in."""


@record(frozen=True)
class Section(Statement):
    """Statements that run one after another; created by ``S``."""

    statements: tuple[Statement, ...]
    prefix: str = ""
    renamed_from: tuple[str, ...] = ()


def S(*statements: Statement, prefix: str = "", renamed_from: RenamedFrom = ()) -> Section:
    """Creates a section: statements that run one after another.

    Args:
        prefix: added before the name of every statement inside (``prefix/name``), so that a section can be used
            more than once in a definition. Names of events stay unchanged.
        renamed_from: its former prefix or prefixes; an empty text means that it had none.
    """
    if not isinstance(prefix, str):
        raise DefinitionError("S", f"its prefix is {prefix!r}", "Pass a text.")
    former = (renamed_from,) if isinstance(renamed_from, str) else renamed_from
    if not (isinstance(former, tuple) and all(isinstance(old, str) for old in former)):
        raise DefinitionError(
            f"S with prefix {prefix!r}", f"its renamed_from is {former!r}", 'Pass the old prefix, "" for none.'
        )
    section = make_body("S", statements, may_be_empty=True)
    return replace(section, prefix=prefix, renamed_from=former)


# --- checks ----------------------------------------------------------------------------------


def set_attributes(instance: object, **values: Any) -> None:
    for key, value in values.items():
        object.__setattr__(instance, key, value)


def check_name(owner: object, name: str) -> str:
    kind = type(owner).__name__
    if not isinstance(name, str) or not name.strip():
        raise DefinitionError(f"{kind} {name!r}", "it has no name", f"Pass a name first: {kind}('...', ...).")
    if len(name) > 200 or not is_printable(name) or name != name.strip():
        raise DefinitionError(
            f"{kind} {name!r}",
            "its name is not plain text",
            "Use up to 200 printable characters without white space at the ends.",
        )
    return name


def check_renamed(owner: object, name: str, renamed_from: RenamedFrom) -> tuple[str, ...]:
    """Returns the former names of a statement as a tuple.

    Raises:
        DefinitionError: a value is not a name.
    """
    former = (renamed_from,) if isinstance(renamed_from, str) else renamed_from
    if not (isinstance(former, tuple) and all(isinstance(old, str) and old.strip() for old in former)):
        raise DefinitionError(
            f"{type(owner).__name__} {name!r}",
            f"its renamed_from is {renamed_from!r}",
            'Pass the old name, or a tuple of old names: renamed_from="...".',
        )
    return former


def check_function(name: str, what: str, value: Any) -> Any:
    if not callable(value):
        found = f"a {type(value).__name__}" if isinstance(value, Statement) else repr(value)
        raise DefinitionError(
            repr(name),
            f"its {what} is {found}",
            f"Pass a function of the workflow, which is called each time the {what} is needed.",
        )
    return value


def check_retry(where: str, retry: object) -> None:
    if not (retry is None or isinstance(retry, Retry)):
        raise DefinitionError(where, f"its retry is {retry!r}", "Write retry=Retry(max_attempts=3).")


def check_duration(where: str, what: str, value: object) -> None:
    if not (value is None or (isinstance(value, timedelta) and value > timedelta())):
        raise DefinitionError(where, f"its {what} is {value!r}", f"Write {what}=timedelta(seconds=30).")


def check_delay(where: str, delay: object) -> None:
    """Raises ``DefinitionError`` if ``delay`` is not a ``Delay``."""
    if isinstance(delay, datetime) and delay.tzinfo is None:
        raise DefinitionError(where, f"its delay is {delay!r}, without a time zone", "Write datetime(..., tzinfo=UTC).")
    if not (isinstance(delay, (timedelta, datetime)) or callable(delay)):
        raise DefinitionError(
            where, f"its delay is {delay!r}", "Pass a timedelta, or a function of the workflow that returns one."
        )


def make_body(where: str, statements: Sequence[Statement], *, may_be_empty: bool = False) -> Section:
    if not statements and not may_be_empty:
        raise DefinitionError(where, "it has no statements", "Add at least one statement, or remove it.")
    for statement in statements:
        if isinstance(statement, Statement):
            continue
        fix = "Put statements here, such as Step(name, action)."
        if isinstance(statement, Part):
            fix = f"Put it into {statement.place}."
        elif isinstance(statement, type) and issubclass(statement, Statement):
            fix = f"Call it: {statement.__name__}(...)."
        raise DefinitionError(where, f"{statement!r} is not a statement", fix)
    return Section(tuple(statements))
