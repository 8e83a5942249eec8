"""A script with a crash at each save."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import expense
import pytest

from cloud_adapter.engine.operations import Goto, Pause, Unpause
from gorchestrate import ExecutionError, StepContext, Workflow, child, event, gather, named, select, step
from gorchestrate.testing import CrashProblems, Environment, crash_everywhere

ANN = {"by": "Ann", "verdict": "approved"}


class Mails:
    """An outside system. It recognizes a repeated request by its key."""

    def __init__(self) -> None:
        self.sent: dict[str, str] = {}

    def send(self, text: str, key: str = "") -> None:
        self.sent[key or str(len(self.sent))] = text


class Notice(Workflow, name="notice"):
    text: str = ""

    @event
    def publish(self, text: str) -> None:
        self.text = text

    @step
    def send_mail(self, context: StepContext) -> None:
        raise ExecutionError("the tests replace it")

    async def run(self) -> None:
        if (await select(self.publish, timeout=timedelta(days=3))).timed_out:
            self.text = "nothing"
        await self.send_mail()
        await self.send_mail().named("send it again")


def careful(environment: Environment) -> list[str]:
    mails = Mails()
    environment.fake(Notice, "send_mail", lambda self, context: mails.send(self.text, context.idempotency_key))
    notice = environment.create(Notice, "notice-1")
    notice.send("publish", "news")
    assert notice.is_finished
    return list(mails.sent.values())


def careless(environment: Environment) -> list[str]:
    mails = Mails()
    environment.fake(Notice, "send_mail", lambda self: mails.send(self.text))
    environment.create(Notice, "notice-1").send("publish", "news")
    return list(mails.sent.values())


def test_idempotent_steps_end_alike() -> None:
    assert crash_everywhere(careful, Notice) >= 8


def test_what_is_done_twice_is_found() -> None:
    with pytest.raises(
        CrashProblems, match=r"the script returned \['news', 'news', 'news'\], not \['news', 'news'\]"
    ) as caught:
        crash_everywhere(careless, Notice)
    assert len(caught.value.problems) == 2
    first, second = caught.value.problems
    assert "killed just before save" in first.crash
    assert "step 'send_mail'" in first.crash
    assert "step 'send it again'" in second.crash


def test_timeouts_after_a_crash() -> None:
    def script(environment: Environment) -> int:
        mails = Mails()
        environment.fake(Notice, "send_mail", lambda self, context: mails.send(self.text, context.idempotency_key))
        notice = environment.create(Notice)
        environment.advance(days=4)
        assert notice.fields.text == "nothing"
        return len(mails.sent)

    assert crash_everywhere(script, Notice) >= 8


def test_an_error_without_a_crash_is_raised_as_it_is() -> None:
    def script(environment: Environment) -> None:
        environment.create(Notice)
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        crash_everywhere(script, Notice)


class Random(Workflow, name="random"):
    runs: list[int] = []

    @step
    def count(self) -> None:
        self.runs.append(0)

    async def run(self) -> None:
        await self.count()


def test_fields_that_differ_are_found() -> None:
    calls = []

    def script(environment: Environment) -> None:
        def count(self: Random) -> None:
            calls.append(1)
            self.runs.append(len(calls))

        environment.fake(Random, "count", count)
        environment.create(Random, "r")

    with pytest.raises(CrashProblems, match=r"random 'r' has the fields .*, not "):
        crash_everywhere(script, Random)


def expenses(environment: Environment) -> list[list[str]]:
    for service in (expense.mail, expense.bank):
        service.done.clear()
    request = environment.create(expense.Expense, employee="Bob", amount="120.50")
    environment.advance(days=7)
    request.send("decide", ANN)
    assert request.fields.reminders == 2
    return [expense.mail.log, expense.bank.log]


def test_an_example_ends_alike() -> None:
    assert crash_everywhere(expenses, expense.Expense, ignored_fields={"payment"}) > 20


class Part(Workflow, name="part"):
    n: int = 0

    @step
    def count(self) -> None:
        self.n += 1

    async def run(self) -> None:
        await self.count()


class Whole(Workflow, name="whole"):
    n: int = 0

    async def run(self) -> None:
        self.n += (await child(Part)).n
        first, second = await gather(named("second", child(Part, n=10)), named("another", child(Part, n=20)))
        self.n += first.n + second.n


@pytest.mark.slow
def test_children_without_an_id_end_alike() -> None:
    def script(environment: Environment) -> int:
        return environment.create(Whole, "w").fields.n

    assert crash_everywhere(script, Whole, Part) > 20


def test_an_operation_is_not_repeated_after_its_commit() -> None:
    def script(environment: Environment) -> list[tuple[str, str]]:
        notice = environment.create(Notice)
        notice.operate(Pause())
        notice.operate(Unpause())
        notice.operate(Goto(statement="send it again"))
        return notice.history[:4]

    assert crash_everywhere(script, Notice) >= 8


def test_a_crash_while_nothing_runs_takes_no_time() -> None:
    def script(environment: Environment) -> object:
        environment.fake(Notice, "send_mail", lambda self: None)
        notice = environment.create(Notice)
        environment.advance(timedelta(days=3) - timedelta(seconds=1))
        at = environment.now
        notice.send("publish", "news")
        return at, notice.fields.text

    assert crash_everywhere(script, Notice) >= 8


def test_it_is_for_synchronous_tests() -> None:
    async def scenario() -> None:
        with pytest.raises(TypeError, match="synchronous"):
            Environment(Notice)

    asyncio.run(scenario())
