"""The agent as an explicit definition: the same workflow as in ``agent.py``, as statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from agent import DANGEROUS, SCRIPT, Message, Reply, ToolCall, tools

from gorchestrate import (
    Activity,
    ActivityContext,
    Do,
    Done,
    ErrorInfo,
    If,
    On,
    Retry,
    S,
    Select,
    TerminalError,
    Timeout,
    Try,
    While,
    Workflow,
)


async def think(messages: list[Message]) -> Reply:
    return SCRIPT[messages[-1].text]


async def use(call: ToolCall, context: ActivityContext) -> str:
    if call.tool == "count":
        raise TerminalError("broken")
    tools.request(f"{call.tool} {call.argument}", context.idempotency_key)
    return f"{call.tool} {call.argument}"


class Agent(Workflow, name="agent"):
    """Works on a task in at most 20 turns."""

    create_fields = ("messages",)
    messages: list[Message]
    turns: int = 0
    answer: str = ""
    call: ToolCall | None = None

    def interrupt(self, text: str) -> None:
        """Stops what the agent is doing, and tells it something."""
        self.add("person", text)
        self.call = None

    def allow(self, yes: bool) -> None:
        """Answers whether a dangerous tool may be called."""
        if not yes:
            self.forbid()

    def forbid(self) -> None:
        self.finished(f"{self.get_call().tool}: not allowed")

    def add(self, by: Literal["person", "model", "tool"], text: str) -> None:
        self.messages.append(Message(by=by, text=text))

    def works(self) -> bool:
        return not self.answer and self.turns < 20

    def count(self) -> None:
        self.turns += 1

    def get_messages(self) -> list[Message]:
        return self.messages

    def replied(self, reply: Reply) -> None:
        self.add("model", reply.text)
        self.call = reply.call
        if reply.call is None:
            self.answer = reply.text

    def is_dangerous(self) -> bool:
        return self.call is not None and self.call.tool in DANGEROUS

    def has_call(self) -> bool:
        return self.call is not None

    def get_call(self) -> ToolCall:
        assert self.call is not None
        return self.call

    def finished(self, text: str) -> None:
        self.add("tool", text)
        self.call = None

    def failed(self, error: ErrorInfo) -> None:
        self.finished(f"{self.get_call().tool}: {error.message}")

    definition = S(
        While(
            "works",
            works,
            Do("count", count),
            Select(
                "what next",
                Done(
                    "replied",
                    Activity(
                        "think",
                        think,
                        input=get_messages,
                        then=replied,
                        retry=Retry(max_attempts=5),
                        timeout=timedelta(minutes=5),
                    ),
                ),
                On("interrupt", interrupt, role="owner"),
            ),
            If(
                "is dangerous",
                is_dangerous,
                Select(
                    "act/allow or interrupt",
                    On("allow", allow, role="owner"),
                    On("interrupt", interrupt, role="owner"),
                    Timeout("act/allow or interrupt timed out", timedelta(hours=8), handler=forbid),
                ),
            ),
            If(
                "has a call",
                has_call,
                Try(
                    "try use",
                    Select(
                        "tool",
                        Done(
                            "used",
                            Activity(
                                "use",
                                use,
                                input=get_call,
                                then=finished,
                                retry=Retry(max_attempts=3),
                                timeout=timedelta(minutes=5),
                            ),
                        ),
                        On("interrupt", interrupt, role="owner"),
                    ),
                ).except_(Exception, then=failed),
            ),
        )
    )
