"""What waits for one instance in this process: its decisions, in the order of their arrival, and who is to be told.

This file decides nothing. Each request waits for the ``answer`` of its item, which is told once: if the request is
cancelled, the answer is too, and the item counts as over.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cloud_adapter.engine.decisions import Decision, FailInstance, NotNow
from cloud_adapter.errors import Busy, Unavailable, UserCodeError
from workflow_core import UnknownStatement


@dataclass(eq=False, slots=True)
class Item:
    """A decision in its lane.

    Attributes:
        since: when it came.
        context: that of its request, in which it decides.
        answer: what its request waits for; cancelled with the request.
        waits: why it was put off.
        single: it gets a commit of its own.
    """

    decision: Decision
    since: datetime
    context: Context
    answer: asyncio.Future[Any]
    waits: NotNow | None = None
    has_waited: bool = False
    single: bool = False

    @property
    def over(self) -> bool:
        return self.answer.done()

    def resolve(self, value: Any) -> None:
        """Tells the answer."""
        if not self.answer.done():
            self.answer.set_result(value)

    def refuse(self, error: BaseException) -> None:
        """Tells why not."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def fail(self, error: Exception) -> None:
        """Tells why not; or lets the instance fail, if nobody is to be told of an error of its code."""
        decision = self.decision
        if decision.statement is None or isinstance(error, (Busy, Unavailable, UnknownStatement)):
            self.refuse(error)
            return
        # What a condition has raised is kept as it is, like what a step has raised.
        cause = error.__cause__ if isinstance(error, UserCodeError) else None
        raised = cause if isinstance(cause, Exception) else error
        self.decision = FailInstance(raised, decision.statement, taken=decision.taken)
        self.waits, self.single = None, True


@dataclass(eq=False, slots=True)
class Line:
    """What waits for one instance, in the order of its arrival.

    Attributes:
        woken: something has come, or has changed, since it was cleared.
    """

    items: list[Item] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def waiting(self) -> list[Item]:
        """Those that still wait."""
        self.items = [item for item in self.items if not item.over]
        return self.items

    def put_last(self, item: Item) -> None:
        """Lets the others go first."""
        self.items.remove(item)
        self.items.append(item)


@dataclass(eq=False, slots=True)
class Verdict:
    """What a decision has come to, until that may be told."""

    item: Item
    answer: Any = None
    refusal: Exception | None = None
    has_changed: bool = False

    def tell(self) -> None:
        if self.refusal is None:
            self.item.resolve(self.answer)
        else:
            self.item.fail(self.refusal)
