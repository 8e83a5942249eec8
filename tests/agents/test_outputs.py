"""Outputs of agents of pydantic-ai: their types, and calls of tools beside them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry, PromptedOutput, ToolOutput
from pydantic_ai.messages import TextPart, UserPromptPart

from gorchestrate.pydantic_ai import AgentWorkflow
from gorchestrate.pydantic_ai.agent_steps import SET_ASIDE
from gorchestrate.testing import Environment
from tests.agents.scripted import MODEL, WORLD, Answer, Refusal, call, final
from workflow_core import TimedOut, timeout


@pytest.fixture(autouse=True)
def _fresh() -> None:
    WORLD.reset()


def shout(text: str) -> str:
    return text.upper()


class Outputs(AgentWorkflow, name="outputs"):
    agent = Agent(MODEL, output_type=[ToolOutput(Answer, name="answer"), ToolOutput(Refusal, name="refuse")])
    outputs: list[str] = []

    async def run(self) -> None:
        for question in ("one", "two"):
            self.outputs.append(repr(await self.ask(question)))


def test_the_type_of_an_output_and_a_second_question() -> None:
    with Environment(Outputs) as environment:
        WORLD.reset([call("refuse", "1", text="no")], [call("answer", "2", text="no")])
        handle = environment.create(Outputs)

        assert handle.is_finished
        assert handle.fields.outputs == ["Refusal(text='no')", "Answer(text='no', total=0)"]
    prompts = [part.content for part in WORLD.requests[-1][-1].parts if isinstance(part, UserPromptPart)]
    assert prompts == ["two"]
    assert len(WORLD.requests[-1]) == 3, "it knows the first question"


class Texts(AgentWorkflow, name="texts"):
    agent = Agent(MODEL, output_type=shout)
    answer: str = ""
    log: list[str] = []

    async def run(self) -> None:
        try:
            async with timeout(timedelta(hours=1)):
                self.answer = await self.ask("hello")
        except TimedOut:
            self.log.append("late")


@Texts.agent.output_validator
def _not_empty(output: str) -> str:
    if not output:
        raise ModelRetry("say something")
    return output


@Texts.agent.tool_plain(requires_approval=True)
def risk() -> str:
    return "risked"


def test_an_output_function_and_a_validator() -> None:
    with Environment(Texts) as environment:
        WORLD.reset(final(text=""), final(text="hi"))
        handle = environment.create(Texts)
        assert handle.fields.answer == "HI"


def test_a_deadline() -> None:
    with Environment(Texts) as environment:
        WORLD.reset([call("risk")])
        handle = environment.create(Texts)
        environment.advance(hours=1)
        assert handle.fields.log == ["late"]
        assert handle.is_finished


class Prompted(AgentWorkflow, name="prompted"):
    agent = Agent(MODEL, output_type=PromptedOutput[Any]([Answer, Refusal]))
    answer: str = ""

    async def run(self) -> None:
        self.answer = repr(await self.ask("hello"))


def test_an_output_that_the_prompt_asks_for() -> None:
    with Environment(Prompted) as environment:
        WORLD.reset([TextPart('{"result": {"kind": "Refusal", "data": {"text": "no"}}}')])
        assert environment.create(Prompted).fields.answer == "Refusal(text='no')"


class Graceful(AgentWorkflow, name="graceful"):
    agent = Agent(MODEL, output_type=Answer, end_strategy="graceful")
    answer: Answer | None = None

    async def run(self) -> None:
        self.answer = await self.ask("hello")


class Early(AgentWorkflow, name="early"):
    agent = Agent(MODEL, output_type=Answer, end_strategy="early")
    answer: Answer | None = None

    async def run(self) -> None:
        self.answer = await self.ask("hello")


@Early.agent.tool_plain
@Graceful.agent.tool_plain
def note() -> str:
    WORLD.calls.append("note")
    return "noted"


def test_an_output_ends_an_early_agent() -> None:
    with Environment(Early) as environment:
        WORLD.reset([call("note", "1"), *final(text="done")])
        assert environment.create(Early).fields.answer == Answer(text="done")
    assert WORLD.calls == []
    assert len(WORLD.requests) == 1


def test_an_output_beside_calls_has_to_be_returned_again() -> None:
    with Environment(Graceful) as environment:
        WORLD.reset([call("note", "1"), *final(text="draft")], final("2", text="done"))
        handle = environment.create(Graceful)
        assert handle.fields.answer == Answer(text="done")
        assert handle.fields.usage["tool_calls"] == 1
    assert WORLD.calls == ["note"]
    assert WORLD.seen == ["noted", SET_ASIDE]


def test_calls_beside_an_invalid_output_are_not_made_in_the_activity_of_the_request() -> None:
    with Environment(Early) as environment:
        WORLD.reset([call("note", "1"), *final(total=1)], [call("note", "2")], final(text="done"))
        handle = environment.create(Early)
        assert handle.fields.answer == Answer(text="done")
    assert WORLD.calls == ["note"]
