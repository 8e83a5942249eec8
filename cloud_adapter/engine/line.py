"""The waiting decisions of one instance in this process, in the order of their arrival, and the requests that wait.

This module makes no decisions. Each request waits for the ``answer`` of its item, which is set once. If the request is
cancelled, the answer is cancelled too, and the item counts as over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextvars import Context
from dataclasses import field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

from cloud_adapter.engine.decisions import Decision, FailInstance, NotNow
from cloud_adapter.engine.session import Session
from cloud_adapter.errors import Busy, Unavailable, UserCodeError
from workflow_core import UnknownStatement, WorkflowError
from workflow_core.records import record

CHECKED_SECONDS = 0.1
"""After this time, decisions that wait for a handler are checked, so that who may not make one does not wait for it."""


@record(eq=False, slots=True)
class Item:
    """A decision in its lane.

    Attributes:
        since: when it arrived.
        context: the context of its request, in which it decides.
        answer: the future for which its request waits. It is cancelled with the request.
        waits: why it was postponed.
        single: it gets its own commit.
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

    def begin(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Starts work for its request. The work is interrupted if the request is cancelled."""

        async def awaited() -> Any:
            return await work

        task = asyncio.get_running_loop().create_task(awaited(), context=self.context)
        self.answer.add_done_callback(lambda _: task.cancel())
        return task

    def resolve(self, value: Any) -> None:
        """Sets the answer."""
        if not self.answer.done():
            self.answer.set_result(value)

    def refuse(self, error: BaseException) -> None:
        """Sets an error instead of the answer."""
        if not self.answer.done():
            self.answer.set_exception(self.decision.refusal(error))

    def overdue_at(self, max_wait: timedelta) -> datetime:
        """Returns when it has waited for too long."""
        patience = self.decision.patience if self.waits is None else self.waits.patience
        return self.since + (max_wait if patience is None else patience)

    def refuse_overdue(self, now: datetime, max_wait: timedelta) -> bool:
        """Refuses a decision that has waited for too long. Returns whether it has."""
        assert self.waits is not None
        is_overdue = self.overdue_at(max_wait) <= now
        if is_overdue:
            self.refuse(self.waits.error)
        return is_overdue

    def check(self, session: Session) -> None:
        """Refuses a decision that its caller may not make, before it decides."""
        self.decision.is_unchecked = False
        try:
            self.context.run(self.decision.check, session)
        except WorkflowError as error:
            self.refuse(error)

    def fail(self, error: Exception) -> None:
        """Sets an error instead of the answer. If an error of the workflow's code has no receiver, the instance
        fails."""
        decision = self.decision
        if decision.statement is None or isinstance(error, (Busy, Unavailable, UnknownStatement)):
            self.refuse(error)
            return
        # An error that a condition has raised is stored unchanged, like an error of a step.
        cause = error.__cause__ if isinstance(error, UserCodeError) else None
        raised = cause if isinstance(cause, Exception) else error
        self.decision = FailInstance(raised, decision.statement, taken=decision.taken)
        self.waits, self.single = None, True


# Most batches are of one item, for which a generator takes several times as long.
item_reads, item_wants_events = attrgetter("decision.reads"), attrgetter("decision.wants_events")
"""What the decision of an item says of itself."""


@record(eq=False, slots=True)
class Line:
    """The waiting decisions of one instance, in the order of their arrival.

    Attributes:
        woken: set when a decision has arrived, or the instance has changed.
    """

    items: list[Item] = field(default_factory=list)
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def waiting(self) -> list[Item]:
        """Returns the items that still wait."""
        self.items = [item for item in self.items if not item.answer.done()]
        return self.items

    def unchecked(self, first: Item) -> list[Item]:
        """Returns the items that wait for the first one and were not checked yet."""
        return [item for item in self.items if item is not first and item.decision.is_unchecked and not item.over]

    def put_last(self, item: Item) -> None:
        """Moves an item to the end."""
        self.items.remove(item)
        self.items.append(item)


@record(eq=False, slots=True)
class Verdict:
    """The outcome of a decision, until the request may get it."""

    item: Item
    answer: Any = None
    refusal: Exception | None = None
    has_changed: bool = False

    def tell(self) -> None:
        if self.refusal is None:
            self.item.resolve(self.answer)
        else:
            self.item.fail(self.refusal)
