"""The statements for work outside the instance: ``Activity`` and ``Child``. They check only their own arguments; see
``workflow_core.statements.basic``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, Generic, overload

from workflow_core.errors import DefinitionError
from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.statements.basic import (
    Function,
    RenamedFrom,
    Statement,
    check_duration,
    check_function,
    check_name,
    check_renamed,
    check_retry,
    set_attributes,
)
from workflow_core.statements.call_types import AsyncWork, Fields, In, Input, Out, Then, W, Work

ACTIVITY_TIMEOUT = timedelta(minutes=10)
"""How long an attempt of an activity may take if it has neither a timeout nor a heartbeat."""


@record(frozen=True, init=False)
class Activity(Statement, Generic[In, Out]):
    """Runs a function outside the instance, in a separate request, and waits for its result.

    In the meantime, other threads run, events are handled, and many activities run at once. The function does not
    depend on the workflow: it receives an input, and its result is delivered like an event. It runs at least once.

    Args:
        name: unique in the definition.
        function: receives the input and, if it has a second parameter, an ``ActivityContext``; sync or async. It has no
            input if its only parameter is annotated with ``ActivityContext``. The annotations of its parameter and its
            return value determine their JSON form.
        input: a function of the workflow that returns the input; by default the item in a ``ForEach``, otherwise None.
        then: a function of the workflow and the result, which changes the fields.
        retry: the retry policy; by default as for a step.
        timeout: how long one attempt may take from the start of its call; by default 10 minutes. Then the attempt fails
            with ``TimedOut``, and its result is ignored.
        heartbeat: instead of a timeout: the maximum time between two calls of ``await context.heartbeat()`` in an
            asynchronous function.
        renamed_from: its former name or names; the result of a running attempt is still accepted.
    """

    name: str
    function: Callable[..., Any]
    input: Callable[..., Any] | None
    then: Callable[..., Any] | None
    retry: Retry | None
    timeout: timedelta | None
    heartbeat: timedelta | None
    renamed_from: tuple[str, ...] = ()

    @overload
    def __init__(
        self,
        name: str,
        function: AsyncWork[In, Out],
        *,
        input: Input[In] | None = None,
        then: Then[Out] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        heartbeat: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        function: Callable[[], Coroutine[Any, Any, Out]],
        *,
        input: Input[In] | None = None,
        then: Then[Out] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        heartbeat: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        function: Work[In, Out],
        *,
        input: Input[In] | None = None,
        then: Then[Out] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        heartbeat: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        function: Callable[[], Out],
        *,
        input: Input[In] | None = None,
        then: Then[Out] | None = None,
        retry: Retry | None = None,
        timeout: timedelta | None = None,
        heartbeat: timedelta | None = None,
        renamed_from: RenamedFrom = (),
    ) -> None: ...
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
            raise DefinitionError(where, "it has a timeout and a heartbeat", "Use only one of them.")
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


@record(frozen=True, init=False)
class Child(Statement, Generic[W]):
    """Starts another instance and waits for it to end.

    Its result is the return value of its method ``result()``, or all its fields if it has no such method. If it fails
    or is canceled, the statement fails with ``ChildFailed``. If the thread is canceled, the child is canceled too.

    Args:
        name: unique in the definition.
        workflow: the class of the other workflow, or its name.
        id: the child's id, or a function of the workflow that returns it; by default a unique id that nobody can
            foresee. If another instance has the id, the statement fails.
        input: a function of the workflow that returns the child's initial fields: a mapping, or an object of its class.
        then: a function of the workflow and the result, which changes the fields.
        detached: continue at once, without waiting for the child or its result.
        renamed_from: its former name or names; the end of a running child is still accepted.
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
        workflow: type[W] | str,
        *,
        id: str | Function | None = None,
        input: Input[Fields] | None = None,
        then: Then[Any] | None = None,
        detached: bool = False,
        renamed_from: RenamedFrom = (),
    ) -> None:
        check_name(self, name)
        where = f"Child {name!r}"
        if not (isinstance(workflow, str) or isinstance(getattr(workflow, "__workflow_name__", None), str)):
            raise DefinitionError(where, f"{workflow!r} is not a workflow", "Pass a Workflow class, or its name.")
        if not (id is None or callable(id) or (isinstance(id, str) and id)):
            raise DefinitionError(
                where, f"its id is {id!r}", "Pass a text, or a function of the workflow that returns one."
            )
        for what, value in (("input", input), ("then", then)):
            if value is not None:
                check_function(name, what, value)
        if detached and then is not None:
            raise DefinitionError(where, "it is detached, so it has no result", "Omit then or detached.")
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
