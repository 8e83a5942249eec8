"""Deliberate bugs in events: their idempotency keys, and what is kept of them for later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cloud_adapter.engine import events as events_module
from cloud_adapter.engine import schedule
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.events import SendEvent
from cloud_adapter.engine.kept_events import PREFIX, KeptEvent, KeptEvents
from cloud_adapter.engine.plan import Change
from cloud_adapter.engine.requests import Requests
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.errors import DuplicateKey
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.bugs.unseen_leases import leased
from workflow_core import Execution
from workflow_core.machine import events, work
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import EventWait

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
    async def nothing(self: Requests, ref: Any, record: Any) -> None:
        return None

    patch.setattr(Requests, "_replay", nothing)


@bug
def idempotency_key_without_fingerprint(patch: Patch) -> None:
    replay = Requests._replay

    async def any_request(self: Requests, ref: Any, record: Any) -> bytes | None:
        stored = await self.committer.store.load_key(ref.workflow, ref.id, record.key, self.committer.clock.now())
        return None if stored is None else await replay(self, ref, stored)

    patch.setattr(Requests, "_replay", any_request)


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
    leased(patch, Requests, "_handle_event")


@bug
def conditions_not_looked_at_after_an_event(patch: Patch) -> None:
    def only_this(session: Session, happened: Any = None) -> None:
        if happened is None:
            session.machine.settle()
        else:
            session.machine.handled(happened)

    patch.setattr(events_module, "settle", only_this)


# --- events that are kept --------------------------------------------------------------------


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


@bug
def kept_events_without_limit(patch: Patch) -> None:
    decide = SendEvent.decide

    def always(self: SendEvent, session: Session, now: Any) -> Any:
        self.buffer_max = None
        return decide(self, session, now)

    patch.setattr(SendEvent, "decide", always)


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


# --- events that are kept in the inbox -------------------------------------------------------


@bug
def event_in_the_inbox_taken_twice(patch: Patch) -> None:
    first = KeptEvents.first

    async def put_back(self: KeptEvents, ref: Any) -> Any:
        entries = await first(self, ref)
        for entry in entries[:1]:
            again = replace(entry, name=f"{entry.name}x")
            if not entry.name.endswith("x"):
                await self.committer.store.post(again)
        return entries

    patch.setattr(KeptEvents, "first", put_back)


@bug
def outcome_of_an_event_in_the_inbox_not_recorded(patch: Patch) -> None:
    patch.setattr(KeptEvent, "_records", SendEvent._records)


@bug
def last_event_in_the_inbox_taken_first(patch: Patch) -> None:
    async def last(self: KeptEvents, ref: Any) -> Any:
        return (await self.committer.store.inbox(ref.workflow, ref.id, prefix=PREFIX))[::-1][:2]

    patch.setattr(KeptEvents, "first", last)


@bug
def events_in_the_inbox_overtaken(patch: Patch) -> None:
    patch.setattr(SendEvent, "_blocked", lambda self, session, now: session.leased(now))
    patch.setattr(Transactor, "_is_after_events", lambda self, session, batch: batch[0].decision.wants_events)
