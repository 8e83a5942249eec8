"""Activities as the library alone runs them: one after another, inside ``resume``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from tests.core.helpers import NOON, Logged, Unlucky, do, flow, kinds, log, play, reload, standing, start
from tests.waits import the, timed
from workflow_core import (
    Activity,
    ActivityContext,
    AsyncInSyncCall,
    DefinitionError,
    ErrorInfo,
    Execution,
    ExecutionError,
    ForEach,
    Go,
    InvalidInput,
    On,
    Parallel,
    Retry,
    S,
    Select,
    Sleep,
    Step,
    TerminalError,
    Try,
    While,
    aresume,
    handle_event,
    resume,
)
from workflow_core.errors import InvalidOutput
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ActivityWait


class Order(BaseModel):
    model_config = ConfigDict(strict=True)

    name: str
    day: date


@dataclass
class Bill:
    total: float


def keep(w: Any, result: Any) -> None:
    w.log.append(f"then {result}")


def double(n: int) -> int:
    return 2 * n


def test_an_activity_gets_an_input_and_its_result_is_taken_in() -> None:
    call = Activity("double", double, input=lambda w: w.n + 3, then=keep)
    assert play(flow(do("a"), call, do("b")), n=1)[0].log == ["a", "then 8", "b"]


def test_it_may_do_without_input_and_result() -> None:
    ran: list[str] = []
    Flow = flow(Activity("call", lambda: ran.append("ran")), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "activity", "step"]
    assert (ran, order.log, execution.status) == (["ran"], ["b"], "finished")


def test_what_it_takes_and_gives_are_of_their_annotated_types_in_between_it_is_json() -> None:
    seen: list[Any] = []

    def price(order: Order) -> Bill:
        seen.append(order)
        return Bill(total=order.day.day)

    def pay(w: Any, bill: Bill) -> None:
        seen.append(bill)
        w.n = int(bill.total)

    Flow = flow(Activity("price", price, input=lambda w: Order(name="x", day=date(2025, 1, 7)), then=pay))  # noqa: N806
    order, execution = start(Flow)
    assert seen == [Order(name="x", day=date(2025, 1, 7)), Bill(7.0)]
    assert (order.n, execution.status) == (7, "finished")
    order, execution = Flow(), Execution.start("id-1", Flow)
    Machine(order, execution).settle()
    assert the(ActivityWait, execution.threads[0].waits).input == {"name": "x", "day": "2025-01-07"}
    resume(*reload(order, execution))
    assert seen[2:] == seen[:2]


def test_by_default_the_input_is_the_item() -> None:
    call = Activity("double", double, then=keep)
    assert play(flow(ForEach("each", lambda w: [1, 2], call)))[0].log == ["then 2", "then 4"]
    assert play(flow(ForEach("each", lambda w: [1, 2], call, parallel=True)))[0].log == ["then 2", "then 4"]


def test_then_and_input_may_take_the_item() -> None:
    def note(w: Any, result: int, *, item: int) -> None:
        w.log.append(f"{item}: {result}")

    call = Activity("double", double, input=lambda w, item: w.n + item, then=note)
    assert play(flow(ForEach("each", lambda w: [1, 2], call)), n=10)[0].log == ["1: 22", "2: 24"]


def test_its_context_tells_where_it_runs() -> None:
    seen: list[ActivityContext] = []

    def call(n: int | None, context: ActivityContext) -> None:
        seen.append(context)

    body = (Activity("call", call, input=lambda w: None), Step("up", lambda w: setattr(w, "n", w.n + 1)))
    Flow = flow(Parallel("one", S(While("two", lambda w: w.n < 2, *body), prefix="p")))  # noqa: N806
    start(Flow)
    one, two = seen
    assert (one.workflow, one.workflow_id, one.thread_id) == ("flow", "id-1", "one[p]")
    assert (one.activity, one.attempt, one.wait_id.partition("@")[0]) == ("p/call", 1, "one[p]")
    assert one.wait_id != two.wait_id
    assert one.idempotency_key != two.idempotency_key
    asyncio.run(one.heartbeat())  # type: ignore[arg-type]


def test_it_may_take_its_context_and_no_input() -> None:
    seen: list[tuple[str, int] | None] = []

    def call(context: ActivityContext) -> None:
        seen.append((context.activity, context.attempt))

    def maybe(context: ActivityContext | None = None) -> None:
        seen.append(None if context is None else (context.activity, context.attempt))

    Flow = flow(Activity("call", call), ForEach("each", lambda w: [1], Activity("maybe", maybe)))  # noqa: N806
    start(Flow)
    assert seen == [("call", 1), ("maybe", 1)]
    with pytest.raises(DefinitionError, match="it has an input, but its function takes none"):
        flow(Activity("call", call, input=lambda w: 1))


def test_a_single_parameter_that_may_be_anything_is_the_input() -> None:
    seen: list[object] = []

    def call(context: Any) -> None:
        seen.append(context)

    start(flow(Activity("call", call, input=lambda w: 5)))
    assert seen == [5]


def test_an_asynchronous_one_is_awaited() -> None:
    async def call(n: int, context: ActivityContext) -> int:
        await context.heartbeat()
        return n + 1

    Flow = flow(Activity("call", call, input=lambda w: 1, then=keep, heartbeat=timedelta(seconds=5)))  # noqa: N806
    assert play(Flow)[0].log == ["then 2"]
    with pytest.raises(AsyncInSyncCall, match="'call' is asynchronous"):
        start(Flow)


def test_one_that_returns_a_coroutine_is_refused_by_resume() -> None:
    async def call() -> None: ...

    Flow = flow(Activity("call", lambda: call()))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(AsyncInSyncCall, match="'call' returned a coroutine"):
        resume(order, execution)
    asyncio.run(aresume(order, execution))
    assert execution.status == "finished"


def test_steps_of_threads_before_it_run_before_it_and_moves_before_both() -> None:
    def call() -> str:
        return "called"

    Flow = flow(Go("side", do("s1"), do("s2")), Activity("call", call, then=keep), Sleep("w", timedelta(1)))  # noqa: N806
    assert start(Flow)[0].log == ["then called", "s1", "s2"]


# --- who else may bring the result -----------------------------------------------------------


def test_its_result_may_come_like_an_event() -> None:
    Flow = flow(Activity("double", double, input=lambda w: 1, then=keep), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    assert machine.next_work() is None, "whoever keeps the state runs it elsewhere"
    assert execution.status == "waiting"
    assert timed(execution.threads[0].waits).deadline == NOON + timedelta(minutes=10)
    assert machine.accepted_names() == []
    handle_event(order, execution, "double", "seven")
    assert order.log == ["then seven"]
    resume(order, execution)
    assert order.log == ["then seven", "b"]


@pytest.mark.parametrize("option", ["timeout", "heartbeat"])
def test_an_attempt_ends_at_its_timeout_or_without_a_heartbeat(option: str) -> None:
    async def call() -> None: ...

    limit: Any = {option: timedelta(seconds=5)}
    Flow = flow(Activity("call", call, **limit))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    Machine(order, execution, NOON).settle()
    assert timed(execution.threads[0].waits).deadline == NOON + timedelta(seconds=5)


@pytest.mark.parametrize("delay", [timedelta(seconds=7), timedelta(0)])
def test_the_attempt_after_a_failed_one_is_another_one_with_a_deadline_of_its_own(delay: timedelta) -> None:
    Flow = flow(Activity("call", lambda: None, timeout=timedelta(seconds=5)))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    wait: Any = the(ActivityWait, execution.threads[0].waits)
    wait.task = "scheduled"
    first, pc, now = machine.activity("call", wait.id, 0), execution.pc, NOON + timedelta(seconds=3)
    assert first is not None
    machine.set_time(now)
    machine.activity_failed(first, ErrorInfo("TimeoutError", "too late"), now + delay)
    assert (wait.attempt, wait.retry_at, wait.error) == (1, now + delay, "TimeoutError: too late")
    assert (wait.deadline, wait.task) == (now + delay + timedelta(seconds=5), None)
    assert (execution.pc, execution.status, standing(execution)) == (pc + 1, "waiting", {"main": "call"})
    assert machine.activity("call", wait.id, 0) is None
    assert machine.activity("call", wait.id, 1) is not None


def test_a_result_is_for_one_attempt_of_one_wait() -> None:
    loop = While("loop", lambda w: True, Activity("call", lambda: None), Select("s", On("Again", log("again"))))
    Flow = flow(ForEach("each", lambda w: [1, 2], loop, parallel=True))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    first, second = (thread.waits[0].id for thread in execution.threads[1:])
    for wait_id, thread in ((first, "each[0]"), (second, "each[1]")):
        found = machine.activity("call", wait_id, 0)
        assert found is not None
        assert found.thread.id == thread
        assert machine.activity("call", wait_id, 1) is None, "it has not begun"
    assert machine.activity("call", "each[0]@1", 0) is None
    assert machine.activity("other", first, 0) is None
    assert machine.child("call", first) is None
    handle_event(order, execution, "call", wait_id=first, now=NOON)
    handle_event(order, execution, "Again", thread_id="each[0]", now=NOON)
    assert standing(execution)["each[0]"] == "call"
    assert machine.activity("call", first, 0) is None, "it was for the wait before"


def test_a_heartbeat_is_a_transition_that_moves_the_deadline_of_its_attempt() -> None:
    async def call() -> None: ...

    beats = Activity("call", call, heartbeat=timedelta(seconds=5))
    Flow = flow(ForEach("each", lambda w: [1, 2], beats, parallel=True))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    waits, pc = [timed(thread.waits) for thread in execution.threads[1:]], execution.pc
    beating = machine.activity("call", waits[1].id, 0)
    assert beating is not None
    machine.set_time(NOON + timedelta(seconds=3))
    machine.heartbeat(beating)
    assert [wait.deadline for wait in waits] == [NOON + timedelta(seconds=5), NOON + timedelta(seconds=8)]
    assert execution.pc == pc + 1


# --- failures --------------------------------------------------------------------------------


class Line:
    """A function that fails so often, and remembers its attempts and keys."""

    def __init__(self, failures: int, error: type[Exception] = Unlucky) -> None:
        self.failures = failures
        self.error = error
        self.attempts: list[int] = []
        self.keys: set[str] = set()

    def __call__(self, n: int | None, context: ActivityContext) -> str:
        self.attempts.append(context.attempt)
        self.keys.add(context.idempotency_key)
        if context.attempt <= self.failures:
            raise self.error(f"attempt {context.attempt}")
        return "done"


def test_one_that_fails_is_the_callers_to_try_again_under_the_same_key() -> None:
    line = Line(2)
    Flow = flow(Go("side", Sleep("w", timedelta(1))), Activity("call", line, then=keep))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    for attempt in (1, 2):
        with pytest.raises(Unlucky, match=f"attempt {attempt}"):
            resume(order, execution)
        wait = the(ActivityWait, execution.threads[0].waits)
        assert (wait.attempt, wait.error, wait.status) == (attempt, f"Unlucky: attempt {attempt}", "set_up")
        order, execution = reload(order, execution)
    assert kinds(order, execution) == ["activity"]
    assert (order.log, execution.status) == (["then done"], "finished")
    assert (line.attempts, len(line.keys)) == ([1, 2, 3], 1)


def test_one_that_fails_for_good_is_caught() -> None:
    def note(w: Any, error: Any) -> None:
        w.log.append(f"{error.type} of {error.statement}: {error.message}")

    line = Line(9)
    attempt = Try("try", Activity("call", line), do("never")).except_(Unlucky, do("caught"), then=note)
    assert play(flow(attempt, do("b")))[0].log == ["Unlucky of call: attempt 1", "caught", "b"]
    assert line.attempts[0] == 1


def test_its_policy_says_when_that_is() -> None:
    def caught(line: Line) -> list[str]:
        call = Activity("call", line, retry=Retry(max_attempts=3), then=keep)
        return play(flow(Try("try", call).except_(Exception, do("caught"))))[0].log

    assert caught(Line(2)) == ["then done"]
    assert caught(Line(3)) == ["caught"]
    assert caught(Line(1, TerminalError)) == ["caught"]


def test_so_does_the_policy_of_the_workflow() -> None:
    class Flow(Logged):
        default_retry = Retry(max_attempts=2)
        definition = S(Try("try", Activity("call", Line(1), then=keep)).except_(Exception, do("never")))

    assert play(Flow)[0].log == ["then done"]


def test_what_then_raises_and_a_result_that_does_not_fit_are_failures_of_the_activity() -> None:
    def wrong() -> int:
        return "no number"  # type: ignore[return-value]

    def refuse(w: Any, n: int) -> None:
        raise ValueError("not mine")

    def typed(w: Any, n: int) -> None: ...

    for function, then, error in (
        (wrong, keep, InvalidOutput),
        (lambda: 1, refuse, ValueError),
        (lambda: "text", typed, InvalidInput),
    ):
        call = Activity("call", function, then=then)  # type: ignore[arg-type]
        with pytest.raises(error):
            start(flow(call))
        assert play(flow(Try("try", call).except_(error, do("caught"))))[0].log == ["caught"]


def test_an_input_that_is_no_json_is_an_error() -> None:
    with pytest.raises(ExecutionError, match="cannot convert the input of activity 'call' to JSON"):
        start(flow(Activity("call", double, input=lambda w: object())))


def test_one_in_a_cancelled_branch_is_left() -> None:
    fork = Parallel(
        "both", S(Activity("call", Line(0), then=keep), Sleep("w", timedelta(1))), S(Activity("bad", Line(9)))
    )
    assert play(flow(Try("try", fork).except_(Exception, do("caught"))))[0].log == ["then done", "caught"]


def test_the_next_attempt_waits_for_its_time() -> None:
    line = Line(1)
    Flow = flow(Activity("call", line, then=keep), Select("s", On("E", log("e"))))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    Machine(order, execution, NOON).settle()
    wait = the(ActivityWait, execution.threads[0].waits)
    wait.attempt, wait.error, wait.retry_at = 1, "Unlucky: attempt 1", NOON + timedelta(minutes=1)
    resume(order, execution, now=NOON)
    assert (line.attempts, standing(execution), execution.status) == ([], {"main": "call"}, "waiting")
    resume(order, execution, now=NOON + timedelta(minutes=1))
    assert (line.attempts, standing(execution)) == ([2], {"main": "s"})
