"""``EventHandler`` objects: set up when a thread starts to wait, torn down after it has left, independently of each
other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from tests.core.helpers import Logged, accepted, cancel, do, kinds, log, reload, start, unchanged
from tests.waits import the
from workflow_core import (
    AsyncInSyncCall,
    EventNotAccepted,
    EventRequest,
    Execution,
    Fail,
    Failure,
    ForEach,
    Go,
    InvalidInput,
    On,
    Parallel,
    Return,
    S,
    Select,
    Try,
    WaitFor,
    While,
    Workflow,
    ahandle_event,
    aresume,
    handle_event,
    resume,
)
from workflow_core.wait_types import HandlerWait


class Recorder:
    """A handler for an outside system that records its calls, and fails where the test says so."""

    def __init__(self, failing: Iterable[str] = ()) -> None:
        self.failing = set(failing)
        self.calls: list[tuple[str, str, Any]] = []
        self.requests: list[EventRequest] = []

    def note(self, method: str, request: EventRequest, more: Any = None) -> None:
        self.calls.append((method, request.event, more))
        self.requests.append(request)
        if method in self.failing:
            raise ConnectionError(f"{method} of {request.event} is down")

    def setup(self, request: EventRequest) -> Any:
        self.note("setup", request)
        return {"registered": request.event}

    def handle(self, request: EventRequest, input: int) -> int:
        self.note("handle", request, input)
        request.workflow.n += input
        return input * 2

    def teardown(self, request: EventRequest, handled: bool) -> None:
        self.note("teardown", request, handled)


class Later:
    """The same, asynchronous."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, Any]] = []

    async def setup(self, request: EventRequest) -> str:
        await asyncio.sleep(0)
        self.calls.append(("setup", request.event, None))
        return "later"

    async def handle(self, request: EventRequest, input: int) -> int:
        await asyncio.sleep(0)
        self.calls.append(("handle", request.event, request.setup_data))
        request.workflow.n += input
        return input

    async def teardown(self, request: EventRequest, handled: bool) -> None:
        await asyncio.sleep(0)
        self.calls.append(("teardown", request.event, handled))


def two_cases(a: Any, b: Any) -> type[Logged]:
    class Flow(Logged):
        definition = S(Select("s", On("A", a), On("B", b), On("Plain", log("plain"))), do("behind"))

    return Flow


def statuses(execution: Execution) -> dict[str, str]:
    """The status of every case that is waited for or still to be torn down."""
    waits: dict[str, str] = {wait.event: wait.status for thread in execution.threads for wait in thread.waits}
    return waits | {teardown.event: teardown.status for teardown in execution.teardowns}


def test_entering_sets_up_every_case_and_leaving_tears_down_every_case() -> None:
    a, b = Recorder(), Recorder()
    order, execution = start(two_cases(a, b))
    assert a.calls + b.calls == [("setup", "A", None), ("setup", "B", None)]
    assert statuses(execution) == {"A": "set_up", "B": "set_up", "Plain": "set_up"}
    assert handle_event(order, execution, "B", 4) == 8
    assert order.n == 4
    assert statuses(execution) == {"A": "pending_teardown", "B": "pending_teardown"}
    assert kinds(order, execution) == ["teardown", "teardown", "step"]
    assert a.calls[1:] == [("teardown", "A", False)]
    assert b.calls[1:] == [("handle", "B", 4), ("teardown", "B", True)]
    assert execution.teardowns == []


def test_a_plain_case_tears_the_others_down_unhandled() -> None:
    a, b = Recorder(), Recorder()
    order, execution = start(two_cases(a, b))
    handle_event(order, execution, "Plain")
    resume(order, execution)
    assert [a.calls[-1], b.calls[-1]] == [("teardown", "A", False), ("teardown", "B", False)]


def test_what_setup_returned_is_handed_to_handle_and_teardown_even_by_another_process() -> None:
    a = Recorder()
    order, execution = reload(*start(two_cases(a, Recorder())))
    handle_event(order, execution, "A", 1)
    order, execution = reload(order, execution)
    resume(order, execution)
    data = {"registered": "A"}
    assert [(r.action, r.setup_data) for r in a.requests] == [("setup", None), ("handle", data), ("teardown", data)]


def test_a_request_tells_where_it_comes_from() -> None:
    a = Recorder()
    order, execution = start(two_cases(a, Recorder()))
    request, thread = a.requests[0], execution.threads[0]
    assert request.workflow is order
    assert (request.workflow_id, request.thread_id, request.event) == ("id-1", "main", "A")
    assert request.wait_id == thread.waits[0].id == f"main@{thread.pc}"


def test_the_input_is_validated() -> None:
    a = Recorder()
    order, execution = start(two_cases(a, Recorder()))
    with unchanged(order, execution), pytest.raises(InvalidInput):
        handle_event(order, execution, "A", "much")
    assert [call[0] for call in a.calls] == ["setup"]


# --- idempotency keys ------------------------------------------------------------------------


def test_keys_are_distinct_for_each_case_action_and_entry() -> None:
    a, b = Recorder(), Recorder()

    class Flow(Logged):
        definition = S(While("w", lambda w: w.n < 2, Select("s", On("A", a), On("B", b))))

    order, execution = start(Flow)
    for _ in range(2):
        handle_event(order, execution, "A", 1)
        resume(order, execution)
    keys = [request.idempotency_key for request in a.requests + b.requests]
    assert len(keys) == 10
    assert len(set(keys)) == 10


def test_keys_are_the_same_in_every_attempt() -> None:
    a = Recorder(failing={"setup", "teardown"})
    order, execution = start(two_cases(a, Recorder()))
    order, execution = reload(order, execution)
    resume(order, execution)
    handle_event(order, execution, "Plain")
    resume(order, execution)
    order, execution = reload(order, execution)
    resume(order, execution)
    actions = [request.action for request in a.requests]
    assert actions == ["setup", "setup", "teardown", "teardown"]
    keys = [request.idempotency_key for request in a.requests]
    assert keys[0] == keys[1]
    assert keys[2] == keys[3]
    assert keys[0] != keys[2]


def test_keys_of_two_instances_differ() -> None:
    a = Recorder()
    flow = two_cases(a, Recorder())
    for id in ("one", "two"):
        resume(flow(), Execution.start(id, flow))
    assert a.requests[0].idempotency_key != a.requests[1].idempotency_key


# --- failures --------------------------------------------------------------------------------


def test_a_failing_setup_leaves_the_other_cases_working() -> None:
    a, b = Recorder(failing={"setup"}), Recorder()
    order, execution = start(two_cases(a, b))
    assert statuses(execution) == {"A": "setup_error", "B": "set_up", "Plain": "set_up"}
    wait = the(HandlerWait, execution.threads[0].waits[:1])
    assert (wait.attempt, wait.error) == (1, "ConnectionError: setup of A is down")
    assert execution.status == "waiting"
    assert accepted(order, execution) == ["B", "Plain"]
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "A", 1)
    assert handle_event(order, execution, "B", 1) == 2


def test_a_failed_setup_is_tried_again_at_the_next_resume() -> None:
    a, b = Recorder(failing={"setup"}), Recorder()
    order, execution = start(two_cases(a, b))
    a.failing.clear()
    assert kinds(order, execution) == ["setup"]
    assert [call[0] for call in a.calls] == ["setup", "setup"]
    assert [call[0] for call in b.calls] == ["setup"]
    wait = the(HandlerWait, execution.threads[0].waits[:1])
    assert (wait.status, wait.attempt, wait.error) == ("set_up", 0, None)
    assert accepted(order, execution) == ["A", "B", "Plain"]
    assert execution.threads[0].status == "waiting"


def test_attempts_of_a_setup_are_counted() -> None:
    order, execution = start(two_cases(Recorder(failing={"setup"}), Recorder()))
    resume(order, execution)
    resume(order, execution)
    assert the(HandlerWait, execution.threads[0].waits[:1]).attempt == 3


def test_a_failing_teardown_never_blocks_and_is_tried_again() -> None:
    a, b = Recorder(failing={"teardown"}), Recorder()
    order, execution = start(two_cases(a, b))
    handle_event(order, execution, "B", 1)
    assert kinds(order, execution) == ["teardown", "teardown", "step"]
    assert order.log == ["behind"]
    assert execution.status == "finished"
    assert [(t.event, t.status, t.error) for t in execution.teardowns] == [
        ("A", "teardown_error", "ConnectionError: teardown of A is down")
    ]
    a.failing.clear()
    assert kinds(order, execution) == ["teardown"]
    assert execution.teardowns == []
    assert [call for call in b.calls if call[0] == "teardown"] == [("teardown", "B", True)]


def test_a_case_whose_setup_never_ended_is_torn_down_without_data() -> None:
    a = Recorder(failing={"setup"})
    order, execution = start(two_cases(a, Recorder()))
    handle_event(order, execution, "Plain")
    resume(order, execution)
    assert a.calls[-1] == ("teardown", "A", False)
    assert a.requests[-1].setup_data is None


def test_plain_cases_are_accepted_before_the_setups_have_run() -> None:
    a = Recorder()

    class Flow(Logged):
        definition = S(
            Select("first", On("Go", log("go"))), Select("s", On("A", a), On("Plain", log("plain"))), do("behind")
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Go")
    assert (execution.status, execution.threads[0].status) == ("running", "setting_up")
    assert accepted(order, execution) == ["Plain"]
    handle_event(order, execution, "Plain")
    resume(order, execution)
    assert a.calls == [("teardown", "A", False)]


def test_a_handler_that_raises_leaves_the_event_set_up() -> None:
    a = Recorder(failing={"handle"})
    order, execution = start(two_cases(a, Recorder()))
    with unchanged(order, execution), pytest.raises(ConnectionError):
        handle_event(order, execution, "A", 1)
    a.failing.clear()
    assert handle_event(order, execution, "A", 1) == 2


# --- threads and ends ------------------------------------------------------------------------


def test_the_end_of_main_tears_down_what_other_threads_wait_for() -> None:
    a, b = Recorder(), Recorder()

    class Flow(Logged):
        definition = S(
            Go("one", Select("s1", On("A", a))),
            Go("two", Select("s2", On("B", b))),
            Select("main waits", On("Stop", log("stop"), Return())),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Stop")
    assert execution.status == "finished"
    assert statuses(execution) == {"A": "pending_teardown", "B": "pending_teardown"}
    order, execution = reload(order, execution)
    assert kinds(order, execution) == ["teardown", "teardown"]
    assert (a.calls[-1], b.calls[-1]) == (("teardown", "A", False), ("teardown", "B", False))
    assert a.requests[-1].thread_id == "one"


@pytest.mark.parametrize("end", ["finished", "failed", "canceled", "caught"])
def test_the_waits_of_several_threads_for_one_event_that_end_together_are_all_torn_down(end: str) -> None:
    outside = Recorder()
    rounds = ForEach("each", lambda w: [1, 2, 3], Select("wait", On("A", outside), On("B", outside)), parallel=True)
    branches = Parallel("both", S(rounds), S(Select("gate", On("Break", log("break"))), Fail("no", "no")))
    attempt = Try("care", branches).except_(Failure if end == "caught" else ValueError)

    class Flow(Logged):
        definition = S(
            Go("side", attempt, WaitFor("for ever", lambda w: False), id="a@7"), Select("s", On("End", log("end")))
        )

    order, execution = start(Flow)
    set_up = {(request.wait_id, request.event) for request in outside.requests}
    assert len(set_up) == 6
    outside.requests.clear()
    if end == "canceled":
        cancel(order, execution)
    else:
        handle_event(order, execution, "End" if end == "finished" else "Break")
    resume(order, execution)
    assert execution.status == ("waiting" if end == "caught" else end)
    assert {(request.wait_id, request.event) for request in outside.requests} == set_up
    assert [request.action for request in outside.requests] == ["teardown"] * 6
    assert len({request.idempotency_key for request in outside.requests}) == 6
    assert {request.thread_id for request in outside.requests} == {f"a@7/both[0]/each[{n}]" for n in range(3)}


def test_setups_and_teardowns_run_in_the_order_of_threads_and_cases() -> None:
    one = Recorder()

    class Flow(Logged):
        definition = S(
            Go("first", Select("s1", On("A", one), On("B", one))),
            Go("second", Select("s2", On("C", one))),
            Select("main waits", On("Stop", log("stop"))),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Stop")
    resume(order, execution)
    assert [call[:2] for call in one.calls] == [(action, event) for action in ("setup", "teardown") for event in "ABC"]


def test_what_was_left_is_torn_down_before_anything_is_set_up() -> None:
    a = Recorder()

    class Flow(Logged):
        definition = S(While("loop", lambda w: True, Select("s", On("A", a), On("Again", log("again")))))

    order, execution = start(Flow)
    handle_event(order, execution, "Again")
    assert kinds(order, execution) == ["teardown", "setup"]


def test_setups_of_all_threads_run_before_the_next_step() -> None:
    a = Recorder()

    class Flow(Logged):
        definition = S(Go("side", Select("s", On("A", a))), do("first"), Select("main waits", On("Stop", log("stop"))))

    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "resume", "setup", "step"]


# --- async -----------------------------------------------------------------------------------


def test_async_methods_are_awaited() -> None:
    a = Later()

    async def scenario() -> None:
        flow = two_cases(a, Recorder())
        order, execution = flow(), Execution.start("id-1", flow)
        await aresume(order, execution)
        assert await ahandle_event(order, execution, "A", 3) == 3
        await aresume(order, execution)
        assert (order.n, order.log, execution.status) == (3, ["behind"], "finished")

    asyncio.run(scenario())
    assert a.calls == [("setup", "A", None), ("handle", "A", "later"), ("teardown", "A", True)]


def test_an_async_event_handler_is_refused_by_the_sync_calls_and_changes_nothing() -> None:
    flow: type[Workflow] = two_cases(Later(), Recorder())
    order, execution = flow(), Execution.start("id-1", flow)
    with (
        unchanged(order, execution),
        pytest.raises(AsyncInSyncCall, match=r"'A' is asynchronous\. Call 'await aresume"),
    ):
        resume(order, execution)
    asyncio.run(aresume(order, execution))
    with unchanged(order, execution), pytest.raises(AsyncInSyncCall, match="Call 'await ahandle_event"):
        handle_event(order, execution, "A", 1)
    handle_event(order, execution, "B", 1)


def test_a_failing_async_setup_is_noted() -> None:
    class Failing(Later):
        async def setup(self, request: EventRequest) -> str:
            raise ConnectionError("down")

    flow = two_cases(Failing(), Recorder())
    order, execution = flow(), Execution.start("id-1", flow)
    seen: list[str] = []

    async def checkpoint(kind: str) -> None:
        seen.append(kind)

    asyncio.run(aresume(order, execution, checkpoint))
    assert seen == ["resume", "setup", "setup"]
    assert statuses(execution)["A"] == "setup_error"
