"""Deliberate bugs in commits, and in the lanes that collect what is committed together."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.engine import schedule
from cloud_adapter.engine.commits import Committer, Write
from cloud_adapter.engine.lanes import Lane
from cloud_adapter.engine.plan import Change
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import (
    timer_name,
)
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.errors import Conflict, Unavailable
from tests.simulation.bugs.bug_list import Patch, bug
from tests.simulation.store import Database, LocalSimulatedStore

# --- writing ---------------------------------------------------------------------------------


@bug
def commit_without_precondition(patch: Patch) -> None:
    write = Database.write

    def last_one_wins(self: Database, instance: Instance, *rest: Any, create: bool, **kept: Any) -> Instance:
        version = self.documents.get((instance.workflow, instance.id), (0, {}))[0]
        return write(self, instance if create else replace(instance, version=version), *rest, create=create, **kept)

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
    async def once(self: Committer, change: Change, write: Write, conflicts: int | None) -> Instance:
        try:
            return await write(change.instance)
        except Unavailable as error:
            raise Conflict("no answer") from error

    patch.setattr(Committer, "_write", once)


@bug
def a_lost_reply_counts_as_success(patch: Patch) -> None:
    async def once(self: Committer, change: Change, write: Write, conflicts: int | None) -> Instance:
        try:
            return await write(change.instance)
        except Unavailable:
            return change.instance

    patch.setattr(Committer, "_write", once)


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


@bug
def kept_state_used_although_another_process_has_committed(patch: Patch) -> None:
    async def always(self: LocalSimulatedStore, workflow: str, id: str, version: Any) -> bool:
        return True

    patch.setattr(LocalSimulatedStore, "is_current", always)


@bug
def answer_told_because_of_an_assumption(patch: Patch) -> None:
    ask_all = Transactor._ask_all

    async def hasty(self: Transactor, session: Session, batch: Any, *, is_loaded: bool) -> Any:
        return await ask_all(self, session, batch, is_loaded=is_loaded or session.is_assumed)

    patch.setattr(Transactor, "_ask_all", hasty)


@bug
def wrong_assumption_counts_as_a_commit(patch: Patch) -> None:
    commit = Committer.commit

    async def lenient(self: Committer, session: Session, **given: Any) -> None:
        is_assumed = session.is_assumed
        try:
            await commit(self, session, **given)
        except Conflict:
            if not is_assumed:
                raise

    patch.setattr(Committer, "commit", lenient)
