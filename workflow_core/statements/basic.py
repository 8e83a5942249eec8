"""The vocabulary: the statements that a definition is written in, as an immutable tree.

Each constructor checks what can be seen from its own arguments; what takes the whole tree to see (names
used twice, ``Break`` outside a loop, handlers' annotations) is found by ``workflow_core.program.program``. Nothing
here runs anything.
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
"""A function of the workflow whose result is taken as true or false. It must not change the fields. Inside a
``ForEach`` it may take the item as well."""

Delay = timedelta | datetime | Callable[..., timedelta | datetime]
"""A time to wait, the moment to wait for (aware), or a function of the workflow that gives one of them."""


RenamedFrom = str | tuple[str, ...]
"""The names that a statement had before: instances that stand on one of them go on at the statement."""


class Statement:
    """Anything that may stand in a section."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Section(Statement):
    """Statements that run one after another; made by ``S``."""

    statements: tuple[Statement, ...]
    prefix: str = ""
    renamed_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, init=False)
class Step(Statement):
    """Runs user code; the state is saved before the next statement starts.

    Args:
        name: unique in the definition.
        action: a function of the workflow, or of the workflow and a ``StepContext``; sync or async. It runs
            at least once: the context's idempotency key is the same in every attempt.
        retry: when it is tried again; by default as the workflow's ``default_retry`` says, or the engine's options.
        timeout: how long one attempt may take before it is interrupted and counts as failed with ``TimedOut``; for
            asynchronous actions alone.
        renamed_from: the name, or names, that it had before; instances that stand there go on here.
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
    """One condition of an ``If`` or a ``Switch`` and what runs if it holds. ``cond`` None: always."""

    name: str
    cond: Condition | None
    body: Section


@dataclass(frozen=True, slots=True, init=False)
class If(Statement):
    """Runs its statements if ``cond`` holds.

    Example:
        >>> from workflow_core import If, Return, Step
        >>> statement = If("is big", lambda o: o.size > 9, Return()).else_(Step("pack", lambda o: None))
    """

    branches: tuple[Branch, ...]

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        set_attributes(self, branches=(make_branch(self, name, cond, statements),))

    def elif_(self, name: str, cond: Condition, *statements: Statement) -> If:
        """The same statement with one more condition, tried if none before it held."""
        return self._with(make_branch(self, name, cond, statements))

    def else_(self, *statements: Statement) -> If:
        """The same statement with what runs if no condition held."""
        where = f"else of {self.branches[0].name!r}"
        return self._with(Branch("", None, make_body(where, statements)))

    def _with(self, branch: Branch) -> If:
        first = self.branches[0].name
        if self.branches[-1].cond is None:
            raise DefinitionError(f"If {first!r}", "a branch stands behind its else_", "Put else_ last.")
        extended = object.__new__(If)
        set_attributes(extended, branches=(*self.branches, branch))
        return extended


@dataclass(frozen=True, slots=True, init=False)
class Case:
    """One case of a ``Switch``: its statements, none included, run if ``cond`` is the first that holds."""

    branch: Branch

    def __init__(self, name: str, cond: Condition, *statements: Statement) -> None:
        set_attributes(self, branch=make_branch(self, name, cond, statements, may_be_empty=True))


@dataclass(frozen=True, slots=True, init=False)
class Default:
    """The last case of a ``Switch``: runs if no other case held."""

    branch: Branch

    def __init__(self, *statements: Statement) -> None:
        set_attributes(self, branch=Branch("", None, make_body("Default", statements, may_be_empty=True)))


@dataclass(frozen=True, slots=True, init=False)
class Switch(Statement):
    """Runs the first of its cases whose condition holds; if none does, its ``Default``, if it has one."""

    name: str
    branches: tuple[Branch, ...]

    def __init__(self, name: str, *cases: Case | Default) -> None:
        check_name(self, name)
        where = f"Switch {name!r}"
        if not cases:
            raise DefinitionError(where, "it has no case", "Give it at least one Case(name, cond, ...).")
        for case in cases:
            if not isinstance(case, Case | Default):
                raise DefinitionError(where, f"{case!r} is no case", "Write Case(name, cond, ...) or Default(...).")
        if any(isinstance(case, Default) for case in cases[:-1]):
            raise DefinitionError(where, "a case stands behind its Default", "Put one Default, last.")
        set_attributes(self, name=name, branches=tuple(case.branch for case in cases))


@dataclass(frozen=True, slots=True, init=False)
class While(Statement):
    """Runs its statements again and again, as long as ``cond`` holds before a round."""

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
    """Goes on with the next round of the innermost ``While``."""


@dataclass(frozen=True, slots=True)
class Return(Statement):
    """Ends its thread; in the main thread, the workflow."""


@dataclass(frozen=True, slots=True, init=False)
class On:
    """A case of a ``Select``: an event that may be received, and what runs after it was.

    Args:
        event: the event's name, as clients send it. Other selects may wait for the same event.
        handler: a function of the workflow and at most one input, or an ``EventHandler`` object. It runs
            inside the request that brings the event, and its output is the response.
        statements: run after the handler.
        role: who is meant to send the event; shown to clients.
        buffered: keep the events that come before the select is entered, and deliver them, in order, when it is.
        renamed_from: the name, or names, that the event had before. What still comes under them is taken for it, in
            every select of the definition.
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
                "Give it a function of the workflow, or an object with setup, handle and teardown.",
            )
        if buffered and isinstance(handler, EventHandler):
            raise DefinitionError(
                f"On {event!r}",
                "it is buffered, and its handler is set up when the select is entered",
                "Leave buffered out: nothing is registered before.",
            )
        body = make_body(f"On {event!r}", statements, may_be_empty=True)
        former = check_renamed(self, event, renamed_from)
        set_attributes(self, event=event, handler=handler, body=body, role=role, buffered=buffered, renamed_from=former)


@dataclass(frozen=True, slots=True, init=False)
class Timeout:
    """A case of a ``Select`` that happens when none else has for ``delay``.

    Args:
        name: unique in the definition.
        delay: how long to wait, or until when; a function of the workflow is called when the select is entered.
        renamed_from: as for a ``Step``; a timer that is scheduled already happens under the new name.
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
    """Parks its thread until exactly one of its cases has happened."""

    name: str
    cases: tuple[On | Timeout, ...]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *cases: On | Timeout, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        where = f"Select {name!r}"
        if not cases:
            raise DefinitionError(where, "it has no case, so it would wait for ever", "Give it an On or a Timeout.")
        seen: set[str] = set()
        for case in cases:
            if not isinstance(case, On | Timeout):
                raise DefinitionError(
                    where, f"{case!r} is no case", "Write On(event, handler, ...) or Timeout(name, delay, ...)."
                )
            key = case.event if isinstance(case, On) else case.name
            if key in seen:
                raise DefinitionError(where, f"it has two cases {key!r}", "Merge them, or rename one.")
            seen.add(key)
        set_attributes(self, name=name, cases=cases, renamed_from=check_renamed(self, name, renamed_from))


@dataclass(frozen=True, slots=True, init=False)
class Sleep(Statement):
    """Parks its thread for a time, at no cost.

    Args:
        name: unique in the definition.
        delay: how long to sleep, or until when; a function of the workflow is called when the thread comes to it.

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
    """Parks its thread until ``cond`` holds; it is looked at whenever any thread has changed the fields.

    Args:
        handler: a function of the workflow, run in the same commit in which the condition was seen true.
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
    """Starts a thread that runs its statements, and goes on at once.

    Args:
        id: the thread's id, or a function of the workflow that gives it; needed where a loop starts several.
            By default the statement's name.
        renamed_from: as for a ``Step``; a thread that lives already keeps its id.
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
                f"Go {name!r}", f"its id is {id!r}", "Give it a text, or a function of the workflow that returns one."
            )
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, body=make_body(f"Go {name!r}", statements), id=id, renamed_from=former)


def S(*statements: Statement, prefix: str = "", renamed_from: RenamedFrom = ()) -> Section:
    """A section: statements that run one after another.

    Args:
        prefix: put before the name of every statement inside (``prefix/name``), so that a section can be used
            more than once in a definition. Names of events are left as they are.
        renamed_from: the prefix, or prefixes, that it had before; empty, that it had none.
    """
    if not isinstance(prefix, str):
        raise DefinitionError("S", f"its prefix is {prefix!r}", "Give it a text.")
    former = (renamed_from,) if isinstance(renamed_from, str) else renamed_from
    if not (isinstance(former, tuple) and all(isinstance(one, str) for one in former)):
        raise DefinitionError(
            f"S with prefix {prefix!r}", f"its renamed_from is {former!r}", 'Give it the old prefix, "" for none.'
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
        raise DefinitionError(f"{kind} {name!r}", "it has no name", f"Give it one first: {kind}('...', ...).")
    if len(name) > 200 or not name.isprintable() or name != name.strip():
        raise DefinitionError(
            f"{kind} {name!r}",
            "its name is no plain text",
            "Use up to 200 printable characters without white space at the ends.",
        )
    return name


def check_renamed(owner: object, name: str, renamed_from: RenamedFrom) -> tuple[str, ...]:
    """The former names of a statement, as a tuple.

    Raises:
        DefinitionError: they are no names.
    """
    former = (renamed_from,) if isinstance(renamed_from, str) else renamed_from
    if not (isinstance(former, tuple) and all(isinstance(one, str) and one.strip() for one in former)):
        raise DefinitionError(
            f"{type(owner).__name__} {name!r}",
            f"its renamed_from is {renamed_from!r}",
            'Give it the old name, or a tuple of old names: renamed_from="...".',
        )
    return former


def check_function(name: str, what: str, value: Any) -> Any:
    if not callable(value):
        found = f"a {type(value).__name__}" if isinstance(value, Statement) else repr(value)
        raise DefinitionError(
            repr(name),
            f"its {what} is {found}",
            f"Give it a function of the workflow: {what} is called, not read once.",
        )
    return value


def check_retry(where: str, retry: object) -> None:
    if not (retry is None or isinstance(retry, Retry)):
        raise DefinitionError(where, f"its retry is {retry!r}", "Write retry=Retry(max_attempts=3).")


def check_duration(where: str, what: str, value: object) -> None:
    if not (value is None or (isinstance(value, timedelta) and value > timedelta())):
        raise DefinitionError(where, f"its {what} is {value!r}", f"Write {what}=timedelta(seconds=30).")


def check_delay(where: str, delay: object) -> None:
    """Raises ``DefinitionError`` if ``delay`` is no ``Delay``."""
    if isinstance(delay, datetime) and delay.tzinfo is None:
        raise DefinitionError(where, f"its delay is {delay!r}, without a time zone", "Write datetime(..., tzinfo=UTC).")
    if not (isinstance(delay, (timedelta, datetime)) or callable(delay)):
        raise DefinitionError(
            where, f"its delay is {delay!r}", "Give it a timedelta, or a function of the workflow that returns one."
        )


def make_branch(
    owner: object, name: str, cond: Condition, statements: Sequence[Statement], *, may_be_empty: bool = False
) -> Branch:
    check_name(owner, name)
    where = f"{type(owner).__name__} {name!r}"
    return Branch(name, check_function(name, "cond", cond), make_body(where, statements, may_be_empty=may_be_empty))


def make_body(where: str, statements: Sequence[Statement], *, may_be_empty: bool = False) -> Section:
    if not statements and not may_be_empty:
        raise DefinitionError(where, "it has no statements", "Put at least one inside, or take it out.")
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
        raise DefinitionError(where, f"{statement!r} is no statement", fix)
    return Section(tuple(statements))
