"""The model of one instance: it follows each successful write, act by act.

The rule: first, the write is checked as a whole: what it contains, and who may write it. Then the executor performs
each of its acts, and must accept it. Finally, the stored state is compared with the executor's state. Acts are
performed in their original order, because each is legal only in the state after the earlier ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import Instance, KeyRecord
from cloud_adapter.history import HistoryEntry
from cloud_adapter.ports import Task
from tests.simulation.acts import Act, Attempt
from tests.simulation.mistakes import REPORTED
from tests.simulation.model import wake_ups
from tests.simulation.model.activities import Activities
from tests.simulation.model.attempts import Work
from tests.simulation.model.children import TELL, Children
from tests.simulation.model.deadlines import Deadlines
from tests.simulation.model.events import Events
from tests.simulation.model.executor import Executor
from tests.simulation.model.lateness import Lateness
from tests.simulation.model.leases import Leases, is_call
from tests.simulation.model.operations import OPERATIONS, Operations
from tests.simulation.model.runs import Runs
from tests.simulation.model.sizes import check_record_size, check_size
from tests.simulation.model.stored_state import check_stored_state
from tests.simulation.model.tasks import Tasks
from tests.simulation.model.user_code import UserCode
from tests.simulation.model.violations import require
from tests.simulation.model.writes import Move, Writes
from tests.simulation.principals import check_author
from tests.simulation.renaming import first_name
from workflow_core import DuplicateThread, Parent, Status
from workflow_core.events import stable_key
from workflow_core.wait_types import ActivityWait

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.world import World


class Model:
    """What is known of one instance.

    Attributes:
        parent: who has started it, and whether it knows of its end.
        commits: how many writes have landed.
        caught: the errors that were caught in what the next write holds; see ``Executor.caught``.
    """

    def __init__(self, world: World, id: str, workflow: str = "flow", parent: Parent | None = None) -> None:
        self.world = world
        self.id = id
        self.workflow = workflow
        self.parent = parent
        self.commits = 0
        self.caught: list[tuple[str, str, Exception]] = []
        self._names: dict[tuple[str, str], str] = {}
        self._executor: Executor | None = None
        self.writes = Writes()
        self.leases = Leases()
        self.events = Events(self)
        self.code = UserCode(self)
        self.deadlines = Deadlines(self)
        self.activities = Activities(self)
        self.children = Children(self)
        self.operations = Operations(self)
        self.runs = Runs(self)
        self.tasks = Tasks(self)
        self.lateness = Lateness(self)

    def learn_names(self, stored: Instance) -> None:
        """Keeps the name of each wait at its start, of which its idempotency key is made."""
        for thread in stored.execution.threads:
            for wait in thread.waits:
                if isinstance(wait, ActivityWait):
                    self._names.setdefault((wait.id, first_name(wait.event)), wait.event)

    def activity_key(self, wait_id: str, name: str) -> str:
        """The idempotency key of an activity."""
        at_start = self._names.get((wait_id, first_name(name)), name)
        return stable_key(self.workflow, self.id, wait_id, at_start)

    @property
    def executor(self) -> Executor:
        assert self._executor is not None
        return self._executor

    def work(self) -> list[Work]:
        """What is to be done without input from outside, now or at its next attempt."""
        return [*self.executor.work(), *([TELL] if self.children.is_to_tell else [])]

    @property
    def exists(self) -> bool:
        return self._executor is not None

    def committed(
        self,
        actor: Actor,
        old: Instance | None,
        new: Instance,
        acts: Sequence[Act],
        keys: Sequence[KeyRecord],
        tasks: Sequence[Task],
    ) -> None:
        """Checks a write, and follows what it holds, one after another.

        Args:
            tasks: those that were created for it.

        Raises:
            Violation: it breaks a promise.
        """
        self.world.say(
            "%s commits %s, pc %d%s",
            actor.name,
            ", ".join(str(act) if act.actor is actor else f"{act} by {act.actor.name}" for act in acts),
            new.execution.pc,
            f", leased until {new.lease.expires_at:%M:%S}" if new.lease else "",
        )
        moves = self.writes.check(actor, old, new, acts, keys)
        self.events.recorded(moves, keys, new)
        self.leases.check(actor, old, new, [act for act, _ in moves])
        if all(act.kind == "tick" and not is_call(act.actor) for act in acts):
            soon = actor.process.latest() + 2 * CLOCK_SKEW
            due = [work for work in self.work() if self.executor.attempts.retry_at.get(work, soon) <= soon]
            self.leases.check_alone(actor, old, new, self.world.settings.options, len(due))
        self.commits += 1
        caught = list(self.caught)
        if old is None:
            fields = self.children.born(actor, new) if self.parent is not None else self.events.created(actor)
            self._executor = Executor(
                self.world.definitions.modeled[self.workflow](**fields), self.id, self.world.settings.options
            )
            self.executor.caught = self.caught
            self._settle()
        else:
            self.executor.caught = self.caught
            self._follow_all(old, new, moves)
        require(not self.caught, f"errors were caught where none can be; {self.caught}")
        # That a thread with the id of a live one was started is checked where the executor starts it.
        failed = [error for *_, error in caught if not isinstance(error, DuplicateThread)]
        require(not failed or self.world.settings.has_mistakes, f"code without a mistake has failed; {caught}")
        check_stored_state(self, new)
        self.deadlines.written(new, acts)
        self.activities.check_limits(actor, new)
        self.tasks.written(old, new, acts, tasks)
        wake_ups.check_wake_up(self, new)
        self.lateness.written(new)
        for key in keys:
            check_record_size(key)
        check_size(self, self.world.database.documents[new.workflow, new.id][1])
        self.world.activities.written(new)
        self.events.committed(new.execution.pc)

    def _follow_all(self, old: Instance, new: Instance, moves: Sequence[Move]) -> None:
        beaten = set[Attempt]()
        for act, fails in moves:
            if act.kind == "beat":
                self.activities.beat(act, beaten)
            elif act.entry is None and is_call(act.actor):
                self.events.repeated(act.actor)
                self.executor.pc += 1
            elif act.entry is None:
                require(new.lease is not None or old.lease is not None, "a write changed nothing")
                self.executor.pc += 1
            else:
                failed_before = self.executor.failed and act.kind != "retry"
                check_author(act.actor, act.entry)
                self._follow(act, act.entry, old, new)
                self.executor.settle()
                newly = self.executor.failed and not failed_before
                right = act.kind == "failed" or fails == newly
                require(right, f"after {act} the instance has failed: {fails}, not {newly}")
            self._settle()

    def _follow(self, act: Act, entry: HistoryEntry, old: Instance, new: Instance) -> None:
        thread = self.executor.thread(entry.thread)
        errand = self.executor.errands_of(thread).get(entry.statement) if thread is not None else None
        match entry.kind:
            case "buffered" | "event" | "event rejected" | "event failed":
                self.events.follow(act.actor, entry)
            case "timeout":
                self.deadlines.time_out(act.actor, entry)
            case "failed":
                self._fail(entry)
            case kind if kind in OPERATIONS:
                self.operations.follow(act.actor, entry)
                self.runs.forget()
            case "activity" | "activity failed":
                self.activities.follow(act, old, entry)
            case "child" | "child failed":
                self.children.end(entry)
            case "tell" | "tell failed":
                self.children.tell(entry)
            case "setup" | "setup failed" if thread is not None and errand is not None:
                self.children.start(thread, errand, entry)
            case _:
                self.code.follow(act.actor, old, new, entry)

    def _fail(self, entry: HistoryEntry) -> None:
        """The instance has failed by itself: a thread cannot be started, or it has become too large."""
        reason, _, _ = entry.error.partition(":")
        known = reason == "DuplicateThread" or (reason == "TooLarge" and self.world.settings.has_limit)
        known = known or (self.world.settings.has_mistakes and reason in REPORTED)
        require(known, f"the instance has failed: {entry.error}")
        self.executor.fail()

    def _settle(self) -> None:
        self.executor.settle()
        self.events.settled()

    def check_rest(self, stored: Instance) -> None:
        """Once nothing moves any more, nothing is left that should."""
        wake_ups.check_rest(self, stored)
        self.children.check_rest(stored)
        ends = (Status.FINISHED, Status.FAILED, Status.CANCELED)
        expected = ends if self.executor.ended else (Status.PAUSED,) if self.executor.paused else (Status.WAITING,)
        # An instance with a setup that was given up stays as it is.
        require(stored.execution.status in expected, f"it has come to rest as {stored.execution.status}")
