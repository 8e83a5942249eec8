"""Endless loops are stopped, and nothing else is, not even many rounds of a ``ForEach``, sequential or parallel."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, do
from workflow_core import (
    Activity,
    Child,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    LoopLimitExceeded,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.machine import endless, instructions
from workflow_core.machine.machine import Machine
from workflow_core.statements.basic import Statement
from workflow_core.statements.control import Case, Default

MOVES_MAX = 50
"""The limit in these tests, so that they are quick."""

MANY = 112
NUMBERS = itertools.count()


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "MOVES_MAX", MOVES_MAX)
    monkeypatch.setattr(endless, "MOVES_MAX", MOVES_MAX)


class Many(Logged):
    """Has something to go through; abstract."""

    items: list[int] = list(range(MANY))
    is_open: bool = False

    def open(self) -> None:
        self.is_open = True

    def count(self) -> None:
        self.n += 1

    def grow(self) -> None:
        self.items.append(0)


def flow(*statements: Statement) -> type[Many]:
    class Flow(Many, name="flow"):
        definition = S(*statements)

    return Flow


def items(w: Any) -> list[int]:
    return w.items  # type: ignore[no-any-return]


def two(w: Any) -> list[int]:
    return [1, 2]


def nothing(name: str = "nothing") -> If:
    return If(name, lambda w: False, do(f"{name} never"))


def always(name: str = "always") -> WaitFor:
    return WaitFor(name, lambda w: True)


def unless_open() -> WaitFor:
    return WaitFor("open", lambda w: w.is_open, Many.count)


# --- what ends -------------------------------------------------------------------------------

SWITCH = Switch("s", Case("odd", lambda w, n: n % 2 == 1, nothing("a")), Default(nothing("b"), nothing("c")))
NO_LOOP = While("not once", lambda w: False, do("never"))
BROKEN = Try("try", If("odd", lambda w, n: n % 2 == 1, Fail("f", "f"))).except_(Exception, name="e")
INNER = ForEach("inner", two, nothing())
FORKED = ForEach("inner", two, nothing(), parallel=True)

PASSING: dict[str, Statement] = {
    "nothing": nothing(),
    "a condition on the item": If("all", lambda w, n: n >= 0, nothing()),
    "a switch": SWITCH,
    "a loop that is not begun": NO_LOOP,
    "an error that is caught": BROKEN,
    "a cleanup": Try("try", nothing("a")).finally_(nothing("b")),
    "a condition that holds": always(),
    "an inner loop": INNER,
    "an inner parallel loop": FORKED,
    "inner branches": Parallel("both", S(nothing("a")), S(nothing("b"))),
    "an end": Return(),
}


@pytest.mark.parametrize("body", PASSING)
@pytest.mark.parametrize("limit", [1, 20, 2 * MANY])
def test_many_rounds_in_parallel_that_pass_no_rest(low_limit: None, limit: int, body: str) -> None:
    Flow = flow(ForEach("each", items, PASSING[body], parallel=True, limit=limit), do("end"))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    resume(order, execution)
    assert (order.log, execution.status) == (["end"], "finished")


@pytest.mark.parametrize("body", [name for name in PASSING if name != "an end"])
def test_many_rounds_one_after_another_that_pass_no_rest(low_limit: None, body: str) -> None:
    Flow = flow(ForEach("each", items, PASSING[body]), do("end"))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    resume(order, execution)
    assert (order.log, execution.status) == (["end"], "finished")


def test_loops_in_loops(low_limit: None) -> None:
    innermost = ForEach("c", lambda w: range(20), nothing())
    Flow = flow(ForEach("a", lambda w: range(20), ForEach("b", lambda w: range(20), innermost)), do("end"))  # noqa: N806
    order = Flow()
    resume(order, Execution.start("1", Flow))
    assert order.log == ["end"]


@pytest.mark.parametrize("limit", [1, 20, 2 * MANY])
def test_many_rounds_that_wait_for_one_condition(low_limit: None, limit: int) -> None:
    each = ForEach("each", items, unless_open(), parallel=True, limit=limit)
    Flow = flow(Go("side", Select("s", On("Open", Many.open))), each, do("end"))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    resume(order, execution)
    assert (execution.status, len(execution.threads)) == ("waiting", min(limit, MANY) + 2)
    handle_event(order, execution, "Open")
    resume(order, execution)
    assert (order.n, order.log, execution.status) == (MANY, ["end"], "finished")


WAITING: dict[str, Statement] = {
    "an event": Select("s", On("E", Many.count)),
    "a timeout": Select("s", On("E", Many.count), Timeout("late", timedelta(hours=1))),
    "a while": Sleep("E", timedelta(hours=1)),
    "some that skip": If("even", lambda w, n: n % 2 == 0, Select("s", On("E", Many.count))),
}


@pytest.mark.parametrize("body", WAITING)
@pytest.mark.parametrize("limit", [1, 20, 2 * MANY])
def test_many_rounds_that_wait(low_limit: None, limit: int, body: str) -> None:
    Flow = flow(ForEach("each", items, WAITING[body], parallel=True, limit=limit), do("end"))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    machine = Machine(order, execution)  # one for all events, as an engine may have it
    machine.settle()
    handled = 0
    while execution.status == "waiting":
        accepted = machine.accept("E")
        machine.handle(accepted, None)
        machine.handled(accepted)
        machine.settle()
        handled += 1
    assert handled == (MANY // 2 if body == "some that skip" else MANY)
    resume(order, execution)
    assert (order.log, execution.status) == (["end"], "finished")


def test_many_activities_and_detached_children(low_limit: None) -> None:
    def call() -> None: ...

    loop = While("again", lambda w: w.n < MANY, WaitFor("count", lambda w: True, Many.count), Activity("a", call))
    Flow = flow(loop)  # noqa: N806
    order = Flow()
    resume(order, Execution.start("1", Flow))
    assert order.n == MANY

    class Kid(Workflow, name="kid"):
        definition = S(do("a"))

    start = Child("kid", Kid, detached=True)
    Flow = flow(While("again", lambda w: w.n < MANY, WaitFor("count", lambda w: True, Many.count), start))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    machine = Machine(order, execution)
    while (work := machine.next_work()) is not None:
        machine.done(work)
    assert (order.n, execution.status) == (MANY, "finished")


@pytest.mark.slow
def test_many_rounds_under_the_real_limit() -> None:
    each = ForEach("each", items, If("some", lambda w, n: n % 2_000 == 0, do("a")), parallel=True)
    each_again = ForEach("again", items, If("some more", lambda w, n: n % 2_000 == 1, do("b")))
    Flow = flow(each, each_again)  # noqa: N806
    order = Flow(items=list(range(20_000)))
    resume(order, Execution.start("1", Flow))
    assert order.log == ["a"] * 10 + ["b"] * 10


# --- what does not ---------------------------------------------------------------------------


def forever(name: str, *body: Statement) -> While:
    return While(name, lambda w: True, *body)


def ball(name: str, mine: int) -> While:
    def hit(w: Any) -> None:
        w.n = 1 - mine

    return forever(f"{name} plays", WaitFor(f"{name} has it", lambda w: w.n == mine, hit))


def fickle(name: str) -> WaitFor:
    """A condition that is never the same twice."""

    def holds(w: Any) -> bool:
        w.n += 1
        return bool(w.n % 2 == 0)

    return WaitFor(name, holds)


ENDLESS: dict[str, tuple[Statement, ...]] = {
    "a loop": (forever("w", nothing(), always()),),
    "a loop over a loop": (forever("w", ForEach("each", two, nothing())),),
    "a loop over a large loop": (forever("w", ForEach("each", items, nothing())),),
    "a loop over loops in loops": (forever("w", ForEach("each", two, ForEach("inner", two, nothing()))),),
    "a loop over a parallel loop": (forever("w", ForEach("each", two, nothing(), parallel=True)),),
    "a loop over a parallel loop with a limit": (
        forever("w", ForEach("each", two, nothing(), parallel=True, limit=1)),
    ),
    "a loop over an empty parallel loop": (forever("w", ForEach("each", lambda w: [], do("a"), parallel=True)),),
    "a loop over branches": (forever("w", Parallel("both", S(nothing("a")), S(nothing("b")))),),
    "a loop over errors": (forever("w", Try("try", Fail("f", "f")).except_(Exception)),),
    "a loop over errors of branches": (
        forever("w", Try("try", Parallel("both", S(Fail("f", "f")), S(Sleep("x", timedelta(1))))).except_(Exception)),
    ),
    "a loop in a loop": (ForEach("each", two, forever("w", always())),),
    "a loop in a parallel loop": (ForEach("each", two, forever("w", always()), parallel=True),),
    "a loop in a thread": (Go("side", forever("w", always())), Sleep("x", timedelta(1))),
    "a loop that starts threads": (forever("w", Go("side", nothing(), id=lambda w: f"t{next(NUMBERS)}"), always()),),
    "ping-pong": (Go("other", ball("other", 1)), ball("main", 0)),
    "ping-pong of branches": (Parallel("both", S(ball("left", 0)), S(ball("right", 1))),),
    "ping-pong in a loop over loops": (
        Go("other", ball("other", 1)),
        forever("w", ForEach("each", two, WaitFor("mine", lambda w: w.n == 0, lambda w: setattr(w, "n", 1)))),
    ),
    "a condition that changes its mind": (fickle("now"), fickle("and now"), forever("w", fickle("then"))),
    "a collection that grows": (ForEach("each", items, WaitFor("grow", lambda w: True, Many.grow)),),
    "a collection that grows in parallel": (
        ForEach("each", items, WaitFor("grow", lambda w: True, Many.grow), parallel=True, limit=1),
    ),
    "a collection that grows in parallel, more at a time": (
        ForEach("each", items, WaitFor("grow", lambda w: True, Many.grow), parallel=True),
    ),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_never_ends_is_cut_off(low_limit: None, kind: str) -> None:
    Flow = flow(*ENDLESS[kind])  # noqa: N806
    message = rf"passed {MOVES_MAX} instructions without reaching a step or an? (wait|event): "
    with pytest.raises(LoopLimitExceeded, match=message):
        resume(Flow(), Execution.start("1", Flow))
    with pytest.raises(LoopLimitExceeded):
        Machine(Flow(), Execution.start("1", Flow)).settle()


def test_a_step_on_the_way_makes_it_a_loop_that_may_go_on(low_limit: None) -> None:
    def tick(w: Any) -> None:
        w.n += 1

    body = ForEach("each", two, nothing("a")), FORKED, Step("tick", tick), always()
    Flow = flow(While("w", lambda w: w.n < 2 * MOVES_MAX, *body))  # noqa: N806
    order = Flow()
    resume(order, Execution.start("1", Flow))
    assert order.n == 2 * MOVES_MAX


def test_a_step_in_a_loop_gives_the_rest_of_the_loop_its_allowance_back(low_limit: None) -> None:
    body = ForEach("each", two, If("first", lambda w, n: n == 1, do("a")), nothing())
    Flow = flow(While("w", lambda w: len(w.log) < MOVES_MAX, body))  # noqa: N806
    order, execution = Flow(), Execution.start("1", Flow)
    resume(order, execution)
    assert (len(order.log), execution.status) == (MOVES_MAX, "finished")
