"""The vocabulary of work done elsewhere: ``Activity`` and ``Child``. Checks their own arguments alone, as
``workflow_core.statements.basic``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.retry import Retry
from workflow_core.statements.basic import (
    RenamedFrom,
    Statement,
    check_duration,
    check_function,
    check_name,
    check_renamed,
    check_retry,
    set_attributes,
)

ACTIVITY_TIMEOUT = timedelta(minutes=10)
"""How long an attempt of an activity may take if it has neither a timeout nor a heartbeat."""


@dataclass(frozen=True, slots=True, init=False)
class Activity(Statement):
    """Runs a function outside of the instance, in a request of its own, and waits for its result.

    Meanwhile other threads go on, events are handled, and many activities run at once. The function knows nothing of
    the workflow: it gets an input, and its result comes back like an event. It runs at least once.

    Args:
        name: unique in the definition.
        function: takes the input and, if it has a second parameter, an ``ActivityContext``; sync or async. The
            annotations of its parameter and of what it returns say how both become JSON.
        input: a function of the workflow that gives the input; by default the item in a ``ForEach``, else None.
        then: a function of the workflow and the result, which changes the fields.
        retry: when it is tried again; by default as for a step.
        timeout: how long one attempt may take, counted from when it is scheduled; by default 10 minutes. Then it
            counts as failed with ``TimedOut``, and its result no longer matters.
        heartbeat: instead of a timeout: how long an asynchronous function may give no sign of life with
            ``await context.heartbeat()``.
        renamed_from: the name, or names, that it had before; the result of an attempt that runs already is taken.
    """

    name: str
    function: Callable[..., Any]
    input: Callable[..., Any] | None
    then: Callable[..., Any] | None
    retry: Retry | None
    timeout: timedelta | None
    heartbeat: timedelta | None
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        input: Callable[..., Any] | None = None,
        then: Callable[..., Any] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        heartbeat: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        where = f"Activity {name!r}"
        check_function(name, "function", function)
        for what, value in (("input", input), ("then", then)):
            if value is not None:
                check_function(name, what, value)
        check_retry(where, retry)
        check_duration(where, "timeout", timeout)
        check_duration(where, "heartbeat", heartbeat)
        if timeout is not None and heartbeat is not None:
            raise DefinitionError(where, "it has a timeout and a heartbeat", "Give it one of them.")
        set_attributes(
            self,
            name=name,
            function=function,
            input=input,
            then=then,
            retry=retry,
            timeout=timeout,
            heartbeat=heartbeat,
            renamed_from=check_renamed(self, name, renamed_from),
        )


@dataclass(frozen=True, slots=True, init=False)
class Child(Statement):
    """Starts another instance, and waits for its end.

    Its result is what its method ``result()`` gives, or all its fields if it has none. If it fails or is canceled, the
    statement fails with ``ChildFailed``. When the thread is canceled, so is the child.

    Args:
        name: unique in the definition.
        workflow: the class of the other workflow, or its name.
        id: the child's id, or a function of the workflow that gives it; by default one that nobody else has.
        input: a function of the workflow that gives the child's first fields: a mapping, or an object of its class.
        then: a function of the workflow and the result, which changes the fields.
        detached: go on at once; what becomes of the child does not matter here.
        renamed_from: the name, or names, that it had before; the end of a child that runs already is heard.
    """

    name: str
    workflow: Any
    id: str | Callable[..., Any] | None
    input: Callable[..., Any] | None
    then: Callable[..., Any] | None
    detached: bool
    renamed_from: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        workflow: Any,
        *,
        id: str | Callable[..., Any] | None = None,
        input: Callable[..., Any] | None = None,
        then: Callable[..., Any] | None = None,
        detached: bool = False,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        where = f"Child {name!r}"
        if not (isinstance(workflow, str) or isinstance(getattr(workflow, "__workflow_name__", None), str)):
            raise DefinitionError(where, f"{workflow!r} is no workflow", "Give it a Workflow class, or its name.")
        if not (id is None or callable(id) or (isinstance(id, str) and id)):
            raise DefinitionError(
                where, f"its id is {id!r}", "Give it a text, or a function of the workflow that returns one."
            )
        for what, value in (("input", input), ("then", then)):
            if value is not None:
                check_function(name, what, value)
        if detached and then is not None:
            raise DefinitionError(where, "it is detached, so it has no result", "Leave out then, or detached.")
        former = check_renamed(self, name, renamed_from)
        set_attributes(
            self,
            name=name,
            workflow=workflow,
            id=id,
            input=input,
            then=then,
            detached=bool(detached),
            renamed_from=former,
        )
