"""The JSON data and the URLs of instances. Independent of the HTTP applications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cloud_adapter.engine.view import View
from cloud_adapter.summaries import Summary
from workflow_core.program.code import ClientCase


def instance_url(workflow: str, id: str, prefix: str = "") -> str:
    """Returns the path of an instance. For ``prefix``, see ``prefixes.prefix_of``."""
    return f"{prefix}/wf/{workflow}/{quote(id, safe='')}"


def view_data(view: View, prefix: str) -> dict[str, Any]:
    """Returns an instance as the API shows it: ``meta``, ``state``, ``events`` and ``history``. For ``prefix``, see
    ``prefixes.prefix_of``."""
    instance = view.instance
    lease = instance.lease
    meta = instance.execution.to_dict() | {
        "wake_at": None if instance.wake_at is None else instance.wake_at.isoformat(),
        "leased_until": None if lease is None else lease.expires_at.isoformat(),
        "problem": view.problem or None,
    }
    url = instance_url(instance.workflow, instance.id, prefix)
    names = [accepted.case.event for accepted in view.accepted]
    events = []
    for accepted in view.accepted:
        case = accepted.case
        assert isinstance(case, ClientCase)
        # If several threads wait for the same event, the URL selects the thread.
        query = f"?thread={quote(accepted.thread.id, safe='')}" if names.count(accepted.case.event) > 1 else ""
        events.append(
            {
                "name": accepted.case.event,
                "role": case.role,
                "thread": accepted.thread.id,
                "wait_id": accepted.wait_id,
                "input": case.signature.input_schema,
                "url": f"{url}/{quote(accepted.case.event, safe='')}{query}",
            }
        )
    history = [
        {"at": entry.at.isoformat(), "kind": entry.kind, "statement": entry.statement, "thread": entry.thread}
        | {"pc": entry.pc, "duration_ms": entry.duration_ms, "error": entry.error, "select": entry.select}
        | {"by": entry.by, "reason": entry.reason, "detail": entry.detail}
        for entry in instance.history
    ]
    return {"meta": meta, "state": view.state, "events": events, "history": history}


def summary(instance: Summary, prefix: str) -> Mapping[str, Any]:
    """Returns an instance as lists show it. For ``prefix``, see ``prefixes.prefix_of``."""
    return {
        "id": instance.id,
        "status": instance.status,
        "created_at": instance.created_at and instance.created_at.isoformat(),
        "updated_at": instance.updated_at and instance.updated_at.isoformat(),
        "wake_at": instance.wake_at and instance.wake_at.isoformat(),
        "error": instance.error and instance.error.message,
        "search": dict(instance.search),
        "url": instance_url(instance.workflow, instance.id, prefix),
    }
