"""Activities: results, failures and heartbeats of their attempts.

The rule: an attempt ends once: with its result, with its failure or at its deadline. A result comes only from an
attempt that has run to its end. The result of an activity depends only on its input, so the executor computes it
itself. An attempt may end at its deadline only if its result has not been in the inbox for long, because the engine
reads the inbox first. A stored report is one that the attempt has sent, and the first one is stored at once. The number
of live rounds of a loop never exceeds its limit.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.engine.attempts import ON_TIME
from cloud_adapter.engine.inbox import entry_name
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.history import HistoryEntry
from cloud_adapter.ports import Task
from tests.core.reference import RefThread, arity
from tests.simulation.actors import MistakeError
from tests.simulation.acts import Act, Attempt
from tests.simulation.mistakes import BY_ITSELF, REPORTED, is_of_items
from tests.simulation.model.user_code import RAISED
from tests.simulation.model.violations import require
from tests.simulation.renaming import first_name
from workflow_core import ActivityContext
from workflow_core.program.code import ForkOp
from workflow_core.wait_types import ActivityWait

if TYPE_CHECKING:
    from tests.simulation.actors import Actor, Run
    from tests.simulation.model.instance import Model

UNHEARD_MAX = timedelta(minutes=2)
"""For how long a result may lie in an inbox before the end of its attempt takes notice of it."""


class Activities:
    """The activities of one instance."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def follow(self, act: Act, old: Instance, entry: HistoryEntry) -> None:
        """An attempt has ended."""
        executor, world, name = self.model.executor, self.model.world, entry.statement
        thread, activity = executor.working(entry.thread, name)
        work = "activity", thread.wait_id, name
        count = executor.attempts.failures[work]
        waits = next(thread.waits for thread in old.execution.threads if thread.id == entry.thread)
        stored = next(wait for wait in waits if wait.event == name)
        assert isinstance(stored, ActivityWait)
        require(stored.attempt == count, f"{name!r} has failed {count} times, stored is {stored.attempt}")
        key = self.model.activity_key(thread.wait_id, name)
        runs = world.activities.runs[key, count + 1]
        require(not world.settings.is_peaceful or runs == 1, f"attempt {count + 1} of {name!r} has run {runs} times")
        error, _, message = entry.error.partition(": ")
        if not error:
            ran = world.done.get(("activity", key, count + 1, False))
            require(ran is not None, f"attempt {count + 1} of {name!r} was never run to its end")
            assert ran is not None
            self.model.lateness.came(f"the result of {name!r}", ran)
            given = (thread.inputs[name], None)[: arity(activity.function)]
            executor.activity_done(thread, name, activity, activity.function(*given))
            return
        of_items = bool(thread.items) and is_of_items(entry.error)
        if of_items or (error == MistakeError.__name__ and "a mistake in" in message):
            self._then_raised(thread, name, REPORTED[error](message))
            return
        if error == "TimedOut" and message != BY_ITSELF:
            self._check_timed_out(act.actor, (thread.wait_id, name, count))
        else:
            ran = world.done.get(("activity", key, count + 1, True))
            require(
                ran is not None, f"attempt {count + 1} of {name!r} is said to have failed, and did not: {entry.error}"
            )
            assert ran is not None
            self.model.lateness.came(f"the failure of {name!r}", ran)
        given_up = executor.attempts.failed(work, entry.at)
        require(act.given_up == given_up, f"after {count + 1} failures {name!r} is given up: {act.given_up}")
        if given_up:
            executor.fail_at(thread, RAISED[error](message), name)
        else:
            executor.pc += 1

    def _then_raised(self, thread: RefThread, name: str, error: Exception) -> None:
        """The result has come, and what takes it has raised: the activity fails at once."""
        executor = self.model.executor
        executor.attempts.forget(("activity", thread.wait_id, name))
        executor.fail_at(thread, error, name)

    def _check_timed_out(self, actor: Actor, attempt: Attempt) -> None:
        wait_id, name, count = attempt
        deadline = self.model.deadlines.known[attempt]
        late = deadline <= actor.process.latest() + timedelta(seconds=1)
        require(late, f"{name!r} has timed out before {deadline}")
        self.model.lateness.timed_out(name, deadline)
        world, inbox_name = self.model.world, entry_name("result", wait_id, name, count)
        posted = world.database.posted.get((self.model.workflow, self.model.id, inbox_name))
        unheard = posted is not None and world.now - posted > UNHEARD_MAX and not actor.disturbed
        require(not unheard, f"{name!r} has timed out, and its result was posted at {posted}")

    def beat(self, act: Act, beaten: set[Attempt]) -> None:
        """A sign of life puts the end of its attempt off, and does nothing else. Another run of the same attempt may
        have done so just before, in the same write. An attempt that begins late gives one before it runs."""
        actor, deadline, known = act.actor, act.deadline, self.model.deadlines.known
        assert act.attempt is not None
        wait_id, name, count = act.attempt
        require(act.attempt in known, f"the sign of life of {actor.name} is of {act.attempt}, which is not stored")
        moved = known[act.attempt] != deadline or act.attempt in beaten
        require(moved, f"the sign of life of {actor.name} has moved no deadline")
        limit = self.model.world.definitions.least_delays[self.model.workflow][name]
        latest = actor.process.latest()
        if actor.beating is None:
            require(self._may_begin(actor, act.attempt), f"{actor.name} gives a sign of life, and runs nothing")
            late = known[act.attempt] - latest < ON_TIME * limit or act.attempt in beaten
            # Another delivery of its task may have moved it, while this one waits for a thread.
            late = late or self.model.world.activities.was_repeated(actor.delivered)  # type: ignore[attr-defined]
            require(late, f"{name!r} moves its deadline, {known[act.attempt]}, although it begins in time")
            least = known[act.attempt]
        else:
            run, since = actor.beating
            mine = (self.model.activity_key(wait_id, name), count + 1) == (run.key, run.attempt)
            require(mine, f"{name!r}: attempt {run.attempt} moves another's deadline")
            least = since + limit
        beaten.add(act.attempt)
        most = latest + limit
        least = min(least, deadline or least) if actor.process.has_jumped else least
        require(deadline is not None and least <= deadline <= most, f"the deadline of {name!r} becomes {deadline}")
        if act.report is not None:
            self._reported(act)
        assert deadline is not None
        self.model.deadlines.move(act.attempt, deadline)
        self.model.executor.pc += 1

    def _reported(self, act: Act) -> None:
        """A report is stored: one of the run, and no earlier one than before."""
        assert act.attempt is not None
        run = act.actor.beating and act.actor.beating[0]
        require(run is not None and act.report in run.reports, f"{act.actor.name} has not reported {act.report}")
        before = self.model.executor.progress.get(act.attempt) or act.report
        is_later = before["run"] != act.report["run"] or before["number"] <= act.report["number"]
        require(is_later, f"the report {act.report} is stored after {before}")
        self.model.executor.progress[act.attempt] = act.report

    def _may_begin(self, actor: Actor, attempt: Attempt) -> bool:
        """Whether the actor delivers the task of that attempt."""
        task = getattr(actor, "delivered", None)
        wait_id, _, count = attempt
        if not isinstance(task, Task) or task.path != ACTIVITY_PATH:
            return False
        return (task.body["wait_id"], task.body["attempt"]) == (wait_id, count)

    # --- what an attempt is told ---------------------------------------------------------

    def check_over(self, context: ActivityContext, since: float) -> None:
        """An attempt is said to be over."""
        name = f"{first_name(context.activity)} {context.attempt - 1}"
        waited = self.model.events.accepted_all_along(since, name, context.thread_id, context.wait_id)
        if waited:
            self.model.world.violate(f"attempt {context.attempt} of {context.activity!r} is not over, as it is told")

    def check_heard(self, run: Run, since: float, commits: int) -> None:
        """Checks a heartbeat that was sent: it was committed, unless something delayed it for long."""
        world = self.model.world
        if world.timeline.now - since >= world.settings.options.max_wait.total_seconds() - 1e-6:
            return  # it may still wait
        stored, process = world.database.load(self.model.workflow, self.model.id), run.actor.process
        if stored.execution.fields_version > process.engine.workflow(self.model.workflow).__workflow_version__:
            return  # only newer code can load it
        if world.settings.has_limit:
            return  # its report may be too large
        if world.settings.tokens_kept <= 2:
            return  # after a conflict, even one other commit can leave it unknown whether the heartbeat was committed
        if self.model.commits == commits and stored.lease is None and not run.actor.disturbed:
            world.violate(f"a sign of life of attempt {run.attempt} was not heard")

    # --- limits --------------------------------------------------------------------------

    def check_limits(self, actor: Actor, new: Instance) -> None:
        """Checks that the live rounds of a ``ForEach`` do not exceed its limit."""
        live = Counter((thread.parent, thread.name) for thread in new.execution.threads if thread.parent)
        code = actor.process.engine.workflow(self.model.workflow).__program__.code
        forks = (instruction for instruction in code if isinstance(instruction, ForkOp))
        limits = {fork.name: fork.limit for fork in forks if fork.limit is not None}
        for (_, name), count in live.items():
            limit = limits.get(name, count)
            require(count <= limit, f"{count} rounds of {name!r} live, and {limit} may")
