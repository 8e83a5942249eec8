"""Deliberate bugs that waste work: everything takes effect once, and in the right order, but costs too much."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from traceback import format_exception
from typing import Any

from cloud_adapter.document import Document, Instance, encode
from cloud_adapter.engine import plan, schedule
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.leases import Leases, Renewals, TakeLease
from cloud_adapter.engine.plan import RELEASE, Before, Change, Hold, LeasePolicy
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.tasks import ResumeTask, TimeoutTask
from cloud_adapter.ports import Task
from tests.simulation import store
from tests.simulation.bugs.bug_list import Patch, bug
from workflow_core.machine import outside_work
from workflow_core.wait_types import ActivityWait, AnyTimedWait

# --- runs ------------------------------------------------------------------------------------


@bug
def code_that_failed_called_again_at_once(patch: Patch) -> None:
    call = Stepper._call

    async def twice(self: Stepper, session: Session, work: Any, lost: Any, *, is_blocking: bool) -> Any:
        try:
            return await call(self, session, work, lost, is_blocking=is_blocking)
        except Exception:
            session.reset_fields()
            return await call(self, session, work, lost, is_blocking=is_blocking)

    patch.setattr(Stepper, "_call", twice)


@bug
def child_created_twice(patch: Patch) -> None:
    start = Children._start

    async def twice(self: Children, *args: Any) -> None:
        await start(self, *args)
        await start(self, *args)

    patch.setattr(Children, "_start", twice)


@bug
def parent_told_twice(patch: Patch) -> None:
    tell = Children._tell

    async def twice(self: Children, *args: Any) -> None:
        await tell(self, *args)
        await tell(self, *args)

    patch.setattr(Children, "_tell", twice)


# --- writes ----------------------------------------------------------------------------------


@bug
def lease_given_back_by_another_write(patch: Patch) -> None:
    commit = Committer.commit

    async def twice(self: Committer, session: Session, *, lease: LeasePolicy = RELEASE, **kwargs: Any) -> None:
        held = session.instance.lease
        if lease is not RELEASE or held is None or not session.entries or session.execution.ended:
            await commit(self, session, lease=lease, **kwargs)
            return
        await commit(self, session, lease=Hold(held.token), **kwargs)
        session.machine.tick()
        await commit(self, session)

    patch.setattr(Committer, "commit", twice)


@bug
def lease_renewed_too_often(patch: Patch) -> None:
    init = Renewals.__init__

    def often(self: Renewals, leases: Leases, *args: Any, **kwargs: Any) -> None:
        shorter = Leases(leases.committer)
        shorter.options = replace(leases.options, lease=leases.options.lease / 3)
        shorter.enough = leases.enough / 3
        shorter.left = lambda *at: leases.left(*at) - leases.options.lease * 2 / 3  # type: ignore[method-assign]
        init(self, shorter, *args, **kwargs)

    patch.setattr(Renewals, "__init__", often)


@bug
def lease_renewed_before_each_work(patch: Patch) -> None:
    async def always(self: Leases, session: Session, token: str) -> None:
        await self.committer.commit(session, lease=Hold(token, renews=True))

    patch.setattr(Leases, "ensure", always)


@bug
def lease_taken_although_nothing_is_due(patch: Patch) -> None:
    deliver = TakeLease.deliver

    def take(self: TakeLease, session: Session, now: datetime) -> Any:
        tasks = deliver(self, session, now)
        if self.session is None and session.instance.lease is None and not tasks:
            session.machine.tick()
            self.session = session
        return tasks

    patch.setattr(TakeLease, "deliver", take)


# --- reads -----------------------------------------------------------------------------------


@bug
def instance_read_again_before_each_work(patch: Patch) -> None:
    attempt = Stepper._attempt

    async def careful(self: Stepper, session: Session, *rest: Any) -> None:
        await self.committer.load(session.ref)
        await attempt(self, session, *rest)

    patch.setattr(Stepper, "_attempt", careful)


@bug
def instance_read_again_after_each_write(patch: Patch) -> None:
    apply = Committer._apply

    async def careful(self: Committer, session: Session, change: Change, write: Any) -> None:
        await apply(self, session, change, write)
        await self.store.load(session.instance.workflow, session.instance.id)

    patch.setattr(Committer, "_apply", careful)


@bug
def inbox_read_with_each_result(patch: Patch) -> None:
    deliver = Activities.deliver

    async def careful(self: Activities, ref: Any, *args: Any) -> None:
        await self.inbox.collect(ref)
        await deliver(self, ref, *args)

    patch.setattr(Activities, "deliver", careful)


@bug
def waiting_decision_made_again_without_a_growing_pause(patch: Patch) -> None:
    async def short(self: Committer, attempt: int) -> None:
        await self.clock.sleep(0.01)

    patch.setattr(Committer, "pause", short)


# --- tasks -----------------------------------------------------------------------------------


@bug
def task_created_twice(patch: Patch) -> None:
    apply = Committer._apply

    async def twice(self: Committer, session: Session, change: Change, write: Any) -> None:
        for task in change.create:
            await self.queue.create(task)
        await apply(self, session, change, write)

    patch.setattr(Committer, "_apply", twice)


@bug
def resume_task_with_each_commit(patch: Patch) -> None:
    resumes = plan._resumes
    patch.setattr(plan, "_resumes", lambda before, *rest: resumes(replace(before, due=frozenset()), *rest))


@bug
def timer_created_again_by_each_commit(patch: Patch) -> None:
    def all_of_them(execution: Any) -> Iterator[AnyTimedWait]:
        return (wait for wait in schedule._timeouts(execution) if not isinstance(wait, ActivityWait))

    patch.setattr(schedule, "open_timeouts", all_of_them)


@bug
def deadline_task_for_each_attempt(patch: Patch) -> None:
    timed = plan._timed

    def more(execution: Any, program: Any, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
        yield from timed(execution, program, token, now, horizon)
        for wait in schedule.fenced(execution, token):
            if isinstance(wait, ActivityWait):
                assert wait.deadline is not None
                yield TimeoutTask.of(execution, wait, now).task(token, min(wait.deadline, now + horizon))

    patch.setattr(plan, "_timed", more)


# --- documents -------------------------------------------------------------------------------


@bug
def history_never_cut(patch: Patch) -> None:
    patch.setattr(store, "replaces_history", lambda instance: False)


@bug
def tokens_never_cut(patch: Patch) -> None:
    def all_of_them(instance: Instance) -> Document:
        return encode(instance) | {"tokens": " ".join(instance.tokens)}

    patch.setattr(plan, "encode", all_of_them)


@bug
def stack_traces_of_all_attempts_kept(patch: Patch) -> None:
    def noting(original: Any) -> Any:
        def failing(self: Any, machine: Any, error: BaseException, retry_at: datetime | None) -> None:
            noted = getattr(self, "wait", None) or getattr(self, "teardown", None) or self.parent
            before = noted.error
            original(self, machine, error, retry_at)
            noted.error = f"{before}; {noted.error}: {' '.join(format_exception(error))}"

        return failing

    for cls in (outside_work._OfTeardown, outside_work.TellWork, outside_work._OfSetup):
        patch.setattr(cls, "failed", noting(cls.failed))


# --- time ------------------------------------------------------------------------------------


@bug
def work_that_is_due_begins_a_minute_later(patch: Patch) -> None:
    resumes = plan._resumes

    def late(before: Before, due: Any, execution: Any, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
        for task in resumes(before, due, execution, token, now, horizon):
            minute = now + timedelta(minutes=1)
            yield task if task.at is not None else ResumeTask.of(execution, now).task(token, minute)

    patch.setattr(plan, "_resumes", late)


@bug
def early_task_put_off_by_a_minute(patch: Patch) -> None:
    later = TimeoutTask.later

    def much_later(self: TimeoutTask, at: datetime, now: datetime, pc: int) -> Task:
        return later(self, at + timedelta(minutes=3), now, pc)

    patch.setattr(TimeoutTask, "later", much_later)
