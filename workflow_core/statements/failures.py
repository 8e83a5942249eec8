"""The vocabulary of failures: ``Try`` and ``Fail``.

Checks their own arguments alone, as ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.retry import ErrorTypes, check_error_types
from workflow_core.statements.basic import (
    RenamedFrom,
    Section,
    Statement,
    check_function,
    check_name,
    check_renamed,
    make_body,
    set_attributes,
)


@dataclass(frozen=True, slots=True)
class Except:
    """What runs when an error of one of ``types`` has come out of a ``Try``; made by ``Try.except_``."""

    name: str
    types: tuple[type[BaseException], ...]
    body: Section
    then: Callable[..., Any] | None
    renamed_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, init=False)
class Try(Statement):
    """Runs its statements; what fails in them for good can be caught, and cleaned up after.

    A failure is: a step, an activity or a child for which no attempt is left, a ``Fail``, or a branch of a parallel
    statement that has failed. What a condition or the handler of an event raises is a bug, and is not caught.

    Example:
        >>> from workflow_core import Step, Try
        >>> statement = (
        ...     Try("book the trip", Step("book a flight", lambda trip: None))
        ...     .except_(ConnectionError, Step("apologize", lambda trip: None), name="the airline does not answer")
        ...     .finally_(Step("close the case", lambda trip: None))
        ... )
    """

    name: str
    body: Section
    excepts: tuple[Except, ...] = ()
    cleanup: Section | None = None
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *statements: Statement, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        body = make_body(f"Try {name!r}", statements)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, body=body, excepts=(), cleanup=None, renamed_from=former)

    def except_(
        self,
        types: ErrorTypes,
        *statements: Statement,
        name: str | None = None,
        then: Callable[..., Any] | None = None,
        renamed_from: RenamedFrom = (),
    ) -> Try:
        """The same statement with what runs if an error of these types comes out of it, and none before caught it.

        Args:
            types: a class of errors, or a tuple of them; ``Exception`` for every error.
            statements: run instead of the rest of the ``Try``; steps find the error in ``StepContext.error``.
            name: unique in the definition; by default made of the name of the ``Try`` and the types.
            then: a function of the workflow and the error (an ``ErrorInfo``), called first, to keep it in the fields.
            renamed_from: the name, or names, that it had before; one by default follows the name of the ``Try``.
        """
        where = f"except_ of Try {self.name!r}"
        classes = check_error_types(where, types)
        if not classes:
            raise DefinitionError(where, "it names no class of errors", "Name classes such as ValueError.")
        if self.cleanup is not None:
            raise DefinitionError(where, "it stands behind finally_", "Put finally_ last.")
        by_default = f" except {' or '.join(one.__name__ for one in classes)}"
        former = tuple(one + by_default for one in self.renamed_from) if name is None else ()
        if name is None:
            name = self.name + by_default
        if then is not None:
            check_function(name, "then", then)
        clause = Except(name, classes, make_body(where, statements, may_be_empty=True), then)
        check_name(clause, name)
        clause = replace(clause, renamed_from=(*former, *check_renamed(clause, name, renamed_from)))
        return self._with(excepts=(*self.excepts, clause))

    def finally_(self, *statements: Statement) -> Try:
        """The same statement with what runs however it is left: at its end, by an error, ``Return``, ``Break``,
        ``Continue``, or because the instance is canceled."""
        where = f"finally_ of Try {self.name!r}"
        if self.cleanup is not None:
            raise DefinitionError(where, "there are two", "Put all statements into one finally_.")
        return self._with(cleanup=make_body(where, statements))

    def _with(self, **changed: Any) -> Try:
        extended = object.__new__(Try)
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        set_attributes(extended, **(values | changed))
        return extended


@dataclass(frozen=True, slots=True, init=False)
class Fail(Statement):
    """Fails with a ``Failure``: the instance, unless a ``Try`` around it catches that.

    Args:
        message: a text, or a function of the workflow that gives one.
    """

    name: str
    message: str | Callable[..., Any]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, message: str | Callable[..., Any], *, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        if not (isinstance(message, str) or callable(message)):
            raise DefinitionError(
                f"Fail {name!r}",
                f"its message is {message!r}",
                "Give it a text, or a function of the workflow that returns one.",
            )
        set_attributes(self, name=name, message=message, renamed_from=check_renamed(self, name, renamed_from))
