"""The internal HTTP application, which the task queue and the scheduler call. It must never be public."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from cloud_adapter.engine import recovery_tasks
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.engine.tasks import ACTIVITY_PATH, COLLECT_PATH, RESUME_PATH, TIMEOUT_PATH
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http import health, problems
from cloud_adapter.http.auth import Authorize
from cloud_adapter.http.bodies import read_body
from cloud_adapter.http.queries import check_query
from cloud_adapter.observability import telemetry
from cloud_adapter.observability.span import Value
from cloud_adapter.observability.telemetry import UNKNOWN_DELIVERY, Delivery
from cloud_adapter.ports import TASK_BYTES_MAX

_logger = logging.getLogger("gorchestrate.http")

BODY_BYTES_MAX = TASK_BYTES_MAX + 100_000
"""Slightly more than the maximum size of a task."""

CANARY_PATH = "/canary"
"""Answered with 2xx if tasks reach the worker and the worker reaches its database. deploy.sh sends a task there."""

RECOVERED_MAX, RECOVERY_SECONDS = 100_000, 45.0
"""How many instances one call of ``/recover`` schedules, and how long it may take. The next call, a minute later, goes
on."""

TASK_PATHS = (ACTIVITY_PATH, RESUME_PATH, TIMEOUT_PATH, COLLECT_PATH)
"""The most frequent ones first: routes are tried in this order."""

_TASK_HEADERS = {
    "x-cloudtasks-queuename": "messaging.destination.name",
    "x-cloudtasks-taskname": "messaging.message.id",
}

# Not 429 or 503, because these make Cloud Tasks slow down the whole queue.
_STATUS = {Outcome.DONE: 200, Outcome.NOT_YET: 425, Outcome.FAILED: 500}


def create_worker(engine: Engine, authorize: Authorize, *, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    """Returns the application for an engine.

    Args:
        authorize: checks who may call.
    """

    # Made once: to render them takes longer than to send them.
    responses = {outcome: JSONResponse({"outcome": outcome.value}, status) for outcome, status in _STATUS.items()}

    async def task(path: str, request: Request) -> Response:
        await check(request)
        body = await read_body(request, BODY_BYTES_MAX)
        try:
            data = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"the body of a task must be JSON: {error}") from error
        if not isinstance(data, dict):
            raise InvalidRequest("the body of a task must be a JSON object")
        outcome = await run_task(engine, path, data, _delivery(request.headers))
        return responses[outcome]

    async def recover(request: Request) -> Response:
        await check(request)
        body = await read_body(request, BODY_BYTES_MAX)
        scheduled = await recovery_tasks.recover(engine, body, RECOVERED_MAX, RECOVERY_SECONDS)
        return JSONResponse({"scheduled": scheduled})

    async def canary(request: Request) -> Response:
        await check(request)
        # Not 503, which would slow down the whole queue.
        return await health.store_problem(engine, 500) or JSONResponse({"store": "ok"})

    async def check(request: Request) -> None:
        await authorize(request)
        check_query(request)

    routes = [
        *(Route(path, partial(task, path), methods=["POST"]) for path in TASK_PATHS),
        Route(recovery_tasks.RECOVER_PATH, recover, methods=["POST"]),
        Route(CANARY_PATH, canary, methods=["POST"]),
        *health.routes(engine),
    ]
    return problems.application(routes, lifespan=lifespan, on_error=_on_workflow_error)


def _delivery(headers: Mapping[str, str]) -> Delivery:
    """The headers of Cloud Tasks about a task. Anyone could send them, so they are only reported and never trusted."""
    if not telemetry.is_used():
        return UNKNOWN_DELIVERY
    attributes: dict[str, Value] = {"messaging.system": "gcp_cloud_tasks"}
    attributes |= {name: headers[header] for header, name in _TASK_HEADERS.items() if header in headers}
    if (retries := headers.get("x-cloudtasks-taskretrycount", "")).isdecimal():
        attributes["gorchestrate.retry"] = int(retries[:9])
    try:
        due = datetime.fromtimestamp(float(headers["x-cloudtasks-tasketa"]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        due = None
    return Delivery(due, attributes)


def _on_workflow_error(request: Request, error: Exception) -> Response:
    if problems.status_of(type(error)) != HTTPStatus.SERVICE_UNAVAILABLE:
        return problems.on_workflow_error(request, error)
    # 503 would slow down the whole queue.
    id = problems.new_id()
    _logger.warning("%s: %s", request.scope["path"], error, extra=problems.with_id(id))
    return problems.problem(500, "Unavailable", str(error), error_id=id)
