"""The entry points of a deployment: the two applications as asynchronous HTTP functions of functions-framework."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter import logs
from cloud_adapter.api import create_api
from cloud_adapter.auth import OidcVerifier
from cloud_adapter.cloud import CloudRuntime
from cloud_adapter.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from cloud_adapter.worker import create_worker
from workflow_core import Workflow


class Service:
    """What serves some workflows. Its engine starts with the first request: functions-framework has no start-up hook.

    Example (``main.py``; ``gorchestrate dev`` runs the same workflows without it)::

        service = Service(PizzaOrder)

        @functions_framework.aio.http
        async def api(request):
            return await service.api(request)
    """

    def __init__(self, *workflows: type[Workflow]) -> None:
        self._workflows = workflows
        self._settings = Settings.load()
        self._runtime: EmbeddedRuntime | CloudRuntime | None = None
        self._api: ASGIApp | None = None
        self._worker: ASGIApp | None = None

    async def api(self, _: Request) -> Response:
        """The public routes."""
        runtime = await self._start()
        if self._api is None:
            settings = runtime.settings
            self._api = create_api(runtime.engine, max_body_bytes=settings.max_body_bytes, public=settings.public)
        return _Mounted(self._api)

    async def worker(self, _: Request) -> Response:
        """The routes for the task queue and the scheduler."""
        runtime = await self._start()
        if self._worker is None:
            embedded = runtime.settings.backend == "embedded"
            self._worker = create_worker(
                runtime.engine, None if embedded else OidcVerifier.from_settings(runtime.settings)
            )
        return _Mounted(self._worker)

    async def _start(self) -> EmbeddedRuntime | CloudRuntime:
        if self._runtime is None:
            # Not before: `gorchestrate` imports the file too, and has logs of its own.
            logs.configure(self._settings.log_level, self._settings.project)
            kind = EmbeddedRuntime if self._settings.backend == "embedded" else CloudRuntime
            self._runtime = kind(self._workflows, self._settings)
            await self._runtime.start()
        return self._runtime


class _Mounted(Response):
    """A response that is given by an ASGI application."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
