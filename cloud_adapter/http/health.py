"""Health checks for probes and monitors: ``/healthz``, which does not depend on the database by default.

Google's frontend does not forward some paths that end in ``z`` to functions. ``/health`` is the same check.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http import problems
from cloud_adapter.http.prefixes import HEALTH_PATHS
from cloud_adapter.http.queries import with_query
from cloud_adapter.observability.line_limit import LineLimit, left_out_text

if TYPE_CHECKING:
    from cloud_adapter.engine.engine import Engine

_logger = logging.getLogger("gorchestrate.http")

STORE_SECONDS_MAX = 5.0


def routes(engine: Engine) -> list[Route]:
    """Returns the routes, for any application of an engine."""

    lines = LineLimit()

    async def health(request: Request) -> Response:
        store = request.query_params.get("store", "0")
        if store not in ("0", "1"):
            raise InvalidRequest(f"store is {store[:100]!r}: pass store=1 to check the store too, or leave it out")
        if store == "0":
            return JSONResponse({"status": "ok"})
        if (problem := await store_problem(engine, 503, lines)) is not None:
            return problem
        return JSONResponse({"status": "ok", "store": "ok"})

    return [Route(path, with_query(health, "store"), methods=["GET"]) for path in HEALTH_PATHS]


async def store_problem(engine: Engine, status: int, lines: LineLimit | None = None) -> Response | None:
    """Checks the store with one read. Returns the response if it cannot be read, with this status.

    Args:
        lines: limits the lines of the log about it; None: there is no limit.
    """
    try:
        async with asyncio.timeout(STORE_SECONDS_MAX):
            await engine.check_store()
    except Exception as error:
        id = problems.new_id()
        left_out = 0 if lines is None else lines.next()
        if left_out is not None:
            text = f"the store cannot be read: {error}{left_out_text(left_out)}"
            _logger.warning("%s", text, extra=problems.with_id(id))
        detail = f"the store cannot be read: {type(error).__name__}"
        return problems.problem(status, "Unavailable", detail, error_id=id)
    return None
