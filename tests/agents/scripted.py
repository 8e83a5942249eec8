"""A scripted model, for the tests of agents. Holds no test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


class Answer(BaseModel):
    text: str
    total: int = 0


class Refusal(BaseModel):
    text: str


@dataclass
class Place:
    city: str


class World:
    """What the models and the tools of this file have seen, and what the models reply: one list for each request."""

    def __init__(self) -> None:
        self.reset()

    def reset(self, *replies: list[Any]) -> None:
        self.replies = list(replies)
        self.requests: list[list[ModelMessage]] = []
        self.calls: list[str] = []
        self.keys: dict[str, str] = {}
        self.errors: list[Exception] = []

    def reply(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        """Depends on the messages only, as a crash may repeat a request."""
        self.requests.append(messages)
        number = sum(isinstance(message, ModelResponse) for message in messages)
        for error in self.replies[number]:
            if isinstance(error, Exception):
                raise error
        return ModelResponse(parts=self.replies[number])

    @property
    def seen(self) -> list[Any]:
        """What the model was told last."""
        return [part.content for part in self.requests[-1][-1].parts]  # type: ignore[union-attr]


WORLD = World()


def call(tool: str, id: str = "call-1", **args: Any) -> ToolCallPart:
    return ToolCallPart(tool, args, tool_call_id=id)


def final(id: str = "final", **args: Any) -> list[ToolCallPart]:
    return [call("final_result", id, **args)]


MODEL = FunctionModel(WORLD.reply)
