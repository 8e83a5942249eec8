"""An agent: a model decides which tools to call. A person approves dangerous calls, and can interrupt at any time."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import ActivityContext, Retry, TerminalError, Workflow, activity, event, race, select

tools = OutsideService("tool")

DANGEROUS = {"delete"}


class Message(BaseModel):
    """A part of the conversation."""

    by: Literal["person", "model", "tool"]
    text: str


class ToolCall(BaseModel):
    """A call of a tool that the model asks for."""

    tool: str
    argument: str


class Reply(BaseModel):
    """What the model answers: a call of a tool, or the end."""

    text: str
    call: ToolCall | None = None


SCRIPT = {
    "clean up": Reply(text="I look first", call=ToolCall(tool="list", argument="/tmp")),
    "list /tmp": Reply(text="I delete it", call=ToolCall(tool="delete", argument="/tmp/old")),
    "delete /tmp/old": Reply(text="It is clean"),
    "delete: not allowed": Reply(text="I have deleted nothing"),
    "only count": Reply(text="I count", call=ToolCall(tool="count", argument="/tmp")),
    "count: broken": Reply(text="I cannot count"),
}
"""What the model, which is played by this table, replies to the last message."""


class Agent(Workflow, name="agent"):
    """Works on a task in at most 20 turns."""

    create_fields = ("messages",)
    messages: list[Message]
    turns: int = 0
    answer: str = ""

    @event(role="owner")
    def interrupt(self, text: str) -> None:
        """Stops what the agent is doing, and tells it something."""
        self.add("person", text)

    @event(role="owner")
    def allow(self, yes: bool) -> None:
        """Answers whether a dangerous tool may be called."""

    @activity(retry=Retry(max_attempts=5), timeout=timedelta(minutes=5))
    async def think(self, messages: list[Message]) -> Reply:
        return SCRIPT[messages[-1].text]

    @activity(retry=Retry(max_attempts=3), timeout=timedelta(minutes=5))
    async def use(self, context: ActivityContext, call: ToolCall) -> str:
        if call.tool == "count":
            raise TerminalError("broken")
        tools.request(f"{call.tool} {call.argument}", context.idempotency_key)
        return f"{call.tool} {call.argument}"

    def add(self, by: Literal["person", "model", "tool"], text: str) -> None:
        self.messages.append(Message(by=by, text=text))

    async def act(self, call: ToolCall) -> None:
        """Calls a tool, if it is allowed."""
        if call.tool in DANGEROUS:
            allowed = await select(self.allow, self.interrupt, timeout=timedelta(hours=8))
            if allowed.happened(self.interrupt):
                return
            if not allowed.input:
                self.add("tool", f"{call.tool}: not allowed")
                return
        try:
            result, _ = await race(self.use(call), select(self.interrupt))
            if result is not None:
                self.add("tool", result)
        except Exception as error:
            self.add("tool", f"{call.tool}: {error}")

    async def run(self) -> None:
        while not self.answer and self.turns < 20:
            self.turns += 1
            reply, _ = await race(self.think(self.messages), select(self.interrupt))
            if reply is not None:
                self.add("model", reply.text)
                if reply.call is not None:
                    await self.act(reply.call)
                else:
                    self.answer = reply.text
