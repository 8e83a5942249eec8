"""The activities of an agent: they step ``agent.iter`` to where the agent would go on by itself."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Sequence
from typing import Any, Literal, cast, get_type_hints

from pydantic import JsonValue, TypeAdapter
from pydantic_ai import Agent, AgentRun, ModelRetry, RunContext, UsageLimits
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred, UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.output import NativeOutput, PromptedOutput, TextOutput, ToolOutput
from pydantic_ai.tools import DeferredToolResults
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset
from pydantic_ai.usage import RunUsage
from pydantic_core import PydanticSerializationError
from pydantic_graph import End

from gorchestrate.pydantic_ai.records import Json, OpenCall, ToolResult, Turn
from workflow_core import TerminalError
from workflow_core.comparing import leaves

SET_ASIDE = "The final result was not processed, because other tools were called with it. Return it again."

_USAGE = TypeAdapter(RunUsage)


class _NotHere(WrapperToolset[Any]):
    """Tools that the model sees, but that are not called beside an output: that would not be an activity."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        raise ModelRetry("This tool was not called, because the final result came with it. Call it on its own.")


class _Watched(WrapperToolset[Any]):
    """Tools that may ask for an approval while they run, by ``ApprovalRequired``."""

    asked: bool = False

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:
        try:
            return await super().call_tool(name, tool_args, ctx, tool)
        except ApprovalRequired:
            self.asked = True
        except CallDeferred as error:
            raise UserError(f"the tool {name!r} defers its call: an AgentWorkflow cannot wait for it") from error


async def request(
    agent: Agent[Any, Any], limits: UsageLimits | None, deps: Any, prompt: str | None, messages: list[Json], usage: Json
) -> Turn:
    """Steps the agent to the calls of tools, or to its end."""
    history = ModelMessagesTypeAdapter.validate_python(messages)
    toolsets: list[AbstractToolset[Any]] = [_NotHere(toolset) for toolset in agent.toolsets]
    with agent.override(toolsets=toolsets, tools=[]):
        async with agent.iter(
            prompt,
            message_history=history,
            deps=deps,
            usage=_USAGE.validate_python(usage),
            usage_limits=limits,
        ) as run:
            node, is_response = run.next_node, False
            while not isinstance(node, End):
                if is_response and Agent.is_call_tools_node(node):
                    _make_ids_unique(node.model_response, run.all_messages())
                    calls = _calls(agent, run, node.model_response)
                    if calls:
                        _check_limit(limits, run.usage, len(calls))
                        return _turn(run, calls=calls)
                is_response = Agent.is_model_request_node(node)
                node = await run.next(node)
            kind, output = _dumped_output(agent, node.data.output)
            return _turn(run, kind=kind, output=output)


def _make_ids_unique(response: ModelResponse, messages: list[ModelMessage]) -> None:
    """Gives a new id to each call of a tool whose id is empty or was used before, in the response or an earlier one:
    decisions and results belong to a call by its id."""
    earlier = (message for message in messages if isinstance(message, ModelResponse) and message is not response)
    taken = {part.tool_call_id for message in earlier for part in message.tool_calls}
    parts: list[ModelResponsePart] = []
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            id, number = part.tool_call_id, 1
            while not id or id in taken:
                number += 1
                id = f"{part.tool_call_id or 'call'}-{number}"
            taken.add(id)
            part = dataclasses.replace(part, tool_call_id=id)
        parts.append(part)
    response.parts = parts


def _calls(agent: Agent[Any, Any], run: AgentRun[Any, Any], response: ModelResponse) -> list[OpenCall]:
    """Returns the calls of tools in a response that are activities. An output beside them ends the agent, or else the
    model has to return it again, because it may depend on their results."""
    manager = run.ctx.deps.tool_manager
    found, is_tool = [], False
    for part in response.tool_calls:
        definition = manager.get_tool_def(part.tool_name)
        kind = definition.kind if definition else "function"
        if kind == "external":
            raise UserError(f"the tool {part.tool_name!r} is external: an AgentWorkflow cannot wait for it")
        args = part.args if isinstance(part.args, str | None) else dict(part.args)
        call = OpenCall(id=part.tool_call_id, tool=part.tool_name, args=args, needs_approval=kind == "unapproved")
        if kind == "output":
            if agent.end_strategy == "early":
                return []
            call.approved, call.reason = False, SET_ASIDE
        is_tool |= kind != "output"
        found.append(call)
    return found if is_tool else []


def _check_limit(limits: UsageLimits | None, usage: RunUsage, calls: int) -> None:
    (limits or UsageLimits()).check_before_tool_call(dataclasses.replace(usage, tool_calls=usage.tool_calls + calls))


def _turn(run: AgentRun[Any, Any], **result: Any) -> Turn:
    return Turn(messages=_dumped(run.all_messages()), usage=_USAGE.dump_python(run.usage, mode="json"), **result)


async def call(agent: Agent[Any, Any], deps: Any, open_call: OpenCall) -> ToolResult:
    """Steps the agent from the call of a tool to the request with its result."""
    args = open_call.args
    assert args is None or isinstance(args, str | dict)
    response = ModelResponse(parts=[ToolCallPart(tool_name=open_call.tool, args=args, tool_call_id=open_call.id)])
    approved = DeferredToolResults(approvals={open_call.id: True}) if open_call.approved else None
    watched = [_Watched(toolset) for toolset in agent.toolsets]
    with agent.override(toolsets=watched, tools=[]):
        async with agent.iter(message_history=[response], deferred_tool_results=approved, deps=deps) as run:
            node = run.next_node
            while not Agent.is_model_request_node(node):
                assert not isinstance(node, End)
                node = await run.next(node)
    if any(toolset.asked for toolset in watched):
        return ToolResult(needs_approval=True)
    try:
        (message,) = _dumped([ModelRequest(parts=list(node.request.parts))])
    except PydanticSerializationError as error:
        raise TerminalError(f"the result of the tool {open_call.tool!r} cannot be stored as JSON: {error}") from error
    _check_numbers(open_call, node.request)
    return ToolResult(parts=cast(list[Json], message["parts"]))


def _check_numbers(call: OpenCall, request: ModelRequest) -> None:
    """Refuses a result with NaN or an infinity, which would be stored as null."""
    for part in request.parts:
        for path, leaf in leaves(part.content) if isinstance(part, ToolReturnPart) else ():
            if isinstance(leaf, float) and not math.isfinite(leaf):
                where = f" at {'.'.join(map(str, path))!r}" if path else ""
                raise TerminalError(
                    f"the result of the tool {call.tool!r} cannot be stored as JSON: it has {leaf}{where}. Return None "
                    f"or a text instead"
                )


def answer(call: OpenCall, text: str, outcome: Literal["denied", "failed"]) -> ToolResult:
    part = ToolReturnPart(tool_name=call.tool, content=text, tool_call_id=call.id, outcome=outcome)
    (message,) = _dumped([ModelRequest(parts=[part])])
    return ToolResult(parts=cast(list[Json], message["parts"]))


def request_of(parts: list[Json]) -> Json:
    (message,) = _dumped([ModelRequest(parts=[])])
    return message | {"parts": cast(JsonValue, parts)}


def _dumped(messages: list[ModelMessage]) -> list[Json]:
    dumped: list[Json] = ModelMessagesTypeAdapter.dump_python(messages, mode="json")
    return dumped


def _dumped_output(agent: Agent[Any, Any], output: Any) -> tuple[int, JsonValue]:
    """Returns which of the output types an output has, and the output as JSON."""
    for kind, type_ in enumerate(output_types(agent.output_type)):
        adapter: TypeAdapter[Any] = TypeAdapter(type_)
        try:
            value = adapter.dump_python(output, mode="json", round_trip=True, warnings="error")
            if type(adapter.validate_python(value)) is type(output):
                return kind, value
        except ValueError:  # another of the types
            continue
    raise TerminalError(f"the output of the agent, a {type(output).__name__}, cannot be stored as JSON")


def output_types(spec: Any) -> list[Any]:
    """Returns the types of the outputs that an output type of pydantic-ai means."""
    if isinstance(spec, Sequence) and not isinstance(spec, str):
        return [found for part in spec for found in output_types(part)]
    if isinstance(spec, ToolOutput):
        return output_types(spec.output)
    if isinstance(spec, NativeOutput | PromptedOutput):
        return output_types(spec.outputs)
    if isinstance(spec, TextOutput):
        return output_types(spec.output_function)
    if inspect.isfunction(spec) or inspect.ismethod(spec):
        return [get_type_hints(spec).get("return", Any)]
    return [spec]
