"""``ForEach`` and ``Parallel``: rounds and branches, their items, and what a failure of one does to the others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.helpers import Logged, do, log, reload, run, standing, start
from tests.core.test_failures import BadError, boom, flow, log_of, note
from workflow_core import (
    Break,
    Continue,
    Execution,
    ExecutionError,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    S,
    Select,
    Step,
    StepContext,
    Try,
    handle_event,
    resume,
)


def show(w: Any, step: StepContext) -> None:
    w.log.append(f"{step.index}: {step.item}")


def items(w: Any) -> list[str]:
    return ["a", "b", "c"]


def test_each_item_has_its_round() -> None:
    assert log_of(ForEach("each", items, Step("show", show)), do("after")) == ["0: a", "1: b", "2: c", "after"]


def test_an_empty_collection_has_none() -> None:
    assert log_of(ForEach("each", lambda w: [], do("never")), do("after")) == ["after"]


def test_conditions_take_the_item_and_loops_can_be_left() -> None:
    body = [If("b", lambda w, item: item == "b", Continue()), Step("show", show)]
    assert log_of(ForEach("each", items, *body)) == ["0: a", "2: c"]
    body = [If("b", lambda w, item: item == "b", Break()), Step("show", show)]
    assert log_of(ForEach("each", items, *body), do("after")) == ["0: a", "after"]


def test_loops_over_items_of_items() -> None:
    inner = ForEach("inner", lambda w, item: [item + "1", item + "2"], Step("show", show))
    assert log_of(ForEach("outer", lambda w: "xy", inner)) == ["0: x1", "1: x2", "0: y1", "1: y2"]


def test_the_position_is_kept_while_it_waits() -> None:
    def keep(w: Any, answer: str, *, item: str) -> None:
        w.log.append(f"{item} {answer}")

    order, execution = start(flow(ForEach("each", items, Select("wait", On("Answer", keep)))))
    for answer in ("1", "2", "3"):
        order, execution = reload(order, execution)
        handle_event(order, execution, "Answer", answer)
        resume(order, execution)
    assert order.log == ["a 1", "b 2", "c 3"]
    assert execution.status == "finished"


def test_what_has_no_order_is_refused() -> None:
    for wrong in ({"a"}, 5):
        cls = flow(ForEach("each", lambda w, wrong=wrong: wrong, do("never")))
        with pytest.raises(ExecutionError, match="which has no order: return a list"):
            resume(cls(), Execution.start("id-1", cls))


@pytest.mark.parametrize(("limit", "most"), [(None, 3), (1, 1), (2, 2), (9, 3)])
def test_in_parallel_so_many_run_at_a_time(limit: int | None, most: int) -> None:
    wait = Select("wait", On("Go", log("go")))
    order, execution = start(flow(ForEach("each", items, wait, Step("show", show), parallel=True, limit=limit)))
    assert list(standing(execution)) == ["main", *(f"each[{number}]" for number in range(most))]
    seen = 0
    while execution.status != "finished":
        seen = max(seen, len(execution.threads) - 1)
        order, execution = reload(order, execution)
        handle_event(order, execution, "Go")
        resume(order, execution)
    assert seen == most
    assert [line for line in order.log if line != "go"] == ["0: a", "1: b", "2: c"]


def test_branches_are_joined() -> None:
    order, execution = start(
        flow(
            Parallel("both", S(Select("l", On("L", log("l")))), S(Select("wait", On("R", log("r"))), prefix="right")),
            do("joined"),
        )
    )
    assert standing(execution) == {"main": "both", "both[0]": "l", "both[right]": "right/wait"}
    handle_event(order, execution, "R")
    resume(order, execution)
    assert order.log == ["r"]
    handle_event(order, execution, "L")
    resume(order, execution)
    assert order.log == ["r", "l", "joined"]


def test_a_branch_that_fails_cancels_the_others_and_then_the_statement_fails() -> None:
    other = Try("other try", Select("wait", On("E", log("e")))).finally_(do("cleaned"))
    nested = Parallel("nested", S(Try("deep try", Select("deep wait", On("E", log("e")))).finally_(do("deep"))))
    attempt = Try("t", Parallel("all", S(other), S(nested), S(do("go"), Step("b", boom())))).except_(
        BadError, then=note
    )
    assert log_of(attempt, do("after")) == ["go", "cleaned", "deep", "BadError(boom) at b", "after"]


def test_the_first_failure_counts() -> None:
    second = Try("t", Select("wait", On("E", log("e")))).finally_(Step("c", boom(text="second")))
    parallel = Parallel("all", S(second), S(Step("b", boom(text="first"))))
    assert log_of(Try("outer try", parallel).except_(BadError, then=note)) == ["BadError(first) at b"]


def test_a_thread_that_a_branch_has_started_is_its_own() -> None:
    class Flow(Logged, name="flow"):
        definition = S(
            Parallel("all", S(Go("beside", Select("wait", On("E", log("e")))))), Select("end", On("End", log("end")))
        )

    _, execution = start(Flow)
    assert standing(execution) == {"main": "end", "beside": "wait"}


def test_a_collection_that_shrinks_is_an_error_that_says_so() -> None:
    class Flow(Logged, name="flow"):
        names: list[str] = ["a", "b"]
        definition = S(
            ForEach(
                "each", lambda w: w.names, Step("drop", lambda w: w.names.clear()), Step("show", show), parallel=True
            )
        )

    with pytest.raises(ExecutionError, match="item 0 of 0 is gone: let the collection not shrink"):
        run(Flow)
