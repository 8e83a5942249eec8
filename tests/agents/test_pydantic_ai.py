"""Agents of pydantic-ai as workflows, with models that are functions: each request and each call is an activity."""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ApprovalRequired, ModelRetry, RunContext, UsageLimits
from pydantic_ai.exceptions import ModelRequestRejectedError
from pydantic_ai.messages import ModelResponse, TextPart, ToolReturnPart

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from gorchestrate.pydantic_ai import AgentStopped, AgentWorkflow, ConversationTooLong
from gorchestrate.testing import Environment, crash_everywhere
from gorchestrate.testing.instances import InstanceHandle
from tests.agents.scripted import MODEL, WORLD, Answer, Place, call, final
from tests.emulator.harness import until
from workflow_core import ActivityContext, EventRejected


@pytest.fixture(autouse=True)
def _fresh() -> None:
    WORLD.reset()


agent = Agent(MODEL, output_type=Answer, deps_type=str, instructions="Be brief.")


@agent.tool
def add(context: RunContext[str], a: int, b: int) -> int:
    """Adds two numbers."""
    WORLD.calls.append(f"{a} + {b}")
    WORLD.keys.setdefault(context.deps, f"{a} + {b}")
    if WORLD.errors:
        raise WORLD.errors.pop(0)
    return a + b


@agent.output_validator
def has_dependencies(context: RunContext[str], output: Answer) -> Answer:
    assert context.deps
    return output


@agent.tool_plain(requires_approval=True)
def delete(path: str) -> str:
    WORLD.calls.append(f"delete {path}")
    return f"deleted {path}"


@agent.tool
def spend(context: RunContext[str], cents: int) -> str:
    if cents > 100 and not context.tool_call_approved:
        raise ApprovalRequired()
    WORLD.calls.append(f"spend {cents}")
    return "spent"


@agent.tool_plain
def place() -> Place:
    return Place("Rome")


@agent.tool_plain
def thing() -> object:
    return object()


@agent.tool_plain
def mean(values: list[float]) -> dict[str, float]:
    return {"mean": sum(values) / len(values) if values else math.nan}


SECONDS_MAX = 20.0
meeting: list[asyncio.Event] = []


@agent.tool_plain
async def meet() -> str:
    """Returns only when it is called twice at the same time."""
    if not meeting:
        meeting.append(asyncio.Event())
        await asyncio.wait_for(meeting[0].wait(), SECONDS_MAX)
    else:
        meeting[0].set()
    return "met"


class Support(AgentWorkflow, name="support"):
    agent = agent
    question: str = "hello"
    answer: Answer | None = None
    error: str = ""

    def deps(self, context: ActivityContext) -> str:
        return context.idempotency_key

    async def run(self) -> None:
        try:
            self.answer = await self.ask(self.question)
        except (AgentStopped, ConversationTooLong) as error:
            self.error = f"{type(error).__name__}: {error}"


Started = Callable[..., InstanceHandle[Any]]


@pytest.fixture
def environment() -> Iterator[Environment]:
    with Environment(Support) as environment:
        yield environment


@pytest.fixture
def support(environment: Environment) -> Callable[..., InstanceHandle[Support]]:
    """Starts an instance whose model gives these replies."""

    def start(*replies: list[Any]) -> InstanceHandle[Support]:
        WORLD.reset(*replies)
        return environment.create(Support, "a")

    return start


def activities(handle: InstanceHandle[Any]) -> list[str]:
    return [statement for kind, statement in handle.history if kind == "activity"]


def test_each_request_and_each_call_is_an_activity(support: Started) -> None:
    handle = support([call("add", "1", a=1, b=2), call("add", "2", a=3, b=4)], final(text="done", total=10))
    assert handle.fields.answer == Answer(text="done", total=10)
    assert WORLD.seen == [3, 7]
    assert sorted(WORLD.calls) == ["1 + 2", "3 + 4"]
    names = [name.rpartition("/")[2] for name in activities(handle)]
    assert names == ["request_model", "call_tool", "call_tool", "request_model"]
    assert len(WORLD.keys) == 2, "each call has its own idempotency key"
    assert [type(message).__name__ for message in handle.fields.history] == [
        *("ModelRequest", "ModelResponse", "ModelRequest", "ModelResponse", "ModelRequest")
    ]
    assert handle.fields.usage["requests"] == 2
    assert handle.fields.usage["tool_calls"] == 2
    assert WORLD.requests[-1][-1].instructions == "Be brief."  # type: ignore[union-attr]


def test_a_crash_repeats_nothing_that_is_committed() -> None:
    def script(environment: Environment) -> Any:
        WORLD.reset([call("add", "1", a=1, b=2), call("delete", "2", path="/tmp")], final(text="done", total=3))
        handle = environment.create(Support, "a")
        handle.send("approve", {"call": "2", "approved": True})
        assert handle.is_finished
        return sorted(WORLD.keys.values())

    assert crash_everywhere(script, Support, ignored_fields=["messages"]) > 8


def test_a_restart_between_a_request_and_its_calls(environment: Environment, support: Started) -> None:
    handle = support([call("delete", path="/tmp")], final(text="done"))
    environment.restart()
    environment.advance(hours=1)
    assert len(WORLD.requests) == 1, "the response is stored"
    assert WORLD.calls == []
    handle.send("approve", {"call": "call-1", "approved": True})
    assert handle.is_finished
    assert WORLD.calls == ["delete /tmp"]
    assert len(WORLD.requests) == 2


def test_a_person_approves(support: Started) -> None:
    handle = support(
        [call("delete", "1", path="/a"), call("delete", "2", path="/b"), call("add", "3", a=1, b=1)],
        final(text="done"),
    )
    shown = [(each.id, each.tool, each.args, each.waits) for each in handle.fields.open_calls]
    assert shown == [
        ("1", "delete", {"path": "/a"}, True),
        ("2", "delete", {"path": "/b"}, True),
        ("3", "add", {"a": 1, "b": 1}, False),
    ]
    for wrong in ("3", "other"):
        with pytest.raises(EventRejected, match=rf"no call '{wrong}' waits for an approval\. Waiting: '1', '2'"):
            handle.send("approve", {"call": wrong, "approved": True})
    handle.send("approve", {"call": "2", "approved": False, "reason": "keep it"})
    assert WORLD.calls == []
    handle.send("approve", {"call": "1", "approved": True})
    assert handle.is_finished
    assert sorted(WORLD.calls) == ["1 + 1", "delete /a"]
    assert WORLD.seen == ["deleted /a", "keep it", 2]
    outcomes = [part.outcome for part in WORLD.requests[-1][-1].parts]  # type: ignore[union-attr]
    assert outcomes == ["success", "denied", "success"]


def test_calls_with_the_same_id_are_told_apart(support: Started) -> None:
    ids = [
        [call("delete", "x", path="/a"), call("delete", "x", path="/b"), call("add", "x-2", a=1, b=1)],
        [call("delete", "x", path="/c"), call("add", "", a=2, b=2)],
    ]
    handle = support(*ids, final(text="done"))
    assert [each.id for each in handle.fields.open_calls] == ["x", "x-2", "x-2-2"]
    handle.send("approve", {"call": "x", "approved": True})
    with pytest.raises(EventRejected, match=r"no call 'x' waits for an approval\. Waiting: 'x-2'"):
        handle.send("approve", {"call": "x", "approved": True})
    handle.send("approve", {"call": "x-2", "approved": False, "reason": "keep it"})
    assert sorted(WORLD.calls) == ["1 + 1", "delete /a"]
    assert WORLD.seen == ["deleted /a", "keep it", 2]
    assert [each.id for each in handle.fields.open_calls] == ["x-3", "call-2"]
    with pytest.raises(EventRejected, match=r"no call 'x' waits for an approval\. Waiting: 'x-3'"):
        handle.send("approve", {"call": "x", "approved": True})
    handle.send("approve", {"call": "x-3", "approved": True})
    assert handle.is_finished
    assert sorted(WORLD.calls) == ["1 + 1", "2 + 2", "delete /a", "delete /c"]
    assert WORLD.seen == ["deleted /c", 4]
    responses = [message for message in WORLD.requests[-1] if isinstance(message, ModelResponse)]
    assert [[part.tool_call_id for part in response.tool_calls] for response in responses] == [
        ["x", "x-2", "x-2-2"],
        ["x-3", "call-2"],
    ]


def test_nobody_decides(environment: Environment, support: Started) -> None:
    handle = support([call("delete", path="/a")], final(text="done"))
    environment.advance(days=6)
    assert not handle.is_finished
    environment.advance(days=1)
    assert handle.is_finished
    assert WORLD.calls == []
    assert WORLD.seen == ["The tool call was denied. Nobody has decided in time."]


def test_a_person_denies_without_a_reason(support: Started) -> None:
    handle = support([call("delete", "1", path="/a")], final(text="done"))
    handle.send("approve", {"call": "1", "approved": False})
    assert handle.is_finished
    assert WORLD.seen == ["The tool call was denied."]


def test_nobody_decides_on_one_of_the_calls(environment: Environment, support: Started) -> None:
    handle = support([call("delete", "1", path="/a"), call("delete", "2", path="/b")], final(text="done"))
    handle.send("approve", {"call": "1", "approved": True})
    environment.advance(days=7)
    assert handle.is_finished
    assert WORLD.calls == ["delete /a"]
    assert WORLD.seen == ["deleted /a", "The tool call was denied. Nobody has decided in time."]


def test_a_tool_asks_for_an_approval_while_it_runs(support: Started) -> None:
    handle = support(
        [call("spend", "1", cents=50), call("spend", "2", cents=500), call("add", "3", a=1, b=1)], final(text="done")
    )
    assert sorted(WORLD.calls) == ["1 + 1", "spend 50"]
    assert [each.id for each in handle.fields.open_calls] == ["2"]
    handle.send("approve", {"call": "2", "approved": True})
    assert handle.is_finished
    assert sorted(WORLD.calls) == ["1 + 1", "spend 50", "spend 500"]
    assert WORLD.seen == ["spent", "spent", 2], "in the order of the calls"
    assert handle.fields.usage["tool_calls"] == 3, "one that asks for an approval counts once"


def test_a_tool_that_fails_is_repeated_and_then_reported(environment: Environment, support: Started) -> None:
    WORLD.reset([call("add", a=1, b=2)], final(text="sorry"))
    WORLD.errors = [ConnectionError("no network")] * 5
    handle = environment.create(Support, "a")
    environment.advance(hours=1)
    assert handle.is_finished
    assert len(WORLD.calls) == 3
    assert WORLD.seen == ["ConnectionError: no network"]
    assert isinstance(part := WORLD.requests[-1][-1].parts[0], ToolReturnPart)
    assert part.outcome == "failed"


def test_what_pydantic_ai_reports_to_the_model(environment: Environment) -> None:
    WORLD.reset([call("add", "1", a=1, b=2), call("add", "2", a="x", b=1), call("unknown", "3")], final(text="done"))
    WORLD.errors = [ModelRetry("try smaller numbers")]
    handle = environment.create(Support, "a")
    assert handle.is_finished
    assert WORLD.calls == ["1 + 2"], "not repeated as an activity"
    told = str(WORLD.seen)
    assert "try smaller numbers" in told
    assert "int_parsing" in told
    assert "Unknown tool name: 'unknown'" in told


def test_results_that_are_no_json(support: Started) -> None:
    handle = support(
        [
            call("place", "1"),
            call("thing", "2"),
            call("mean", "3", values=[]),
            call("mean", "4", values=[1e308, 1e308]),
        ],
        final(text="done"),
    )
    assert handle.is_finished
    place, thing, mean, infinite = WORLD.seen
    assert place == {"city": "Rome"}
    assert "the result of the tool 'thing' cannot be stored as JSON" in thing
    assert "the result of the tool 'mean' cannot be stored as JSON: it has nan at 'mean'" in mean
    assert "it has inf at 'mean'" in infinite


def test_calls_run_at_the_same_time(tmp_path: Path) -> None:
    async def run() -> str:
        runtime = EmbeddedRuntime((Support,), Settings(db=tmp_path / "meet.db"))

        async def has_ended() -> bool:
            return not (await runtime.engine.get("support", "a")).instance.execution.live

        await runtime.start()
        try:
            await runtime.engine.create("support", "a")
            await until(has_ended, poll_seconds=0.05)
            return str((await runtime.engine.get("support", "a")).instance.execution.status)
        finally:
            await runtime.close()

    meeting.clear()
    WORLD.reset([call("meet", "1"), call("meet", "2")], final(text="done"))
    assert asyncio.run(run()) == "finished"
    assert WORLD.seen == ["met", "met"]


def test_an_invalid_output_is_repeated_in_the_same_activity(support: Started) -> None:
    handle = support(final(total=1), final(text="done"))
    assert handle.fields.answer == Answer(text="done")
    assert len(activities(handle)) == 1
    assert len(WORLD.requests) == 2


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (UsageLimits(request_limit=1), "request_limit"),
        (UsageLimits(total_tokens_limit=10), "total_tokens_limit"),
        (UsageLimits(tool_calls_limit=1), "tool_calls_limit"),
    ],
)
def test_limits(
    environment: Environment, support: Started, monkeypatch: pytest.MonkeyPatch, limits: UsageLimits, text: str
) -> None:
    monkeypatch.setattr(Support, "usage_limits", limits)
    handle = support([call("add", "1", a=1, b=2)], [call("add", "2", a=1, b=2)], final(text="done"))
    assert handle.is_finished
    assert handle.fields.answer is None
    assert handle.fields.error.startswith("AgentStopped: UsageLimitExceeded")
    assert text in handle.fields.error
    assert len(WORLD.requests) <= 2


def test_a_request_that_the_model_rejects_is_not_repeated(environment: Environment) -> None:
    WORLD.reset(*[[ModelRequestRejectedError("scripted", "too many images")]] * 5)
    handle = environment.create(Support, "a")
    assert handle.is_finished
    assert handle.fields.error.startswith("AgentStopped: ModelRequestRejectedError")
    assert len(WORLD.requests) == 1


def test_a_long_conversation(support: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Support, "messages_bytes_max", 2_000)
    handle = support([TextPart("x" * 2_000), call("add", a=1, b=2)], final(text="done"))
    assert handle.fields.error.startswith("ConversationTooLong: the conversation has ")
    assert "the limit is 2,000. Let tools store large results elsewhere" in handle.fields.error


def test_without_the_extra_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['pydantic_ai'] = None; import gorchestrate.pydantic_ai"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'gorchestrate[pydantic-ai]'" in ran.stderr


def test_the_conversation_is_json(support: Started) -> None:
    handle = support(final(text="done"))
    assert json.loads(handle.fields.dump_fields())["messages"] == handle.fields.messages
