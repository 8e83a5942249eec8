"""Deliberate bugs in children, and in the inboxes by which ends and results come."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from cloud_adapter.engine import activities as activities_module
from cloud_adapter.engine import children as children_module
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.inbox import Inbox, _Left, entry_name
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import (
    COLLECT_PATH,
    CollectTask,
)
from cloud_adapter.ports import Task
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.processes import Process
from workflow_core import Execution, Status, Thread
from workflow_core.machine import events
from workflow_core.machine.machine import Machine
from workflow_core.machine.outside_work import TellWork
from workflow_core.machine.waits import leave_wait
from workflow_core.wait_types import ChildWait

_COLLECTING: ContextVar[bool] = ContextVar("_COLLECTING", default=False)


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
    patch.setattr(children_module, "_is_child_of", lambda session, parent, wait: True)


@bug
def cancel_not_passed_to_the_child(patch: Patch) -> None:
    async def nothing(self: Children, session: Session, teardown: Any) -> None:
        return None

    patch.setattr(Children, "_cancel", nothing)


@bug
def children_of_a_select_forgotten_at_an_event(patch: Patch) -> None:
    def forget(execution: Execution, thread: Thread, event: str | None = None) -> None:
        thread.waits = [wait for wait in thread.waits if not isinstance(wait, ChildWait)]
        leave_wait(execution, thread, event)

    patch.setattr(events, "leave_wait", forget)


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
