"""The words of a plain definition: what the source of ``async def run`` may await, and the decorators of methods.

``run`` is compiled and never called, so most functions here do nothing: their signatures tell type checkers what an
``await`` returns, and the compiler recognizes them by identity.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from datetime import datetime, timedelta
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Generic,
    Literal,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeVar,
    overload,
)

from workflow_core.errors import DefinitionError
from workflow_core.events import EVENT_MARK, ActivityContext, EventMark, Selected, StepContext
from workflow_core.retry import Retry

P = ParamSpec("P")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
W = TypeVar("W")
R_co = TypeVar("R_co", covariant=True)
S = TypeVar("S")
F = TypeVar("F", bound=Callable[..., Any])
In = TypeVar("In")
Out = TypeVar("Out")

if TYPE_CHECKING:

    class HasResult(Protocol[R_co]):
        """A workflow whose instances have a result of their own."""

        def result(self) -> R_co: ...

    class _SectionDecorator(Protocol):
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /
        ) -> SectionMethod[S, P, T]: ...

    class _StepDecorator(Protocol):
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, StepContext, P], Coroutine[Any, Any, T]], /
        ) -> StepMethod[S, P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, StepContext, P], T], /) -> StepMethod[S, P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> StepMethod[S, P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, P], T], /) -> StepMethod[S, P, T]: ...

    class _ActivityDecorator(Protocol):
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, ActivityContext, P], Coroutine[Any, Any, T]], /
        ) -> ActivityMethod[S, P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, ActivityContext, P], T], /) -> ActivityMethod[S, P, T]: ...
        @overload
        def __call__(
            self, function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /
        ) -> ActivityMethod[S, P, T]: ...
        @overload
        def __call__(self, function: Callable[Concatenate[S, P], T], /) -> ActivityMethod[S, P, T]: ...


class Call(Awaitable[T]):
    """A call that ``run`` awaits. Outside of ``run``, awaiting it calls the function, as tests do."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self._begin = begin

    def named(self, name: str) -> Self:
        """Gives this use of a method a name of its own. The name is the address at which an instance resumes."""
        return self

    def __await__(self) -> Generator[Any, Any, T]:
        result = self._begin()
        if hasattr(result, "__await__"):
            result = yield from result.__await__()
        done: T = result
        return done


# --- methods ---------------------------------------------------------------------------------


class Method(Generic[S, P, T]):
    """A decorated method of a workflow.

    Attributes:
        function: the method itself.
        renamed_from: its former names.
    """

    def __init__(self, function: Callable[Concatenate[S, P], Any], renamed_from: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.function = function
        self.renamed_from = renamed_from

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> Callable[P, Call[T]]: ...
    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        return lambda *args, **kwargs: Call(functools.partial(self.function, instance, *args, **kwargs))  # type: ignore[arg-type]


class StepMethod(Method[S, P, T]):
    """See ``step``."""

    retry: Retry | None = None
    timeout: timedelta | None = None


class ActivityMethod(Method[S, P, T]):
    """See ``activity``."""

    retry: Retry | None = None
    timeout: timedelta | None = None
    heartbeat: timedelta | None = None


class SectionMethod(Method[S, P, T]):
    """See ``section``."""


@overload
def step(function: Callable[Concatenate[S, StepContext, P], Coroutine[Any, Any, T]], /) -> StepMethod[S, P, T]: ...
@overload
def step(function: Callable[Concatenate[S, StepContext, P], T], /) -> StepMethod[S, P, T]: ...
@overload
def step(function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> StepMethod[S, P, T]: ...
@overload
def step(function: Callable[Concatenate[S, P], T], /) -> StepMethod[S, P, T]: ...
@overload
def step(
    *, retry: Retry | None = None, timeout: timedelta | None = None, renamed_from: str | tuple[str, ...] = ()
) -> _StepDecorator: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Makes a method a step: ``await self.method(...)`` in ``run`` saves the state, runs it at least once, and saves
    its result. Its arguments are stored before its first attempt. A ``StepContext`` is passed if it is the first
    parameter after ``self``.

    Args:
        retry: see ``Step``; also ``timeout`` and ``renamed_from``.
    """
    return _decorate(StepMethod, function, options)


@overload
def activity(
    function: Callable[Concatenate[S, ActivityContext, P], Coroutine[Any, Any, T]], /
) -> ActivityMethod[S, P, T]: ...
@overload
def activity(function: Callable[Concatenate[S, ActivityContext, P], T], /) -> ActivityMethod[S, P, T]: ...
@overload
def activity(function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> ActivityMethod[S, P, T]: ...
@overload
def activity(function: Callable[Concatenate[S, P], T], /) -> ActivityMethod[S, P, T]: ...
@overload
def activity(
    *,
    retry: Retry | None = None,
    timeout: timedelta | None = None,
    heartbeat: timedelta | None = None,
    renamed_from: str | tuple[str, ...] = (),
) -> _ActivityDecorator: ...
def activity(function: Any = None, /, **options: Any) -> Any:
    """Makes a method an activity: it runs outside of the instance, in a request of its own. It receives arguments and
    returns a result; it cannot read or change the fields. An ``ActivityContext`` is passed if it is the first parameter
    after ``self``.

    Args:
        retry: see ``Activity``; also ``timeout``, ``heartbeat`` and ``renamed_from``.
    """
    return _decorate(ActivityMethod, function, options)


@overload
def section(function: Callable[Concatenate[S, P], Coroutine[Any, Any, T]], /) -> SectionMethod[S, P, T]: ...
@overload
def section(*, renamed_from: str | tuple[str, ...] = ()) -> _SectionDecorator: ...
def section(function: Any = None, /, **options: Any) -> Any:
    """Marks an ``async def`` method as a part of ``run``, so that a second use of it can be ``named``. A method that is
    used once needs no decorator.

    Args:
        renamed_from: see ``S``.
    """
    return _decorate(SectionMethod, function, options)


def _decorate(kind: type[Any], function: Any, options: dict[str, Any]) -> Any:
    name = kind.__name__.removesuffix("Method").lower()
    _check_options(name, options, (*kind.__annotations__, "renamed_from"))

    def decorate(function: Any) -> Any:
        if not callable(function) or isinstance(function, staticmethod):
            raise DefinitionError(f"@{name}", f"it decorates {function!r:.60}", "Decorate a method of the workflow.")
        former = options.get("renamed_from", ())
        method = kind(function, (former,) if isinstance(former, str) else former)
        for option in options.keys() - {"renamed_from"}:
            setattr(method, option, options[option])
        return method

    return decorate if function is None else decorate(function)


def _check_options(name: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuses an option that a decorator does not have, such as a misspelt one."""
    for option in options:
        if option not in known:
            raise DefinitionError(f"@{name}", f"it has no option {option!r}", f"Available: {', '.join(known)}.")


@overload
def event(function: F, /) -> F: ...
@overload
def event(
    name: str | None = None,
    /,
    *,
    role: str | None = None,
    buffered: bool = False,
    max_bytes: int | None = None,
    verify: Callable[..., bool] | None = None,
    renamed_from: str | tuple[str, ...] = (),
) -> Callable[[F], F]: ...
def event(function: Any = None, /, **options: Any) -> Any:
    """Makes a method the handler of an event: ``await select(self.method)`` waits for it.

    Args:
        name: the name of the event for clients; by default that of the method.
        role: see ``On``; also ``buffered``, ``max_bytes``, ``verify`` and ``renamed_from``.
    """
    _check_options("event", options, ("role", "buffered", "max_bytes", "verify", "renamed_from"))

    def decorate(handler: Any, name: str | None = None) -> Any:
        setattr(handler, EVENT_MARK, EventMark(name or handler.__name__, options))
        return handler

    if callable(function):
        return decorate(function)
    return functools.partial(decorate, name=function)


# --- what run awaits -------------------------------------------------------------------------


@overload
def select(
    event: Callable[[In], Out], /, *, timeout: timedelta | datetime | None = None
) -> Call[Selected[In, Out]]: ...
@overload
def select(
    event: Callable[[], Out], /, *, timeout: timedelta | datetime | None = None
) -> Call[Selected[None, Out]]: ...
@overload
def select(*events: Callable[..., Any], timeout: timedelta | datetime | None = None) -> Call[Selected[Any, Any]]: ...
def select(*events: Callable[..., Any], timeout: timedelta | datetime | None = None) -> Call[Any]:
    """Waits for the first of some events.

    Args:
        events: methods of the workflow with ``@event``.
        timeout: how long, or until when.
    """
    _only_in_run("select")


def until(condition: Callable[[], Any], *, timeout: timedelta | datetime | None = None) -> Call[None]:
    """Waits until a condition is true.

    Args:
        condition: a lambda without parameters, which may use ``self`` and locals.
        timeout: how long, or until when. After that, the call raises ``TimedOut``.
    """
    _only_in_run("until")


def sleep(delay: timedelta | datetime) -> Call[None]:
    """Waits for a duration, or until a time."""
    _only_in_run("sleep")


@overload
def child(
    workflow: type[HasResult[T]], *, id: str | None = None, detached: Literal[False] = False, **fields: Any
) -> Call[T]: ...
@overload
def child(workflow: type[W], *, id: str | None = None, detached: Literal[False] = False, **fields: Any) -> Call[W]: ...
@overload
def child(workflow: type[Any], *, id: str | None = None, detached: Literal[True], **fields: Any) -> Call[None]: ...
def child(workflow: type[Any], *, id: str | None = None, detached: bool = False, **fields: Any) -> Call[Any]:
    """Starts another workflow and waits for its result; see ``Child``.

    Args:
        fields: its initial fields.
    """
    _only_in_run("child")


@overload
def gather(first: Awaitable[T1], second: Awaitable[T2], /) -> Call[tuple[T1, T2]]: ...
@overload
def gather(first: Awaitable[T1], second: Awaitable[T2], third: Awaitable[T3], /) -> Call[tuple[T1, T2, T3]]: ...
@overload
def gather(*calls: Awaitable[T], limit: int | None = None) -> Call[list[T]]: ...
def gather(*calls: Awaitable[Any], limit: int | None = None) -> Call[Any]:
    """Runs calls in parallel and returns their results in order. The first failure cancels the others.

    Args:
        calls: ``self.a(), self.b()``, or ``*(self.check(row) for row in self.rows)``.
        limit: for the second form, how many run at once.
    """
    _only_in_run("gather")


@overload
def race(first: Awaitable[T1], second: Awaitable[T2], /) -> Call[tuple[T1 | None, T2 | None]]: ...
@overload
def race(
    first: Awaitable[T1], second: Awaitable[T2], third: Awaitable[T3], /
) -> Call[tuple[T1 | None, T2 | None, T3 | None]]: ...
@overload
def race(*calls: Awaitable[T]) -> Call[tuple[T | None, ...]]: ...
def race(*calls: Awaitable[Any]) -> Call[Any]:
    """Runs calls in parallel. The first one to end cancels the others; see ``Race``.

    Returns the result of that one in its place, and None for the others: ``reply, stop = await race(self.think(),
    select(self.stop))``. If the result of a call may be None, set a field in it to know that it was first. A failure
    counts as an end: the others are canceled, then the error is raised.
    """
    _only_in_run("race")


class Branches:
    """What ``parallel`` enters."""

    async def __aenter__(self) -> Self:
        _only_in_run("parallel")

    async def __aexit__(self, *error: object) -> None: ...

    def start(self, call: Awaitable[Any]) -> None:
        """Starts a branch. It runs until the end of the ``async with``, which waits for it."""


def parallel(*, limit: int | None = None) -> Branches:
    """Runs the branches that are started inside, and waits for all of them. The first failure cancels the others."""
    return Branches()


class Deadline:
    """What ``timeout`` enters."""

    def named(self, name: str) -> Self:
        """Gives the block a name of its own; see ``Call.named``."""
        return self

    async def __aenter__(self) -> None:
        _only_in_run("timeout")

    async def __aexit__(self, *error: object) -> None: ...


def timeout(delay: timedelta | datetime) -> Deadline:
    """Limits the time of a block: ``async with timeout(timedelta(hours=1)):``. See ``Within``.

    When the time is over, the thread leaves the block with ``TimedOut``, as with ``asyncio.timeout``. Put it around all
    of ``run`` to limit the whole workflow.

    Args:
        delay: how long the block may take, or until when.
    """
    return Deadline()


def now() -> datetime:
    """The time at which the code around it runs, in UTC: that of the engine's clock, which tests can set."""
    _only_in_run("now")


def go(call: Awaitable[Any], *, id: str | None = None) -> None:
    """Starts a thread and continues at once. If it fails while the thread that has started it is in a ``try`` around
    the call, its error is thrown there; see ``Go``.

    Args:
        call: the call of an ``async def`` method.
        id: the id of the thread; required if a loop starts several.
    """
    _only_in_run("go")


def local(name: str, *, default: T) -> T:
    """The value of a local that was added to ``run``: ``reminders = local("reminders", default=0)``. An instance that
    stands behind this line, and was saved by older code, has the default."""
    return default


def named(name: str, call: Awaitable[T]) -> Call[T]:
    """Gives a call a name of its own; see ``Call.named``."""
    _only_in_run("named")


def _only_in_run(name: str) -> NoReturn:
    raise DefinitionError(name, "it was called outside of 'async def run'", f"Use {name} only in run and its sections.")


WORDS: Iterable[object] = (select, until, sleep, child, gather, race, parallel, timeout, go, local, named, now)
