"""Deliberate bugs in loops, in permissions and in encryption."""

from __future__ import annotations

from typing import Any

from cloud_adapter.engine import events, requests
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.recent_sessions import RecentSessions
from cloud_adapter.engine.secrets import Secrets
from tests.simulation.bugs.bug_list import Patch, bug
from workflow_core.machine import instructions
from workflow_core.program.code import EachOp


@bug
def loop_with_broken_items_left(patch: Patch) -> None:
    each = instructions._MOVES[EachOp]

    def lenient(machine: Any, thread: Any, instruction: Any, *rest: Any) -> Any:
        try:
            return each(machine, thread, instruction, *rest)
        except Exception:
            return instruction.other

    patch.setitem(instructions._MOVES, EachOp, lenient)


@bug
def sender_without_the_role_accepted(patch: Patch) -> None:
    patch.setattr(Caller, "has_role_for", lambda self, cases: True)
    patch.setattr(Caller, "check_sender", lambda self, *given: None)


@bug
def keys_shared_by_principals(patch: Patch) -> None:
    for module in (events, requests):
        patch.setattr(module, "stored_key", lambda key, principal: key)


@bug
def secret_inputs_masked_for_good(patch: Patch) -> None:
    decrypted = Secrets._decrypted

    async def forgetful(self: Secrets, text: str, *place: str) -> bytes:
        found = await decrypted(self, text, *place)
        return b"null" if place[2] == "activity" else found

    patch.setattr(Secrets, "_decrypted", forgetful)


@bug
def version_compared_twice(patch: Patch) -> None:
    take = RecentSessions.take

    async def careful(self: RecentSessions, ref: Any, *, assumes: bool) -> Any:
        if ref in self._sessions and self._store is not None:
            await self._store.is_current(ref.workflow, ref.id, self._sessions[ref][0].instance.version)
        return await take(self, ref, assumes=assumes)

    patch.setattr(RecentSessions, "take", careful)


@bug
def entry_posted_twice(patch: Patch) -> None:
    post = Committer.post

    async def twice(self: Committer, entry: Any) -> None:
        await post(self, entry)
        await post(self, entry)

    patch.setattr(Committer, "post", twice)
