"""The workflows that the tests of the HTTP applications serve. Holds no test."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, Field

from workflow_core import EventRejected, Go, On, Return, S, Select, Step, StepContext, Timeout, WaitFor, While, Workflow

GATES: dict[str, threading.Event] = {}
"""By the id of an instance of ``Slow``: what its step waits for."""

UNICODE_EVENT = "Ünï cöde 100%?#&+"
SLASH_EVENT = "door/open"
UNICODE_THREAD = "links & über/50%?"


class Item(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    qty: Annotated[int, Field(ge=1)] = 1


class Box(BaseModel):
    items: list[Item]


class Desk(Workflow, name="desk"):
    """Takes events of every kind, again and again."""

    search_fields = ("note",)
    create_fields = ("items", "note", "anything", "broken", "is_open")

    items: list[Item] = []
    note: Annotated[str, Field(max_length=2_000)] = ""
    anything: Any = None
    broken: bool = False
    is_open: bool = True

    def put(self, item: Item) -> list[Item]:
        self.items.append(item)
        return self.items

    def put_box(self, box: Box) -> int:
        self.items += box.items
        return len(self.items)

    def keep(self, value: Any) -> Any:
        self.anything = value
        return value

    def write(self, text: str) -> None:
        self.note = text

    def count(self) -> int:
        return len(self.items)

    def touch(self) -> None:
        self.note += "."

    def refuse(self) -> None:
        self.note = "to be forgotten"
        raise EventRejected("the desk refuses: ask tomorrow")

    def crash(self) -> None:
        self.note = "to be forgotten"
        raise RuntimeError("the handler is wrong")

    def stutter(self) -> None:
        raise EventRejected("no Unicode: \udcff")

    def lie(self) -> int:
        self.note = "to be forgotten"
        return "no number"  # type: ignore[return-value]

    def spoil(self) -> None:
        self.broken = True

    def check(self) -> bool:
        if self.broken:
            raise ZeroDivisionError("the condition is wrong")
        return self.is_open

    def close(self) -> None:
        self.is_open = False

    definition = S(
        While(
            "the desk is open",
            check,
            Select(
                "at the desk",
                On("Put", put, role="clerk"),
                On("PutBox", put_box),
                On("Keep", keep),
                On("Write", write),
                On("Count", count),
                On("Touch", touch),
                On("Refuse", refuse),
                On("Crash", crash),
                On("Lie", lie),
                On("Stutter", stutter),
                On("Spoil", spoil),
                On("Close", close),
                On(UNICODE_EVENT, keep),
                On(SLASH_EVENT, count),
            ),
        ),
        Select("closed", On("Archive", touch)),
    )


class Twins(Workflow, name="twins"):
    """Two threads that wait for an event of one name, and a main thread that waits for both."""

    left: int = 0
    right: int = 0

    def vote_left(self, votes: int) -> str:
        self.left = votes
        return "left"

    def vote_right(self, votes: int) -> str:
        self.right = votes
        return "right"

    definition = S(
        Go("left", Select("left votes", On("Vote", vote_left)), id=UNICODE_THREAD),
        Go("right", Select("right votes", On("Vote", vote_right))),
        WaitFor("both voted", lambda w: w.left and w.right),
    )


class Slow(Workflow, name="slow"):
    """A step that lasts until its gate opens, then an event."""

    done: bool = False

    def work(self, step: StepContext) -> None:
        assert GATES[step.workflow_id].wait(30)

    def finish(self) -> str:
        self.done = True
        return "finished"

    definition = S(Step("slow work", work), Select("after the work", On("Finish", finish)))


class Timed(Workflow, name="timed"):
    """A step, then an event or a timeout after an hour."""

    log: list[str] = []

    def prepare(self) -> None:
        self.log.append("prepared")

    def answer(self) -> None:
        self.log.append("answered")

    def late(self) -> None:
        self.log.append("too late")

    definition = S(
        Step("prepare", prepare),
        Select(
            "waits for an answer",
            On("Answer", answer),
            Timeout("no answer", timedelta(hours=1), Step("give up", late), Return()),
        ),
    )


class Failing(Workflow, name="failing"):
    """The way on from its step is wrong, so it fails."""

    def check(self) -> bool:
        raise ZeroDivisionError("the condition is wrong")

    definition = S(Step("first", lambda w: None), WaitFor("never", check))


WORKFLOWS = (Desk, Twins, Slow, Timed, Failing)
