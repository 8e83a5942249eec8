"""Deliberate bugs: what the simulation must find. Each replaces a part of the product, inside a ``with`` block.

A bug is one that a person could make: a check left out, two calls in the wrong order, a name that is not unique.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from contextvars import ContextVar
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import Instance, Lease
from cloud_adapter.engine import activities as activities_module
from cloud_adapter.engine import attempts as attempts_module
from cloud_adapter.engine import children as children_module
from cloud_adapter.engine import events as events_module
from cloud_adapter.engine import leases, plan, recovery, schedule, task_handler
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.attempts import Result
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer, Write
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.events import SendEvent
from cloud_adapter.engine.inbox import Inbox, _Left, entry_name
from cloud_adapter.engine.lanes import Lane
from cloud_adapter.engine.leases import Leases, TakeLease
from cloud_adapter.engine.plan import KEEP, RELEASE, Change, Hold, LeasePolicy
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import (
    COLLECT_PATH,
    ActivityTask,
    CollectTask,
    ResumeTask,
    TimeoutTask,
    WaitTask,
    timer_name,
)
from cloud_adapter.engine.timers import TimeOut
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.errors import Busy, Conflict, DuplicateKey, Unavailable
from cloud_adapter.ports import Task
from tests.simulation import (
    operation_bugs,  # noqa: F401 - lists them
    world,
)
from tests.simulation.actors import Process
from tests.simulation.bug_list import BUGS, Patch, applied, bug
from tests.simulation.store import Database
from workflow_core import Execution, Status
from workflow_core.events import stable_key
from workflow_core.machine import calls, events, instructions, operations, unwinding, work
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.outside_work import ChildCancel, TeardownWork, TellWork
from workflow_core.machine.threads import end
from workflow_core.machine.work import StepWork
from workflow_core.program.code import ForkOp
from workflow_core.wait_types import ActivityWait, EventWait, TimedWait

__all__ = ["BUGS", "applied"]

# --- writing ---------------------------------------------------------------------------------


@bug
def commit_without_precondition(patch: Patch) -> None:
    write = Database.write

    def last_one_wins(self: Database, instance: Instance, *rest: Any, create: bool) -> int:
        version = self.documents.get((instance.workflow, instance.id), (0, {}))[0]
        return write(self, instance if create else replace(instance, version=version), *rest, create=create)

    patch.setattr(Database, "write", last_one_wins)


@bug
def tasks_created_after_the_commit(patch: Patch) -> None:
    apply = Committer._apply

    async def later(self: Committer, session: Session, change: Change, write: Any) -> None:
        await apply(self, session, replace(change, create=()), write)
        for task in change.create:
            with suppress(Unavailable):
                await self.queue.create(task)

    patch.setattr(Committer, "_apply", later)


@bug
def timers_deleted_before_the_commit(patch: Patch) -> None:
    apply = Committer._apply

    async def sooner(self: Committer, session: Session, change: Change, write: Any) -> None:
        for name in change.delete:
            with suppress(Unavailable):
                await self.queue.delete(name)
        await apply(self, session, replace(change, delete=()), write)

    patch.setattr(Committer, "_apply", sooner)


@bug
def no_commit_token(patch: Patch) -> None:
    async def nothing(self: Committer, instance: Instance) -> None:
        return None

    patch.setattr(Committer, "_reload", nothing)


@bug
def a_forgotten_commit_counts_as_a_conflict(patch: Patch) -> None:
    patch.setattr("cloud_adapter.engine.commits._forgotten", lambda change, current: False)


@bug
def a_lost_reply_counts_as_a_conflict(patch: Patch) -> None:
    async def once(self: Committer, change: Change, write: Write) -> Instance:
        try:
            return await write(change.instance)
        except Unavailable as error:
            raise Conflict("no answer") from error

    patch.setattr(Committer, "_write", once)


@bug
def a_lost_reply_counts_as_success(patch: Patch) -> None:
    async def once(self: Committer, change: Change, write: Write) -> Instance:
        try:
            return await write(change.instance)
        except Unavailable:
            return change.instance

    patch.setattr(Committer, "_write", once)


# --- events ----------------------------------------------------------------------------------


@bug
def idempotency_key_in_a_second_write(patch: Patch) -> None:
    commit = Committer.commit

    async def twice(self: Committer, session: Session, *, keys: Any = (), **kwargs: Any) -> None:
        await commit(self, session, **kwargs)
        if keys:
            session.machine.tick()
            await commit(self, session, keys=keys)

    patch.setattr(Committer, "commit", twice)


@bug
def idempotency_key_not_recorded(patch: Patch) -> None:
    commit = Committer.commit

    async def without(self: Committer, session: Session, *, keys: Any = (), **kwargs: Any) -> None:
        await commit(self, session, **kwargs)

    patch.setattr(Committer, "commit", without)


@bug
def idempotency_key_not_looked_up(patch: Patch) -> None:
    async def nothing(self: Engine, ref: Any, record: Any) -> None:
        return None

    patch.setattr(Engine, "_replay", nothing)


@bug
def idempotency_key_without_fingerprint(patch: Patch) -> None:
    replay = Engine._replay

    async def any_request(self: Engine, ref: Any, record: Any) -> bytes | None:
        stored = await self.store.load_key(ref.workflow, ref.id, record.key, self.clock.now())
        return None if stored is None else await replay(self, ref, stored)

    patch.setattr(Engine, "_replay", any_request)


@bug
def a_duplicate_key_is_written_again(patch: Patch) -> None:
    commit = Committer.commit

    async def insist(self: Committer, session: Session, *, keys: Any = (), **kwargs: Any) -> None:
        try:
            await commit(self, session, keys=keys, **kwargs)
        except DuplicateKey:
            await commit(self, session, **kwargs)

    patch.setattr(Committer, "commit", insist)


@bug
def event_under_a_live_lease(patch: Patch) -> None:
    _leased(patch, Engine, "_handle_event")


@bug
def conditions_not_looked_at_after_an_event(patch: Patch) -> None:
    def only_this(session: Session, happened: Any = None) -> None:
        if happened is None:
            session.machine.settle()
        else:
            session.machine.handled(happened)

    patch.setattr(events_module, "settle", only_this)


# --- events that are kept ---------------------------------------------------------------------


@bug
def kept_event_delivered_twice(patch: Patch) -> None:
    patch.setattr(work, "unbuffer", lambda machine, event: None)


@bug
def kept_event_dropped_at_the_next_commit(patch: Patch) -> None:
    prepare = Session.prepare

    def forget(self: Session, *args: Any, **kwargs: Any) -> Change:
        if self.entries and self.entries[-1].kind != "buffered":
            self.execution.buffer = []
        return prepare(self, *args, **kwargs)

    patch.setattr(Session, "prepare", forget)


@bug
def kept_event_overtaken_by_a_later_one(patch: Patch) -> None:
    patch.setattr(Machine, "is_behind_buffered", lambda self, accepted: False)


@bug
def kept_events_in_reverse_order(patch: Patch) -> None:
    def last(machine: Machine, event: str) -> Any:
        return next(one for one in reversed(machine.execution.buffer) if one.event == event)

    patch.setattr(events, "first_buffered", last)
    patch.setattr(work, "first_buffered", last)


@bug
def kept_events_without_limit(patch: Patch) -> None:
    keep = SendEvent._keep

    def always(self: SendEvent, *args: Any) -> bytes:
        before, self.options = self.options, replace(self.options, buffer_max=1_000)
        try:
            return keep(self, *args)
        finally:
            self.options = before

    patch.setattr(SendEvent, "_keep", always)


@bug
def kept_event_without_a_task_of_its_own(patch: Patch) -> None:
    due = schedule.due
    patch.setattr(schedule, "due", lambda execution: (one for one in due(execution) if one[0][0] != "buffered"))


@bug
def kept_event_due_before_the_setups_that_come_first(patch: Patch) -> None:
    due = schedule.due

    def at_once(execution: Execution) -> Iterator[Any]:
        yield from due(execution)
        kept = {one.event for one in execution.buffer}
        for thread in execution.threads if execution.live else ():
            if thread.status == "setting_up":
                for wait in thread.waits:
                    if isinstance(wait, EventWait) and wait.buffered and wait.event in kept:
                        yield ("buffered", wait.id, wait.event), None

    patch.setattr(schedule, "due", at_once)


# --- timers ----------------------------------------------------------------------------------


@bug
def timer_not_matched_by_wait_id(patch: Patch) -> None:
    accept = Machine.accept

    def by_name(self: Machine, event: str, thread_id: str | None = None, wait_id: str | None = None) -> Any:
        return accept(self, event, thread_id)

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
    _leased(patch, Engine, "handle_timeout")


# --- steps -----------------------------------------------------------------------------------


@bug
def step_under_the_lease_of_another(patch: Patch) -> None:
    _leased(patch, Stepper, "resume")


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
    async def never(self: Leases, session: Session, *rest: Any, **hold: Any) -> None:
        return None

    patch.setattr(Leases, "_renew", never)


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

    patch.setattr(world, "run_task", content)


@bug
def early_task_dropped(patch: Patch) -> None:
    patch.setattr(leases, "CLOCK_SKEW", timedelta(0))


# --- activities ------------------------------------------------------------------------------


@bug
def result_of_an_earlier_attempt_counts(patch: Patch) -> None:
    def any_attempt(self: Machine, event: str, wait_id: str, attempt: int) -> Any:
        return calls.awaited(self, event, wait_id, ActivityWait)

    patch.setattr(Machine, "activity", any_attempt)


@bug
def fence_not_compared(patch: Patch) -> None:
    patch.setattr(WaitTask, "is_for", lambda self, wait: True)


@bug
def fence_not_stored_anew_for_the_next_attempt(patch: Patch) -> None:
    failed = Machine.activity_failed

    def keep(self: Machine, accepted: Accepted, error: Any, retry_at: datetime | None) -> None:
        wait = accepted.wait
        assert isinstance(wait, ActivityWait)
        fence = wait.task
        failed(self, accepted, error, retry_at)
        if retry_at is not None:
            wait.task = fence

    patch.setattr(Machine, "activity_failed", keep)


@bug
def limit_ignored_after_a_result(patch: Patch) -> None:
    fork = instructions._MOVES[ForkOp]

    def all_of_them(machine: Machine, thread: Any, instruction: Any, *rest: Any) -> Any:
        if thread.positions.get(instruction.name):
            instruction = copy(instruction)
            object.__setattr__(instruction, "limit", None)
        return fork(machine, thread, instruction, *rest)

    patch.setitem(instructions._MOVES, ForkOp, all_of_them)


@bug
def result_of_an_activity_under_a_live_lease(patch: Patch) -> None:
    _leased(patch, Activities, "deliver")


@bug
def heartbeat_not_renewing_the_deadline(patch: Patch) -> None:
    patch.setattr(Machine, "heartbeat", lambda self, accepted: self.tick())


@bug
def heartbeat_left_out(patch: Patch) -> None:
    async def nothing(self: Activities, ref: Any, body: Any) -> None:
        return None

    patch.setattr(Activities, "_heartbeat", nothing)


@bug
def heartbeat_of_an_earlier_attempt_counts(patch: Patch) -> None:
    def any_attempt(session: Session, body: Any) -> Accepted | None:
        if isinstance(body, Result) or not session.execution.live:
            return awaited(session, body)
        return calls.awaited(session.machine, body.event, body.wait_id, ActivityWait)

    awaited = attempts_module.awaited
    patch.setattr(attempts_module, "awaited", any_attempt)


@bug
def heartbeat_over_a_live_lease(patch: Patch) -> None:
    _leased(patch, Activities, "_heartbeat")


@bug
def silent_attempt_never_taken_for_dead(patch: Patch) -> None:
    deliver = TimeOut.deliver

    def never(self: TimeOut, session: Session, now: datetime) -> datetime | None:
        accepted = self._first(session, now)
        if accepted is not None and isinstance(accepted.wait, ActivityWait):
            return None
        return deliver(self, session, now)

    patch.setattr(TimeOut, "deliver", never)


# --- lanes -----------------------------------------------------------------------------------


@bug
def lane_unordered(patch: Patch) -> None:
    batch = Lane._batch
    patch.setattr(Lane, "_batch", lambda self, todo: list(reversed(batch(self, todo))))


@bug
def answer_told_before_the_commit(patch: Patch) -> None:
    commit = Transactor._commit

    async def sooner(self: Transactor, session: Session, held: Any, **kwargs: Any) -> Any:
        for one in held:
            if one.refusal is None:
                one.tell()
        return await commit(self, session, held, **kwargs)

    patch.setattr(Transactor, "_commit", sooner)


@bug
def refusal_told_although_its_batch_lost(patch: Patch) -> None:
    commit = Transactor._commit

    async def sooner(self: Transactor, session: Session, held: Any, **kwargs: Any) -> Any:
        for one in held:
            if one.refusal is not None:
                one.tell()
        return await commit(self, session, held, **kwargs)

    patch.setattr(Transactor, "_commit", sooner)


@bug
def decision_of_a_batch_dropped_at_a_conflict(patch: Patch) -> None:
    commit = Transactor._commit

    async def forget(self: Transactor, session: Session, held: Any, **kwargs: Any) -> Any:
        try:
            return await commit(self, session, held, **kwargs)
        except Conflict:
            if len(held) > 1:
                self.line.items.remove(held[-1].item)
            raise

    patch.setattr(Transactor, "_commit", forget)


@bug
def keys_of_a_batch_not_recorded_but_for_the_first(patch: Patch) -> None:
    commit = Committer.commit

    async def first(self: Committer, session: Session, *, keys: Any = (), **kwargs: Any) -> None:
        await commit(self, session, keys=keys[:1], **kwargs)

    patch.setattr(Committer, "commit", first)


@bug
def change_of_a_decision_that_raised_kept(patch: Patch) -> None:
    patch.setattr(Session, "undo", lambda self, mark: True)


@bug
def tasks_of_the_winner_deleted_after_a_conflict(patch: Patch) -> None:
    apply = Committer._apply

    async def wrong_names(self: Committer, session: Session, change: Change, write: Any) -> None:
        try:
            await apply(self, session, change, write)
        except Conflict:
            current = await self.store.load(change.instance.workflow, change.instance.id)
            timers = schedule.timers(current.execution)
            await self._delete(current, [timer_name(current.workflow, current.id, *timer) for timer in timers])
            raise

    patch.setattr(Committer, "_apply", wrong_names)


# --- children --------------------------------------------------------------------------------


@bug
def end_of_a_child_not_told(patch: Patch) -> None:
    async def nothing(self: Children, session: Session, parent: Any) -> None:
        return None

    patch.setattr(Children, "_tell", nothing)


@bug
def end_of_a_child_told_again_and_again(patch: Patch) -> None:
    done = Machine.done

    def forget(self: Machine, work: Any, result: Any = None) -> None:
        done(self, work, result)
        if isinstance(work, TellWork):
            work.parent.told = False

    patch.setattr(Machine, "done", forget)


@bug
def child_without_a_name_of_its_own(patch: Patch) -> None:
    start = Children._start

    async def anew(self: Children, session: Session, wait: Any, given: Any) -> None:
        await start(self, session, wait, given | {"id": self.committer.token()})

    patch.setattr(Children, "_start", anew)


@bug
def instance_of_another_taken_for_the_child(patch: Patch) -> None:
    patch.setattr(children_module, "_is_child", lambda session, key: True)


@bug
def cancel_not_passed_to_the_child(patch: Patch) -> None:
    async def nothing(self: Children, session: Session, teardown: Any) -> None:
        return None

    patch.setattr(Children, "_cancel", nothing)


@bug
def canceled_child_that_may_still_be_born(patch: Patch) -> None:
    cancel = Children._cancel

    async def only_if_there(self: Children, session: Session, teardown: Any) -> None:
        child = {name: teardown.child[name] for name in ("workflow", "id")}
        await cancel(self, session, replace(teardown, child=child))

    patch.setattr(Children, "_cancel", only_if_there)


@bug
def failed_child_counts_as_finished(patch: Patch) -> None:
    tell = Children._tell

    async def all_is_well(self: Children, session: Session, parent: Any) -> None:
        session.execution.status = Status.FINISHED
        await tell(self, session, parent)

    patch.setattr(Children, "_tell", all_is_well)


# --- operators -------------------------------------------------------------------------------


@bug
def cancel_ends_the_lease_of_a_running_step(patch: Patch) -> None:
    commit = Committer.commit

    async def without(self: Committer, session: Session, *, lease: LeasePolicy = RELEASE, **kwargs: Any) -> None:
        await commit(self, session, lease=RELEASE if lease == KEEP else lease, **kwargs)

    patch.setattr(Committer, "commit", without)


@bug
def timers_not_set_again_after_a_pause(patch: Patch) -> None:
    unpause = Machine.unpause

    def forget(self: Machine) -> None:
        waits = [wait for thread in self.execution.threads for wait in thread.waits if isinstance(wait, TimedWait)]
        before = [wait.task for wait in waits]
        unpause(self)
        for wait, data in zip(waits, before, strict=True):
            wait.task = data

    patch.setattr(Machine, "unpause", forget)


# --- failures --------------------------------------------------------------------------------


@bug
def cleanup_left_out_when_it_is_canceled(patch: Patch) -> None:
    patch.setattr(unwinding, "cancel_thread", end)
    patch.setattr(operations, "cancel_thread", end)


@bug
def error_in_a_cleanup_calls_a_cancellation_off(patch: Patch) -> None:
    patch.setattr(unwinding, "_is_doomed", lambda thread: False)


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
    patch.setattr(recovery, "due_timeouts", lambda execution, before: [])


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


# --- inboxes ---------------------------------------------------------------------------------


@bug
def entry_without_a_collecting_task(patch: Patch) -> None:
    queue_create = Process.create

    async def without(self: Process, task: Task) -> None:
        if task.path != COLLECT_PATH:
            await queue_create(self, task)

    patch.setattr(Process, "create", without)


@bug
def early_collecting_task_dropped(patch: Patch) -> None:
    run = Inbox.run

    async def drop(self: Inbox, ref: Any, body: CollectTask) -> None:
        if self.committer.clock.now() >= body.due:
            await run(self, ref, body)

    patch.setattr(Inbox, "run", drop)


@bug
def entry_discarded_before_it_was_taken_in(patch: Patch) -> None:
    take = Inbox._take

    async def discarding(self: Inbox, ref: Any, entry: Any) -> Any:
        await self.committer.store.discard([entry])
        return await take(self, ref, entry)

    patch.setattr(Inbox, "_take", discarding)


@bug
def entries_known_by_their_statement_alone(patch: Patch) -> None:
    for module in (activities_module, children_module):
        patch.setattr(module, "entry_name", lambda kind, wait_id, event, *rest: entry_name(kind, event))


@bug
def end_of_an_attempt_ahead_of_its_result(patch: Patch) -> None:
    collect = Inbox.collect

    async def only_for_tasks(self: Inbox, ref: Any) -> Any:
        return await collect(self, ref) if _COLLECTING.get() else None

    run = Inbox.run

    async def collecting(self: Inbox, ref: Any, body: Any) -> None:
        _COLLECTING.set(True)
        await run(self, ref, body)

    patch.setattr(Inbox, "collect", only_for_tasks)
    patch.setattr(Inbox, "run", collecting)


@bug
def entry_of_a_paused_instance_discarded(patch: Patch) -> None:
    take = Inbox._take

    async def discarding(self: Inbox, ref: Any, entry: Any) -> Any:
        left = await take(self, ref, entry)
        return True if isinstance(left, _Left) and left.at is None else left

    patch.setattr(Inbox, "_take", discarding)


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


# --- helpers ---------------------------------------------------------------------------------


_COLLECTING: ContextVar[bool] = ContextVar("_COLLECTING", default=False)
_BLIND: ContextVar[bool] = ContextVar("_BLIND", default=False)


def _leased(patch: Patch, cls: type, method: str) -> None:
    """Lets one method see no leases."""
    original, leased = getattr(cls, method), Session.leased

    async def blind(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _BLIND.set(True)
        try:
            return await original(self, *args, **kwargs)
        finally:
            _BLIND.reset(before)

    patch.setattr(cls, method, blind)
    patch.setattr(Session, "leased", lambda self, now: not _BLIND.get() and leased(self, now))
