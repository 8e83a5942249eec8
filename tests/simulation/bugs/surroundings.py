"""Deliberate bugs around the engine's core: threads, pages, searches, damaged documents, and the library alone."""

from __future__ import annotations

from typing import Any

from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.operations import RetryFailed
from cloud_adapter.engine.plan import RELEASE, LeasePolicy
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.sync_pool import SyncPool
from cloud_adapter.errors import DamagedDocument, InstanceNotFound
from cloud_adapter.stores import search
from tests.simulation.bugs.bug_list import Patch, bug
from workflow_core import library


@bug
def lease_given_back_without_a_transition(patch: Patch) -> None:
    commit = Committer.commit

    async def uncounted(self: Committer, session: Session, *, lease: LeasePolicy = RELEASE, **kwargs: Any) -> None:
        if lease is RELEASE and session.instance.lease is not None and not session.entries:
            session.execution.pc = session._pc
        await commit(self, session, lease=lease, **kwargs)

    patch.setattr(Committer, "commit", uncounted)


@bug
def thread_given_back_twice(patch: Patch) -> None:
    give_back = SyncPool._give_back

    def twice(self: SyncPool) -> None:
        give_back(self)
        give_back(self)

    patch.setattr(SyncPool, "_give_back", twice)


@bug
def thread_of_a_call_in_line_not_given_back(patch: Patch) -> None:
    def forgotten(self: SyncPool) -> None:
        if not self._line:
            self._free += 1

    patch.setattr(SyncPool, "_give_back", forgotten)


@bug
def retry_offered_for_each_instance_that_has_ended(patch: Patch) -> None:
    patch.setattr(RetryFailed, "is_offered", classmethod(lambda cls, execution: execution.ended))


@bug
def equal_values_searched_for_by_their_texts(patch: Patch) -> None:
    patch.setattr(search, "_canonical", lambda value: value)


@bug
def damaged_document_counts_as_none(patch: Patch) -> None:
    load = Committer.load

    async def blind(self: Committer, ref: InstanceRef, *rest: Any, **named: Any) -> Session:
        try:
            return await load(self, ref, *rest, **named)
        except DamagedDocument as error:
            raise InstanceNotFound(str(error)) from error

    patch.setattr(Committer, "load", blind)


@bug
def early_event_not_kept_by_the_library(patch: Patch) -> None:
    def refused(machine: Any, accepted: Any, event: str, input: Any, *address: Any) -> Any:
        return accepted or machine.accept(event, *address)

    patch.setattr(library, "_unless_kept", refused)
