"""Where an instance stands, laid over its definition."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from pizza import PizzaOrder

from tests.core.diagrams.svg_reader import SVG, check_geometry, expected_outline, groups, outline, parse, texts
from tests.core.generate import ERRORS, EVENTS, OPS, SPECS, Builder, Fields, Op, Spec
from tests.core.helpers import Logged, Unlucky, cancel, do, failing, play, start
from tests.core.pair import accepted, fail
from workflow_core import (
    Activity,
    ActivityContext,
    Break,
    Case,
    Default,
    Done,
    DuplicateThread,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Retry,
    Return,
    S,
    Select,
    Sleep,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    WaitKind,
    When,
    While,
    Within,
    Workflow,
    aresume,
    handle_event,
    resume,
)
from workflow_core.diagrams import mermaid, svg
from workflow_core.diagrams.describe import Node, title
from workflow_core.diagrams.live import Live, Place, look, state_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def nothing(*_: Any) -> None: ...


def ordering() -> tuple[PizzaOrder, Execution]:
    """An order whose cart is being filled."""
    order, execution = PizzaOrder(), Execution.start("order-7", PizzaOrder)
    asyncio.run(aresume(order, execution))
    return order, execution


def all_nodes(nodes: Any) -> Iterator[Node]:
    """All statements, and their parts, outer ones first."""
    if isinstance(nodes, list):
        for one in nodes:
            yield from all_nodes(one)
    elif isinstance(nodes, dict):
        yield nodes
        for key in ("work", "statements", "branches", "cases", "excepts", "finally"):
            yield from all_nodes(nodes.get(key))


def states(live: Live) -> dict[str, str]:
    """What is known of all that has a name, if anything is."""
    return {node["name"]: state_of(node) for node in all_nodes(live.statements) if node.get("name") and state_of(node)}


def seen(cls: type[Workflow], execution: Execution, *passed: Place, **errors: str) -> dict[str, str]:
    live = look(cls.__program__, execution, passed, dict(errors.items()))
    check_picture(cls, live)
    return states(live)


def check_picture(cls: type[Workflow], live: Live) -> Any:
    """Draws it: whole, with each state where it belongs."""
    root = parse(svg.draw(cls.__program__, live))
    check_geometry(root)
    assert outline(root) == expected_outline(live.statements)
    drawn = {one.get("data-name"): one.get("data-state") for one in groups(root) if one.get("data-state")}
    known = {node.get("name"): state_of(node) for node in all_nodes(live.statements) if state_of(node)}
    assert {name: state for name, state in drawn.items() if name} == {
        name: state for name, state in known.items() if name
    }
    check_mermaid(cls, live)
    return root


SIGNS = {"passed": "✓", "here": "●", "failed": "✗"}
WORDS = {"wait_for": "until ", "try": "try ", "for_each": "each of ", "go": "start ", "within": "within "}
"""What Mermaid's blocks say before the name of a statement."""


def check_mermaid(cls: type[Workflow], live: Live) -> None:
    """Each statement and condition of which something is known has a block that begins with the sign of its state.

    Cases and clauses are drawn as arrows, without a sign.
    """
    labels = re.findall(r'"([^"]*)"', mermaid.draw(cls.__program__, live))
    shown = [re.sub(r"#(\d+);", lambda found: chr(int(found[1])), label) for label in labels]
    signed = [label for label in shown if label[0] in SIGNS.values()]
    known = [
        f"{SIGNS[state_of(node)]} {WORDS.get(node['kind'], '')}{title(node) if node['kind'] == 'go' else node['name']}"
        for node in all_nodes(live.statements)
        if node.get("name")
        and state_of(node)
        and node["kind"] not in ("switch", "on", "timeout", "when", "done", "except")
    ]
    for label, expected in zip(signed, known, strict=True):
        assert label.startswith(expected)


# --- positions ---------------------------------------------------------------------------------


def test_the_pizza_order_on_its_way() -> None:
    order, execution = PizzaOrder(), Execution.start("order-7", PizzaOrder)
    assert seen(PizzaOrder, execution) == {}
    assert look(PizzaOrder.__program__, execution).starting == [
        {"id": "main", "status": "resuming", "attempt": 0, "error": None}
    ]

    asyncio.run(aresume(order, execution))
    assert seen(PizzaOrder, execution) == {"customer fills the cart": "here"}

    handle_event(order, execution, "AddToCart", {"name": "funghi"})
    handle_event(order, execution, "SubmitCart")
    fills = "customer fills the cart"
    assert seen(PizzaOrder, execution, (fills, "AddToCart"), (fills, "SubmitCart")) == {
        "order not yet submitted": "passed",
        fills: "passed",
        "AddToCart": "passed",
        "SubmitCart": "passed",
        "manager confirms the order": "here",
    }

    handle_event(order, execution, "ConfirmOrder", {"manager": "Ada", "amount": 10})
    asyncio.run(aresume(order, execution))
    assert seen(PizzaOrder, execution) == {
        "order not yet submitted": "passed",
        "manager confirms the order": "passed",
        "go payments": "passed",
        "payments/pay": "here",
        "print the kitchen ticket": "passed",
        "cook starts": "here",
    }

    for event in ("StartCooking", "FinishCooking"):
        handle_event(order, execution, event)
    handle_event(order, execution, "TakeDelivery", {"courier": "Bob"})
    handle_event(order, execution, "Deliver")
    assert seen(PizzaOrder, execution)["order is paid"] == "here"
    handle_event(order, execution, "Pay", {"amount": 10})
    asyncio.run(aresume(order, execution))
    assert execution.status == "finished"
    assert not look(PizzaOrder.__program__, execution).ended, "nothing is known of it"
    found = look(PizzaOrder.__program__, execution, ["delivery arrives"])
    assert found.ended
    assert {state_of(node) for node in found.statements} == {"passed"}


def test_an_end_by_return_is_not_taken_for_the_end_of_the_definition() -> None:
    order, execution = ordering()
    handle_event(order, execution, "customer fills the cart timed out")
    asyncio.run(aresume(order, execution))
    assert execution.status == "finished"
    found = look(PizzaOrder.__program__, execution, ["customer fills the cart timed out", "give up the cart"])
    assert not found.ended
    assert states(found) == {
        "order not yet submitted": "passed",
        "customer fills the cart": "passed",
        "customer fills the cart timed out": "passed",
        "give up the cart": "passed",
    }


def test_an_end_is_not_concluded_where_a_return_may_have_been_taken() -> None:
    def ended(*statements: Any, passed: tuple[Place, ...] = ()) -> bool:
        class Flow(Logged, name="flow"):
            definition = S(*statements)

        _, execution = start(Flow)
        assert execution.status == "finished"
        return look(Flow.__program__, execution, passed).ended

    assert ended(do("a"))
    assert not ended(do("a"), If("i", lambda w: False, Return()), do("b"), passed=("a", "b"))
    assert ended(do("a"), If("i", lambda w: False, do("c"), Return()), do("b"), passed=("a", "b"))
    assert not ended(do("a"), If("i", lambda w: True, do("c"), Return()), do("b"), passed=("a", "c"))
    assert ended(Parallel("p", S(Return())), Go("g", Return()), ForEach("f", lambda w: [1], Return(), parallel=True))
    assert not ended(Try("t", failing("a", TypeError)).except_(TypeError, Return()), do("b"))
    no_wait = Select("s", When("w", lambda w: True))
    assert not ended(do("a"), no_wait, If("i", lambda w: True, Return()), do("b"), passed=("a",))
    assert ended(do("a"), no_wait, do("b"), passed=("a", "b"))


def test_threads_of_one_statement_are_all_there() -> None:
    class Crowd(Logged, name="crowd"):
        definition = S(
            While(
                "five times",
                lambda w: len(w.log) < 5,
                Go("one of many", Select("waits", On("A", nothing)), id=lambda w: f"thread-{len(w.log)}"),
                do("count"),
            ),
            Select("the last", On("B", nothing)),
        )

    _, execution = start(Crowd)
    found = look(Crowd.__program__, execution)
    (waits,) = (node for node in all_nodes(found.statements) if node.get("name") == "waits")
    assert [thread["id"] for thread in waits["live"]["threads"]] == [f"thread-{i}" for i in range(5)]
    (group,) = (one for one in groups(check_picture(Crowd, found)) if one.get("data-name") == "waits")
    assert texts(group)[2] == "thread-0, thread-1, thread-2 and 2 more: waiting"


def test_parallel_threads() -> None:
    class Both(Logged, name="both"):
        items: list[int] = [1, 2]
        definition = S(
            Parallel(
                "parallel",
                S(do("a"), Select("left", On("A", nothing)), prefix="l"),
                S(ForEach("each", lambda w: w.items, do("b"), Select("right", On("A", nothing)), parallel=True)),
            )
        )

    _, execution = start(Both)
    assert seen(Both, execution) == {
        "parallel": "here",
        "l/a": "passed",
        "l/left": "here",
        "each": "here",
        "b": "passed",
        "right": "here",
    }


def test_a_position_in_a_branch_tells_which_was_taken() -> None:
    class Branches(Logged, name="branches"):
        definition = S(
            Switch(
                "which",
                Case("no", lambda w: False, do("a")),
                Case("yes", lambda w: True, do("b"), WaitFor("here", lambda w: False), do("c")),
                Default(do("d")),
            ),
            do("e"),
        )

    _, execution = start(Branches)
    assert seen(Branches, execution) == {"yes": "passed", "b": "passed", "here": "here"}


def test_two_selects_of_one_event_are_told_apart() -> None:
    class Twice(Logged, name="twice"):
        definition = S(Select("first", On("A", nothing)), Select("second", On("A", nothing)))

    _, execution = start(Twice)
    live = look(Twice.__program__, execution, [("second", "A")])
    first, second = live.statements
    assert first["cases"][0]["live"]["passed"] is False
    assert second["cases"][0]["live"]["passed"] is True


def test_timers_say_when_they_are_due() -> None:
    class Timers(Logged, name="timers"):
        definition = S(
            Go("side", Sleep("rest", timedelta(hours=1))),
            Select("wait", On("A", nothing), Timeout("late", timedelta(hours=2))),
        )

    _, execution = start(Timers, now=NOW)
    found = look(Timers.__program__, execution)
    due = {node["name"]: node["live"]["due"] for node in all_nodes(found.statements) if node["live"]["due"]}
    assert due == {"rest": "2026-01-01T01:00:00Z", "late": "2026-01-01T02:00:00Z"}
    assert states(found) == {"side": "passed", "rest": "here", "wait": "here"}, "a timer that runs has not happened"
    late = next(one for one in groups(check_picture(Timers, found)) if one.get("data-name") == "late")
    assert texts(late) == ["after 2 h", "late", "due 2026-01-01 02:00:00 UTC"]


def test_a_deadline_that_has_passed() -> None:
    class Flow(Logged, name="flow"):
        definition = S(
            Within("quickly", timedelta(hours=1), Select("wait", On("A", nothing))).on_timeout(
                If("stop", lambda w: True, Return())
            ),
            do("b"),
        )

    order, execution = start(Flow, now=NOW)
    (within,) = look(Flow.__program__, execution).statements[:1]
    assert (within["live"]["due"], within["cases"][0]["live"]["due"]) == ("2026-01-01T01:00:00Z", None)
    handle_event(order, execution, "quickly")
    resume(order, execution)
    found = look(Flow.__program__, execution, ["quickly"])
    assert execution.status == "finished"
    assert found.statements[0]["cases"][0]["live"]["passed"]
    assert not found.ended, "it may have ended by the Return"


# --- failures ----------------------------------------------------------------------------------


def test_a_condition_that_has_timed_out() -> None:
    class Flow(Logged, name="flow"):
        definition = S(
            Try("t", WaitFor("a", lambda w: False, timeout=timedelta(hours=1))).except_(
                Exception, Select("b", On("B", nothing)), name="caught"
            )
        )

    order, execution = start(Flow, now=NOW)
    case, failure = _late(look(Flow.__program__, execution))
    assert (case["live"]["due"], failure["live"]["due"]) == ("2026-01-01T01:00:00Z", None)
    handle_event(order, execution, "a timeout")
    found = look(Flow.__program__, execution, ["a timeout"])
    assert [state_of(node) for node in _late(found)] == ["passed", ""]
    assert states(found) == {"a": "passed", "a timeout": "passed", "caught": "passed", "b": "here"}
    check_picture(Flow, found)


def test_a_condition_whose_timeout_fails_the_instance() -> None:
    class Flow(Logged, name="flow"):
        definition = S(Try("t", WaitFor("a", lambda w: False, timeout=timedelta(hours=1))).finally_(do("b")))

    order, execution = start(Flow, now=NOW)
    handle_event(order, execution, "a timeout")
    resume(order, execution)
    assert execution.status == "failed"
    found = look(Flow.__program__, execution, ["a timeout"])
    case, failure = _late(found)
    assert (state_of(case), state_of(failure)) == ("passed", "failed")
    assert (case["live"]["threads"], [thread["id"] for thread in failure["live"]["threads"]]) == ([], ["main"])
    check_picture(Flow, found)


def _late(live: Live) -> tuple[Node, Node]:
    """The timeout of a ``WaitFor``, and the failure that follows it."""
    case = live.statements[0]["statements"][0]["cases"][1]
    return case, case["statements"][0]


def test_work_that_a_select_waits_for() -> None:
    class Flow(Logged, name="flow"):
        definition = S(Select("s", Done("done", Activity("work", lambda: None)), On("A", nothing)), do("b"))

    _, execution = Flow(), Execution.start("id-1", Flow)
    assert seen(Flow, execution, "work") == {"s": "passed", "done": "passed", "work": "passed"}
    assert seen(Flow, execution, work="Unlucky: no luck") == {"work": "failed"}


def test_a_step_that_is_tried_again() -> None:
    class Retried(Logged, name="retried"):
        definition = S(do("a"), failing("b", Unlucky, retry=Retry(max_attempts=5, initial=timedelta(0))), do("c"))

    order, execution = Retried(), Execution.start("id-1", Retried)
    for _ in range(2):
        try:
            resume(order, execution)
        except Unlucky:
            continue
    found = look(Retried.__program__, execution)
    thread = found.statements[1]["live"]["threads"][0]
    assert states(found) == {"a": "passed", "b": "here"}
    assert thread["attempt"] == execution.threads[0].attempt > 0
    group = groups(check_picture(Retried, found))[1]
    assert f"main: attempt {thread['attempt']} failed, Unlucky: " in " ".join(texts(group))


def test_an_instance_that_has_failed() -> None:
    class Failed(Logged, name="failed"):
        definition = S(do("a"), While("w", lambda w: True, Fail("b", "out of <flour>"), Break()), do("c"))

    _, execution = play(Failed, end="failed")
    found = look(Failed.__program__, execution)
    assert states(found) == {"a": "passed", "b": "failed"}, "the loop was not left"
    root = check_picture(Failed, found)
    assert texts(root)[1:3] == ["instance id-1: failed", "Failure: out of <flour>"]
    (group,) = (one for one in groups(root) if one.get("data-state") == "failed")
    assert texts(group)[-1] == "Failure: out of <flour>"
    assert group.get("aria-label", "").endswith("Failure: out of <flour>, failed")


def test_what_was_caught() -> None:
    class Caught(Logged, name="caught"):
        definition = S(
            Try("t", do("a"), failing("b", TypeError), do("c"))
            .except_(TypeError, do("d"), Select("e", On("A", nothing)), name="caught")
            .finally_(do("f"))
        )

    order, execution = Caught(), Execution.start("id-1", Caught)
    try:
        resume(order, execution)
    except TypeError as error:
        fail(order, execution, error)
        resume(order, execution)
    assert seen(Caught, execution, b="TypeError: b") == {
        "a": "passed",
        "b": "failed",
        "caught": "passed",
        "d": "passed",
        "e": "here",
    }


def test_a_canceled_instance_has_come_to_no_end() -> None:
    order, execution = ordering()
    cancel(order, execution)
    found = look(PizzaOrder.__program__, execution)
    assert (found.status, found.ended, states(found)) == ("canceled", False, {})


def test_what_the_definition_no_longer_has() -> None:
    class Old(Logged, name="renamed"):
        definition = S(Select("old name", On("A", nothing)))

    class New(Logged, name="renamed"):
        definition = S(Select("new name", On("A", nothing)))

    _, execution = start(Old)
    found = look(New.__program__, execution, ["gone, too"])
    assert (found.lost, states(found)) == ([("main", "old name")], {})
    assert "main is at “old name”, which the definition no longer contains" in texts(check_picture(New, found))


def test_signs_do_not_rest_on_colour() -> None:
    order, execution = ordering()
    handle_event(order, execution, "AddToCart", {"name": "funghi"})
    handle_event(order, execution, "SubmitCart")
    root = check_picture(PizzaOrder, look(PizzaOrder.__program__, execution))
    for group in groups(root):
        state = group.get("data-state")
        signs = [one for one in group.findall(f"{SVG}path") if one.get("class") == f"wf-{state}"]
        assert len(signs) == (1 if state else 0)
    here = next(group for group in groups(root) if group.get("data-state") == "here")
    assert here.get("aria-label") == "wait manager confirms the order, main: waiting"
    assert root.get("aria-label") == "Workflow pizza, instance order-7: waiting"
    assert "a thread is here" in [one.text for one in root.iter(f"{SVG}text")]
    assert "a thread is here" not in svg.draw(PizzaOrder.__program__)


def test_in_mermaid() -> None:
    order, execution = ordering()
    handle_event(order, execution, "AddToCart", {"name": "funghi"})
    handle_event(order, execution, "SubmitCart")
    plain = mermaid.draw(PizzaOrder.__program__)
    text = mermaid.draw(PizzaOrder.__program__, look(PizzaOrder.__program__, execution))
    assert '{"#10003; order not yet submitted"}' in text
    assert '{{"#9679; manager confirms the order (main#58; waiting)"}}' in text
    assert '{{"cook starts"}}' in text
    assert len(text.splitlines()) == len(plain.splitlines())


# --- random instances --------------------------------------------------------------------------


class Recording(Builder):
    """Builds a workflow that notes which of its steps and activities have come to their end."""

    def __init__(self) -> None:
        super().__init__()
        self.done: set[Place] = set()

    def action(self, action: Callable[..., Any]) -> Callable[..., Any]:
        takes_context = len(inspect.signature(action).parameters) == 2

        def run(w: Any, step: StepContext) -> Any:
            result = action(w, step) if takes_context else action(w)
            self.done.add(step.step)
            return result

        return run

    def activity(self, function: Callable[..., Any], heartbeat: timedelta | None) -> Callable[..., Any]:
        def run(number: int, context: ActivityContext) -> int:
            result: int = function(number, context)
            self.done.add(context.activity)
            return result

        return run


def check(cls: type[Workflow], execution: Execution, done: set[Place]) -> None:
    for passed in ((), done):
        found = look(cls.__program__, execution, passed)
        nodes = list(all_nodes(found.statements))
        shown = [(one["id"], node.get("name", "")) for node in nodes for one in node["live"]["threads"]]
        shown += [(one["id"], "") for one in found.starting]
        assert len(shown) == len(execution.threads)
        for thread in execution.threads:
            # One that has just been started stands where it was started.
            assert thread.step == "" or (thread.id, thread.step) in shown
        assert {id for id, _ in shown} == {thread.id for thread in execution.threads}
        assert found.lost == []
        for node in nodes:
            # What is concluded is true.
            if node["kind"] in ("step", "activity") and node["live"]["passed"]:
                assert node["name"] in done
    if found.ended:
        assert execution.status == "finished"
        names = {node["name"] for node in found.statements if node["kind"] in ("step", "activity", "sleep")}
        # A condition or a result that ends a select is not among what was sent.
        sent = ("on", "timeout")
        selects = [node for node in found.statements if node["kind"] == "select"]
        names |= {node["name"] for node in selects if all(case["kind"] in sent for case in node["cases"])}
        assert names <= done


@pytest.mark.usefixtures("quarters")
@settings(max_examples=30)
@given(SPECS, OPS)
def test_random_instances(spec: list[Spec], ops: list[Op]) -> None:
    builder = Recording()

    class Flow(Fields, name="flow"):
        definition = builder.section(spec)

    Flow.trace = []
    order, execution = Flow(), Execution.start("id-1", Flow)
    done = builder.done

    def go_on() -> None:
        while True:
            try:
                resume(order, execution)
                return
            except ERRORS as error:
                fail(order, execution, error)

    def send(pick: int, amount: int) -> None:
        offers = accepted(order, execution)
        if not offers:
            return
        offer = offers[pick % len(offers)]
        select, event = offer.thread.step, offer.case.event
        address: dict[str, Any] = {} if offer.case.kind is WaitKind.TIMEOUT else {"thread_id": offer.thread.id}
        handle_event(order, execution, event, amount if offer.case.takes_input else None, **address)
        done.update([event, select] if offer.case.kind is WaitKind.TIMEOUT else [(select, event), select])

    try:
        check(Flow, execution, done)
        go_on()
        for _, pick, amount in ops:
            check(Flow, execution, done)
            send(pick, amount)
            go_on()
        check(Flow, execution, done)
    except DuplicateThread:
        return
    check_picture(Flow, look(Flow.__program__, execution, done, dict.fromkeys(EVENTS, "an <error>")))


def test_an_activity_that_has_failed() -> None:
    def work() -> None:
        raise Unlucky

    class Flow(Logged, name="flow"):
        definition = S(Activity("a", work), do("b"))

    _, execution = Flow(), Execution.start("id-1", Flow)
    assert seen(Flow, execution, a="Unlucky: no luck") == {"a": "failed"}
