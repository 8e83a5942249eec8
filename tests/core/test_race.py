"""``Race``: sections that run at the same time, until the first one ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

import pytest

from tests.core.helpers import Logged, Outside, cancel, do, failing, flow, log, play, standing, start
from workflow_core import (
    Activity,
    DefinitionError,
    Execution,
    Fail,
    ForEach,
    On,
    Parallel,
    Race,
    Return,
    S,
    Section,
    Select,
    Sleep,
    Step,
    Try,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine


def wait(name: str) -> Sleep:
    return Sleep(name, timedelta(days=1))


def won(w: Any, prefix: str) -> None:
    w.log.append(f"{prefix} won")


def test_the_first_branch_to_end_ends_the_others() -> None:
    race = Race("race", S(wait("left"), do("l")), S(wait("right"), do("r")))
    Flow = flow(race, do("b"))  # noqa: N806
    order, execution = start(Flow)
    assert standing(execution) == {"main": "race", "race[0]": "left", "race[1]": "right"}
    handle_event(order, execution, "right")
    resume(order, execution)
    assert (order.log, execution.status) == (["r", "b"], "finished")
    for first, logged in (("left", "l"), ("right", "r")):
        assert play(Flow, first)[0].log == [logged, "b"]


@pytest.mark.parametrize(("count", "winner"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (5, 0), (5, 3), (5, 4)])
def test_every_other_branch_cleans_up_once(count: int, winner: int) -> None:
    branches = [
        S(Try(f"try {n}", wait(f"wait {n}"), do(f"end {n}")).finally_(do(f"cleanup {n}")), prefix=f"b{n}")
        for n in range(count)
    ]
    order, execution = start(flow(Race("race", *branches, then=won), wait("after")))
    handle_event(order, execution, f"b{winner}/wait {winner}")
    resume(order, execution)
    assert order.log[0] == f"end {winner}"
    assert sorted(order.log[1:-1]) == [f"cleanup {n}" for n in range(count)]
    assert order.log[-1] == f"b{winner} won"
    assert standing(execution) == {"main": "after"}


def test_the_others_are_torn_down_and_clean_up_before_it_goes_on() -> None:
    slow = Try("slow", Select("ask", On("Answer", Outside()))).finally_(do("cleanup"), wait("calm down"))
    Flow = flow(Race("race", S(slow, do("never")), S(wait("right"))), do("b"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "right")
    resume(order, execution)
    assert order.log == ["setup", "teardown False", "cleanup"]
    assert standing(execution) == {"main": "race", "race[0]": "calm down"}
    handle_event(order, execution, "calm down")
    resume(order, execution)
    assert (order.log[-1], execution.status) == ("b", "finished")
    play(Flow, "right", "calm down")


def test_then_receives_the_prefix_of_the_winner() -> None:
    def decided(w: Logged, by: Literal["mail", "phone"]) -> None:
        w.log.append(by)

    race = Race("race", S(wait("it"), prefix="mail"), S(wait("it"), prefix="phone"), then=decided)
    assert play(flow(race), "phone/it")[0].log == ["phone"]
    assert play(flow(S(race, prefix="p")), "p/mail/it")[0].log == ["mail"]


def test_then_receives_the_item_of_the_loop_around_it() -> None:
    def decided(w: Any, prefix: str, *, item: int) -> None:
        w.log.append(f"{item} {prefix}")

    race = Race("race", S(Step("a", lambda w: None), prefix="a"), S(wait("b"), prefix="b"), then=decided)
    assert play(flow(ForEach("each", lambda w: [1, 2], race)))[0].log == ["1 a", "2 a"]


def test_the_end_of_a_branch_may_be_a_return_or_come_at_once() -> None:
    race = Race("race", S(Return(), prefix="a"), S(do("never"), prefix="b"), then=won)
    assert play(flow(race))[0].log == ["a won"]


def test_an_error_of_the_first_to_end_is_that_of_the_statement() -> None:
    race = Race("race", S(failing("bad")), S(Try("t", wait("right")).finally_(do("cleanup"))))
    assert play(flow(Try("try", race).except_(ValueError, do("caught"))))[0].log == ["cleanup", "caught"]
    _, execution = play(flow(Race("race", S(Fail("no", "no")), S(wait("right")))), end="failed")
    assert execution.error is not None and execution.error.statement == "no"


def test_an_error_in_the_cleanup_of_a_loser_is_that_of_the_statement() -> None:
    loser = Try("t", wait("left")).finally_(failing("cleanup"))
    race = Race("race", S(loser, prefix="a"), S(wait("right"), prefix="b"), then=won)
    assert play(flow(Try("try", race).except_(ValueError, do("caught"))), "b/right")[0].log == ["caught"]


def test_the_result_of_an_activity_of_a_loser_no_longer_counts() -> None:
    def count(w: Any, number: int) -> None:
        w.n += number

    async def work(number: int) -> int:
        return number

    activity = Activity("work", work, input=lambda w: 1, then=count)
    Flow = flow(Race("race", S(activity), S(Select("stop", On("Stop", log("stopped"))))), wait("rest"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution)
    machine.settle()
    wait_id = execution.threads[1].waits[0].id
    handle_event(order, execution, "Stop")
    assert Machine(order, execution).activity("work", wait_id, 0) is None
    assert (order.n, standing(execution)) == (0, {"main": "race"})


def test_a_cancellation_while_the_losers_clean_up_wins() -> None:
    loser = Try("t", wait("left")).finally_(wait("calm down"), do("cleanup"))
    Flow = flow(Race("race", S(loser, prefix="a"), S(wait("right"), prefix="b"), then=won), do("never"))  # noqa: N806
    assert play(Flow, "b/right", cancel, "a/calm down", end="canceled")[0].log == ["cleanup"]


def test_races_and_parallel_branches_are_nested() -> None:
    inner = Parallel("both", S(wait("l")), S(wait("r")))
    race = Race("race", S(inner, do("both done")), S(Race("inner", S(wait("x")), S(wait("y"))), do("one done")))
    assert play(flow(race), "l", "r")[0].log == ["both done"]
    assert play(flow(race), "l", "y")[0].log == ["one done"]


def test_the_winner_is_stored_in_few_bytes_and_only_while_the_others_end() -> None:
    loser = Try("t", wait("left")).finally_(wait("calm down"))
    order, execution = start(flow(Race("race", S(loser), S(wait("right")))))
    handle_event(order, execution, "right")
    assert '"leaving":{"kind":"won","step":"race[1]"}' in execution.to_json()


ONE = do("one")


@pytest.mark.parametrize(
    ("branches", "then", "message"),
    [
        ((), None, "Race 'race': it has no branch. Write Race(name, S(...), S(...))."),
        ((S(ONE), S(do("two"), prefix="p")), won, 'but a section has none. Write S(..., prefix="...").'),
        (
            (S(ONE, prefix="p"),),
            log("x"),
            "It must accept the workflow and the prefix of the section that ended first.",
        ),
    ],
)
def test_mistakes(branches: tuple[Section, ...], then: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        flow(Race("race", *branches, then=then))
    assert message in str(raised.value)


def test_a_prefix_that_the_annotation_of_then_does_not_allow_is_a_mistake() -> None:
    def decided(w: Logged, by: Literal["mail"]) -> None: ...

    def counted(w: Logged, by: int) -> None: ...

    with pytest.raises(DefinitionError, match="does not allow 'phone'"):
        flow(Race("race", S(ONE, prefix="mail"), S(do("two"), prefix="phone"), then=decided))
    with pytest.raises(DefinitionError, match="is a int, but the prefix is a str"):
        flow(Race("race", S(ONE, prefix="mail"), then=counted))
