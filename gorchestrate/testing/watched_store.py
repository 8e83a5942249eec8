"""The Store port of an environment: it tells what is saved, and a process can be killed at a chosen save."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, Final

from cloud_adapter.document import Instance
from cloud_adapter.stores.sqlite.store import SqliteStore

SAVES: Final = ("create", "commit", "post")


class Killed(BaseException):
    """The process is dead: nothing that it was about to do happens."""


class WatchedStore:
    """A store of a process that can be killed.

    Attributes:
        stored: the real store.
        ids: workflow and id of all instances, those that were created first come first.
        saves: how many saves were begun.
        kill_at: the number of the save at which the process is killed; 0: none.
        kill_after: whether it is killed just after this save, instead of just before it.
        killed: whether the process is dead. All calls then raise ``Killed``.
        saving: what the save at which it was killed belongs to, for messages.
    """

    def __init__(self, stored: SqliteStore, on_save: Callable[[Instance], None]) -> None:
        self.stored = stored
        self.ids: list[tuple[str, str]] = []
        self.saves = 0
        self.kill_at = 0
        self.kill_after = False
        self.killed = False
        self.saving = ""
        self._on_save = on_save

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.stored, name)
        return lambda *args, **kwargs: self._call(name, lambda: method(*args, **kwargs), *args)

    async def _call(self, name: str, call: Callable[[], Coroutine[Any, Any, Any]], *args: Any) -> Any:
        if self.killed:
            raise Killed
        if name not in SAVES:
            return await call()
        self.saves += 1
        is_last = self.saves == self.kill_at
        if is_last:
            self.saving = _about(name, *args)
        if is_last and not self.kill_after:
            self._kill()
        result = await call()
        if name in ("create", "commit"):
            instance = args[0]
            if name == "create":
                self.ids.append((instance.workflow, instance.id))
            self._on_save(instance)
        if is_last:
            self._kill()
        return result

    async def held_up_until(self, now: datetime) -> datetime:
        """Returns when the last instance goes on that a dead process holds up: by its lease, or because the instance
        could not tell its parent that it has ended; the present if there is none."""
        times = [now]
        for workflow, id in self.ids:
            instance = await self.stored.load(workflow, id)
            parent = instance.execution.parent
            times += [instance.lease.expires_at] if instance.lease is not None else []
            times += [parent.retry_at] if parent is not None and parent.retry_at is not None else []
        return max(times)

    async def described(self, workflow: str, id: str) -> str:
        """Returns where an instance stands and what failed there, for a message."""
        threads = (await self.stored.load(workflow, id)).execution.threads
        places = [f"{it.step!r}" + (f", which failed: {it.error.text}" if it.error else "") for it in threads]
        return f"{workflow} {id!r} is at {'; '.join(places) or 'its end'}"

    def _kill(self) -> None:
        self.killed = True
        raise Killed


def _about(name: str, saved: Any, *others: Any) -> str:
    if not isinstance(saved, Instance):
        return f"a message to {saved.workflow} {saved.id!r}"
    if name == "create":
        return f"the creation of {saved.workflow} {saved.id!r}"
    entries = [f"{entry.kind} {entry.statement!r}" for entry in saved.new_entries if entry.statement]
    return f"{saved.workflow} {saved.id!r}: " + (", ".join(entries) or "the start of its next step")
