"""``ForEach``: one round after another, or all at the same time; what its item is, and which functions receive it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, accepted, do, kinds, log, play, reload, saved, standing, start, unlucky
from workflow_core import (
    Break,
    Case,
    Continue,
    Default,
    EventRejected,
    Execution,
    ExecutionError,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.statements.fanout import PARALLEL_LIMIT


class Letters(Logged):
    """Has something to go through; abstract."""

    items: list[str] = ["a", "b", "c"]
    more: dict[str, list[int]] = {}


def flow(*statements: Any) -> type[Letters]:
    class Flow(Letters, name="flow"):
        definition = S(*statements)

    return Flow


def see(name: str) -> Step:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"{name} {step.index}:{step.item}")

    return Step(name, act)


def items(w: Any) -> Any:
    return w.items


SEE = see("see")


# --- one after another -----------------------------------------------------------------------


def test_each_item_in_its_order() -> None:
    assert play(flow(see("before"), ForEach("each", items, SEE), see("behind")))[0].log == [
        *("before None:None", "see 0:a", "see 1:b", "see 2:c", "behind None:None")
    ]


@pytest.mark.parametrize("parallel", [False, True])
def test_without_items_nothing_happens(parallel: bool) -> None:
    each = ForEach("each", lambda w: [], do("never"), parallel=parallel)
    assert play(flow(do("a"), each, do("b")))[0].log == ["a", "b"]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    "collection",
    [("a", "b"), "ab", {"a": 1, "b": 2}, {"a": 1, "b": 2}.keys(), range(2)],
    ids=lambda one: type(one).__name__,
)
def test_any_collection_with_an_order_will_do(collection: Any, parallel: bool) -> None:
    each = ForEach("each", lambda w: collection, SEE, parallel=parallel)
    assert play(flow(each))[0].log == [f"see {index}:{item}" for index, item in enumerate(collection)]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"a"}, "has no order"),
        (frozenset("a"), "has no order"),
        (3, "is no collection"),
        (None, "is no collection"),
    ],
    ids=str,
)
def test_what_has_no_order_is_an_error(wrong: Any, what: str, parallel: bool) -> None:
    Flow = flow(ForEach("each", lambda w: wrong, SEE, parallel=parallel))  # noqa: N806
    with pytest.raises(ExecutionError, match=rf"ForEach 'each': its items are .*, which {what}. Return a list"):
        start(Flow)


def test_what_a_round_adds_gets_a_round() -> None:
    def grow(w: Any, step: StepContext) -> None:
        if len(w.items) < 5:
            w.items.append(f"{step.item}{step.index}")

    assert play(flow(ForEach("each", items, SEE, Step("grow", grow))))[0].log == [
        *("see 0:a", "see 1:b", "see 2:c", "see 3:a0", "see 4:b1")
    ]


def test_an_item_that_is_gone_ends_the_loop_between_rounds_and_is_an_error_within_one() -> None:
    def drop(w: Any) -> None:
        w.items = w.items[:1]

    assert play(flow(ForEach("each", items, SEE, Step("drop", drop))))[0].log == ["see 0:a"]
    second = If("second?", lambda w, item: item == "b", Step("drop", drop), see("again"))
    with pytest.raises(ExecutionError, match="ForEach 'each': item 1 does not exist: the collection has length 1"):
        start(flow(ForEach("each", items, second)))


def test_break_continue_and_return() -> None:
    is_b = If("b?", lambda w, item: item == "b", Break())
    assert play(flow(ForEach("each", items, SEE, is_b, do("more")), do("end")))[0].log == [
        *("see 0:a", "more", "see 1:b", "end")
    ]
    is_b = If("b?", lambda w, item: item == "b", Continue())
    assert play(flow(ForEach("each", items, SEE, is_b, do("more")), do("end")))[0].log == [
        *("see 0:a", "more", "see 1:b", "see 2:c", "more", "end")
    ]
    is_b = If("b?", lambda w, item: item == "b", Return())
    assert play(flow(ForEach("each", items, SEE, is_b), do("never")))[0].log == ["see 0:a", "see 1:b"]


def test_a_loop_that_was_left_begins_at_its_first_item_again() -> None:
    def up(w: Any) -> None:
        w.n += 1

    leave = If("b?", lambda w, item: item == "b", Break())
    outer = While("twice", lambda w: w.n < 2, Step("up", up), ForEach("each", items, SEE, leave))
    assert play(flow(outer))[0].log == ["see 0:a", "see 1:b"] * 2


def test_a_loop_that_an_error_has_left_begins_at_its_first_item_again() -> None:
    fail = If("b?", lambda w, item: item == "b", Fail("bad", lambda w, item: f"{item} is bad"))
    attempt = Try("try", ForEach("each", items, SEE, fail)).except_(Exception, see("caught"), name="e")

    def up(w: Any) -> None:
        w.n += 1

    assert play(flow(While("twice", lambda w: w.n < 2, Step("up", up), attempt)))[0].log == [
        *("see 0:a", "see 1:b", "caught None:None") * 2
    ]


@pytest.mark.parametrize("parallel", [False, True])
def test_loops_nest_and_the_innermost_item_is_told(parallel: bool) -> None:
    inner = ForEach("inner", lambda w, letter: w.more.get(letter, []), see("in"), parallel=parallel)
    outer = ForEach("outer", items, see("first"), inner, see("last"))
    order, _ = play(flow(outer), items=["a", "b"], more={"a": [1, 2], "b": []})
    assert order.log == ["first 0:a", "in 0:1", "in 1:2", "last 0:a", "first 1:b", "last 1:b"]


def test_a_step_that_is_tried_again_has_the_same_item() -> None:
    seen: list[tuple[Any, int]] = []

    def act(w: Any, step: StepContext) -> None:
        seen.append((step.item, step.attempt))
        w.log.append(step.item)

    order, _ = play(flow(ForEach("each", items, unlucky("flaky"), Step("see", act))))
    assert order.log == ["flaky", "a", "flaky", "b", "flaky", "c"]
    assert {attempt for _, attempt in seen} == {1}


def test_a_position_survives_the_process() -> None:
    Flow = flow(ForEach("each", items, Select("s", On("E", log("e"))), SEE))  # noqa: N806
    order, execution = start(Flow)
    for _ in range(3):
        order, execution = reload(order, execution)
        handle_event(order, execution, "E")
        resume(order, execution)
    assert execution.status == "finished"
    assert order.log == ["e", "see 0:a", "e", "see 1:b", "e", "see 2:c"]


def test_keys_differ_in_each_round() -> None:
    keys: list[str] = []
    start(flow(ForEach("each", items, Step("see", lambda w, step: keys.append(step.idempotency_key)))))
    assert len(set(keys)) == 3


# --- who is told of the item -----------------------------------------------------------------


@pytest.mark.parametrize("parallel", [False, True])
def test_every_function_inside_may_take_the_item(parallel: bool) -> None:
    def handle(w: Any, n: int, *, item: str) -> str:
        w.log.append(f"handler {item}")
        return f"{item}{n}"

    def refuse(w: Any, *, item: str) -> None:
        raise EventRejected(f"not for {item}")

    body = (
        If("if", lambda w, item: item == "a", Step("step", lambda w, step: w.log.append(f"step {step.item}"))),
        Switch("switch", Case("case", lambda w, item: item != "a", do("a case")), Default(do("default"))),
        While(
            "while",
            lambda w, item: f"while {item}" not in w.log,
            Step("do", lambda w, s: w.log.append(f"while {s.item}")),
        ),
        WaitFor("wait for", lambda w, item: bool(item)),
        Select("s", On("E", handle), On("No", refuse), Timeout("t", lambda w, item: timedelta(days=len(item)))),
        Sleep("sleep", lambda w, item: timedelta(days=len(item))),
        Go("go", Step("in a thread", lambda w, s: w.log.append(f"thread {s.item}")), id=lambda w, item: f"t-{item}"),
        WaitFor("thread ran", lambda w, item: f"thread {item}" in w.log),
    )
    Flow = flow(ForEach("each", items, *body, parallel=parallel, limit=1 if parallel else None))  # noqa: N806
    order, execution = start(Flow, items=["a", "bb"])
    for item in order.items:
        with pytest.raises(EventRejected, match=f"not for {item}"):
            handle_event(order, execution, "No")
        assert handle_event(order, execution, "E", 7) == f"{item}7"
        resume(order, execution)
        handle_event(order, execution, "sleep")
        resume(order, execution)
    assert execution.status == "finished"
    assert order.log == [
        *("step a", "default", "while a", "handler a", "thread a"),
        *("a case", "while bb", "handler bb", "thread bb"),
    ]


def test_outside_of_a_loop_a_handler_s_keyword_item_is_the_authors_own() -> None:
    def handle(w: Any, *, item: str = "mine") -> None:
        w.log.append(item)

    assert play(flow(Select("s", On("E", handle))), "E")[0].log == ["mine"]


# --- at the same time ------------------------------------------------------------------------


def test_rounds_in_threads_of_their_own_are_joined() -> None:
    each = ForEach("each", items, SEE, Select("s", On("E", log("e"))), see("again"), parallel=True)
    Flow = flow(each, do("end"))  # noqa: N806
    order, execution = start(Flow)
    assert order.log == ["see 0:a", "see 1:b", "see 2:c"]
    assert standing(execution) == {"main": "each", "each[0]": "s", "each[1]": "s", "each[2]": "s"}
    assert execution.status == "waiting"
    handle_event(order, execution, "E", thread_id="each[1]")
    resume(order, execution)
    assert order.log[3:] == ["e", "again 1:b"]
    assert standing(execution) == {"main": "each", "each[0]": "s", "each[2]": "s"}
    assert play(Flow, "E", "E", "E")[0].log[3:] == ["e", "again 0:a", "e", "again 1:b", "e", "again 2:c", "end"]


def test_a_limit_is_kept_and_a_round_begins_when_another_has_ended() -> None:
    each = ForEach("each", items, SEE, Select("s", On("E", log("e"))), parallel=True, limit=2)
    Flow = flow(each, do("end"))  # noqa: N806
    order, execution = start(Flow, items=list("abcd"))
    assert set(standing(execution)) == {"main", "each[0]", "each[1]"}
    handle_event(order, execution, "E", thread_id="each[1]")
    resume(order, execution)
    assert set(standing(execution)) == {"main", "each[0]", "each[2]"}
    order, _ = play(Flow, *["E"] * 4, items=list("abcd"))
    assert order.log == ["see 0:a", "see 1:b", "e", "see 2:c", "e", "see 3:d", "e", "e", "end"]


@pytest.mark.parametrize("limit", [None, 1, 2, 9])
def test_what_is_added_while_rounds_run_gets_a_round(limit: int | None) -> None:
    def grow(w: Any, step: StepContext) -> None:
        if len(w.items) < 5:
            w.items.append(f"{step.item}{step.index}")

    order, _ = play(flow(ForEach("each", items, SEE, Step("grow", grow), parallel=True, limit=limit)))
    assert order.log == ["see 0:a", "see 1:b", "see 2:c", "see 3:a0", "see 4:b1"]


def test_without_a_limit_a_hundred_rounds_run_at_a_time() -> None:
    each = ForEach("each", items, Select("s", On("E", log("e"))), parallel=True)
    assert (each.limit, PARALLEL_LIMIT, ForEach("one by one", items, do("a")).limit) == (100, 100, None)
    order, execution = start(flow(each, do("end")), items=["x"] * 250)
    assert len(execution.threads) == 101
    handle_event(order, execution, "E", thread_id="each[42]")
    resume(order, execution)
    assert [thread.id for thread in execution.threads[-2:]] == ["each[99]", "each[100]"]
    for _ in range(249):
        assert len(execution.threads) <= 101
        handle_event(order, execution, "E")
        resume(order, execution)
    assert (order.log, execution.status) == (["e"] * 250 + ["end"], "finished")


def test_an_instance_with_more_rounds_than_the_limit_goes_on_and_starts_none_until_it_is_below() -> None:
    """As one that was started when there was no limit, or a higher one."""
    select = Select("s", On("E", log("e")))
    order, execution = start(flow(ForEach("each", items, select, parallel=True, limit=200)), items=["x"] * 250)
    assert len(execution.threads) == 201
    Flow = flow(ForEach("each", items, select, parallel=True), do("end"))  # noqa: N806
    order, execution = reload(Flow(items=order.items), execution)
    for live in [*range(199, 100, -1), *[100] * 51, *range(99, 0, -1)]:
        handle_event(order, execution, "E")
        resume(order, execution)
        assert len(execution.threads) == live + 1
    handle_event(order, execution, "E")
    resume(order, execution)
    assert (order.log, execution.status) == (["e"] * 250 + ["end"], "finished")


def test_what_many_rounds_cost_does_not_grow_with_their_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread is compared with another by all that it holds, and none is looked up for each round that starts."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("this takes time for each live thread")

    monkeypatch.setattr(type(Execution.start("1", flow(do("a"))).threads[0]), "__eq__", refuse)
    monkeypatch.setattr(Execution, "thread", refuse)
    Flow = flow(ForEach("each", items, Select("s", On("E", log("e"))), parallel=True, limit=50))  # noqa: N806
    order, execution = start(Flow, items=["x"] * 50)
    for thread in execution.threads[:0:-1]:
        handle_event(order, execution, "E", thread_id=thread.id)
    resume(order, execution)
    assert (len(order.log), execution.status) == (50, "finished")


def test_a_round_that_fails_cancels_the_others_and_starts_no_more() -> None:
    def clean(w: Any, step: StepContext) -> None:
        w.log.append(f"clean {step.item}")

    choose = If("b?", lambda w, item: item == "b", Fail("bad", lambda w, item: f"{item} is bad")).else_(
        Sleep("wait", timedelta(1))
    )
    body = Try("in", SEE, choose).finally_(Step("clean", clean))
    each = ForEach("each", items, body, parallel=True, limit=2)
    attempt = Try("try", each, do("never")).except_(Exception, then=lambda w, e: w.log.append(e.message), name="e")
    assert play(flow(attempt, do("end")))[0].log == [*("see 0:a", "see 1:b", "clean b", "clean a", "b is bad", "end")]


def test_return_ends_its_round_alone() -> None:
    choose = If("b?", lambda w, item: item == "b", Return())
    assert play(flow(ForEach("each", items, choose, SEE, parallel=True), do("end")))[0].log == [
        *("see 0:a", "see 2:c", "end")
    ]


def test_parallel_loops_nest_and_their_threads_have_ids_of_their_own() -> None:
    inner = ForEach("inner", lambda w, letter: w.more[letter], see("in"), Sleep("wait", timedelta(1)), parallel=True)
    Flow = flow(ForEach("outer", items, inner, see("out"), parallel=True))  # noqa: N806
    more = {"a": [1, 2], "b": [3]}
    order, execution = start(Flow, items=["a", "b"], more=more)
    assert list(standing(execution)) == [
        *("main", "outer[0]", "outer[1]", "outer[0]/inner[0]", "outer[0]/inner[1]", "outer[1]/inner[0]")
    ]
    order, _ = play(Flow, *["wait"] * 3, items=["a", "b"], more=more)
    assert order.log == ["in 0:1", "in 1:2", "in 0:3", "out 0:a", "out 1:b"]


def test_a_parallel_loop_in_a_loop_and_in_a_thread() -> None:
    each = ForEach("each", lambda w, n: w.items, SEE, parallel=True)
    rounds = ForEach("rounds", lambda w: [1, 2], each, see("round"))
    expected = ["see 0:a", "see 1:b", "see 2:c", "round 0:1", "see 0:a", "see 1:b", "see 2:c", "round 1:2"]
    assert play(flow(rounds))[0].log == expected
    ended = WaitFor("ended", lambda w: len(w.log) == 8)
    assert play(flow(Go("side", rounds, id="t"), ended))[0].log == expected


def test_rounds_may_start_threads_and_wait_for_events() -> None:
    def note(w: Any, step: StepContext) -> None:
        w.log.append(f"{step.thread_id} {step.item}")

    body = (Go("go", Step("note", note), id=lambda w, item: f"side of {item}"), Select("s", On("E", log("e"))))
    each = ForEach("each", lambda w: ["a", "b"], *body, parallel=True)
    assert play(flow(each), "E", "E")[0].log == ["side of a a", "side of b b", "e", "e"]


def test_each_wait_of_a_round_is_addressed_by_its_thread() -> None:
    Flow = flow(ForEach("each", items, Sleep("wait", timedelta(1)), SEE, parallel=True))  # noqa: N806
    order, execution = start(Flow)
    assert accepted(order, execution) == []
    wait_ids = [thread.waits[0].id for thread in execution.threads[1:]]
    assert len(set(wait_ids)) == 3
    handle_event(order, execution, "wait", wait_id=wait_ids[2])
    resume(order, execution)
    assert order.log == ["see 2:c"]


def test_resume_and_nothing_to_do_changes_nothing() -> None:
    Flow = flow(ForEach("each", items, Sleep("wait", timedelta(1)), parallel=True, limit=2))  # noqa: N806
    order, execution = start(Flow)
    before = saved(order, execution)
    assert kinds(order, execution) == []
    assert saved(order, execution) == before


def test_a_position_of_no_round_is_kept() -> None:
    Flow = flow(ForEach("each", items, SEE), ForEach("all", items, do("x"), parallel=True), Sleep("s", timedelta(1)))  # noqa: N806
    _, execution = start(Flow)
    assert execution.threads[0].positions == {}
    order, execution = Flow(), Execution.start("id-1", Flow)
    resume(order, execution)
    assert execution.status == "waiting"
