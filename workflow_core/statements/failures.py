"""The statements for failures: ``Try`` and ``Fail``.

They check only their own arguments; see ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from workflow_core.errors import DefinitionError, Failure
from workflow_core.records import record
from workflow_core.retry import ErrorTypes, check_error_types
from workflow_core.statements.basic import (
    Function,
    RenamedFrom,
    Section,
    Statement,
    check_function,
    check_name,
    check_renamed,
    make_body,
    set_attributes,
)


@record(frozen=True)
class Except:
    """The statements that run after a ``Try`` raises an error of one of ``types``; created by ``Try.except_``.

    Attributes:
        is_read: whether something in them may read the error.
    """

    name: str
    types: tuple[type[BaseException], ...]
    body: Section
    then: Callable[..., Any] | None
    renamed_from: tuple[str, ...] = ()
    is_read: bool = True


@record(frozen=True, init=False)
class Try(Statement):
    """Runs its statements, catches their errors once retries are exhausted, and cleans up.

    It catches errors of a step, an activity or a child without further attempts, of a ``Fail``, and of a failed branch
    of a parallel statement, and errors of functions that compute something for a statement, such as an input
    or a delay. An error in a condition or the handler of an event is a bug and is not caught.

    Example:
        >>> from gorchestrate import Step, Try
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
        then: Function | None = None,
        renamed_from: RenamedFrom = (),
    ) -> Try:
        """Returns the statement with statements that run if it raises an error of these types that no earlier
        ``except_`` catches.

        Args:
            types: an error class, or a tuple of them; ``Exception`` for every error. An ``ExceptionGroup`` is caught if
                each of its errors is of one of these types.
            statements: run instead of the rest of the ``Try``; steps find the error in ``StepContext.error``.
            name: unique in the definition; by default the name of the ``Try`` and the types.
            then: a function of the workflow and the error (an ``ErrorInfo``), called first, to keep it in the fields.
                It may have the keyword arguments ``item``, in a ``ForEach``, and ``now``.
            renamed_from: its former name or names; a default name is renamed with the ``Try``.
        """
        where = f"except_ of Try {self.name!r}"
        classes = check_error_types(where, types)
        if not classes:
            raise DefinitionError(where, "it has no error class", "Use classes such as ValueError.")
        if self.cleanup is not None:
            raise DefinitionError(where, "it comes after finally_", "Put finally_ last.")
        by_default = f" except {' or '.join(cls.__name__ for cls in classes)}"
        former = tuple(old + by_default for old in self.renamed_from) if name is None else ()
        if name is None:
            name = self.name + by_default
        if then is not None:
            check_function(name, "then", then)
        clause = Except(name, classes, make_body(where, statements, may_be_empty=True), then)
        check_name(clause, name)
        clause = replace(clause, renamed_from=(*former, *check_renamed(clause, name, renamed_from)))
        return self._with(excepts=(*self.excepts, clause))

    def finally_(self, *statements: Statement) -> Try:
        """Returns the statement with statements that always run when it is left: at its end, by an error, ``Return``,
        ``Break``, ``Continue``, or because the instance is canceled."""
        where = f"finally_ of Try {self.name!r}"
        if self.cleanup is not None:
            raise DefinitionError(where, "there are two", "Put all statements into one finally_.")
        return self._with(cleanup=make_body(where, statements))

    def with_error_unread(self) -> Try:
        """Returns the statement, in whose last ``except_`` section nothing reads the error. An instance in the section
        continues there even if the section has got another name."""
        return self._with(excepts=(*self.excepts[:-1], replace(self.excepts[-1], is_read=False)))

    def _with(self, **changed: Any) -> Try:
        extended = object.__new__(Try)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        set_attributes(extended, **(values | changed))
        return extended


@record(frozen=True, init=False)
class Fail(Statement):
    """Raises an error, which fails the instance unless a ``Try`` around it catches it.

    Args:
        message: a text, or a function of the workflow that returns one.
        error: the class of the error: an ``except_`` of this class or of one of its bases catches it. The class is not
            called, so it may take any arguments.
    """

    name: str
    message: str | Callable[..., Any]
    error: type[Exception] = Failure
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        message: str | Function,
        *,
        error: type[Exception] = Failure,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        if not (isinstance(message, str) or callable(message)):
            raise DefinitionError(
                f"Fail {name!r}",
                f"its message is {message!r}",
                "Pass a text, or a function of the workflow that returns one.",
            )
        if not (isinstance(error, type) and issubclass(error, Exception)):
            raise DefinitionError(f"Fail {name!r}", f"its error is {error!r}", "Pass a subclass of Exception.")
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, message=message, error=error, renamed_from=former)
