"""What a function of the workflow returns because a call, an ``await`` or a ``list`` was forgotten is an error that
names the place; it never counts as true."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, do, flow, log
from workflow_core import (
    Activity,
    Case,
    Child,
    DefinitionError,
    Execution,
    ExecutionError,
    Fail,
    ForEach,
    Go,
    If,
    LoopLimitExceeded,
    On,
    Parallel,
    S,
    Select,
    Sleep,
    Step,
    Switch,
    TerminalError,
    Timeout,
    Try,
    WaitFor,
    While,
    aresume,
    handle_event,
    resume,
)

NOTHING = log("")


class Small(Logged):
    def is_big(self) -> bool:
        return False

    async def is_known(self) -> bool:
        return False

    def lines(self) -> Iterator[str]:
        yield "a line"

    @contextlib.contextmanager
    def opened(self) -> Iterator[str]:
        yield "a line"


def small(*statements: Any) -> type[Small]:
    class Flow(Small, name="small"):
        definition = S(*statements)

    return Flow


ACCIDENTS: dict[str, Callable[..., Any]] = {
    r"the function 'is_big' itself, not its result. Write is_big\(\)": lambda w, *_: w.is_big,
    r"the function 'it' itself": lambda w, *_: functools.partial(w.is_big),
    "a coroutine, so the code has not run": lambda w, *_: w.is_known(),
    "a generator, so the code has not run": lambda w, *_: w.lines(),
    "a context manager, so the code has not run. Remove": lambda w, *_: w.opened(),
    "a generator": lambda w, *_: (line for line in w.log),
    "which can be read only once. Return a list": lambda w, *_: map(str, w.log),
}


def fail(w: Any) -> None:
    raise TerminalError("no")


def takes(value: Any) -> None: ...


PLACES: dict[str, Callable[[Callable[..., Any]], list[Any]]] = {
    "If": lambda f: [If("place", f, do("ship"))],
    "elif_": lambda f: [If("first", lambda w: False, do("a")).elif_("place", f, do("ship"))],
    "Case": lambda f: [Switch("cases", Case("place", f, do("ship")))],
    "While": lambda f: [While("place", f, do("ship"))],
    "WaitFor": lambda f: [WaitFor("place", f), do("ship")],
    "a condition of an item": lambda f: [ForEach("each", lambda w: [1], If("place", lambda w, i: f(w), do("ship")))],
    "a condition of a branch": lambda f: [Parallel("both", S(If("place", f, do("ship"))), S(do("b")))],
    "the handler of WaitFor": lambda f: [WaitFor("place", lambda w: True, lambda w: f(w)), do("ship")],
    "the id of Go": lambda f: [Go("place", do("ship"), id=f)],
    "the message of Fail": lambda f: [Fail("place", f)],
    "the delay of Sleep": lambda f: [Sleep("place", f), do("ship")],
    "the delay of Timeout": lambda f: [Select("place", Timeout("late", f), On("Go", NOTHING)), do("ship")],
    "the input of Activity": lambda f: [Activity("place", takes, input=f), do("ship")],
    "the id of Child": lambda f: [Child("place", "small", id=f), do("ship")],
    "the input of Child": lambda f: [Child("place", "small", input=f), do("ship")],
    "except_": lambda f: [Try("try", Step("fails", fail)).except_(Exception, name="place", then=lambda w, e: f(w))],
    "then of Activity": lambda f: [Activity("place", takes, input=lambda w: 1, then=lambda w: f(w)), do("ship")],
    "a step": lambda f: [Step("place", f), do("ship")],
}


@pytest.mark.parametrize("accident", ACCIDENTS)
@pytest.mark.parametrize("place", PLACES)
def test_it_is_an_error_that_names_the_place(place: str, accident: str) -> None:
    if place == "a step" and "coroutine" in accident:
        return  # awaited by aresume
    order = small(*PLACES[place](ACCIDENTS[accident]))()
    execution = Execution.start("a", type(order))
    with pytest.raises(ExecutionError, match=accident) as refused:
        resume(order, execution)
    assert "'place'" in str(refused.value)
    assert order.log == []


CATCHABLE: dict[str, Callable[[Callable[..., Any]], list[Any]]] = {
    **{place: PLACES[place] for place in PLACES if place.split(" of ")[0] in ("the id", "the input")},
    **{place: PLACES[place] for place in ("the message of Fail", "the delay of Sleep", "the delay of Timeout")},
    "the items of ForEach": lambda f: [ForEach("place", f, do("bake"))],
    "the items of a parallel ForEach": lambda f: [ForEach("place", f, do("bake"), parallel=True)],
    "in a branch": lambda f: [Parallel("both", S(Activity("place", takes, input=f)), S(do("b")))],
}


def bug(w: Any) -> Any:
    raise ValueError("a bug")


def coroutine(w: Any) -> Any:
    return w.is_known()


@pytest.mark.parametrize(
    ("function", "type"), [(coroutine, "UnusableResult"), (bug, "ValueError"), (lambda w: w.lines(), "UnusableResult")]
)
@pytest.mark.parametrize("place", CATCHABLE)
@pytest.mark.parametrize("before", [[], [do("before")], [Select("wait", On("Go", NOTHING))]])
def test_a_value_that_cannot_be_computed_is_an_error_of_its_statement(
    before: list[Any], place: str, function: Any, type: str
) -> None:
    seen: list[Any] = []
    note = lambda w, error: seen.append(error)  # noqa: E731
    guarded = Try("try", *CATCHABLE[place](function), do("after")).except_(Exception, do("caught"), then=note)
    order = small(*before, guarded.finally_(do("cleaned")), do("end"))()
    execution = Execution.start("a", order.__class__)
    resume(order, execution)
    if execution.status == "waiting":
        handle_event(order, execution, "Go")
        resume(order, execution)
    assert [entry for entry in order.log if entry not in ("", "b")][-3:] == ["caught", "cleaned", "end"]
    assert {"ship", "after"}.isdisjoint(order.log)
    assert [(error.type, error.statement) for error in seen] == [(type, "place")]


def test_an_endless_loop_over_one_is_cut_off() -> None:
    guarded = Try("try", Activity("place", takes, input=bug)).except_(Exception)
    order = small(While("forever", lambda w: True, guarded))()
    with pytest.raises(LoopLimitExceeded):
        resume(order, Execution.start("a", type(order)))


@pytest.mark.parametrize(
    "accident", [accident for accident in ACCIDENTS if "generator" in accident or "function" in accident]
)
def test_items_too(accident: str) -> None:
    order = small(ForEach("place", ACCIDENTS[accident], do("bake")))()
    with pytest.raises(ExecutionError, match=f"the items of ForEach 'place': its function returned {accident}"):
        resume(order, Execution.start("a", type(order)))


def test_items_may_be_an_iterator_of_a_builtin() -> None:
    """They are read once each time, so these do what their author means."""
    order = small(ForEach("each", lambda w: map(str, [1, 2]), Step("bake", lambda w, step: w.log.append(step.item))))()
    resume(order, Execution.start("a", type(order)))
    assert order.log == ["1", "2"]


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_event_that_meets_one_is_refused(accident: str) -> None:
    for definition in (
        [Select("wait", On("Go", log("went"), If("place", ACCIDENTS[accident], do("ship"))))],
        [Select("wait", On("Go", lambda w: ACCIDENTS[accident](w)))],
    ):
        order = small(*definition)()
        execution = Execution.start("a", type(order))
        resume(order, execution)
        with pytest.raises(ExecutionError, match=accident):
            handle_event(order, execution, "Go")


def test_the_awaited_result_of_a_step_is_looked_at_too() -> None:
    async def charge(w: Any) -> Any:
        return w.is_known()  # without await

    order = small(Step("charge", charge), do("ship"))()
    with pytest.raises(ExecutionError, match="step 'charge' returned a coroutine"):
        asyncio.run(aresume(order, Execution.start("a", type(order))))
    assert order.log == []


class Truth:
    """An object that can be called, but is also true or false by itself."""

    def __init__(self, truth: bool) -> None:
        self.truth = truth

    def __call__(self) -> None: ...

    def __bool__(self) -> bool:
        return self.truth


class Rule:
    def __call__(self, w: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Logged, "returned the class 'Logged', which is always true. Create an object"),
        (Rule(), "returned <.*Rule object at .*, which is always true, but can be called. Call it"),
        ((False,), "returned a tuple, which is always true. Remove the trailing comma"),
        (..., "returned Ellipsis, which is always true. Return True or False"),
        (NotImplemented, "returned NotImplemented, which is always true"),
        (property(bool), "returned <property object .*, which is always true"),
    ],
)
@pytest.mark.parametrize("place", ["If", "Case", "While", "WaitFor", "a condition of an item"])
def test_a_condition_that_is_a_class_or_can_be_called_is_an_error(place: str, value: Any, said: str) -> None:
    order = small(*PLACES[place](lambda w: value))()
    with pytest.raises(ExecutionError, match=f"the condition of 'place' {said}"):
        resume(order, Execution.start("a", type(order)))
    assert order.log == []


@pytest.mark.parametrize(
    "value", [1, "yes", [0], ("one",), (False, False), {"a": 1}, object(), timedelta(1), Truth(True)]
)
def test_what_is_true_on_purpose_holds(value: Any) -> None:
    order = flow(If("big", lambda w: value, do("ship")))()
    resume(order, Execution.start("a", type(order)))
    assert order.log == ["ship"]


@pytest.mark.parametrize("value", [None, 0, "", [], {}, timedelta(), Truth(False)])
def test_what_is_false_on_purpose_does_not_hold(value: Any) -> None:
    order = flow(If("big", lambda w: value, do("ship")))()
    resume(order, Execution.start("a", type(order)))
    assert order.log == []


# --- what can be seen at import ---------------------------------------------------------------


class Generates:
    def __call__(self, w: Any) -> Iterator[int]:
        yield 1


def generates_one(w: Any) -> Any:
    yield 1


def generates_of(w: Any, e: Any) -> Iterator[int]:
    yield 1


class Registers:
    def __init__(self, **methods: Any) -> None:
        self.setup: Any = methods.get("setup", lambda request: None)
        self.handle: Any = methods.get("handle", self._handle)
        self.teardown: Any = methods.get("teardown", lambda request, handled: None)

    def _handle(self, request: Any, input: int) -> None: ...


async def generates_one_later(w: Any) -> AsyncIterator[int]:
    yield 1


def generates_handled(request: Any, input: int) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Step("s", generates_one),
        lambda: Step("s", generates_one_later),
        lambda: Step("s", functools.partial(generates_of, e=1)),
        lambda: Step("s", Generates()),
        lambda: Step("s", Generates().__call__),
        lambda: Step("s", contextlib.contextmanager(generates_one)),
        lambda: Step("s", contextlib.asynccontextmanager(generates_one_later)),
        lambda: Activity("a", generates_one),
        lambda: Activity("a", generates_one_later),
        lambda: Activity("a", takes, input=generates_one),
        lambda: Activity("a", takes, input=lambda w: 1, then=generates_one),
        lambda: Child("c", "small", then=generates_one),
        lambda: Select("s", On("Go", generates_one)),
        lambda: Select("s", On("Go", Registers(setup=generates_one))),
        lambda: Select("s", On("Go", Registers(setup=generates_one_later))),
        lambda: Select("s", On("Go", Registers(handle=generates_handled))),
        lambda: Select("s", On("Go", Registers(teardown=generates_of))),
        lambda: Select("s", Timeout("t", generates_one)),
        lambda: Sleep("s", generates_one),
        lambda: If("i", generates_one, do("a")),
        lambda: While("w", generates_one, do("a")),
        lambda: WaitFor("w", generates_one),
        lambda: WaitFor("w", lambda w: True, generates_one),
        lambda: ForEach("f", generates_one, do("a")),
        lambda: Go("g", do("a"), id=generates_one),
        lambda: Fail("f", generates_one),
        lambda: Try("t", do("a")).except_(Exception, then=generates_of),
    ],
)
def test_generator_functions_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(DefinitionError, match="is a generator: calling it runs none of its code"):
        flow(make())


def test_asynchronous_static_methods_are_seen() -> None:
    class Flow(Logged, name="flow"):
        @staticmethod
        async def charge(w: Any) -> None:
            w.log.append("charged")

        definition = S(Step("charge", charge, timeout=timedelta(seconds=5)))

    order = Flow()
    asyncio.run(aresume(order, Execution.start("a", Flow)))
    assert order.log == ["charged"]


def test_static_methods_as_conditions_and_handlers() -> None:
    async def later(w: Any) -> None: ...

    for make in (lambda f: If("i", f, do("a")), lambda f: Select("s", On("Go", f)), lambda f: WaitFor("w", f)):
        with pytest.raises(DefinitionError, match="is async"):
            flow(make(staticmethod(later)))


def test_a_decorated_asynchronous_step_is_awaited() -> None:
    async def charge(w: Any) -> None:
        w.log.append("charged")

    @functools.wraps(charge)
    def audited(w: Any) -> Any:
        return charge(w)

    order = flow(Step("charge", audited), do("ship"))()
    asyncio.run(aresume(order, Execution.start("a", type(order))))
    assert order.log == ["charged", "ship"]
