"""``gorchestrate cost``: what it computes from a definition is what the engine does, counted call by call."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli import cost_model as model
from cloud_adapter.cli.cost_model import Cost, paths
from cloud_adapter.cli.main import app
from cloud_adapter.engine import recent_sessions
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    Activity,
    Child,
    EventRequest,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    WaitFor,
    While,
    Workflow,
)

ROOT = Path(__file__).parents[2]
HOUR, LAZY = timedelta(hours=1), timedelta(minutes=10)

sys.path.insert(0, str(ROOT / "functions"))
import pizza  # noqa: E402
import pizza_explicit  # noqa: E402

PIZZA = {"name": "margherita", "qty": 1}
INPUTS: dict[str, Any] = {
    "AddToCart": PIZZA,
    "ConfirmOrder": {"manager": "Mia", "amount": 10},
    "Pay": {"amount": 5},
    "TakeDelivery": {"courier": "Carl"},
    "Ask": 1,
}


@pytest.fixture(autouse=True)
def slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each request come so late that its instance has to be read: the costs are those of requests far apart."""
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta())


async def counted(world: World, acts: Sequence[str | timedelta], fields: dict[str, Any]) -> dict[str, int]:
    """Runs an instance to its end, and counts what the engine does outside of its process. A time lets it pass, while
    recovery runs every minute."""
    requests = deliveries = found = 0
    process = world.process
    await world.finish(process.engine.recover())  # the first call of a process also looks at what is postponed
    with process.calls() as calls:
        await world.create(**fields)
        deliveries += await world.deliver()
        for act in acts:
            if isinstance(act, str):
                requests += 1
                await process.send(act, INPUTS.get(act))
            else:
                end = world.now + act
                while world.now < end:
                    found += await world.finish(process.engine.recover())
                    await world.clock.advance_to(min(end, world.now + timedelta(minutes=1)))
                    deliveries += await world.deliver()
            deliveries += await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    history = (await world.instance()).history
    return {
        "reads": calls.count("load") + found,
        "writes": calls.count("create") + calls.count("commit"),
        "tasks": calls.count("create_task"),
        "deletions": calls.count("delete_task"),
        "deliveries": deliveries,
        "requests": 1 + requests,
        "lines": len(history),
    }


def costs(cls: type[Workflow], lazy: bool = True, rounds: int = 1) -> list[dict[str, int]]:
    """What the cheapest and the most expensive path cost."""
    return [asdict(path.cost) for path in paths(cls.__program__, rounds=rounds, lazy_after=LAZY if lazy else None)]


# --- the pizza order ---------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [1, 2, 4])
@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("cls", [pizza.PizzaOrder, pizza_explicit.PizzaOrder])
def test_an_order_that_is_delivered(tmp_path: Path, cls: type[Workflow], lazy: bool, rounds: int) -> None:
    options = EngineOptions(lazy_after=LAZY if lazy else None)

    @in_world(cls, options=options)
    async def test(world: World) -> None:
        pay = INPUTS["ConfirmOrder"]["amount"] / rounds
        INPUTS["Pay"] = {"amount": pay}
        acts = [*["AddToCart"] * (rounds - 1), "SubmitCart", "ConfirmOrder", *["Pay"] * rounds]
        acts += ["StartCooking", "FinishCooking", "TakeDelivery", "Deliver"]
        assert costs(cls, lazy, rounds)[1] == await counted(world, acts, {"cart": [PIZZA]})

    test(tmp_path)


@pytest.mark.parametrize("lazy", [True, False])
@pytest.mark.parametrize("cls", [pizza.PizzaOrder, pizza_explicit.PizzaOrder])
def test_a_cart_that_is_left(tmp_path: Path, cls: type[Workflow], lazy: bool) -> None:
    @in_world(cls, options=EngineOptions(lazy_after=LAZY if lazy else None))
    async def test(world: World) -> None:
        assert costs(cls, lazy)[0] == await counted(world, [timedelta(hours=24, minutes=1)], {})

    test(tmp_path)


# --- each kind of statement --------------------------------------------------------------------


def nothing(workflow: Any) -> None:
    """A step."""


def work() -> int:
    return 1


class Handler:
    """An event that is registered outside."""

    def setup(self, request: EventRequest) -> None: ...

    def handle(self, request: EventRequest, input: int) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


def workflow(*statements: Any) -> type[Workflow]:
    class Case(Workflow, name="case"):
        items: list[int] = [1, 2]
        definition = S(*statements)

    return Case


def wait(event: str, *more: Any) -> Select:
    return Select(f"wait for {event}", On(event, lambda w: None, *more))


CASES: dict[str, tuple[type[Workflow], list[str | timedelta]]] = {
    "a step": (workflow(Step("a", nothing)), []),
    "steps in a row": (workflow(Step("a", nothing), Step("b", nothing), Step("c", nothing)), []),
    "a step after an event": (workflow(wait("X"), Step("a", nothing), wait("Y")), ["X", "Y"]),
    "an activity": (workflow(Activity("a", work)), []),
    "an activity between steps": (workflow(Step("a", nothing), Activity("b", work), Step("c", nothing)), []),
    "activities side by side": (workflow(Parallel("p", *(S(Activity(f"a{n}", work)) for n in range(5)))), []),
    "steps side by side": (workflow(Parallel("p", *(S(Step(f"a{n}", nothing)) for n in range(3)))), []),
    "a branch that waits": (
        workflow(wait("X"), Parallel("p", S(Step("a", nothing), wait("Y")), S(Step("b", nothing))), Step("c", nothing)),
        ["X", "Y"],
    ),
    "a thread": (workflow(Go("g", Step("a", nothing), wait("X")), Step("b", nothing), wait("Y")), ["X", "Y"]),
    "a loop": (workflow(ForEach("f", lambda w: w.items[:1], Step("a", nothing))), []),
    "activities of items": (workflow(ForEach("f", lambda w: w.items[:1], Activity("a", work), parallel=True)), []),
    "a sleep": (workflow(Sleep("z", timedelta(minutes=5)), Step("a", nothing)), [timedelta(minutes=6)]),
    "a long sleep": (workflow(Sleep("z", HOUR), Step("a", nothing)), [HOUR + timedelta(minutes=1)]),
    "a near timer that is left": (workflow(Select("s", On("X", lambda w: None), Timeout("t", LAZY))), ["X"]),
    "a far timer that is left": (workflow(Select("s", On("X", lambda w: None), Timeout("t", HOUR))), ["X"]),
    "a registered event": (workflow(Select("s", On("Ask", Handler())), Step("a", nothing)), ["Ask"]),
    "a condition": (workflow(Go("g", wait("X")), WaitFor("w", lambda w: True), wait("Y")), ["X", "Y"]),
    "a branch": (workflow(If("i", lambda w: True, Step("a", nothing)), wait("X")), ["X"]),
}

CHEAPEST = ("a far timer that is left",)
"""The cases that are the cheapest of two paths."""


@pytest.mark.parametrize("case", CASES)
def test_a_statement_costs_what_the_engine_does_for_it(tmp_path: Path, case: str) -> None:
    cls, acts = CASES[case]

    @in_world(cls, options=EngineOptions(lazy_after=LAZY))
    async def test(world: World) -> None:
        cheapest, dearest = costs(cls)
        assert await counted(world, acts, {}) == (cheapest if case in CHEAPEST else dearest)
        assert (cheapest == dearest) is (case not in (*CHEAPEST, "a branch"))

    test(tmp_path)


@pytest.mark.parametrize("hours", [2, 3, 4, 5, 9])
def test_a_timer_beyond_the_horizon_of_the_queue_stops_on_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    horizon = timedelta(hours=2)
    monkeypatch.setattr(model, "_HORIZON", horizon)
    cls = workflow(Sleep("z", timedelta(hours=hours)), Step("a", nothing))

    @in_world(cls, options=EngineOptions(horizon=horizon))
    async def test(world: World) -> None:
        assert costs(cls, lazy=False)[1] == await counted(world, [timedelta(hours=hours, minutes=1)], {})

    test(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, None])
@pytest.mark.parametrize("body", [Activity("a", work), Step("a", nothing)], ids=["activities", "steps"])
def test_items_of_which_some_run_at_a_time(tmp_path: Path, body: Any, limit: int | None) -> None:
    cls = workflow(ForEach("f", lambda w: [1, 2, 3, 4], body, parallel=True, limit=limit))

    @in_world(cls, options=EngineOptions(lazy_after=LAZY))
    async def test(world: World) -> None:
        assert costs(cls, rounds=4)[1] == await counted(world, [], {})

    test(tmp_path)


class Kid(Workflow, name="kid"):
    definition = S(wait("Grow"))


class Parent(Workflow, name="parent"):
    definition = S(Child("child", Kid, id=lambda w: "kid-1"), Step("a", nothing))


@in_world(Parent, Kid)
async def test_a_child_costs_its_own_work_beside_that_of_its_parent(world: World) -> None:
    await world.finish(world.process.engine.recover())
    with world.process.calls() as calls:
        await world.create()
        deliveries = await world.deliver()
        await world.finish(world.process.engine.handle_event("kid", "kid-1", "Grow"))
        deliveries += await world.deliver()
    (parent, _), (kid, _) = (paths(cls.__program__) for cls in (Parent, Kid))
    both = parent.cost + kid.cost
    assert calls.count("load") == both.reads
    assert calls.count("create") + calls.count("commit") == both.writes
    assert (calls.count("create_task"), deliveries) == (both.tasks, both.deliveries)


# --- paths -------------------------------------------------------------------------------------


def test_a_loop_runs_as_often_as_it_is_told_and_breaks_end_it() -> None:
    loop = workflow(While("w", lambda w: True, wait("X"), If("done", lambda w: True, Return()), Step("a", nothing)))
    for rounds in (1, 2, 10):
        cheapest, dearest = paths(loop.__program__, rounds=rounds)
        assert (cheapest.cost.requests, dearest.cost.requests) == (2, 1 + rounds)
        assert dearest.cost.writes == 1 + rounds * 3


def test_loops_inside_of_loops_are_followed_in_little_time() -> None:
    body: Any = [Step("a", nothing), wait("X")]
    for depth in range(4):
        body = [While(f"w{depth}", lambda w: True, *body)]
    cheapest, dearest = paths(workflow(*body).__program__, rounds=1_000)
    assert cheapest == dearest
    assert dearest.cost.requests == 1 + 1_000**4
    assert dearest.choices == ("X",) * model.CHOICES_MAX


def test_many_branches_are_followed_in_little_time() -> None:
    choices = [If(f"i{n}", lambda w: True, Step(f"a{n}", nothing)).else_(wait(f"X{n}")) for n in range(60)]
    cheapest, dearest = paths(workflow(*choices).__program__)
    assert cheapest.cost.dollars < dearest.cost.dollars
    assert len(dearest.choices) >= 30


def test_the_price_is_the_sum_of_its_parts() -> None:
    cost = Cost(reads=100_000, writes=100_000, tasks=500_000, deletions=250_000, deliveries=250_000)
    assert cost.prices["read"] == pytest.approx(0.03)
    assert cost.prices["write"] == pytest.approx(0.09)
    assert cost.prices["task operation"] == pytest.approx(0.40)
    assert cost.dollars == pytest.approx(sum(cost.prices.values()))
    assert (cost * 3).dollars == pytest.approx(3 * cost.dollars)


ROWS = {
    "an instance is created": model.CREATION,
    "an event": model.EVENT,
    "the first step after a wait": model.BEGIN_STEPS + model.STEP,
    "each further step in a row": model.STEP,
    "an attempt of an activity": model.TIMER + model.ATTEMPT + model.NO_TIMER,
    "a child starts and ends, besides its own work": model.BEGIN_STEPS + model.STEP + model.END_OF_CHILD,
    "a timer that fires": model.TIMER + model.TIMEOUT,
    "a timer that is left before its time": model.TIMER + model.NO_TIMER,
    "a lazy timer that fires": model.LAZY + model.TIMEOUT,
    "a lazy timer that is left before its time": Cost(),
}


def test_the_numbers_in_the_docs_are_those_of_the_model() -> None:
    table = (
        (ROOT / "docs" / "explanation" / "scale.md")
        .read_text()
        .partition("|---|---|---|---|---|\n")[2]
        .partition("\n\n")[0]
    )
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert {row[0]: row[1:] for row in rows} == {
        what: [
            *(str(cost.reads), str(cost.writes), f"{cost.tasks}, {cost.deletions}, {cost.deliveries}"),
            f"{cost.dollars * 1e6:.2f}",
        ]
        for what, cost in ROWS.items()
    }


# --- the command -------------------------------------------------------------------------------


def test_the_command_prints_the_paths_of_each_workflow() -> None:
    result = CliRunner().invoke(app, ["cost", str(ROOT / "functions" / "main.py"), "--orders", "1000", "--rounds", "2"])
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.output.splitlines()]
    assert ["reads", "6", "10"] in lines
    assert ["writes", "4", "12"] in lines
    assert "most expensive: AddToCart, AddToCart, ConfirmOrder, Pay, Pay, StartCooking" in result.output
    assert "for 1,000 instances" in result.output
    assert "Each loop runs 2 times (--rounds)." in result.output.splitlines()[-1]
    result = CliRunner().invoke(app, ["cost", str(ROOT / "functions" / "main.py")])
    assert "Each loop runs once (--rounds)." in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    "option",
    ["--orders=0", "--orders=x", "--rounds=1001", "--lazy-timer-seconds=-1", "--lazy-timer-seconds=9999999999"],
)
def test_the_command_refuses_what_is_no_number_of_them(option: str) -> None:
    result = CliRunner().invoke(app, ["cost", str(ROOT / "functions" / "main.py"), option])
    assert result.exit_code == 2
    assert "Invalid value" in result.output


def test_the_command_prints_json() -> None:
    result = CliRunner().invoke(app, ["cost", str(ROOT / "functions" / "main.py"), "--json", "--orders", "10"])
    data = json.loads(result.output)["pizza"]["most_expensive"]
    assert (data["reads"], data["writes"], data["requests"]) == (8, 10, 8)
    assert data["dollars"] == pytest.approx(sum(data["prices"].values()))
    assert ID not in result.output
