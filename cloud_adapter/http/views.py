"""The JSON data and the URLs of instances. Independent of the HTTP applications."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from cloud_adapter.document import Instance
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.engine.view import View
from cloud_adapter.http.concealment import public_error
from cloud_adapter.summaries import Summary
from workflow_core.program.cases import ClientCase
from workflow_core.times import rfc3339


def instance_url(workflow: str, id: str, prefix: str = "") -> str:
    """Returns the path of an instance. For ``prefix``, see ``prefixes.prefix_of``."""
    return f"{prefix}/wf/{workflow}/{quote(id, safe='')}"


def view_data(view: View, prefix: str) -> dict[str, Any]:
    """Returns an instance as the API shows it: ``meta``, ``state`` and ``events``, and to operators its ``history`` and
    more in ``meta``. For ``prefix``, see ``prefixes.prefix_of``."""
    shown = {"meta": _meta(view), "state": view.state, "events": _events(view, prefix)}
    return shown | {"history": _history(view.instance)} if view.operator else shown


def _meta(view: View) -> dict[str, Any]:
    instance, execution, lease = view.instance, view.instance.execution, view.instance.lease
    wake_at = instance.wake_at and rfc3339(instance.wake_at)
    if view.operator:
        return _without_setup(execution.to_dict()) | {
            "wake_at": wake_at,
            "leased_until": None if lease is None else rfc3339(lease.expires_at),
            "problem": view.problem or None,
        }
    error = None if execution.error is None else public_error(execution.error)
    return {
        "id": instance.id,
        "workflow": instance.workflow,
        "status": execution.status,
        "created_at": execution.created_at and rfc3339(execution.created_at),
        "updated_at": execution.updated_at and rfc3339(execution.updated_at),
        "wake_at": wake_at,
        "error": error and {"type": error.type, "message": error.message},
    }


def _without_setup(execution: dict[str, Any]) -> dict[str, Any]:
    """Removes the results of set-ups, which are often credentials of other services, such as tokens."""
    for waiting in (*(wait for thread in execution["threads"] for wait in thread["waits"]), *execution["teardowns"]):
        del waiting["setup_data"]
    return execution


def _events(view: View, prefix: str) -> list[dict[str, Any]]:
    instance = view.instance
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
    return events


def _history(instance: Instance) -> list[dict[str, Any]]:
    return [
        {"at": rfc3339(entry.at), "kind": entry.kind, "statement": entry.statement, "thread": entry.thread}
        | {"pc": entry.pc, "duration_ms": entry.duration_ms, "error": entry.error, "select": entry.select}
        | {"by": entry.by, "reason": entry.reason, "detail": entry.detail}
        | {"by_id": entry.by_id, "claimed": entry.claimed}
        for entry in instance.history
    ]


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


def summary(instance: Summary, prefix: str, *, operator: bool) -> Mapping[str, Any]:
    """Returns an instance as lists show it, to operators with the text of its error. For ``prefix``, see
    ``prefixes.prefix_of``."""
    error = instance.error
    return {
        "id": instance.id,
        "status": instance.status,
        "created_at": instance.created_at and rfc3339(instance.created_at),
        "updated_at": instance.updated_at and rfc3339(instance.updated_at),
        "wake_at": instance.wake_at and rfc3339(instance.wake_at),
        "error": error and (error if operator else public_error(error)).message,
        "search": dict(instance.search),
        "url": instance_url(instance.workflow, instance.id, prefix),
    }
