"""Children, and the inbox through which they notify their parents.

The rule: a parent creates a child once, with the id and the fields of its errand. The parent is notified of the child's
end once, and only after the child has ended. If the parent has left its wait, the child is canceled, or it was never
created and can no longer be created. The end of a child stays in the inbox of its parent until the write that applies
it, so it cannot be lost in between.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.engine.inbox import entry_name
from cloud_adapter.history import HistoryEntry
from tests.core.reference import DuplicateId, RefThread
from tests.simulation.acts import attempt_of
from tests.simulation.mistakes import REPORTED
from tests.simulation.model.errands import Errand, children_at
from tests.simulation.model.executor import Executor
from tests.simulation.model.leases import is_call
from tests.simulation.model.violations import require, require_equal
from tests.simulation.renaming import first_name
from workflow_core import ChildFailed

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.model.instance import Model

TELL = ("tell",)
"""The work of telling the parent of the end."""


class Children:
    """The children of one instance, and what it is to its own parent.

    Attributes:
        told: its parent knows of its end.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.told = False

    @property
    def errand(self) -> Errand | None:
        """How the parent sees this instance; None if it has none, or does not know it."""
        parent = self.model.parent
        if parent is None:
            return None
        return self.model.world.models[parent.id].executor.errands.get((parent.wait_id, parent.event))

    def born(self, actor: Actor, new: Instance) -> dict[str, int]:
        """Its parent has created it: gives its first fields."""
        parent, errand = self.model.parent, self.errand
        assert parent is not None
        require(not is_call(actor), f"{actor.name} has created a child")
        require(errand is not None, f"{new.id!r} is born, and {parent.id!r} has no child {parent.event!r} there")
        assert errand is not None
        require(errand.id == new.id, f"child {parent.event!r} is born as {new.id!r}, and should be {errand.id!r}")
        require(not errand.is_born, f"child {new.id!r} is born twice")
        require(not errand.is_torn_down, f"child {new.id!r} is born after it was canceled with its parent")
        require_equal("parent's knowledge", parent.told, errand.detached)
        errand.is_born = True
        self.told = parent.told
        return errand.fields

    # --- what comes to a parent ----------------------------------------------------------

    def start(self, thread: RefThread, errand: Errand, entry: HistoryEntry) -> None:
        """A child was started, or could not be."""
        executor = self.model.executor
        if entry.kind == "setup":
            require(errand.is_born, f"child {entry.statement!r} is said to be started, and is not")
            executor.child_started(thread, errand)
            return
        cannot_be = self._is_taken(errand) or self._cannot_begin(errand)
        cannot_be = cannot_be or (self.model.world.settings.has_limit and "would take" in entry.error)
        cannot_be = cannot_be or self.model.world.settings.has_mistakes
        require(cannot_be, f"child {entry.statement!r} could be started: {entry.error}")
        executor.pc += 1
        executor.child_failed(thread, entry.statement, ChildFailed(entry.error.partition(": ")[2]))

    def end(self, entry: HistoryEntry) -> None:
        """The end of a child has come to its parent."""
        executor, name = self.model.executor, entry.statement
        thread = executor.thread(entry.thread)
        errand = executor.errands_of(thread).get(name) if thread is not None else None
        require(errand is not None, f"child {name!r} is said to have ended, and {entry.thread!r} does not wait for it")
        assert thread is not None and errand is not None
        require(errand.is_started, f"child {errand.id!r} is said to have ended, and was not started")
        self.model.lateness.came(f"the end of child {errand.id!r}", self.model.world.models[errand.id].lateness.told_at)
        child = self.model.world.models[errand.id].executor
        if entry.kind == "child":
            require(child.finished, f"child {errand.id!r} is said to have finished")
            executor.child_done(thread, name, child.workflow.result())  # type: ignore[attr-defined]
            return
        error, _, message = entry.error.partition(": ")
        if self.model.world.settings.has_mistakes and error in REPORTED and child.finished:
            executor.child_failed(thread, name, REPORTED[error](message))
            return
        require(child.failed or child.canceled, f"child {errand.id!r} is said to have failed: {entry.error}")
        executor.child_failed(thread, name, ChildFailed(message))

    def check_torn_down(self, wait_id: str, event: str) -> None:
        """A teardown is done: if it is of a child, that was canceled, or can no longer be created."""
        errand = self.model.executor.errands.get((wait_id, event))
        if errand is None:
            return
        if errand.is_born:
            child = self.model.world.models[errand.id].executor
            require(child.ended or child.canceling, f"child {errand.id!r} was not canceled")
        else:
            cannot_be = errand.id in self.model.world.models or self._cannot_begin(errand)
            settings = self.model.world.settings
            cannot_be = cannot_be or settings.has_limit or settings.has_mistakes  # its fields may be too large
            require(cannot_be, f"child {errand.id!r} may still be born, and is said to be canceled")
        errand.is_torn_down = True

    def _is_taken(self, errand: Errand) -> bool:
        """Whether the id is that of an instance which is not this child."""
        return errand.id in self.model.world.models and not errand.is_born

    def _cannot_begin(self, errand: Errand) -> bool:
        """Whether a child with these fields fails at once."""
        world = self.model.world
        try:
            Executor(world.definitions.modeled["child"](**errand.fields), errand.id, world.settings.options).settle()
        except DuplicateId:
            return True
        return False

    # --- what a child does for its parent ------------------------------------------------

    @property
    def is_to_tell(self) -> bool:
        return self.model.parent is not None and self.model.executor.ended and not self.told

    def tell(self, entry: HistoryEntry) -> None:
        """The parent was told of the end, or could not be."""
        executor = self.model.executor
        require(self.is_to_tell, f"a {entry.kind!r} that was not to be")
        executor.pc += 1
        if entry.kind == "tell failed":
            executor.attempts.failed(TELL, entry.at)
            return
        knows = self._is_posted() or not self._is_awaited()
        require(knows, f"the parent of {self.model.id!r} waits on, and is said to know of its end")
        executor.attempts.succeeded(TELL)
        self.told = True

    def _is_posted(self) -> bool:
        """Whether its end lies in the inbox of its parent."""
        parent = self.model.parent
        assert parent is not None
        entries = self.model.world.inbox(parent.workflow, parent.id)
        name = entry_name("end", parent.wait_id, parent.event)
        about = {"kind": "end", "wait_id": parent.wait_id, "event": parent.event}
        return any(entry.name == name and about.items() <= json.loads(entry.body).items() for entry in entries)

    def _is_awaited(self) -> bool:
        link = self.model.parent
        assert link is not None
        parent = self.model.world.models[link.id].executor
        places = [(thread.wait_id, name) for thread in parent.threads for name, _ in children_at(thread.at)]
        return not parent.ended and (link.wait_id, link.event) in places

    # --- the end -------------------------------------------------------------------------

    def check_rest(self, stored: Instance) -> None:
        if self.model.parent is not None:
            self._check_as_child()
        if not self.model.executor.paused:
            self._check_inbox(stored)

    def _check_as_child(self) -> None:
        """Where a child is at the end: its parent knows, or it still waits, or it was canceled."""
        id, errand, parent = self.model.id, self.errand, self.model.parent
        executor = self.model.executor
        assert errand is not None and parent is not None
        require(self.told or not executor.ended, f"{id!r} has ended, and its parent was not told")
        given_up = self.model.world.models[parent.id].executor.attempts.given_up
        left = errand.is_left and ("teardown", parent.wait_id, parent.event) not in given_up
        canceled = executor.ended or executor.canceling  # its cleanup may wait for an event
        require(canceled or not left, f"{id!r} lives on, and its parent was canceled")
        awaited = self._is_awaited()
        wanted = executor.ended or errand.detached or errand.is_left or awaited
        require(wanted, f"nobody waits for {id!r}")
        heard = not (executor.ended and awaited) or self._is_posted()
        require(heard, f"{id!r} has ended, and its parent waits for ever")

    def _check_inbox(self, stored: Instance) -> None:
        """Checks that the inbox contains nothing that a thread waits for, and nothing at all if recovery comes for
        what was posted twice."""
        world = self.model.world
        left = world.inbox(self.model.workflow, self.model.id)
        waits = [wait for thread in stored.execution.threads for wait in thread.waits if stored.execution.live]
        for entry in left:
            body = json.loads(entry.body)
            about = body["wait_id"], first_name(body["event"]), body.get("attempt", 0)
            attempts = [attempt_of(wait) for wait in waits]
            waited = any((id, event, attempt if "attempt" in body else 0) == about for id, event, attempt in attempts)
            require(not waited, f"it has come to rest, and waits for {entry.name!r} in its inbox")
        require(
            not left or not world.settings.recovers, f"it has come to rest, and {len(left)} entries are in its inbox"
        )
