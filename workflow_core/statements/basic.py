"""The basic statements of a definition, as an immutable tree.

Each constructor checks its own arguments. ``workflow_core.program.compiler`` finds mistakes that depend on the whole
tree: duplicate names, ``Break`` outside a loop, annotations of handlers. Statements only describe a workflow and run
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import EventHandler
from workflow_core.retry import Retry

Condition = Callable[..., Any]
"""A function of the workflow whose result is used as true or false. It must not change the fields. Inside a ``ForEach``
it may also receive the item."""

Delay = timedelta | datetime | Callable[..., timedelta | datetime]
"""A duration, a time to wait for (timezone-aware), or a function of the workflow that returns one of them."""


RenamedFrom = str | tuple[str, ...]
"""The former names of a statement. Instances at one of these names continue at the statement."""


class Statement:
    """The base class of everything that a section may contain."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section(Statement):
    """Statements that run one after another; created by ``S``."""

    statements: tuple[Statement, ...]
    prefix: str = ""
    renamed_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, init=False)
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
        action: Callable[..., Any],
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


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition of an ``If`` or a ``Switch``, and the statements that run if it is true. ``cond`` None: always."""

    name: str
    cond: Condition | None
    body: Section


@dataclass(frozen=True, slots=True, init=False)
class If(Statement):
    """Runs its statements if ``cond`` is true.

    Example:
        >>> from workflow_core import If, Return, Step
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


@dataclass(frozen=True, slots=True, init=False)
class Case:
    """A case of a ``Switch``: its statements (possibly none) run if ``cond`` is the first condition that is true."""

    branch: Branch

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        set_attributes(self, branch=make_branch(self, name, cond, statements, may_be_empty=True))


@dataclass(frozen=True, slots=True, init=False)
class Default:
    """The last case of a ``Switch``: runs if no other case matches."""

    branch: Branch

    def __init__(self, *statements: Statement) -> None:
        set_attributes(self, branch=Branch("", None, make_body("Default", statements, may_be_empty=True)))


@dataclass(frozen=True, slots=True, init=False)
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


@dataclass(frozen=True, slots=True, init=False)
class While(Statement):
    """Repeats its statements while ``cond`` is true before an iteration."""

    name: str
    cond: Condition
    body: Section

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        check_name(self, name)
        where = f"While {name!r}"
        set_attributes(self, name=name, cond=check_function(name, "cond", cond), body=make_body(where, statements))


@dataclass(frozen=True, slots=True)
class Break(Statement):
    """Leaves the innermost ``While``."""


@dataclass(frozen=True, slots=True)
class Continue(Statement):
    """Continues with the next iteration of the innermost ``While``."""


@dataclass(frozen=True, slots=True)
class Return(Statement):
    """Ends its thread. In the main thread, it ends the workflow."""


@dataclass(frozen=True, slots=True, init=False)
class On:
    """A case of a ``Select``: an event, and the statements that run after it.

    Args:
        event: the event's name, as clients send it. Other selects may wait for the same event.
        handler: a function of the workflow and at most one input, or an ``EventHandler`` object. It runs
            inside the request that sends the event, and its output is the response.
        statements: run after the handler.
        role: the role that should send the event; shown to clients.
        buffered: keep events that arrive before the select is entered, and deliver them in order when it is entered.
        renamed_from: the event's former name or names. Events with these names are accepted in every select of the
            definition.
    """

    event: str
    handler: Callable[..., Any] | EventHandler
    body: Section
    role: str | None = None
    buffered: bool = False
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        event: str,
        handler: Callable[..., Any] | EventHandler,
        *statements: Statement,
        role: str | None = None,
        buffered: bool = False,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, event)
        if not (callable(handler) or isinstance(handler, EventHandler)):
            raise DefinitionError(
                f"On {event!r}",
                f"its handler is {handler!r}",
                "Pass a function of the workflow, or an object with setup, handle and teardown.",
            )
        if buffered and isinstance(handler, EventHandler):
            raise DefinitionError(
                f"On {event!r}",
                "it is buffered, but its handler is set up when the select is entered",
                "Omit buffered: nothing is registered earlier.",
            )
        body = make_body(f"On {event!r}", statements, may_be_empty=True)
        former = check_renamed(self, event, renamed_from)
        set_attributes(self, event=event, handler=handler, body=body, role=role, buffered=buffered, renamed_from=former)


@dataclass(frozen=True, slots=True, init=False)
class Timeout:
    """A case of a ``Select`` that happens if no other case happens within ``delay``.

    Args:
        name: unique in the definition.
        delay: how long to wait, or until when. A function of the workflow is called when the select is entered.
        renamed_from: as for a ``Step``. A timer that is already scheduled uses the new name.
    """

    name: str
    delay: Delay
    body: Section
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, delay: Delay, *statements: Statement, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        check_delay(f"Timeout {name!r}", delay)
        body = make_body(f"Timeout {name!r}", statements, may_be_empty=True)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, delay=delay, body=body, renamed_from=former)


@dataclass(frozen=True, slots=True, init=False)
class Select(Statement):
    """Suspends its thread until exactly one of its cases happens."""

    name: str
    cases: tuple[On | Timeout, ...]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *cases: On | Timeout, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        where = f"Select {name!r}"
        if not cases:
            raise DefinitionError(where, "it has no case, so it would wait forever", "Add an On or a Timeout.")
        seen: set[str] = set()
        for case in cases:
            if not isinstance(case, On | Timeout):
                raise DefinitionError(
                    where, f"{case!r} is not a case", "Write On(event, handler, ...) or Timeout(name, delay, ...)."
                )
            key = case.event if isinstance(case, On) else case.name
            if key in seen:
                raise DefinitionError(where, f"it has two cases {key!r}", "Merge them, or rename one.")
            seen.add(key)
        set_attributes(self, name=name, cases=cases, renamed_from=check_renamed(self, name, renamed_from))


@dataclass(frozen=True, slots=True, init=False)
class Sleep(Statement):
    """Suspends its thread for a time, at no cost.

    Args:
        name: unique in the definition.
        delay: how long to sleep, or until when. A function of the workflow is called when the thread reaches it.

    Example:
        >>> from datetime import timedelta
        >>> from workflow_core import Sleep
        >>> statement = Sleep("trial period", timedelta(days=90))
    """

    name: str
    delay: Delay
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, delay: Delay, *, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        check_delay(f"Sleep {name!r}", delay)
        set_attributes(self, name=name, delay=delay, renamed_from=check_renamed(self, name, renamed_from))


@dataclass(frozen=True, slots=True, init=False)
class WaitFor(Statement):
    """Suspends its thread until ``cond`` is true. The condition is evaluated whenever any thread changes the fields.

    Args:
        handler: a function of the workflow that runs in the commit in which the condition became true.
    """

    name: str
    cond: Condition
    handler: Callable[[Any], Any] | None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        cond: Condition,
        handler: Callable[[Any], Any] | None = None,
        *,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        check_function(name, "cond", cond)
        if handler is not None:
            check_function(name, "handler", handler)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, cond=cond, handler=handler, renamed_from=former)


@dataclass(frozen=True, slots=True, init=False)
class Go(Statement):
    """Starts a thread that runs its statements, and continues at once.

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
        id: str | Callable[..., Any] | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        if not (id is None or callable(id) or (isinstance(id, str) and id)):
            raise DefinitionError(
                f"Go {name!r}", f"its id is {id!r}", "Pass a text, or a function of the workflow that returns one."
            )
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, body=make_body(f"Go {name!r}", statements), id=id, renamed_from=former)


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
    if len(name) > 200 or not name.isprintable() or name != name.strip():
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


def make_branch(
    owner: object, name: str, cond: Condition, statements: Sequence[Statement], *, may_be_empty: bool = False
) -> Branch:
    check_name(owner, name)
    where = f"{type(owner).__name__} {name!r}"
    return Branch(name, check_function(name, "cond", cond), make_body(where, statements, may_be_empty=may_be_empty))


def make_body(where: str, statements: Sequence[Statement], *, may_be_empty: bool = False) -> Section:
    if not statements and not may_be_empty:
        raise DefinitionError(where, "it has no statements", "Add at least one statement, or remove it.")
    for statement in statements:
        if isinstance(statement, Statement):
            continue
        fix = "Put statements here, such as Step(name, action)."
        if isinstance(statement, On | Timeout):
            fix = "Put it into a Select."
        elif isinstance(statement, Case | Default):
            fix = "Put it into a Switch."
        elif isinstance(statement, type) and issubclass(statement, Statement):
            fix = f"Call it: {statement.__name__}(...)."
        raise DefinitionError(where, f"{statement!r} is not a statement", fix)
    return Section(tuple(statements))
