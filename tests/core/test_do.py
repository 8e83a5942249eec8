"""What changes fields at once: ``Do``, and the handlers of timeouts, conditions and errors, with their arguments."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, Logged, do, flow, log, play, run, standing, start, unchanged
from workflow_core import (
    Activity,
    DefinitionError,
    Do,
    ErrorInfo,
    EventRejected,
    EventRequest,
    Execution,
    ExecutionError,
    Fail,
    Failure,
    ForEach,
    If,
    On,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)

DAY = timedelta(days=1)


def add(w: Any) -> None:
    w.n += 1


def buggy(w: Any) -> None:
    w.n += 1
    raise ValueError("a bug")


# --- Do --------------------------------------------------------------------------------------


def test_it_changes_the_fields_in_the_transition_of_what_came_before() -> None:
    order, execution = start(flow(Select("ask", On("Answer", log("answered"))), Do("count", add), do("b")))
    before = execution.pc
    handle_event(order, execution, "Answer")
    assert (order.n, execution.pc, standing(execution)) == (1, before + 1, {"main": "b"})


def test_a_loop_may_consist_of_it() -> None:
    assert run(flow(While("count", lambda w: w.n < 5, Do("add", add)))).n == 5


def test_it_may_end_the_instance() -> None:
    assert play(flow(Do("first", add), If("done", lambda w: w.n > 0, Return()), do("never")))[0].log == []


def test_its_error_behind_an_event_is_that_of_the_request_and_changes_nothing() -> None:
    order, execution = start(flow(Select("ask", On("Answer", log("answered"))), Do("count", buggy)))
    saved = order.dump_fields(), execution.to_json()
    with pytest.raises(ValueError, match="a bug"):
        handle_event(order, execution, "Answer")
    order, execution = Logged.load_fields(saved[0]), Execution.from_json(saved[1])
    assert order.n == 0 and standing(execution) == {"main": "ask"}


def test_its_error_can_be_caught_and_its_changes_remain() -> None:
    order, _ = play(flow(Try("try", Do("count", buggy)).except_(ValueError, do("caught")).finally_(do("cleanup"))))
    assert (order.log, order.n) == (["caught", "cleanup"], 1)


def test_an_instance_that_has_failed_in_it_rests_on_it() -> None:
    order, execution = play(flow(Try("try", Do("count", buggy)).finally_(do("cleanup"))), end="failed")
    assert standing(execution) == {"main": "count"} and order.log == ["cleanup"]


def test_it_may_be_renamed_and_must_be_a_plain_function_of_the_workflow() -> None:
    flow(Do("new", add, renamed_from="old"))
    for handler in (lambda: None, lambda w, x: None, Logged, 7):
        with pytest.raises(DefinitionError, match="count"):
            flow(Do("count", handler))  # type: ignore[arg-type]


# --- timeouts and conditions -----------------------------------------------------------------


def test_the_handler_of_a_timeout_runs_when_it_happens() -> None:
    Flow = flow(Select("ask", On("Answer", add), Timeout("late", DAY, do("b"), handler=log("late"))))  # noqa: N806
    assert play(Flow, "late")[0].log == ["late", "b"]
    assert play(Flow, "Answer")[0].log == []


def test_the_handlers_receive_the_item_and_the_time() -> None:
    def note(w: Any, *, item: str, now: datetime) -> None:
        w.log.append(f"{item} {now:%H:%M}")

    def note_error(w: Any, error: ErrorInfo, *, item: str, now: datetime) -> None:
        w.log.append(f"{error.message} {item} {now:%H:%M}")

    def note_event(w: Any, text: str, *, item: str, now: datetime) -> None:
        w.log.append(f"{text} {item} {now:%H:%M}")

    body = (
        Do("do", note),
        WaitFor("wait", lambda w: True, note),
        Try("try", Fail("fail", "failed")).except_(Failure, then=note_error),
        Select("ask", On("Answer", note_event), Timeout("late", DAY, handler=note)),
    )
    Flow = flow(ForEach("each", lambda w: ["a", "b"], *body))  # noqa: N806
    order, _ = play(Flow, ("Answer", "yes"), "late", now=NOON)
    assert order.log == [
        *("a 12:00", "a 12:00", "failed a 12:00", "yes a 12:00"),
        *("b 12:00", "b 12:00", "failed b 12:00", "b 12:00"),
    ]


# --- the time --------------------------------------------------------------------------------


def test_steps_and_event_handlers_know_the_time() -> None:
    class Outside:
        def setup(self, request: EventRequest) -> str:
            return request.now.isoformat()

        def handle(self, request: EventRequest, input: None) -> None:
            request.workflow.log.append(f"{request.setup_data} {request.now.isoformat()}")

        def teardown(self, request: EventRequest, handled: bool) -> None: ...

    def act(w: Any, step: StepContext) -> None:
        w.log.append(step.now.isoformat())

    order, execution = start(flow(Step("act", act), Select("ask", On("Answer", Outside()))), now=NOON)
    handle_event(order, execution, "Answer", now=NOON + DAY)
    assert order.log == ["2025-01-01T12:00:00+00:00", "2025-01-01T12:00:00+00:00 2025-01-02T12:00:00+00:00"]


def test_a_handler_that_takes_the_time_needs_a_caller_that_knows_it() -> None:
    def note(w: Any, *, now: datetime) -> None: ...

    order, execution = start(flow(Select("ask", On("Answer", note))))
    with unchanged(order, execution), pytest.raises(ExecutionError, match=r"Pass now=datetime\.now\(UTC\)"):
        handle_event(order, execution, "Answer")


def test_a_now_of_another_type_is_a_mistake_unless_it_has_a_default() -> None:
    def wrong(w: Any, *, now: str) -> None: ...

    def own(w: Any, *, now: str = "own") -> None:
        w.log.append(now)

    with pytest.raises(DefinitionError, match="Write now: datetime"):
        flow(Do("it", wrong))
    assert run(flow(Do("it", own))).log == ["own"]


# --- errors ----------------------------------------------------------------------------------


class NoCarError(LookupError):
    """An error that cannot be made of a message alone."""

    def __init__(self, town: str, day: int) -> None:
        super().__init__(town, day)


def test_fail_raises_an_error_of_the_users_class() -> None:
    fail = Fail("fail", "no car", error=NoCarError)
    for types in (NoCarError, LookupError, Exception):
        caught = Try("try", fail).except_(Failure, do("wrong")).except_(types, then=lambda w, e: w.log.append(e.text))
        assert run(flow(caught)).log == ["NoCarError: no car"]
    _, execution = play(flow(fail), end="failed")
    assert execution.error is not None and execution.error.text == "NoCarError: no car"
    assert execution.error.bases[0].endswith("test_do.NoCarError")
    with pytest.raises(DefinitionError, match="Pass a subclass of Exception"):
        Fail("fail", "no car", error=KeyboardInterrupt)  # type: ignore[arg-type]


def test_an_error_tells_its_cause() -> None:
    def act(w: Any) -> None:
        try:
            try:
                raise OSError("no network")
            except OSError:
                raise KeyError("mail")  # noqa: B904 - the context is wanted
        except KeyError as error:
            raise TerminalError("not sent") from error

    def keep(w: Any, error: ErrorInfo) -> None:
        while True:
            w.log.append(error.text)
            if error.cause is None:
                return
            error = error.cause

    Flow = flow(Try("try", Step("act", act)).except_(Exception, Sleep("rest", DAY), do("b"), then=keep))  # noqa: N806
    order, execution = play(Flow, "rest")
    assert order.log == ["TerminalError: not sent", "KeyError: 'mail'", "OSError: no network", "b"]
    order, execution = start(Flow)
    assert Execution.from_json(execution.to_json()) == execution


def test_causes_without_end_are_cut_off() -> None:
    def act(w: Any) -> None:
        error: Exception = ValueError("x" * 1000)
        for number in range(9):
            outer = ValueError(number)
            outer.__cause__ = error
            error = outer
        raise error

    _, execution = play(flow(Try("try", Step("act", act)).finally_(do("b"))), end="failed")
    found, depth = execution.error, 0
    while found is not None and found.cause is not None:
        found, depth = found.cause, depth + 1
    assert depth == 3


def test_rejections_still_reach_the_sender() -> None:
    def reject(w: Any) -> None:
        raise EventRejected("not now")

    order, execution = start(flow(Select("ask", On("Answer", add)), Do("check", reject)))
    with pytest.raises(EventRejected, match="not now"):
        handle_event(order, execution, "Answer")


def test_the_result_of_an_activity_comes_with_the_time() -> None:
    def then(w: Any, number: int, *, now: datetime) -> None:
        w.log.append(f"{number} {now:%H:%M}")

    def double(number: int) -> int:
        return 2 * number

    Flow = flow(Activity("double", double, input=lambda w: 2, then=then))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow, now=NOON)
    resume(order, execution, now=NOON)
    assert order.log == ["4 12:00"]


def test_a_decision_may_share_the_name_of_a_step() -> None:
    assert run(flow(If("send", lambda w: True, do("send")), S(If("send", lambda w: False, do("more"))))).log == ["send"]
