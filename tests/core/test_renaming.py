"""``renamed_from``: an instance that was parked under old names continues under the new ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.generate import OPS, SPECS, Fields, Op, Spec, build
from tests.core.helpers import NOON, Logged, accepted, do, failing, log, migrate, saved, standing, start, unchanged
from tests.core.helpers import flow as deploy
from tests.core.rename_all import rename_all, without_new
from tests.core.test_properties import CrashingRun, Run
from tests.waits import timed
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    DefinitionError,
    DuplicateThread,
    EventNotAccepted,
    EventRequest,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Retry,
    S,
    Select,
    Sleep,
    Statement,
    Step,
    StepContext,
    Timeout,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import retry


def goes_on(old: Statement, new: Statement, *events: str) -> Logged:
    """Parks an instance on ``old``, and lets it go on by ``events`` under code that has ``new`` in its place."""
    order, execution = start(deploy(old, do("end")), now=NOON)
    order, execution = migrate(order, execution, deploy(do("added"), new, do("end")))
    for one in events:
        handle_event(order, execution, one, now=NOON)
        resume(order, execution, now=NOON)
    assert execution.status == "finished", standing(execution)
    return order


# --- each kind of statement ------------------------------------------------------------------


def test_a_step_that_has_failed_keeps_its_attempts_and_its_key() -> None:
    seen: list[StepContext] = []

    def note(w: Logged, step: StepContext) -> None:
        seen.append(step)
        if step.attempt < 3:
            raise TimeoutError

    old = deploy(Step("charge", note))
    order, execution = old(), Execution.start("id-1", old)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            resume(order, execution)
    order, execution = migrate(order, execution, deploy(Step("charge the card", note, renamed_from="charge")))
    resume(order, execution)
    assert [one.attempt for one in seen] == [1, 2, 3]
    assert len({one.idempotency_key for one in seen}) == 1
    assert seen[-1].step == "charge the card"


def test_a_select() -> None:
    old, new = Select("wait", On("E", log("e"))), Select("approval", On("E", log("e")), renamed_from="wait")
    assert goes_on(old, new, "E").log == ["e", "end"]


@pytest.mark.parametrize("sent", ["E", "Approve"])
def test_an_event_under_its_old_and_its_new_name(sent: str) -> None:
    old = Select("wait", On("E", log("old")))
    new = Select("wait", On("Approve", log("new"), do("behind"), renamed_from="E"))
    assert goes_on(old, new, sent).log == ["new", "behind", "end"]


def test_only_the_new_name_of_an_event_is_offered() -> None:
    order, execution = start(deploy(Select("wait", On("E", log("old")))))
    new = deploy(Select("wait", On("Approve", log("new"), renamed_from="E")))
    order, execution = migrate(order, execution, new)
    assert accepted(order, execution) == ["Approve"]
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "Refuse")


def test_a_timeout_is_delivered_by_the_name_that_its_task_bears() -> None:
    old = Select("wait", On("E", log("e")), Timeout("late", timedelta(hours=1), do("gave up")))
    new = Select(
        "wait", On("E", log("e")), Timeout("nobody came", timedelta(hours=9), do("gave up"), renamed_from="late")
    )
    order, execution = migrate(*start(deploy(old), now=NOON), deploy(new))
    wait_id = execution.threads[0].waits[1].id
    assert timed(execution.threads[0].waits).deadline == NOON + timedelta(hours=1)
    handle_event(order, execution, "late", wait_id=wait_id)
    resume(order, execution)
    assert order.log == ["gave up"]


def test_a_sleep() -> None:
    old, new = Sleep("rest", timedelta(1)), Sleep("trial", timedelta(2), renamed_from=("nap", "rest"))
    assert goes_on(old, new, "rest").log == ["end"]
    assert goes_on(old, new, "trial").log == ["end"]


def test_a_wait_for_a_condition() -> None:
    old = S(Go("other", Select("s", On("E", lambda w: setattr(w, "n", 1)))), WaitFor("w", lambda w: w.n > 0))
    new = S(
        Go("other", Select("s", On("E", lambda w: setattr(w, "n", 1)))),
        WaitFor("counted", lambda w: w.n > 0, log("seen"), renamed_from="w"),
    )
    assert goes_on(old, new, "E").log == ["seen", "end"]


def test_a_go_whose_thread_has_not_begun() -> None:
    old = deploy(Go("g", do("a")), WaitFor("w", lambda w: False))
    order, execution = old(), Execution.start("id-1", old)
    states: list[tuple[str, str]] = []
    resume(order, execution, lambda kind: states.append((order.dump_fields(), execution.to_json())))
    new = deploy(Go("work", do("b"), renamed_from="g"), WaitFor("w", lambda w: False))
    order, execution = new.load_fields(states[0][0]), Execution.from_json(states[0][1])
    assert standing(execution)["g"] == ""
    resume(order, execution)
    assert order.log == ["b"]


def test_the_thread_of_a_renamed_go_keeps_its_id_and_is_still_the_only_one() -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        go = Go(name, Select("in go", On("G", log("g"))), **renamed)
        return deploy(While("w", lambda w: True, Select("s", On("Again", log("again"))), go))

    order, execution = start(flow("g"))
    handle_event(order, execution, "Again")
    resume(order, execution)
    order, execution = migrate(order, execution, flow("work", renamed_from="g"))
    with pytest.raises(DuplicateThread, match="'g' is still live"):
        handle_event(order, execution, "Again")
    order, execution = migrate(*start(flow("g")), flow("work", renamed_from="g"))
    handle_event(order, execution, "Again")
    resume(order, execution)
    assert list(standing(execution)) == ["main", "work"]


def letters(w: Logged) -> list[str]:
    return ["a", "b", "c"]


def each_step(name: str, **renamed: Any) -> Step:
    return Step(name, lambda w, step: w.log.append(f"{step.index}{step.item}"), **renamed)


def test_a_for_each_keeps_its_position() -> None:
    old = ForEach("each", letters, Select("s", On("Next", log("next"))), each_step("one"))
    new = ForEach(
        "each letter", letters, Select("s", On("Next", log("next"))), each_step("a", renamed_from="one"),
        renamed_from="each",
    )  # fmt: skip
    order, execution = start(deploy(old))
    handle_event(order, execution, "Next")
    resume(order, execution)
    order, execution = migrate(order, execution, deploy(new))
    for _ in range(2):
        handle_event(order, execution, "Next")
        resume(order, execution)
    assert order.log == ["next", "0a", "next", "1b", "next", "2c"]
    assert execution.status == "finished"


@pytest.mark.parametrize("limit", [1, 2, None])
def test_a_parallel_for_each(limit: int | None) -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        rounds = ForEach(
            name, letters, Select("s", On("Next", log("next"))), each_step("one"), parallel=True, limit=limit, **renamed
        )
        return deploy(rounds, do("end"))

    order, execution = start(flow("each"))
    handle_event(order, execution, "Next")
    resume(order, execution)
    order, execution = migrate(order, execution, flow("each letter", renamed_from="each"))
    for _ in range(2):
        handle_event(order, execution, "Next")
        resume(order, execution)
    assert order.log == ["next", "0a", "next", "1b", "next", "2c", "end"]
    assert execution.status == "finished"


def test_a_parallel_and_its_branches() -> None:
    def branch(letter: str) -> Select:
        return Select(f"s{letter}", On(letter, log(letter)))

    old = Parallel("both", S(branch("A")), S(branch("B"), prefix="b"))
    new = Parallel(
        "both of them",
        S(branch("A"), prefix="a", renamed_from=""),
        S(branch("B"), prefix="second", renamed_from="b"),
        renamed_from="both",
    )
    assert goes_on(old, new, "A", "B").log == ["A", "B", "end"]
    order, execution = start(deploy(old), now=NOON)
    order, execution = migrate(order, execution, deploy(new))
    handle_event(order, execution, "A")
    assert [thread.name for thread in execution.threads] == ["main", "both of them[second]"]


def test_a_failure_that_is_on_its_way_out_of_a_renamed_try() -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        inner = Try(name, failing("f", retry=Retry(max_attempts=1)), **renamed)
        outer = Try("outer", inner.finally_(Select("cleanup", On("E", log("cleaned")))))
        return deploy(outer.except_(ValueError, do("caught")))

    order, execution = start(flow("inner"))
    assert standing(execution) == {"main": "cleanup"}
    order, execution = migrate(order, execution, flow("attempt", renamed_from="inner"))
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["cleaned", "caught"]


def test_a_failure_that_nobody_catches_stands_at_the_new_name() -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        failing_step = failing(name, retry=Retry(max_attempts=1), **renamed)
        return deploy(Try("t", failing_step).finally_(Select("cleanup", On("E", log("cleaned")))))

    order, execution = migrate(*start(flow("charge")), flow("charge the card", renamed_from="charge"))
    handle_event(order, execution, "E")
    assert (execution.status, standing(execution)) == ("failed", {"main": "charge the card"})


def test_a_parallel_that_fails_once_its_branches_have_ended_stands_at_the_new_name() -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        left = Try("left", Sleep("l", timedelta(1))).finally_(Select("cleanup", On("E", log("cleaned"))))
        return deploy(Parallel(name, S(left), S(Fail("bad", "no")), **renamed))

    order, execution = start(flow("both"))
    assert standing(execution) == {"main": "both", "both[0]": "cleanup"}
    order, execution = migrate(order, execution, flow("both of them", renamed_from="both"))
    handle_event(order, execution, "E")
    resume(order, execution)
    assert (execution.status, standing(execution)) == ("failed", {"main": "both of them"})
    retry(Machine(order, execution))
    resume(order, execution)
    assert standing(execution) == {"main": "both of them", "both of them[0]": "cleanup"}


@pytest.mark.parametrize("wait", [WaitFor("w", lambda w: False), Parallel("w", S(Sleep("nap", timedelta(1))))])
def test_the_wait_for_a_condition_or_for_branches_has_the_new_name(wait: Any) -> None:
    order, execution = start(deploy(wait))
    order, execution = migrate(order, execution, deploy(rename_all(S(wait))))
    Machine(order, execution)
    assert [(one.step, one.waits[0].event) for one in execution.threads[:1]] == [("new w", "new w")]


@pytest.mark.parametrize("name", [None, "the agency is closed"])
def test_the_error_that_a_renamed_except_has_caught(name: str | None) -> None:
    def note(w: Logged, step: StepContext) -> None:
        w.log.append(str(step.error and step.error.message))

    def flow(attempt: str, name: str | None, former: tuple[str, ...] = (), **renamed: Any) -> type[Logged]:
        body = (Select("s", On("E", log("e"))), Step("note", note))
        attempted = Try(attempt, failing("f", retry=Retry(max_attempts=1)), **renamed)
        return deploy(attempted.except_(ValueError, *body, name=name, renamed_from=former))

    order, execution = start(flow("book", name))
    new_name, former = (None, ()) if name is None else ("closed", (name,))
    order, execution = migrate(order, execution, flow("book it", new_name, former, renamed_from="book"))
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["e", "f failed"]


def test_a_fail_where_an_instance_has_failed_is_found_again_by_a_retry() -> None:
    old = deploy(Fail("no stock", "sold out"))
    order, execution = start(old)
    assert execution.status == "failed"
    new = deploy(If("in stock", lambda w: False, do("a")), Fail("sold out", "sold out", renamed_from="no stock"))
    order, execution = migrate(order, execution, new)
    retry(Machine(order, execution))
    assert standing(execution) == {"main": "sold out"}


def take(w: Logged, n: int) -> None:
    w.n = n


def take_fields(w: Logged, fields: dict[str, int]) -> None:
    w.n = fields["n"]


def test_an_activity_keeps_its_attempt_and_its_key() -> None:
    seen: list[ActivityContext] = []

    def work(input: None, context: ActivityContext) -> int:
        seen.append(context)
        if context.attempt == 1:
            raise TimeoutError
        return 7

    def flow(name: str, **renamed: Any) -> type[Logged]:
        return deploy(Activity(name, work, then=take, **renamed))

    old = flow("count")
    order, execution = old(), Execution.start("id-1", old)
    with pytest.raises(TimeoutError):
        resume(order, execution)
    order, execution = migrate(order, execution, flow("count them", renamed_from="count"))
    resume(order, execution)
    assert (order.n, execution.status) == (7, "finished")
    assert [(one.activity, one.attempt) for one in seen] == [("count", 1), ("count them", 2)]
    assert len({one.idempotency_key for one in seen}) == 1


def test_a_child_that_was_started_under_the_old_name() -> None:
    def flow(name: str, **renamed: Any) -> type[Logged]:
        return deploy(Child(name, "other", then=take_fields, **renamed))

    old = flow("child")
    order, execution = old(), Execution.start("id-1", old)
    machine = Machine(order, execution)
    machine.settle()
    work = machine.next_work()
    assert work is not None
    machine.done(work)
    order, execution = migrate(order, execution, flow("ask the other", renamed_from="child"))
    machine = Machine(order, execution)
    found = machine.child("child", execution.threads[0].waits[0].id)
    assert found is not None
    machine.handle_json(found, b'{"n": 3}')
    machine.handled(found)
    assert (order.n, execution.status, execution.teardowns) == (3, "finished", [])


class Outside:
    """An event handler that records its requests."""

    def __init__(self) -> None:
        self.requests: list[EventRequest] = []
        self.fails = True

    def setup(self, request: EventRequest) -> str:
        self.requests.append(request)
        if self.fails:
            raise ConnectionError
        return "registered"

    def handle(self, request: EventRequest, input: None) -> None:
        self.requests.append(request)
        request.workflow.log.append("handled")

    def teardown(self, request: EventRequest, handled: bool) -> None:
        self.requests.append(request)


def test_a_setup_and_a_teardown_keep_their_keys() -> None:
    outside = Outside()
    old = deploy(Select("s", On("Paid", outside)), Select("t", On("End", log("end"))))
    new = deploy(
        Select("payment", On("PaymentReceived", outside, renamed_from="Paid"), renamed_from="s"),
        Select("t", On("End", log("end"))),
    )
    order, execution = old(), Execution.start("id-1", old)
    machine = Machine(order, execution)
    machine.settle()
    work = machine.next_work()
    assert work is not None
    with pytest.raises(ConnectionError):
        machine.call(work)
    machine.failed(work, ConnectionError())
    order, execution = migrate(order, execution, new)
    outside.fails = False
    resume(order, execution)
    first, again = outside.requests
    assert (first.event, again.event) == ("Paid", "PaymentReceived")
    assert first.idempotency_key == again.idempotency_key
    handle_event(order, execution, "Paid")  # as it was registered
    order, execution = migrate(order, execution, new)
    resume(order, execution)
    assert (order.log, execution.teardowns) == (["handled"], [])
    assert outside.requests[-1].action == "teardown"
    assert outside.requests[-1].known_as == "Paid"
    assert outside.requests[-1].setup_data == "registered"


def test_a_teardown_that_is_still_to_be_done() -> None:
    outside = Outside()
    outside.fails = False
    order, execution = start(deploy(Select("s", On("Paid", outside)), WaitFor("w", lambda w: w.flag)))
    handle_event(order, execution, "Paid")
    assert [one.step for one in execution.teardowns] == ["s"]
    new = deploy(
        Select("payment", On("PaymentReceived", outside, renamed_from="Paid"), renamed_from="s"),
        WaitFor("w", lambda w: w.flag),
    )
    order, execution = migrate(order, execution, new)
    resume(order, execution)
    assert [one.action for one in outside.requests] == ["setup", "handle", "teardown"]
    assert execution.teardowns == []


@pytest.mark.parametrize("late", ["E", "Approve"])
def test_kept_events_are_delivered_and_later_ones_stand_behind_them(late: str) -> None:
    def note(w: Logged, input: int) -> None:
        w.log.append(str(input))

    def flow(*, renamed: bool) -> type[Logged]:
        name, former = ("Approve", "E") if renamed else ("E", ())
        loop = While("w", lambda w: len(w.log) < 3, Select("s", On(name, note, buffered=True, renamed_from=former)))
        return deploy(Select("first", On("Begin", log("begin"))), loop)

    order, execution = start(flow(renamed=False))
    handle_event(order, execution, "E", 1)
    order, execution = migrate(order, execution, flow(renamed=True))
    handle_event(order, execution, late, 2)
    assert [one.event for one in execution.buffer] == ["Approve", "Approve"]
    handle_event(order, execution, "Begin")
    resume(order, execution)
    assert (order.log, execution.status) == (["begin", "1", "2"], "finished")


# --- sections --------------------------------------------------------------------------------


PAY = S(Select("pay", On("Pay", log("pay"), do("thank")), Timeout("too late", timedelta(1))))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (S(PAY), S(PAY, prefix="first", renamed_from="")),
        (S(PAY, prefix="first"), S(PAY, renamed_from="first")),
        (S(PAY, prefix="first"), S(PAY, prefix="second", renamed_from="first")),
        (S(S(PAY, prefix="b"), prefix="a"), S(S(PAY, prefix="d", renamed_from="b"), prefix="c", renamed_from="a")),
        (S(S(PAY, prefix="b"), prefix="a"), S(S(S(PAY)), renamed_from=("z", "a/b"))),
        (S(If("yes", lambda w: True, S(PAY, prefix="x"))), S(S(PAY, prefix="y", renamed_from="x"))),
    ],
)
@pytest.mark.parametrize("sent", ["Pay", "timeout"])
def test_a_section_with_another_prefix(old: Statement, new: Statement, sent: str) -> None:
    execution = start(deploy(old), now=NOON)[1]
    name = next(wait.event for wait in execution.threads[0].waits if sent == "Pay" or wait.kind == "timeout")
    assert goes_on(old, new, name).log == (["pay", "thank", "end"] if sent == "Pay" else ["end"])


def test_a_statement_and_the_section_around_it_are_renamed() -> None:
    old = S(Select("pay", On("Pay", log("pay"))), prefix="first")
    new = S(Select("payment", On("Pay", log("pay")), renamed_from="pay"), prefix="second", renamed_from="first")
    assert goes_on(old, new, "Pay").log == ["pay", "end"]


def test_a_thread_that_stands_in_a_go_of_a_section() -> None:
    go = Go("g", Select("s", On("E", log("e"))))
    old = S(S(go, prefix="a"), WaitFor("w", lambda w: "e" in w.log))
    new = S(S(go, prefix="b", renamed_from="a"), WaitFor("w", lambda w: "e" in w.log))
    assert goes_on(old, new, "E").log == ["e", "end"]


def test_names_that_were_changed_twice() -> None:
    old = Select("a", On("E", log("e")))
    new = Select("c", On("E", log("e")), renamed_from=("a", "b"))
    assert goes_on(old, new, "E").log == ["e", "end"]
    assert goes_on(Select("b", On("E", log("e"))), new, "E").log == ["e", "end"]


def test_what_is_saved_has_the_new_names_alone() -> None:
    order, execution = start(deploy(Select("old name", On("E", log("e")), Timeout("old timeout", timedelta(1)))))
    renamed = Timeout("t", timedelta(1), renamed_from="old timeout")
    new = deploy(Select("s", On("E", log("e")), renamed, renamed_from="old name"), do("a"))
    order, execution = migrate(order, execution, new)
    resume(order, execution)
    later = deploy(Select("s", On("E", log("e")), Timeout("t", timedelta(1))), do("a"))
    order, execution = migrate(order, execution, later)
    handle_event(order, execution, "t")
    resume(order, execution)
    assert order.log == ["a"]


# --- everything at once ----------------------------------------------------------------------


class DeployingRun(CrashingRun):
    """A run whose process dies behind each checkpoint; from the ``at``-th save on, the next one has the new code."""

    new: ClassVar[type[Fields]]
    at: ClassVar[int]

    def crash(self, kind: str) -> None:
        try:
            super().crash(kind)
        finally:
            self.last = self.loaded(*self.last)

    def perform(self, op: Op) -> None:
        super().perform(op)
        self.order, self.execution = self.loaded(self.order, self.execution)

    def loaded(self, order: Fields, execution: Execution) -> tuple[Fields, Execution]:
        if len(self.states) < self.at:
            return order, execution
        return self.new.load_fields(order.dump_fields()), execution


@pytest.mark.slow
@settings(max_examples=150, print_blob=True)
@given(SPECS, OPS, st.integers(0, 99))
def test_with_every_name_changed_an_instance_does_what_it_had_done(spec: list[Spec], ops: list[Op], at: int) -> None:
    old = build(spec)

    class New(Fields, name="flow"):
        trace: ClassVar[list[str]] = []
        definition = rename_all(old.definition)

    class Deploying(DeployingRun):
        new = New

    expected = Run(old).drive(ops)
    Deploying.at = len(expected) * at // 100
    states = Deploying(old).drive(ops)
    assert [comparable(state) for state in states] == [comparable(state) for state in expected]


def comparable(state: tuple[str, tuple[str, str]]) -> Any:
    """What must be the same: all but the names, which are new, and the keys of threads that were started under them."""
    kind, (fields, execution) = state
    if not execution:
        return state
    # Unfolded: what stands with other names beside it may be stored in another form.
    data = json.loads(without_new(json.dumps(Execution.from_json(execution).to_dict())))
    data.pop("definition_version")
    for wait in [
        *data.get("teardowns", ()),
        *(one for thread in data.get("threads", ()) for one in thread.get("waits", ())),
    ]:
        wait.pop("known_as", None)
    return kind, re.sub(r": [0-9a-f]{6}\"", '"', without_new(fields)), data


# --- what is refused -------------------------------------------------------------------------

E = On("E", log("e"))


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (
            [do("a"), Step("b", log("b"), renamed_from="a")],
            "Step 'b': its former name 'a' is the name of a Step in this definition. Remove it from renamed_from, or "
            "rename the other statement.",
        ),
        (
            [Step("b", log("b"), renamed_from="b")],
            "Step 'b': its former name 'b' is the name of a Step in this definition.",
        ),
        (
            [Step("b", log("b"), renamed_from="a"), Step("c", log("c"), renamed_from=("x", "a"))],
            "Step 'c': its former name 'a' is also a former name of Step 'b'. Keep it only in the renamed_from of the "
            "statement where instances should continue.",
        ),
        (
            [Go("g", do("a"), renamed_from="main"), do("b")],
            "Go 'g': its former name 'main' is the name of the main thread in this definition.",
        ),
        (
            [do("a"), S(do("b"), do("a"), prefix="p", renamed_from="")],
            "Step 'p/a': its former name 'a' is the name of a Step in this definition.",
        ),
        (
            [Select("s", E), Select("t", On("F", log("f"), renamed_from="E"))],
            "On 'F': its former name 'E' is the name of an event in this definition.",
        ),
        (
            [Select("s", On("F", log("f"), renamed_from="E")), Select("t", On("G", log("g"), renamed_from="E"))],
            "On 'G': its former name 'E' is also a former name of On 'F'. Keep it only",
        ),
        (
            [Select("s", E), Sleep("rest", timedelta(1), renamed_from="E")],
            "Sleep 'rest': its former name 'E' is the name of an event in this definition.",
        ),
        (
            [Sleep("rest", timedelta(1)), Select("s", On("F", log("f"), renamed_from="rest"))],
            "On 'F': its former name 'rest' is the name of a Sleep in this definition.",
        ),
        (
            [Sleep("a", timedelta(1), renamed_from="x"), Select("s", On("F", log("f"), renamed_from="x"))],
            "On 'F': its former name 'x' is also a former name of Sleep 'a'. Keep it only",
        ),
    ],
)
def test_a_former_name_that_is_alive_or_claimed_twice(statements: list[Statement], message: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        deploy(*statements)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "make",
    [
        lambda former: Step("s", log("s"), renamed_from=former),
        lambda former: Select("s", E, renamed_from=former),
        lambda former: On("s", log("s"), renamed_from=former),
        lambda former: Timeout("s", timedelta(1), renamed_from=former),
        lambda former: Sleep("s", timedelta(1), renamed_from=former),
        lambda former: WaitFor("s", lambda w: True, renamed_from=former),
        lambda former: Go("s", do("a"), renamed_from=former),
        lambda former: ForEach("s", letters, do("a"), renamed_from=former),
        lambda former: Parallel("s", S(do("a")), renamed_from=former),
        lambda former: Try("s", do("a"), renamed_from=former),
        lambda former: Try("t", do("a")).except_(ValueError, name="s", renamed_from=former),
        lambda former: Fail("s", "m", renamed_from=former),
        lambda former: Activity("s", lambda: None, renamed_from=former),
        lambda former: Child("s", "other", renamed_from=former),
    ],
)
@pytest.mark.parametrize("former", [7, None, ["a"], ("a", 7), "", ("",)])
def test_what_is_no_former_name(make: Callable[[Any], object], former: Any) -> None:
    with pytest.raises(DefinitionError) as caught:
        make(former)
    assert "'s': its renamed_from is" in str(caught.value)
    assert 'renamed_from="..."' in str(caught.value)


@pytest.mark.parametrize("former", [7, None, ["a"], ("a", 7)])
def test_what_is_no_former_prefix(former: Any) -> None:
    with pytest.raises(DefinitionError, match="its renamed_from is"):
        S(do("a"), prefix="p", renamed_from=former)


def test_one_event_may_name_its_former_name_in_every_select() -> None:
    flow = deploy(
        Select("s", On("F", log("f"), renamed_from="E")),
        Select("t", On("F", log("f"), renamed_from="E")),
    )
    order, execution = start(flow)
    handle_event(order, execution, "E")
    handle_event(order, execution, "F")
    assert order.log == ["f", "f"]


def test_a_name_that_is_gone_tells_of_renamed_from() -> None:
    order, execution = migrate(*start(deploy(Select("wait", E))), deploy(Select("approval", E)))
    before = saved(order, execution)
    with pytest.raises(Exception, match=r"set renamed_from='wait' on the .* replaces it \(.named\('wait'\)"):
        handle_event(order, execution, "E")
    assert saved(order, execution) == before
