"""``AgentWorkflow``: the loop of an agent, as a section of a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, ClassVar, cast

from pydantic import TypeAdapter
from pydantic_ai import Agent, UsageLimits
from pydantic_ai.exceptions import ModelRequestRejectedError, UsageLimitExceeded, UserError
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter
from pydantic_core import to_json

from gorchestrate.pydantic_ai import agent_steps
from gorchestrate.pydantic_ai.records import (
    AgentStopped,
    ConversationTooLong,
    Decision,
    Json,
    OpenCall,
    ToolResult,
    Turn,
)
from workflow_core import ActivityContext, EventRejected, Retry, Workflow, activity, event, gather, select

DENIED = "The tool call was denied."


class AgentWorkflow(Workflow):
    """The base of workflows that run an agent. ``run`` awaits ``self.ask(prompt)``.

    Attributes:
        agent: the agent. Its model must be set, and its tools must be registered.
        usage_limits: limits for all questions of an instance together; by default those of pydantic-ai, 50 requests.
        approval_timeout: how long a person may take to decide. Afterwards, the call is denied.
        messages_bytes_max: the most bytes of the stored messages. While the model is asked, the instance stores them
            twice, and a document has at most 1 MiB.
        messages: the conversation, as pydantic-ai stores it; see ``history``.
        usage: the requests and tokens so far.
        open_calls: the calls of tools that have no result yet. ``approve`` decides on those that need it.
    """

    agent: ClassVar[Agent[Any, Any]]
    usage_limits: ClassVar[UsageLimits | None] = None
    approval_timeout: ClassVar[timedelta] = timedelta(days=7)
    messages_bytes_max: ClassVar[int] = 400_000

    messages: list[Json] = []
    usage: Json = {}
    open_calls: list[OpenCall] = []

    @property
    def history(self) -> list[ModelMessage]:
        """The conversation as messages of pydantic-ai."""
        return ModelMessagesTypeAdapter.validate_python(self.messages)

    def deps(self, context: ActivityContext) -> Any:
        """Returns the dependencies of the agent, for one activity. Override this method. It runs in the activity, so it
        cannot use the fields.

        Args:
            context: the attempt. Its ``idempotency_key`` is the same in each attempt, and each call of a tool has
                another one.
        """
        return None

    @event
    def approve(self, decision: Decision) -> None:
        """Approves or denies a call of a tool in ``open_calls``."""
        for call in self.open_calls:
            if call.id == decision.call and call.waits:
                call.approved, call.reason = decision.approved, decision.reason
                return
        waiting = ", ".join(repr(call.id) for call in self.open_calls if call.waits)
        raise EventRejected(f"no call {decision.call[:100]!r} waits for an approval. Waiting: {waiting or 'none'}")

    @activity(retry=Retry(max_attempts=5), timeout=timedelta(minutes=10))
    async def request_model(
        self, context: ActivityContext, prompt: str | None, messages: list[Json], usage: Json
    ) -> Turn:
        """Sends a request to the model. If its output is invalid, it also sends the repetition."""
        try:
            return await agent_steps.request(self.agent, self.usage_limits, self.deps(context), prompt, messages, usage)
        except (UsageLimitExceeded, UserError, ModelRequestRejectedError) as error:
            raise AgentStopped(f"{type(error).__name__}: {error}") from error

    @activity(retry=Retry(max_attempts=3), timeout=timedelta(minutes=10))
    async def call_tool(self, context: ActivityContext, call: OpenCall) -> ToolResult:
        """Calls a tool."""
        return await agent_steps.call(self.agent, self.deps(context), call)

    async def ask(self, prompt: str) -> Any:
        """Runs the agent until it has an output, and returns the output, of the agent's output type.

        Raises:
            AgentStopped, ConversationTooLong: the agent cannot go on.
        """
        question: str | None = prompt
        while True:
            self.check_size()
            turn = await self.request_model(question, self.messages, self.usage)
            question = None
            self.messages, self.usage, self.open_calls = turn.messages, turn.usage, turn.calls
            if not turn.calls:
                return self.output_of(turn)
            await self.answer_calls()

    async def answer_calls(self) -> None:
        """Calls the tools in ``open_calls``, at the same time, and adds their results to the messages."""
        answers: dict[str, list[Json]] = {}
        while self.open_calls:
            while any(call.waits for call in self.open_calls):
                decided = await select(self.approve, timeout=self.approval_timeout)
                if decided.timed_out:
                    self.deny_all()
            results = await gather(*(self.answer_call(call) for call in self.open_calls))
            self.take_results(results, answers)
        self.messages.append(agent_steps.request_of([part for parts in answers.values() for part in parts]))

    async def answer_call(self, call: OpenCall) -> ToolResult:
        """Returns the answer to a call. Errors of a tool become answers once its retries are exhausted."""
        if call.approved is False:
            return agent_steps.answer(call, call.reason or DENIED, "denied")
        try:
            return await self.call_tool(call)
        except Exception as error:
            return agent_steps.answer(call, f"{type(error).__name__}: {error}", "failed")

    def check_size(self) -> None:
        """Raises ``ConversationTooLong`` if the messages are too large."""
        size = len(to_json(self.messages))
        if size > self.messages_bytes_max:
            raise ConversationTooLong(
                f"the conversation has {size:,} bytes, the limit is {self.messages_bytes_max:,}. Let tools store large "
                f"results elsewhere, for example in a bucket, and return a reference; or shorten old messages with a "
                f"history processor"
            )

    def deny_all(self) -> None:
        """Denies all calls that wait for a decision."""
        for call in self.open_calls:
            if call.waits:
                call.approved, call.reason = False, f"{DENIED} Nobody has decided in time."

    def take_results(self, results: Sequence[ToolResult], answers: dict[str, list[Json]]) -> None:
        """Adds results to the answers. Calls that need an approval remain open."""
        left = []
        for call, result in zip(self.open_calls, results, strict=True):
            answers[call.id] = result.parts
            if result.needs_approval:
                left.append(call.model_copy(update={"needs_approval": True}))
        called = sum(call.approved is not False for call in self.open_calls) - len(left)
        self.open_calls = left
        self.usage["tool_calls"] = cast(int, self.usage.get("tool_calls", 0)) + called

    def output_of(self, turn: Turn) -> Any:
        """Returns the output of the last turn."""
        types = agent_steps.output_types(self.agent.output_type)
        return TypeAdapter(types[turn.kind]).validate_python(turn.output)
