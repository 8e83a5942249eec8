"""The audit: a line in the log for each request that was allowed or denied to a principal, with ``audit: true``.

Denials cost their sender nothing, so only some of them are logged when there are many: a flood must not hide everything
else, or fill the disk. What a request may do is decided in ``cloud_adapter.engine.permissions``.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from cloud_adapter.observability import logs
from cloud_adapter.ports import Clock
from workflow_core import ANY_ROLE, Action, Principal

DENIALS_MAX = 10
"""How many denials a process logs in a second."""

_SECOND = timedelta(seconds=1)


class Audit:
    """Logs decisions. Requests of ``EVERYONE``, for which nothing is decided, are not logged."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._since: datetime | None = None
        self._logged = 0
        self._left_out = 0

    def allowed(self, principal: Principal, action: Action, workflow: str, id: str = "", event: str = "") -> None:
        """Logs a request that was carried out."""
        if ANY_ROLE not in principal.roles:
            self._log(logging.INFO, "allowed", principal, action, workflow, id, event)

    def denied(
        self, principal: Principal, action: Action, workflow: str, id: str = "", event: str = "", *, error: str
    ) -> None:
        """Logs a request that was denied, unless too many were in this second."""
        now = self.clock.now()
        if self._since is None or not timedelta() <= now - self._since < _SECOND:
            self._since, self._logged = now, 0
        if self._logged >= DENIALS_MAX:
            self._left_out += 1
            return
        self._logged += 1
        left_out, self._left_out = self._left_out, 0
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
