"""What an agent's workflow stores and hands to its activities, and its errors."""

from __future__ import annotations

from pydantic import BaseModel, JsonValue

from workflow_core import TerminalError

Json = dict[str, JsonValue]


class AgentStopped(TerminalError):
    """The agent cannot go on: a limit of requests or tokens, or a request that the model will always reject."""


class ConversationTooLong(TerminalError):
    """The messages are too large to be stored with the instance."""


class OpenCall(BaseModel):
    """A call of a tool that has no result yet.

    Attributes:
        id: the id that the model gave to the call; another one if it was empty or used before.
        args: the arguments, as the model wrote them.
        needs_approval: whether a person has to decide first.
        approved: the decision; None: there is none yet.
        reason: what the model is told if it was denied.
    """

    id: str
    tool: str
    args: JsonValue = None
    needs_approval: bool = False
    approved: bool | None = None
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether it waits for a decision."""
        return self.needs_approval and self.approved is None


class Decision(BaseModel):
    """A person's decision on a call of a tool.

    Attributes:
        call: the ``id`` of the call.
        reason: what the model is told if the call is denied.
    """

    call: str
    approved: bool
    reason: str = ""


class Turn(BaseModel):
    """What a request to the model has led to: calls of tools, or else the output.

    Attributes:
        messages: the whole conversation.
        kind: which of the output types of the agent the output has.
    """

    messages: list[Json]
    usage: Json
    calls: list[OpenCall] = []
    output: JsonValue = None
    kind: int = 0


class ToolResult(BaseModel):
    """The parts of the next request that answer a call; ``needs_approval``: the tool asks for an approval instead."""

    parts: list[Json] = []
    needs_approval: bool = False
