"""Deliberate bugs in timers, in other tasks, and in the recovery from their loss."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.engine import leases, recovery, schedule, task_handler
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.schedule import due_timeouts
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import (
    ActivityTask,
    ResumeTask,
    TimeoutTask,
)
from cloud_adapter.errors import Busy
from cloud_adapter.ports import Task
from tests.simulation import hosting
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.bugs.unseen_leases import leased
from workflow_core import Execution
from workflow_core.events import stable_key
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import TimedWait

# --- timers ----------------------------------------------------------------------------------


@bug
def timer_not_matched_by_wait_id(patch: Patch) -> None:
    accept = Machine.accept

    def by_name(
        self: Machine, event: str, thread_id: str | None = None, wait_id: str | None = None, pc: int | None = None
    ) -> Any:
        return accept(self, event, thread_id, None, pc)

    patch.setattr(Machine, "accept", by_name)


@bug
def timer_before_its_deadline(patch: Patch) -> None:
    accept = Machine.accept

    def without_deadline(self: Machine, *args: Any, **kwargs: Any) -> Accepted:
        accepted = accept(self, *args, **kwargs)
        wait = accepted.wait
        return replace(accepted, wait=replace(wait, deadline=None) if isinstance(wait, TimedWait) else wait)

    patch.setattr(Machine, "accept", without_deadline)


@bug
def early_timer_dropped(patch: Patch) -> None:
    handle_timeout = Engine.handle_timeout

    class Dropped(Exception):
        pass

    def later(self: TimeoutTask, at: datetime, now: datetime, pc: int) -> Task:
        raise Dropped

    async def without_another(self: Engine, body: TimeoutTask) -> None:
        with suppress(Dropped):
            await handle_timeout(self, body)

    patch.setattr(TimeoutTask, "later", later)
    patch.setattr(Engine, "handle_timeout", without_another)


@bug
def timer_not_stored_with_its_wait(patch: Patch) -> None:
    patch.setattr(schedule, "open_timeouts", lambda execution: iter(()))


@bug
def timeout_under_a_live_lease(patch: Patch) -> None:
    leased(patch, Engine, "handle_timeout")


# --- tasks -----------------------------------------------------------------------------------


@bug
def task_ahead_of_its_commit_acknowledged(patch: Patch) -> None:
    patch.setattr(TaskDecision, "_ahead", lambda self, now: None)


@bug
def task_names_without_the_commits_token(patch: Patch) -> None:
    make = ActivityTask.task
    patch.setattr(ActivityTask, "task", lambda self, salt, at=None: make(self, "always the same", at))


@bug
def timer_names_without_the_commits_token(patch: Patch) -> None:
    make = TimeoutTask.task
    patch.setattr(TimeoutTask, "task", lambda self, salt, at: make(self, "always the same", at))


@bug
def task_that_never_got_to_commit_acknowledged(patch: Patch) -> None:
    resume = Stepper.resume

    async def give_up(self: Stepper, ref: Any, body: ResumeTask) -> None:
        with suppress(Busy):
            await resume(self, ref, body)

    patch.setattr(Stepper, "resume", give_up)


@bug
def failed_task_acknowledged(patch: Patch) -> None:
    run_task = task_handler.run_task

    async def content(engine: Engine, path: str, body: Any) -> Outcome:
        outcome = await run_task(engine, path, body)
        return Outcome.DONE if outcome is Outcome.FAILED else outcome

    patch.setattr(hosting, "run_task", content)


@bug
def early_task_dropped(patch: Patch) -> None:
    patch.setattr(leases, "CLOCK_SKEW", timedelta(0))


# --- recovery --------------------------------------------------------------------------------


@bug
def recovery_skips_leases(patch: Patch) -> None:
    schedule = recovery.Recovery._schedule

    async def unleased(self: recovery.Recovery, instance: Instance, *rest: Any) -> None:
        if instance.lease is None:
            await schedule(self, instance, *rest)

    patch.setattr(recovery.Recovery, "_schedule", unleased)


@bug
def recovery_skips_timers(patch: Patch) -> None:
    patch.setattr(recovery, "recoverable_timeouts", lambda execution, now, before: [])


@bug
def lazy_timer_forgotten_by_recovery(patch: Patch) -> None:
    def eager(execution: Execution, now: datetime, before: datetime) -> list[Any]:
        return [wait for wait in due_timeouts(execution, before) if not schedule.is_lazy(wait.task)]

    patch.setattr(recovery, "recoverable_timeouts", eager)


@bug
def postponed_instance_not_tried_by_new_code(patch: Patch) -> None:
    run = recovery.Recovery.run

    async def untried(self: recovery.Recovery, ahead: Any, limit: int, seconds: float, _: bool) -> int:
        self._has_tried_postponed = True
        return await run(self, ahead, limit, seconds, False)

    patch.setattr(recovery.Recovery, "run", untried)


@bug
def wake_up_time_without_timers(patch: Patch) -> None:
    patch.setattr(schedule, "wake_at", schedule.resume_at)


@bug
def recovery_under_one_name(patch: Patch) -> None:
    make = ResumeTask.task
    patch.setattr(
        ResumeTask,
        "task",
        lambda self, salt, at=None: make(self, stable_key("recover") if salt.startswith("recover") else salt, at),
    )
