"""The statements that wait for one of several things: ``Select`` with its cases, and ``Sleep``.

They check only their own arguments; see ``workflow_core.statements.basic``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from workflow_core.access import check_role
from workflow_core.callbacks import Verify
from workflow_core.errors import DefinitionError
from workflow_core.events import EventHandler
from workflow_core.records import record
from workflow_core.statements.basic import (
    Condition,
    Delay,
    Function,
    Part,
    RenamedFrom,
    Section,
    Statement,
    check_delay,
    check_function,
    check_name,
    check_renamed,
    make_body,
    set_attributes,
)

if TYPE_CHECKING:
    from workflow_core.statements.calls import Activity, Child

INPUT_BYTES_MAX = 1_000_000
"""The most bytes that any client's input may have, whatever the settings and the definition say."""


@record(frozen=True, init=False)
class On(Part):
    """A case of a ``Select``: an event, and the statements that run after it.

    Args:
        event: the event's name, as clients send it. Other selects may wait for the same event.
        handler: a function of the workflow and at most one input, or an ``EventHandler`` object. It runs
            inside the request that sends the event, and its output is the response.
        statements: run after the handler.
        role: the role that a principal needs to send the event; without one, ``Access.send`` applies.
        verify: decides instead of roles who may send the event: a plain function of the workflow and a
            ``WebhookRequest``, the request as it was signed, that returns True or False. See
            ``docs/guides/identity.md``.
        buffered: keep events that arrive before the select is entered, and deliver them in order when it is entered.
        max_bytes: the most bytes that a client's input may have, up to 1,000,000; by default, the server's limit. If
            several selects wait for the event, the largest applies.
        renamed_from: the event's former name or names. Events with these names are accepted in every select of the
            definition.
    """

    place: ClassVar[str] = "a Select"

    event: str
    handler: Callable[..., Any] | EventHandler
    body: Section
    role: str | None = None
    buffered: bool = False
    max_bytes: int | None = None
    renamed_from: tuple[str, ...] = ()
    verify: Verify | None = None

    def __init__(
        self,
        event: str,
        handler: Callable[..., Any] | EventHandler,
        *statements: Statement,
        role: str | None = None,
        buffered: bool = False,
        max_bytes: int | None = None,
        renamed_from: RenamedFrom = (),
        verify: Verify | None = None,
    ) -> None:
        check_name(self, event)
        if not (callable(handler) or isinstance(handler, EventHandler)):
            raise DefinitionError(
                f"On {event!r}",
                f"its handler is {handler!r}",
                "Pass a function of the workflow, or an object with setup, handle and teardown.",
            )
        if role is not None:
            check_role(f"On {event!r}", role)
        if verify is not None:
            check_function(f"On {event!r}", "verify", verify)
            if role is not None:
                raise DefinitionError(
                    f"On {event!r}", "it has a role and verify", "Omit the role: verify decides who sends the event."
                )
        if buffered and isinstance(handler, EventHandler):
            raise DefinitionError(
                f"On {event!r}",
                "it is buffered, but its handler is set up when the select is entered",
                "Omit buffered: nothing is registered earlier.",
            )
        if max_bytes is not None and (type(max_bytes) is not int or not 1 <= max_bytes <= INPUT_BYTES_MAX):
            raise DefinitionError(
                f"On {event!r}",
                f"its max_bytes is {max_bytes!r}",
                f"Pass a number from 1 to {INPUT_BYTES_MAX:,}. Keep larger data elsewhere, and send a reference to it.",
            )
        body = make_body(f"On {event!r}", statements, may_be_empty=True)
        former = check_renamed(self, event, renamed_from)
        set_attributes(self, event=event, handler=handler, body=body, role=role, buffered=buffered)
        set_attributes(self, max_bytes=max_bytes, verify=verify, renamed_from=former)


@record(frozen=True, init=False)
class Timeout(Part):
    """A case of a ``Select`` that happens if no other case happens within ``delay``.

    Args:
        name: unique in the definition.
        delay: how long to wait, or until when. A function of the workflow is called when the select is entered.
        statements: run after the handler.
        handler: a function of the workflow that changes the fields in the commit in which the timeout happens. It may
            have the keyword arguments ``item``, in a ``ForEach``, and ``now``.
        renamed_from: as for a ``Step``. A timer that is already scheduled uses the new name.
    """

    place: ClassVar[str] = "a Select"

    name: str
    delay: Delay
    body: Section
    handler: Callable[..., Any] | None = None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        delay: Delay,
        *statements: Statement,
        handler: Function | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        check_delay(f"Timeout {name!r}", delay)
        if handler is not None:
            check_function(name, "handler", handler)
        body = make_body(f"Timeout {name!r}", statements, may_be_empty=True)
        former = check_renamed(self, name, renamed_from)
        set_attributes(self, name=name, delay=delay, body=body, handler=handler, renamed_from=former)


@record(frozen=True, init=False)
class When(Part):
    """A case of a ``Select`` that happens when ``cond`` is true.

    The condition is evaluated when the select is entered, and whenever any thread changes the fields. If it is true at
    once, the other cases are not entered. Of several conditions that are true, the first one counts.

    Args:
        name: a label for diagrams and errors.
        statements: run after the handler.
        handler: a function of the workflow that changes the fields in the commit in which the condition became true. It
            may have the keyword arguments ``item``, in a ``ForEach``, and ``now``.
    """

    place: ClassVar[str] = "a Select"

    name: str
    cond: Condition
    body: Section
    handler: Callable[..., Any] | None = None

    def __init__(self, name: str, cond: Condition, *statements: Statement, handler: Function | None = None) -> None:
        check_name(self, name)
        check_function(name, "cond", cond)
        if handler is not None:
            check_function(name, "handler", handler)
        body = make_body(f"When {name!r}", statements, may_be_empty=True)
        set_attributes(self, name=name, cond=cond, body=body, handler=handler)


@record(frozen=True, init=False)
class Done(Part):
    """A case of a ``Select`` that happens when an activity or a child has ended.

    Entering the select starts it. If another case happens first, it is canceled: its result no longer counts. If it
    fails, the select fails, and its other cases no longer count.

    Args:
        name: a label for diagrams.
        work: an ``Activity``, or a ``Child`` that is not detached. Its ``then`` runs first.
        statements: run after its ``then``.

    Example:
        >>> from gorchestrate import Activity, Done, On, Select
        >>> statement = Select(
        ...     "the check", Done("checked", Activity("check", lambda: None)), On("Cancel", lambda order: None)
        ... )
    """

    place: ClassVar[str] = "a Select"

    name: str
    work: Activity | Child
    body: Section

    def __init__(self, name: str, work: Activity | Child, *statements: Statement) -> None:
        from workflow_core.statements.calls import Activity, Child

        check_name(self, name)
        where = f"Done {name!r}"
        if not isinstance(work, Activity | Child):
            raise DefinitionError(
                where, f"it waits for {work!r}", "Pass an Activity or a Child: Done(name, Child(...))."
            )
        if isinstance(work, Child) and work.detached:
            raise DefinitionError(where, "its child is detached, so nothing waits for its end", "Omit detached.")
        set_attributes(self, name=name, work=work, body=make_body(where, statements, may_be_empty=True))


SelectPart = On | Timeout | When | Done
"""The cases of a ``Select``."""


@record(frozen=True, init=False)
class Select(Statement):
    """Suspends its thread until exactly one of its cases happens."""

    name: str
    cases: tuple[SelectPart, ...]
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, *cases: SelectPart, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        where = f"Select {name!r}"
        if not cases:
            raise DefinitionError(where, "it has no case, so it would wait forever", "Add an On or a Timeout.")
        seen: set[str] = set()
        for case in cases:
            if not isinstance(case, SelectPart):
                raise DefinitionError(
                    where, f"{case!r} is not a case", "Write On(event, handler, ...) or Timeout(name, delay, ...)."
                )
            key = case.event if isinstance(case, On) else case.name
            if key in seen:
                raise DefinitionError(where, f"it has two cases {key!r}", "Merge them, or rename one.")
            seen.add(key)
        set_attributes(self, name=name, cases=cases, renamed_from=check_renamed(self, name, renamed_from))


@record(frozen=True, init=False)
class Sleep(Statement):
    """Suspends its thread for a time, at no cost.

    Args:
        name: unique in the definition.
        delay: how long to sleep, or until when. A function of the workflow is called when the thread reaches it.

    Example:
        >>> from datetime import timedelta
        >>> from gorchestrate import Sleep
        >>> statement = Sleep("trial period", timedelta(days=90))
    """

    name: str
    delay: Delay
    renamed_from: tuple[str, ...] = ()

    def __init__(self, name: str, delay: Delay, *, renamed_from: RenamedFrom = ()) -> None:
        check_name(self, name)
        check_delay(f"Sleep {name!r}", delay)
        set_attributes(self, name=name, delay=delay, renamed_from=check_renamed(self, name, renamed_from))
