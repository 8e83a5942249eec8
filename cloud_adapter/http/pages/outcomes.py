"""The result of a form, which the page of an instance shows after the form redirected to it.

The redirect names the form and its idempotency key in the query. Anybody can write such a link, so the page only says
what the instance confirms: an entry of its history within the last minute, and the response that was recorded with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta

from markupsafe import Markup

from cloud_adapter.document import Instance
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import ACTIONS
from cloud_adapter.engine.view import View
from cloud_adapter.history import HistoryEntry, HistoryKind
from cloud_adapter.json_texts import readable
from workflow_core import Principal

RECENT = timedelta(minutes=1)


async def outcome(engine: Engine, view: View, query: Mapping[str, str], principal: Principal | None) -> str:
    """Returns the HTML of the result; empty if there is none.

    Args:
        query: ``done``, the kind of an entry in the history; or ``sent``, the name of an event, with its ``key``.
    """
    instance, now = view.instance, engine.clock.now()
    if done := query.get("done"):
        result = "Created." if done == HistoryKind.CREATED else ACTIONS[done].result if done in ACTIONS else ""
        return result if _recent(instance, now, done) else ""
    event, key = query.get("sent", ""), query.get("key", "")
    entries = _recent(instance, now, HistoryKind.EVENT, HistoryKind.BUFFERED, statement=event)
    if not entries:
        return ""
    record = await engine.recorded(instance.workflow, instance.id, key, principal=principal) if key else None
    if record is not None and record.response:
        recorded_at = record.expires_at - engine.options.key_ttl
        if any(entry.at == recorded_at and entry.kind == HistoryKind.EVENT for entry in entries):
            return _handled(event, json.loads(record.response))
    if entries[-1].kind == HistoryKind.BUFFERED:
        return Markup("<strong>{}</strong> is buffered until the instance waits for it.").format(event)
    return _handled(event, None)


def _recent(instance: Instance, now: datetime, *kinds: str, statement: str = "") -> list[HistoryEntry]:
    return [
        entry
        for entry in instance.history
        if entry.kind in kinds and entry.statement == statement and abs(now - entry.at) <= RECENT
    ]


def _handled(event: str, output: object) -> str:
    if output is None:
        return Markup("<strong>{}</strong> was handled.").format(event)
    if isinstance(output, (dict, list)):
        text = readable(output)
        return Markup(
            "<strong>{}</strong> was handled.<details><summary>Output</summary><pre>{}</pre></details>"
        ).format(event, text)
    return Markup("<strong>{}</strong> was handled. Output: <code>{}</code>.").format(
        event, json.dumps(output, ensure_ascii=False)
    )
