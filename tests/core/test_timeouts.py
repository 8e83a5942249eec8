"""Timeouts: deadlines are counted from ``now=``; the caller delivers a timeout like an event, with its wait id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from tests.core.helpers import NOON, Logged, accepted, do, log, play, reload, standing, start, unchanged
from tests.waits import timed
from workflow_core import (
    DefinitionError,
    EventNotAccepted,
    Go,
    On,
    Return,
    S,
    Select,
    Sleep,
    Timeout,
    While,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.execution import Execution


class Cart(Logged):
    hours: int = 2

    def add(self) -> None:
        self.n += 1

    definition = S(
        While(
            "shopping",
            lambda w: w.n < 3,
            Select(
                "fill",
                On("Add", add),
                Timeout("remind", lambda w: timedelta(hours=w.hours), do("send a reminder")),
                Timeout("give up", timedelta(days=1), do("drop the cart"), Return()),
            ),
        ),
        do("ship"),
    )


def deadlines(execution: Execution) -> dict[str, object]:
    return {wait.event: getattr(wait, "deadline", None) for wait in execution.threads[0].waits}


def test_deadlines_are_counted_from_the_moment_the_select_is_entered() -> None:
    order, execution = start(Cart, now=NOON)
    assert deadlines(execution) == {
        "Add": None,
        "remind": NOON + timedelta(hours=2),
        "give up": NOON + timedelta(days=1),
    }
    later = NOON + timedelta(minutes=5)
    order.hours = 3
    handle_event(order, execution, "Add", now=later)
    assert deadlines(execution)["remind"] == later + timedelta(hours=3)


def test_a_later_resume_does_not_move_a_deadline() -> None:
    order, execution = start(Cart, now=NOON)
    before = deadlines(execution)
    resume(order, execution, now=NOON + timedelta(hours=1))
    assert deadlines(execution) == before
    assert deadlines(reload(order, execution)[1]) == before


def test_without_now_there_is_no_deadline() -> None:
    order, execution = start(Cart)
    assert deadlines(execution) == {"Add": None, "remind": None, "give up": None}
    handle_event(order, execution, "remind")
    resume(order, execution)
    assert order.log == ["send a reminder"]


def test_a_timeout_is_delivered_by_name_and_wait_id_and_runs_its_statements() -> None:
    order, execution = start(Cart, now=NOON)
    wait_id = execution.threads[0].waits[0].id
    assert handle_event(order, execution, "give up", wait_id=wait_id, now=NOON + timedelta(days=1)) is None
    resume(order, execution)
    assert order.log == ["drop the cart"]
    assert execution.status == "finished"


def test_after_a_timeout_the_loop_goes_on() -> None:
    order, execution = start(Cart, n=2, now=NOON)
    handle_event(order, execution, "remind", now=NOON + timedelta(hours=2))
    resume(order, execution, now=NOON + timedelta(hours=2))
    assert standing(execution) == {"main": "fill"}
    assert deadlines(execution)["remind"] == NOON + timedelta(hours=4)
    handle_event(order, execution, "Add")
    resume(order, execution)
    assert order.log == ["send a reminder", "ship"]


def test_a_timeout_of_a_wait_that_was_left_is_refused() -> None:
    order, execution = start(Cart, now=NOON)
    stale = execution.threads[0].waits[0].id
    handle_event(order, execution, "Add")
    with unchanged(order, execution), pytest.raises(EventNotAccepted, match=f"under wait id '{stale}'"):
        handle_event(order, execution, "give up", wait_id=stale)


def test_a_timeout_that_lost_is_refused() -> None:
    class Flow(Logged):
        definition = S(Select("a", On("E", log("e")), Timeout("late", timedelta(1))), Select("b", On("F", log("f"))))

    order, execution = start(Flow)
    wait_id = execution.threads[0].waits[0].id
    handle_event(order, execution, "E")
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "late", wait_id=wait_id)


def test_clients_are_not_told_of_timeouts() -> None:
    order, execution = start(Cart)
    assert accepted(order, execution) == ["Add"]


def test_a_timeout_in_a_prefixed_section_goes_by_its_qualified_name() -> None:
    class Flow(Logged):
        definition = S(S(Select("s", Timeout("late", timedelta(1), do("behind"))), prefix="p"))

    order, execution = start(Flow)
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "late")
    handle_event(order, execution, "p/late")
    resume(order, execution)
    assert order.log == ["behind"]


def test_a_delay_must_be_a_timedelta() -> None:
    class Flow(Workflow):
        definition = S(Select("s", Timeout("late", lambda w: 60)))  # type: ignore[arg-type,return-value]

    with pytest.raises(DefinitionError) as caught:
        start(Flow)
    assert caught.value.statement == "Timeout 'late'"
    assert caught.value.reason == "its delay is 60"
    assert caught.value.fix == "Use a timedelta, or a datetime with a time zone."


def test_a_step_whose_next_attempt_is_to_come_waits_for_it() -> None:
    class Flow(Logged):
        definition = S(do("a"))

    order, execution = Flow(), Execution.start("id-1", Flow, now=NOON)

    class Crash(Exception):
        pass

    def crash(kind: str) -> None:
        raise Crash

    with pytest.raises(Crash):
        resume(order, execution, crash, now=NOON)
    execution.threads[0].retry_at = NOON + timedelta(minutes=1)
    resume(order, execution, now=NOON + timedelta(seconds=59))
    assert (order.log, execution.status) == ([], "running")
    resume(order, execution, now=NOON + timedelta(minutes=1))
    assert (order.log, execution.status) == (["a"], "finished")


# --- moments, and sleeping -------------------------------------------------------------------

TEA_TIME = datetime(2025, 1, 1, 18, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize("delay", [TEA_TIME, lambda w: TEA_TIME], ids=["value", "function"])
def test_a_timeout_may_be_a_moment_and_is_kept_in_utc(delay: Any) -> None:
    class Flow(Logged):
        definition = S(Select("s", On("E", log("e")), Timeout("tea", delay, do("drink"))))

    for now in (None, NOON):
        _, execution = start(Flow, now=now)
        deadline = timed(execution.threads[0].waits).deadline
        assert deadline == datetime(2025, 1, 1, 16, tzinfo=UTC)
        assert deadline is not None
        assert deadline.tzinfo is UTC
    assert play(Flow, "tea", now=NOON)[0].log == ["drink"]


EAST, WEST = timezone(timedelta(hours=5)), timezone(timedelta(hours=-5))


@pytest.mark.parametrize(
    ("delay", "deadline"),
    [
        (datetime.max.replace(tzinfo=WEST), datetime(9999, 1, 1, tzinfo=UTC)),
        (timedelta.max, datetime(9999, 1, 1, tzinfo=UTC)),
        (datetime.min.replace(tzinfo=EAST), datetime(1, 1, 2, tzinfo=UTC)),
        (timedelta.min, datetime(1, 1, 2, tzinfo=UTC)),
    ],
)
def test_a_moment_beyond_the_calendar_is_at_its_end(delay: Any, deadline: datetime) -> None:
    class Flow(Logged):
        definition = S(Select("s", On("E", log("e")), Timeout("tea", lambda w: delay)))

    assert timed(start(Flow, now=NOON)[1].threads[0].waits).deadline == deadline


def test_a_sleep_ends_like_a_timeout_of_its_own_name() -> None:
    class Flow(Logged):
        definition = S(
            Sleep("for a day", timedelta(days=1)),
            do("a"),
            Sleep("for n hours", lambda w: timedelta(hours=w.n)),
            S(Sleep("until tea", TEA_TIME), prefix="p"),
            do("b"),
        )

    order, execution = start(Flow, now=NOON)
    assert (execution.status, deadlines(execution)) == ("waiting", {"for a day": NOON + timedelta(days=1)})
    assert accepted(order, execution) == []
    order.n = 3
    handle_event(order, execution, "for a day")
    resume(order, execution, now=NOON + timedelta(days=1))
    assert deadlines(execution) == {"for n hours": NOON + timedelta(days=1, hours=3)}
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "for a day")
    assert play(Flow, "for a day", "for n hours", "p/until tea", now=NOON)[0].log == ["a", "b"]


@pytest.mark.parametrize("wrong", [60, None, "tomorrow", datetime(2025, 1, 1)], ids=str)
def test_a_sleep_needs_a_time(wrong: Any) -> None:
    class Flow(Logged):
        definition = S(Sleep("nap", lambda w: wrong))

    with pytest.raises(DefinitionError) as caught:
        start(Flow, now=NOON)
    assert (caught.value.statement, caught.value.reason) == ("Sleep 'nap'", f"its delay is {wrong!r}")


def test_sleeps_of_several_threads_are_told_apart_by_their_waits() -> None:
    class Flow(Logged):
        definition = S(
            Go("one", Sleep("nap", timedelta(1)), do("a")),
            Sleep("long", timedelta(2)),
        )

    _, execution = start(Flow, now=NOON)
    assert {thread.id: thread.waits[0].id for thread in execution.threads} == {
        thread.id: f"{thread.id}@{thread.pc}" for thread in execution.threads
    }
    assert play(Flow, "nap", "long", now=NOON)[0].log == ["a"]
