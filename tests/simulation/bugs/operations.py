"""Deliberate bugs in what operators do."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from cloud_adapter import document
from cloud_adapter.document import Instance
from cloud_adapter.engine import operations as engine_operations
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operation_requests import _Operate
from cloud_adapter.engine.plan import KEEP, RELEASE, Change, LeasePolicy
from cloud_adapter.engine.session import Session
from cloud_adapter.ports import Page
from cloud_adapter.stores import search
from tests.simulation.bugs.bug_list import Patch, bug
from workflow_core import Thread, Workflow, migration
from workflow_core.machine import operations, renaming, state
from workflow_core.machine.machine import Machine
from workflow_core.program.program import Program
from workflow_core.wait_types import ConditionWait, TimedWait

# --- cancel and pause ------------------------------------------------------------------------


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


# --- goto ------------------------------------------------------------------------------------


@bug
def goto_leaves_a_wait_without_its_teardowns(patch: Patch) -> None:
    def forget(execution: Any, thread: Thread) -> None:
        thread.waits = []

    patch.setattr(operations, "leave_wait", forget)


@bug
def goto_counts_as_no_transition(patch: Patch) -> None:
    goto = Machine.goto

    def at_once(self: Machine, thread_id: str, statement: str) -> None:
        goto(self, thread_id, statement)
        self.execution.pc -= 1

    patch.setattr(Machine, "goto", at_once)


@bug
def goto_out_of_a_cleanup_that_still_goes_on(patch: Patch) -> None:
    goto = Machine.goto

    def still_leaving(self: Machine, thread_id: str, statement: str) -> None:
        thread = self.execution.thread(thread_id)
        before = {} if thread is None else thread.pending
        goto(self, thread_id, statement)
        assert thread is not None
        thread.pending = before

    patch.setattr(Machine, "goto", still_leaving)


# --- retry -----------------------------------------------------------------------------------


@bug
def retry_with_the_attempts_of_before(patch: Patch) -> None:
    patch.setattr(operations, "_begin_anew", lambda thread: None)


@bug
def retry_forgets_how_a_cleanup_goes_on(patch: Patch) -> None:
    retry = Machine.retry

    def forget(self: Machine) -> None:
        retry(self)
        for thread in self.execution.threads:
            thread.pending = {}

    patch.setattr(Machine, "retry", forget)


# --- fields ----------------------------------------------------------------------------------


@bug
def conditions_not_looked_at_after_fields_are_set(patch: Patch) -> None:
    patch.setattr(engine_operations, "_settle_if_known", lambda session: None)


@bug
def repair_of_a_newer_state_than_was_seen(patch: Patch) -> None:
    decide = _Operate.decide

    def anyway(self: _Operate, session: Session, now: Any) -> Session:
        self.operation = self.operation.model_copy(update={"pc": None})
        return decide(self, session, now)

    patch.setattr(_Operate, "decide", anyway)


@bug
def dry_run_is_saved(patch: Patch) -> None:
    commit = Committer.commit

    async def saving(self: Committer, session: Session, *, dry_run: bool = False, **kwargs: Any) -> None:
        await commit(self, session, **kwargs)

    patch.setattr(Committer, "commit", saving)


# --- search fields ---------------------------------------------------------------------------


@bug
def search_fields_of_the_last_load(patch: Patch) -> None:
    patch.setattr(Session, "_searched_by", lambda self: self.instance.search)


@bug
def unsearchable_value_stored(patch: Patch) -> None:
    patch.setattr(search, "_why_not", lambda value: "")


@bug
def renewal_with_the_fields_of_a_running_step(patch: Patch) -> None:
    prepare = Session.prepare

    def with_its_fields(self: Session, *args: Any, **kwargs: Any) -> Change:
        change = prepare(self, *args, **kwargs)
        fields = self.machine.workflow.model_dump(include=set(self.cls.search_fields))
        return replace(change, instance=replace(change.instance, search=fields))

    patch.setattr(Session, "prepare", with_its_fields)


@bug
def status_of_a_listing_ignored(patch: Patch) -> None:
    listing = Engine.list

    async def of_all(self: Engine, workflow: str, *, status: str | None = None, **filters: Any) -> Page:
        page = await listing(self, workflow, status=status, **filters)
        return await listing(self, workflow, **filters) if status else page

    patch.setattr(Engine, "list", of_all)


# --- sizes -----------------------------------------------------------------------------------


@bug
def no_room_left_for_the_end(patch: Patch) -> None:
    patch.setattr(document, "RESERVED_BYTES", 0)


@bug
def no_room_left_for_a_lease(patch: Patch) -> None:
    patch.setattr(document, "LEASE_BYTES", 0)


@bug
def size_not_checked(patch: Patch) -> None:
    patch.setattr(document, "check_size", lambda document, limit, threads: 0)


# --- handlers that take time -----------------------------------------------------------------


@bug
def timeouts_count_from_the_start_of_slow_code(patch: Patch) -> None:
    patch.setattr(Machine, "set_time", lambda self, now: None)


# --- code that changes -----------------------------------------------------------------------


@bug
def renamed_wait_with_another_idempotency_key(patch: Patch) -> None:
    rename = renaming._rename_wait

    def forget(wait: Any, program: Program) -> None:
        rename(wait, program)
        if not isinstance(wait, ConditionWait):
            wait.known_as = ""

    patch.setattr(renaming, "_rename_wait", forget)


@bug
def migrated_fields_not_saved(patch: Patch) -> None:
    init = Session.__init__

    def forget(self: Session, cls: type[Workflow], instance: Instance, now: datetime) -> None:
        init(self, cls, instance, now)
        self._fields = instance.fields

    patch.setattr(Session, "__init__", forget)


@bug
def newer_version_read_by_older_code(patch: Patch) -> None:
    patch.setattr(migration, "check_version", lambda cls, version: None)
    patch.setattr(state, "check_version", lambda cls, version: None)


@bug
def names_that_a_thread_remembers_not_renamed(patch: Patch) -> None:
    patch.setattr(renaming, "_rename_keys", lambda kept, program: kept)
