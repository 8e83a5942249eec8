"""Steps, setups and teardowns.

The rule: a commit contains exactly the effects of user code that ran to its end, under the same actor, in the attempt
that is counted. The code runs only at the position of the executor, and not before the time of its attempt. A failure
counts as one failure, and the changes of the step to the fields are discarded: the executor does not run the step then,
so its fields stay unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.history import HistoryEntry
from tests.core.generate import FirstError, SecondError
from tests.core.reference import RefThread
from tests.simulation.actors import SimulatedFailure
from tests.simulation.mistakes import REPORTED, is_of_items
from tests.simulation.model.leases import USER_CODE
from tests.simulation.model.violations import Violation, require
from workflow_core import Step, StepContext, TimedOut

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.model.instance import Model

RAISED: dict[str, type[Exception]] = {
    error.__name__: error for error in (FirstError, SecondError, SimulatedFailure, TimedOut)
} | REPORTED
"""What steps and activities raise."""


class UserCode:
    """The user code of one instance that runs under its lease."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def follow(self, actor: Actor, old: Instance, new: Instance, entry: HistoryEntry) -> None:
        executor = self.model.executor
        what, _, failed = entry.kind.partition(" ")
        require(what in USER_CODE and failed in ("", "failed"), f"the history has an entry {entry.kind!r}")
        if what == "step":
            self._step(actor, entry, has_failed=bool(failed))
        elif what == "setup" and not failed:
            executor.set_up_event(entry.thread, entry.statement)
        elif what == "setup":
            executor.setup_failed(entry.thread, entry.statement, entry.at)
        else:
            wait_id = self._torn_down(old, new, entry.statement)
            if failed:
                kept = any((one.id, one.event) == (wait_id, entry.statement) for one in new.execution.teardowns)
                require(kept, f"the teardown of {entry.statement!r} has failed, and is forgotten")
                executor.teardown_failed(wait_id, entry.statement, entry.at)
            else:
                self.model.children.check_torn_down(wait_id, entry.statement)
                executor.torn_down(wait_id, entry.statement)

    def _step(self, actor: Actor, entry: HistoryEntry, *, has_failed: bool) -> None:
        executor, name = self.model.executor, entry.statement
        thread: RefThread = executor.standing(entry.thread, name, Step)
        work = "step", thread.id, thread.pc
        retry_at = executor.attempts.retry_at.get(work)
        early = retry_at is not None and retry_at > actor.process.latest()
        require(not early, f"{name!r} was tried again before {retry_at}")
        key = StepContext(self.model.workflow, self.model.id, thread.id, "", thread.pc, 1).idempotency_key
        ran = actor.done.get(("step", key))
        expected = executor.attempts.failures[work] + 1, has_failed
        has_begun = not (
            has_failed and thread.items and self.model.world.settings.has_mistakes and is_of_items(entry.error)
        )
        require(ran == expected or not has_begun, f"{entry.kind!r} of {name!r} was committed, not as it was run: {ran}")
        if has_failed:
            error, _, message = entry.error.partition(": ")
            require(error in RAISED, f"{name!r} has failed with {entry.error}")
            executor.step_failed(thread, RAISED[error](message), entry.at)
        else:
            executor.run_step(thread)

    @staticmethod
    def _torn_down(old: Instance, new: Instance, event: str) -> str:
        """Which wait a teardown was of: the history does not say, what is stored does."""
        after = {(teardown.id, teardown.event): teardown.attempt for teardown in new.execution.teardowns}
        for teardown in old.execution.teardowns:
            if teardown.event == event and after.get((teardown.id, teardown.event)) != teardown.attempt:
                return teardown.id
        raise Violation(f"the history tells of a teardown of {event!r}, and none was done")
