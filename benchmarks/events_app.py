"""The server that ``events.py`` measures: two workflows, served embedded by this file or as functions of the stack.

    IMPORT_LIMIT=100 IMPORT_WORK=0.05 python benchmarks/events_app.py PORT        the embedded runtime, on uvicorn

In addition to the usual routes, it serves ``GET /counts``: see ``state_of_the_process``.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from code_under_test import find, server
from counting import count
from importing import Calls, import_workflow
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from workflow_core import On, S, Select, While, Workflow

EMBEDDED = os.environ.get("GORCHESTRATE_BACKEND", "embedded") == "embedded"
COUNTS = count(find("EmbeddedRuntime" if EMBEDDED else "CloudRuntime"))


class Counter(Workflow, name="counter"):
    """Accepts the same event forever."""

    count: int = 0

    def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    definition = S(While("for ever", lambda w: True, Select("wait", On("Add", add))))


WORKFLOWS: list[Any] = [
    Counter,
    import_workflow(int(os.environ["IMPORT_LIMIT"]), float(os.environ["IMPORT_WORK"]), Calls()),
]


import_status = "not created"


def on_commit(instance: Any) -> None:
    global import_status
    if instance.workflow == "import":
        import_status = instance.execution.status.value


COUNTS.on_commit = on_commit


def state_of_the_process() -> dict[str, Any]:
    """Returns the counts and the CPU time of this process so far, and the last status of the import that it saw."""
    return {
        "commits": COUNTS.commits,
        "posts": COUNTS.posts,
        "conflicts": COUNTS.conflicts,
        "cpu": time.process_time() - COUNTS.overhead_s,
        "import": import_status,
    }


def with_counts(app: ASGIApp) -> ASGIApp:
    """Adds the route ``/counts`` to the application."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/counts":
            await JSONResponse(state_of_the_process())(scope, receive, send)
        else:
            await app(scope, receive, send)

    return serve


def serve_embedded(port: int) -> None:
    """Serves until SIGTERM."""
    with server(WORKFLOWS, find("Settings").load()) as served:
        served.config.app = with_counts(served.config.app)
        with contextlib.suppress(ImportError):  # older versions do not have it
            find("prefer_latency")()
        served.run(sockets=[find("listen")("127.0.0.1", port)])


if __name__ == "__main__":
    serve_embedded(int(sys.argv[1]))
elif not EMBEDDED:
    import functions_framework.aio

    service: Any = find("Service")(*WORKFLOWS)

    @functions_framework.aio.http
    async def api(request: Request) -> Response:
        if request.url.path == "/counts":
            return JSONResponse(state_of_the_process())
        response: Response = await service.api(request)
        return response

    @functions_framework.aio.http
    async def worker(request: Request) -> Response:
        if request.url.path == "/counts":
            return JSONResponse(state_of_the_process())
        response: Response = await service.worker(request)
        return response
