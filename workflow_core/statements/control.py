"""The statements for control flow: steps, branches, loops, conditions and threads.

They check only their own arguments; see ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from workflow_core.errors import DefinitionError
from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.statements.basic import (
    Condition,
    Delay,
    Function,
    Part,
    RenamedFrom,
    Section,
    Statement,
    check_delay,
    check_duration,
    check_function,
    check_name,
    check_renamed,
    check_retry,
    make_body,
    set_attributes,
)


@record(frozen=True, init=False)
class Step(Statement):
    """Runs user code; the state is saved before the next statement starts.

    Args:
        name: unique in the definition.
        action: a function of the workflow, or of the workflow and a ``StepContext``; sync or async. It runs
            at least once. The context's idempotency key is the same in every attempt.
        retry: the retry policy. If omitted, the workflow's ``default_retry`` or the engine's options apply.
        timeout: how long one attempt may take before it is interrupted and fails with ``TimedOut``; only for
            asynchronous actions.
        renamed_from: its former name or names. Instances there continue here.
    """

    name: str
    action: Callable[..., Any]
    retry: Retry | None = None
    timeout: timedelta | None = None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        action: Function,
        *,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        check_function(name, "action", action)
        check_retry(f"Step {name!r}", retry)
        check_duration(f"Step {name!r}", "timeout", timeout)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, action=action, retry=retry, timeout=timeout, renamed_from=former)


@record(frozen=True)
class Branch:
    """A condition of an ``If`` or a ``Switch``, and the statements that run if it is true. ``cond`` None: always."""

    name: str
    cond: Condition | None
    body: Section


def make_branch(
    owner: object, name: str, cond: Condition, statements: Sequence[Statement], *, may_be_empty: bool = False
) -> Branch:
    check_name(owner, name)
    where = f"{type(owner).__name__} {name!r}"
    return Branch(name, check_function(name, "cond", cond), make_body(where, statements, may_be_empty=may_be_empty))


@record(frozen=True, init=False)
class If(Statement):
    """Runs its statements if ``cond`` is true.

    Example:
        >>> from gorchestrate import If, Return, Step
        >>> statement = If("is big", lambda o: o.size > 9, Return()).else_(Step("pack", lambda o: None))
    """

    branches: tuple[Branch, ...]

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        set_attributes(self, branches=(make_branch(self, name, cond, statements),))

    def elif_(self, name: str, cond: Condition, *statements: Statement) -> If:
        """Returns the statement with another condition, which is tested if no earlier condition is true."""
        return self._with(make_branch(self, name, cond, statements))

    def else_(self, *statements: Statement) -> If:
        """Returns the statement with statements that run if no condition is true."""
        where = f"else of {self.branches[0].name!r}"
        return self._with(Branch("", None, make_body(where, statements)))

    def _with(self, branch: Branch) -> If:
        first = self.branches[0].name
        if self.branches[-1].cond is None:
            raise DefinitionError(f"If {first!r}", "a branch comes after its else_", "Put else_ last.")
        extended = object.__new__(If)
        set_attributes(extended, branches=(*self.branches, branch))
        return extended


@record(frozen=True, init=False)
class Case(Part):
    """A case of a ``Switch``: its statements (possibly none) run if ``cond`` is the first condition that is true."""

    place: ClassVar[str] = "a Switch"

    branch: Branch

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        set_attributes(self, branch=make_branch(self, name, cond, statements, may_be_empty=True))


@record(frozen=True, init=False)
class Default(Part):
    """The last case of a ``Switch``: runs if no other case matches."""

    place: ClassVar[str] = "a Switch"

    branch: Branch

    def __init__(self, *statements: Statement) -> None:
        set_attributes(self, branch=Branch("", None, make_body("Default", statements, may_be_empty=True)))


@record(frozen=True, init=False)
class Switch(Statement):
    """Runs the first case whose condition is true, or otherwise its ``Default`` if it has one."""

    name: str
    branches: tuple[Branch, ...]

    def __init__(self, name: str, *cases: Case | Default) -> None:
        check_name(self, name)
        where = f"Switch {name!r}"
        if not cases:
            raise DefinitionError(where, "it has no case", "Give it at least one Case(name, cond, ...).")
        for case in cases:
            if not isinstance(case, Case | Default):
                raise DefinitionError(where, f"{case!r} is not a case", "Write Case(name, cond, ...) or Default(...).")
        if any(isinstance(case, Default) for case in cases[:-1]):
            raise DefinitionError(where, "a case comes after its Default", "Put one Default, last.")
        set_attributes(self, name=name, branches=tuple(case.branch for case in cases))


@record(frozen=True, init=False)
class While(Statement):
    """Repeats its statements while ``cond`` is true before an iteration."""

    name: str
    cond: Condition
    body: Section

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        check_name(self, name)
        where = f"While {name!r}"
        set_attributes(self, name=name, cond=check_function(name, "cond", cond), body=make_body(where, statements))


@record(frozen=True)
class Break(Statement):
    """Leaves the innermost ``While`` or sequential ``ForEach``."""


@record(frozen=True)
class Continue(Statement):
    """Continues with the next iteration of the innermost ``While`` or sequential ``ForEach``."""


@record(frozen=True)
class Return(Statement):
    """Ends its thread. In the main thread, it ends the workflow."""


@record(frozen=True, init=False)
class WaitFor(Statement):
    """Suspends its thread until ``cond`` is true. The condition is evaluated whenever any thread changes the fields.

    Args:
        handler: a function of the workflow that runs in the commit in which the condition became true. It may have the
            keyword arguments ``item``, in a ``ForEach``, and ``now``.
        timeout: how long to wait, or until when. After that, the statements of ``on_timeout`` run. Without
            ``on_timeout``, the statement then fails with ``TimedOut``. Its timer has the name ``"{name} timeout"``.

    Example:
        >>> from datetime import timedelta
        >>> from gorchestrate import Step, WaitFor
        >>> statement = WaitFor("paid", lambda order: order.paid, timeout=timedelta(days=7)).on_timeout(
        ...     Step("remind", lambda order: None)
        ... )
    """

    name: str
    cond: Condition
    handler: Callable[..., Any] | None
    timeout: Delay | None = None
    late: Section | None = None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        cond: Condition,
        handler: Function | None = None,
        *,
        timeout: Delay | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        check_function(name, "cond", cond)
        if handler is not None:
            check_function(name, "handler", handler)
        if timeout is not None:
            check_delay(f"WaitFor {name!r}", timeout)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, cond=cond, handler=handler, timeout=timeout, late=None, renamed_from=former)

    def on_timeout(self, *statements: Statement) -> WaitFor:
        """Returns the statement with statements that run if the condition does not become true in time."""
        where = f"on_timeout of WaitFor {self.name!r}"
        if self.timeout is None:
            raise DefinitionError(
                where, "the statement has no timeout", "Write WaitFor(..., timeout=timedelta(days=1))."
            )
        return with_late(self, where, statements)


_T = TypeVar("_T", bound=Statement)


def with_late(statement: _T, where: str, statements: Sequence[Statement]) -> _T:
    """Returns a copy of a statement with its ``on_timeout`` section in the attribute ``late``."""
    values = {field.name: getattr(statement, field.name) for field in fields(statement)}  # type: ignore[arg-type]
    if values["late"] is not None:
        raise DefinitionError(where, "there are two", "Put all statements into one on_timeout.")
    extended = object.__new__(type(statement))
    set_attributes(extended, **(values | {"late": make_body(where, statements, may_be_empty=True)}))
    return extended


@record(frozen=True, init=False)
class Do(Statement):
    """Changes the fields, in the commit of what came before it. It is not saved on its own, unlike a ``Step``.

    Behind an event, it runs inside the request, as the handler of the event does. It must therefore be quick, and it
    may run again. If it raises an error that a ``Try`` catches, the changes that it has made to the fields remain.

    Args:
        name: unique in the definition.
        handler: a function of the workflow. It may have the keyword arguments ``item``, in a ``ForEach``, and ``now``.
        renamed_from: as for a ``Step``.
    """

    name: str
    handler: Callable[..., Any]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, handler: Function, *, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        check_function(name, "handler", handler)
        set_attributes(self, name=name, handler=handler, renamed_from=check_renamed(self, name, renamed_from))


@record(frozen=True, init=False)
class Go(Statement):
    """Starts a thread that runs its statements, and continues at once.

    An error that the thread does not catch is thrown in the thread that has started it, if that is still in a ``Try``
    around the ``Go``; otherwise it fails the instance.

    Args:
        id: the thread's id, or a function of the workflow that returns it; required if a loop starts several threads.
            By default the statement's name.
        renamed_from: as for a ``Step``. A live thread keeps its id.
    """

    name: str
    body: Section
    id: str | Callable[..., Any] | None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        *statements: Statement,
        id: str | Function | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        if not (id is None or callable(id) or (isinstance(id, str) and id)):
            raise DefinitionError(
                f"Go {name!r}", f"its id is {id!r}", "Pass a text, or a function of the workflow that returns one."
            )
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, body=make_body(f"Go {name!r}", statements), id=id, renamed_from=former)
