"""Operations: an operator cancels, terminates, pauses, unpauses, retries, moves a thread, or sets fields.

The rule: only an operator does this, except that a parent cancels its child. A repair is carried out once, exactly as
it was asked for, and only if nothing has changed the instance since its operator has looked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cloud_adapter.history import HistoryEntry
from tests.simulation.actors import Operator
from tests.simulation.model.violations import require

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.model.instance import Model

OPERATIONS = ("cancel", "terminate", "pause", "unpause", "retry", "goto", "set")


class Operations:
    """The operations on one instance."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._done: set[Actor] = set()

    def follow(self, actor: Any, entry: HistoryEntry) -> None:
        executor, errand, action = self.model.executor, self.model.children.errand, entry.kind
        by_parent = action == "cancel" and errand is not None and errand.is_left
        require(by_parent or isinstance(actor, Operator), f"{actor.name} does {action!r} to {self.model.id!r}")
        if hasattr(actor, "operation"):
            self._check(actor, entry)
        was_paused = executor.paused
        match action:
            case "cancel":
                executor.cancel()
            case "terminate":
                executor.terminate()
            case "pause" | "unpause":
                executor.pause(paused=action == "pause")
            case "retry":
                require(executor.failed, f"{self.model.id!r} is retried, and has not failed")
                executor.retry()
            case "goto":
                thread = executor.thread(entry.thread)
                require(thread is not None, f"thread {entry.thread!r} is moved, which does not live")
                executor.goto(thread, entry.statement)
            case "set":
                executor.pc += 1
                for name, value in actor.operation.fields.items():
                    setattr(executor.workflow, name, value)
        if was_paused and action in ("cancel", "unpause"):
            self.model.world.activities.renewals[self.model.id] += 1
            self.model.deadlines.begin_anew()

    def _check(self, actor: Any, entry: HistoryEntry) -> None:
        """The operation is the one that was asked for."""
        asked = actor.operation
        require(actor not in self._done, f"{actor.name} is carried out twice")
        self._done.add(actor)
        require(not asked.dry_run, f"{actor.name} was to change nothing")
        by = entry.claimed if entry.by_id else entry.by
        require((asked.name, asked.by, asked.reason) == (entry.kind, by, entry.reason), f"{asked} became {entry}")
        if entry.kind == "goto":
            require((asked.thread, asked.statement) == (entry.thread, entry.statement), f"{asked} became {entry}")
        changed = asked.pc not in (None, self.model.executor.pc)
        require(not changed, f"{actor.name} is carried out, and the instance has changed since pc {asked.pc}")
