"""``Activity`` and ``Child`` as the library alone has them, policies, and mistakes in all newer statements."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, Logged, do, log, start
from tests.core.test_definitions import refusal
from tests.core.test_failures import BadError, flow, log_of
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    DefinitionError,
    Execution,
    Fail,
    ForEach,
    On,
    Parallel,
    Retry,
    S,
    Select,
    Sleep,
    Step,
    TerminalError,
    Timeout,
    Try,
    aresume,
    handle_event,
    resume,
)
from workflow_core.interpreter import Machine


def double(number: int) -> int:
    if number < 0:
        raise BadError("negative")
    return 2 * number


def with_context(text: str, context: ActivityContext) -> str:
    return f"{text} {context.activity} {context.attempt}"


def keep(w: Any, result: int) -> None:
    w.n = result


def test_the_library_alone_runs_activities_like_steps() -> None:
    cls = flow(Activity("double", double, input=lambda w: 21, then=keep), do("after"))
    order, execution = start(cls)
    assert (order.n, order.log, execution.status) == (42, ["after"], "finished")


def test_the_item_is_the_input_and_the_function_may_have_a_context() -> None:
    def add(w: Any, text: str, *, item: str) -> None:
        w.log.append(f"{item}: {text}")

    each = ForEach("each", lambda w: ["a", "b"], Activity("call", with_context, then=add), parallel=True)
    assert log_of(each) == ["a: a call 1", "b: b call 1"]


def test_its_failure_is_caught_or_raised_to_the_caller() -> None:
    attempt = Try("t", Activity("double", double, input=lambda w: -1)).except_(BadError, do("caught"))
    assert log_of(attempt) == ["caught"]
    cls = flow(Activity("double", double, input=lambda w: -1))
    with pytest.raises(BadError):
        resume(cls(), Execution.start("id-1", cls))


def test_a_child_is_delivered_by_its_name() -> None:
    order, execution = start(flow(Child("other", "somewhere", then=keep), do("after")))
    assert execution.threads[0].waits[0].input["workflow"] == "somewhere"
    handle_event(order, execution, "other", 7)
    resume(order, execution)
    assert (order.n, order.log) == (7, ["after"])


def test_an_early_event_waits_in_the_buffer() -> None:
    class Flow(Logged, name="flow"):
        definition = S(
            Select("first", On("First", log("first"))), Select("second", On("Second", log("second"), buffered=True))
        )

    order, execution = start(Flow, now=NOON)
    machine = Machine(order, execution, NOON)
    assert machine.buffers("Second") and not machine.buffers("First")
    machine.buffer("Second", "null")
    handle_event(order, execution, "First")
    resume(order, execution)
    assert (order.log, execution.status) == (["first", "second"], "finished")


def test_a_sleep_until_a_moment() -> None:
    until = datetime(2026, 5, 1, tzinfo=UTC)
    order, execution = start(flow(Sleep("may", until), do("awake")), now=NOON)
    assert execution.threads[0].waits[0].deadline == until
    handle_event(order, execution, "may")
    resume(order, execution)
    assert order.log == ["awake"]


async def later(w: Any) -> None: ...


async def beat(context: ActivityContext) -> None: ...


@pytest.mark.parametrize(
    ("make", "statement", "reason"),
    [
        (lambda: Try("t", do("a")), "Try 't'", "it catches nothing"),
        (lambda: Try("t", do("a")).except_("no", do("b")), "except_ of Try 't'", "'no' is no class of errors"),  # type: ignore[arg-type]
        (
            lambda: Try("t", do("a")).finally_(do("b")).except_(OSError),
            "except_ of Try 't'",
            "it stands behind finally_",
        ),
        (lambda: Try("t", do("a")).finally_(do("b")).finally_(do("c")), "finally_ of Try 't'", "there are two"),
        (lambda: Try("t", do("a")).except_(OSError, then=lambda w: None), "except_ 't except OSError'", "signature"),
        (lambda: Fail("f", 5), "Fail 'f'", "its message is 5"),  # type: ignore[arg-type]
        (lambda: Sleep("s", 5), "Sleep 's'", "its delay is 5"),  # type: ignore[arg-type]
        (lambda: Sleep("s", datetime(2026, 1, 1)), "Sleep 's'", "without a time zone"),
        (lambda: Timeout("s", datetime(2026, 1, 1)), "Timeout 's'", "without a time zone"),
        (lambda: ForEach("e", ["a"], do("a")), "'e'", "its items is ['a']"),  # type: ignore[arg-type]
        (lambda: ForEach("e", lambda w: [], do("a"), limit=2), "ForEach 'e'", "its limit is 2"),
        (lambda: Parallel("p"), "Parallel 'p'", "it has no branch"),
        (lambda: Parallel("p", do("a")), "Parallel 'p'", "is no section with statements"),  # type: ignore[arg-type]
        (lambda: Step("s", do, retry=3), "Step 's'", "its retry is 3"),  # type: ignore[arg-type]
        (lambda: Step("s", later, timeout=timedelta()), "Step 's'", "its timeout is datetime.timedelta(0)"),
        (lambda: Step("s", log(""), timeout=timedelta(1)), "Step 's'", "its action is not async"),
        (lambda: Activity("a", lambda x, y, z: None), "Activity 'a'", "signature"),
        (lambda: Activity("a", lambda x: None), "Activity 'a'", "has no annotation"),
        (lambda: Activity("a", double, heartbeat=timedelta(1)), "Activity 'a'", "its function is not async"),
        (
            lambda: Activity("a", beat, heartbeat=timedelta(1), timeout=timedelta(1)),
            "Activity 'a'",
            "a timeout and a heartbeat",
        ),
        (lambda: Child("c", 5), "Child 'c'", "5 is no workflow"),
        (lambda: Child("c", "other", then=keep, detached=True), "Child 'c'", "it is detached, so it has no result"),
        (lambda: Select("s", On("a", log("")), Timeout("a", timedelta(1))), "Select 's'", "two cases 'a'"),
    ],
)
def test_mistakes(make: Any, statement: str, reason: str) -> None:
    error = refusal_of(make)
    assert error.statement == statement
    assert reason in str(error)


def refusal_of(make: Any) -> Any:
    try:
        made = make()
    except DefinitionError as error:
        return error
    return refusal(made)


def test_a_result_and_an_event_may_not_have_one_name() -> None:
    error = refusal(Activity("both", double), Select("s", On("both", log(""))))
    assert "an event has the same name" in error.reason


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_attempts": 0},
        {"initial": timedelta(-1)},
        {"factor": 0.5},
        {"jitter": 2},
        {"retry_on": "no"},
        {"give_up_on": (5,)},
    ],
)
def test_policies_that_are_none(wrong: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="Retry: "):
        Retry(**wrong)


def test_delays_and_who_is_worth_another_attempt() -> None:
    policy = Retry(max_attempts=None, initial=timedelta(seconds=2), max_delay=timedelta(seconds=5), jitter=0.5)
    assert [policy.delay(n, OSError()) for n in (1, 2, 3)] == [timedelta(seconds=s) for s in (2, 4, 5)]
    assert policy.delay(1, OSError(), 1.0) == timedelta(seconds=3)
    assert policy.delay(10**6, OSError()) is not None
    picky = Retry(retry_on=OSError, give_up_on=(FileNotFoundError,))
    assert [picky.delay(1, error) is None for error in (OSError(), FileNotFoundError(), ValueError())] == [
        False,
        True,
        True,
    ]
    assert policy.delay(1, TerminalError()) is None


async def fetch(url: str) -> int:
    return len(url)


def test_asynchronous_activities_need_aresume() -> None:
    cls = flow(Activity("fetch", fetch, input=lambda w: "abc", then=keep))
    order, execution = cls(), Execution.start("id-1", cls)
    with pytest.raises(Exception, match="call 'await aresume"):
        resume(order, execution)
    asyncio.run(aresume(order, execution))
    assert order.n == 3
