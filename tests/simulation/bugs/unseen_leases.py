"""What several deliberate bugs need: code that sees no leases."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from cloud_adapter.engine.session import Session
from tests.simulation.bugs.bug_list import Patch

_BLIND: ContextVar[bool] = ContextVar("_BLIND", default=False)


def leased(patch: Patch, cls: type, method: str) -> None:
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
