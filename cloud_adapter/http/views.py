"""The JSON data and the URLs of instances. Independent of the HTTP applications."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from cloud_adapter.document import Instance
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.engine.view import View
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


def outcome_url(workflow: str, id: str, token: str, prefix: str) -> str:
    """Returns the path of the outcome of an event that was accepted for later. For ``prefix``, see
    ``prefixes.prefix_of``."""
    return f"{instance_url(workflow, id, prefix)}/outcomes/{token}"


def outcome_data(outcome: Outcome, problem: Callable[[Outcome], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Returns the outcome of an event as the API shows it.

    Args:
        problem: returns the problem document of an event that was refused.
    """
    if outcome.waits:
        return {"state": "waiting"}
    if outcome.error:
        return {"state": "refused", "problem": problem(outcome)}
    return {"state": "handled", "output": json.loads(outcome.answer)} if outcome.answer else {"state": "buffered"}


def summary(instance: Instance, prefix: str) -> Mapping[str, Any]:
    """Returns an instance as lists show it. For ``prefix``, see ``prefixes.prefix_of``."""
    execution = instance.execution
    return {
        "id": instance.id,
        "status": execution.status,
        "created_at": execution.created_at and execution.created_at.isoformat(),
        "updated_at": execution.updated_at and execution.updated_at.isoformat(),
        "wake_at": instance.wake_at and instance.wake_at.isoformat(),
        "error": execution.error and execution.error.message,
        "search": dict(instance.search),
        "url": instance_url(instance.workflow, instance.id, prefix),
    }
