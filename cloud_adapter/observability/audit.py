"""The audit: a line in the log for each request that was allowed or denied to a principal, with ``audit: true``.

Denials cost their sender nothing, so only some of them are logged when there are many: a flood must not hide everything
else, or fill the disk. What a request may do is decided in ``cloud_adapter.engine.permissions``.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from cloud_adapter.observability import logs
from cloud_adapter.observability.line_limit import LineLimit
from cloud_adapter.ports import Clock
from workflow_core import Action, Principal
from workflow_core.access import is_everyone

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Audit:
    """Logs decisions. Requests of ``EVERYONE``, for which nothing is decided, are not logged."""

    def __init__(self, clock: Clock) -> None:
        self._denials = LineLimit(now=lambda: clock.now() - _EPOCH)

    def allowed(self, principal: Principal, action: Action, workflow: str, id: str = "", event: str = "") -> None:
        """Logs a request that was carried out."""
        if not is_everyone(principal):
            self._log(logging.INFO, "allowed", principal, action, workflow, id, event)

    def denied(
        self, principal: Principal, action: Action, workflow: str, id: str = "", event: str = "", *, error: str
    ) -> None:
        """Logs a request that was denied, unless too many were in this second."""
        left_out = self._denials.next()
        if left_out is not None:
            self._log(logging.WARNING, "denied", principal, action, workflow, id, event, error=error, left_out=left_out)

    @staticmethod
    def _log(
        level: int,
        kind: str,
        principal: Principal,
        action: Action,
        workflow: str,
        id: str,
        event: str,
        **more: str | int,
    ) -> None:
        who = {"principal": principal.id, "principal_kind": principal.kind, "roles": sorted(principal.roles)}
        what = {"action": action.value, "event": event, **more}
        given = {name: value for name, value in what.items() if value not in ("", 0)}
        fields = {"audit": True, "kind": kind, "workflow": workflow, "id": id, **who, **given}
        if logs.logger.isEnabledFor(level):
            about = f"{workflow}/{id}" if id else workflow
            text = f"{kind} {action.value} {event} {about} to {principal.id or principal.kind}"
            logs.logger.log(level, "%s", " ".join(text.split()), extra={"fields": fields})
