"""Deliberate bugs in steps and their leases, in teardowns, and in what errors and cancellations unwind."""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import replace
from datetime import datetime
from typing import Any

from cloud_adapter.document import Lease
from cloud_adapter.engine import plan
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.leases import Leases, Renewals, TakeLease
from cloud_adapter.engine.plan import RELEASE, Change, Hold, LeasePolicy
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.steps import Stepper
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.bugs.unseen_leases import leased
from workflow_core.events import stable_key
from workflow_core.machine import operations, unwinding, values
from workflow_core.machine.machine import Machine
from workflow_core.machine.outside_work import ChildCancel, TeardownWork
from workflow_core.machine.threads import end
from workflow_core.machine.work import StepWork

# --- steps -----------------------------------------------------------------------------------


@bug
def step_under_the_lease_of_another(patch: Patch) -> None:
    leased(patch, Stepper, "resume")


@bug
def lease_not_taken_before_the_step(patch: Patch) -> None:
    commit = Committer.commit

    async def pretend(self: Committer, session: Session, *, lease: LeasePolicy = RELEASE, **kwargs: Any) -> None:
        if isinstance(lease, Hold) and not lease.renews and not session.entries:
            session.execution.pc -= 1
            session.instance = replace(
                session.instance, lease=Lease(lease.token, self.clock.now() + self.options.lease)
            )
            return
        await commit(self, session, lease=lease, **kwargs)

    patch.setattr(Committer, "commit", pretend)


@bug
def lease_not_renewed(patch: Patch) -> None:
    async def never(self: Renewals, session: Session, *rest: Any, **hold: Any) -> None:
        return None

    patch.setattr(Renewals, "_renew", never)


@bug
def step_begun_whatever_is_left_of_the_lease(patch: Patch) -> None:
    async def whatever_is_left(self: Leases, session: Session, token: str) -> None:
        return None

    patch.setattr(Leases, "ensure", whatever_is_left)
    patch.setattr(Change, "lease_until", lambda self, expires_at: self)  # counted from before its tasks are created


@bug
def lease_not_released(patch: Patch) -> None:
    prepare = Session.prepare

    def keep(self: Session, *args: Any) -> Change:
        change = prepare(self, *args)
        lease = change.instance.lease or self.instance.lease
        return replace(change, instance=replace(change.instance, lease=lease, document=None))

    patch.setattr(Session, "prepare", keep)


@bug
def deadlines_counted_from_the_beginning_of_the_step(patch: Patch) -> None:
    perform, done = Stepper._perform, Machine.done
    began: ContextVar[datetime | None] = ContextVar("began", default=None)

    async def noted(self: Stepper, session: Session, *rest: Any) -> None:
        began.set(self.clock.now())
        await perform(self, session, *rest)

    def as_of_then(self: Machine, *args: Any) -> None:
        self.now = began.get() or self.now
        done(self, *args)

    patch.setattr(Stepper, "_perform", noted)
    patch.setattr(Machine, "done", as_of_then)


@bug
def busy_instance_acknowledged_without_another_task(patch: Patch) -> None:
    deliver = TakeLease.deliver

    def give_up(self: Any, session: Session, now: datetime) -> Any:
        tasks = deliver(self, session, now)
        return () if session.leased(now) else tasks

    patch.setattr(TakeLease, "deliver", give_up)


@bug
def dirty_fields_of_a_failed_step_kept(patch: Patch) -> None:
    patch.setattr(Session, "reset_fields", lambda self: None)


@bug
def no_task_for_the_next_attempt(patch: Patch) -> None:
    resumes = plan._resumes

    def only_now(*args: Any) -> Iterator[Any]:
        return (task for task in resumes(*args) if task.at is None)

    patch.setattr(plan, "_resumes", only_now)


@bug
def attempts_not_counted(patch: Patch) -> None:
    failed = Machine.failed

    def forget(self: Machine, work: Any, error: BaseException, retry_at: datetime | None = None) -> None:
        failed(self, work, error, retry_at)
        if isinstance(work, StepWork):
            work.thread.attempt = 0

    patch.setattr(Machine, "failed", forget)


@bug
def attempt_before_its_time(patch: Patch) -> None:
    patch.setattr(Machine, "is_due", lambda self, retry_at: True)


# --- user code -------------------------------------------------------------------------------


@bug
def idempotency_key_of_a_step_by_attempt(patch: Patch) -> None:
    patch.setattr(
        "workflow_core.events.StepContext.idempotency_key",
        property(lambda self: stable_key(self.workflow, self.workflow_id, self.thread_id, self.pc, self.attempt)),
    )


@bug
def teardown_forgotten_when_it_fails(patch: Patch) -> None:
    failed = Machine.failed

    def forget(self: Machine, work: Any, error: BaseException, retry_at: datetime | None = None) -> None:
        failed(self, work, error, retry_at)
        if isinstance(work, TeardownWork | ChildCancel):
            self.execution.teardowns.remove(work.teardown)

    patch.setattr(Machine, "failed", forget)


# --- failures --------------------------------------------------------------------------------


@bug
def cleanup_left_out_when_it_is_canceled(patch: Patch) -> None:
    patch.setattr(unwinding, "cancel_thread", end)
    patch.setattr(operations, "cancel_thread", end)


@bug
def error_in_a_cleanup_calls_a_cancellation_off(patch: Patch) -> None:
    patch.setattr(unwinding, "_is_doomed", lambda thread: False)


@bug
def error_of_a_covered_thread_not_thrown(patch: Patch) -> None:
    patch.setattr(unwinding, "_covering", lambda machine, thread, error: None)


# --- loops -----------------------------------------------------------------------------------


@bug
def item_of_the_loop_around_for_that_of_the_innermost(patch: Patch) -> None:
    item_of = values.item_of

    def outer(machine: Any, thread: Any, each: Any) -> Any:
        return item_of(machine, thread, each if each is None or each.outer is None else each.outer)

    patch.setattr(values, "item_of", outer)
