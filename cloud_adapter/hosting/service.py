"""``Service``: the API and the worker as asynchronous HTTP functions, for the entry points of a ``main.py``."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Collection, Mapping, Sequence
from contextvars import copy_context
from functools import cached_property
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_adapter.errors import SettingsError
from cloud_adapter.settings import ON_CLOUD_RUN, Settings
from cloud_adapter.variables import PREFIX
from workflow_core import Workflow
from workflow_core.garbage import no_collection

if TYPE_CHECKING:
    from cloud_adapter.hosting.runtimes import Runtime, RuntimeFactory
    from cloud_adapter.hosting.warm_up import WarmUp
    from cloud_adapter.http.auth import OidcVerifier
    from cloud_adapter.http.authentication import Authentication
    from cloud_adapter.http.authenticators.login import Login
    from cloud_adapter.http.authenticators.port import Authenticator

EMBEDDED_WORKER = (
    "the embedded runtime delivers its tasks inside its own process. A worker is served only with "
    "GORCHESTRATE_BACKEND=cloud"
)


class Service:
    """Serves workflows. Its engine starts with the first request, because functions-framework has no start-up hook. On
    Cloud Run, it prepares as much of it as possible at once; see ``warm_up``.

    Embedded, steps and activities see the context variables that are set when the service is created. In the cloud,
    they see those of the server.

    Args:
        authenticators: find out who sends a request, in this order; see ``cloud_adapter.http.authenticators``. Without
            any, everyone who reaches the API may do everything.
        roles: the members of each role: ``{"manager": ["group:managers@shop.example", "user:ann@shop.example"]}``. See
            ``Memberships``.
        login: lets people log in to the pages, if no proxy such as Identity-Aware Proxy does.
        internal: workflows that no client may address. Only other workflows start them, as children.
        mcp: serve the workflows as tools for language models, under ``/mcp``. Needs the extra ``mcp``.
        runtime: makes the runtime, instead of the one for the backend and the database of the settings; see
            ``cloud_adapter.hosting.runtimes``.
        flush_telemetry: send the spans of a request before its response ends, because a function has no CPU afterwards
            and no time at shutdown. Each response waits until they are sent.

    Raises:
        SettingsError: no workflow was passed, or something that is not a workflow; ``runtime`` cannot make one; or
            arguments or settings do not go together.

    Example (``main.py``; ``gorchestrate dev`` serves the same workflows without these functions)::

        service = Service(PizzaOrder, authenticators=[Oidc("https://login.example.com", "shop", claim("groups"))])

        @functions_framework.aio.http
        async def api(request):
            return await service.api(request)
    """

    def __init__(
        self,
        *workflows: type[Workflow],
        authenticators: Sequence[Authenticator] = (),
        roles: Mapping[str, Collection[str]] | None = None,
        login: Login | None = None,
        internal: Collection[type[Workflow]] = (),
        mcp: bool = False,
        runtime: RuntimeFactory | None = None,
        flush_telemetry: bool = False,
    ) -> None:
        _check_workflows(workflows, internal)
        self.workflows = tuple(dict.fromkeys((*workflows, *internal)))
        self.internal = tuple(internal)
        if roles and not authenticators:
            raise SettingsError("Service: roles need authenticators, which find out who sends a request")
        if login is not None and not authenticators:
            raise SettingsError("Service: login is for the pages. The API needs authenticators, or it would be open")
        if mcp and importlib.util.find_spec("mcp") is None:
            raise SettingsError("Service: mcp=True needs the SDK of MCP: pip install 'gorchestrate[mcp]'")
        if runtime is not None:
            from cloud_adapter.hosting.runtimes import check_factory

            check_factory(runtime, f"Service: runtime={runtime!r}")
        self.mcp = mcp
        self._authentication = tuple(authenticators), roles, login
        if authenticators:
            _ = self.authentication  # checks the roles
        self._make_runtime = runtime
        self._flush = flush_telemetry
        self._settings = Settings.load()
        self._warm: WarmUp | None = None
        self._verifier: OidcVerifier | None = None
        self._runtime: Runtime | None = None
        self._context = copy_context()
        self._api: ASGIApp | None = None
        self._worker: ASGIApp | None = None
        if ON_CLOUD_RUN in os.environ:  # elsewhere only when it serves, because the command line imports the file too
            self._check_access()
            self.warm_up()

    @cached_property
    def authentication(self) -> Authentication:
        """How the principals of requests are found."""
        from cloud_adapter.http.authentication import Authentication
        from cloud_adapter.http.authenticators.memberships import Memberships

        authenticators, roles, login = self._authentication
        return Authentication(authenticators, Memberships(roles), login=login)

    def warm_up(self) -> None:
        """Prepares for the first request, so that it does not wait for imports, credentials and signing keys. Garbage
        is collected rarely from then on, which saves a tenth of the CPU time of a busy process.

        It waits at most 2 seconds for the network. It never fails: what could not be prepared, the first request does.
        Call it if you serve on the cloud backend elsewhere than on Cloud Run, where a new ``Service`` calls it.
        """
        if self._settings.backend != "cloud":
            return
        with no_collection():
            from cloud_adapter.hosting.warm_up import WarmUp
            from cloud_adapter.http.authenticators.iap import Iap
            from cloud_adapter.http.authenticators.oidc import Oidc

            keys = [each.keys for each in self.authentication.authenticators if isinstance(each, Oidc | Iap)]
            if self._settings.worker_auth == "oidc":
                keys.append(self._worker_verifier().keys)
            self._warm = self._warm or WarmUp()
            self._warm.run([each.prefetch for each in keys])
            for workflow in self.workflows:
                _ = workflow.__program__.version  # makes the schemas of its events

    async def api(self, _: Request) -> Response:
        """The public routes."""
        self._check_access()
        runtime = await self._start()
        if self._api is None:
            from cloud_adapter.http.api import create_api
            from cloud_adapter.http.callers import AllowedCallers
            from cloud_adapter.http.rate_limit import RateLimit

            settings = runtime.settings
            self._api = create_api(
                runtime.engine,
                max_body_bytes=settings.max_body_bytes,
                callers=AllowedCallers.from_settings(settings),
                authentication=self._with_login(settings) if settings.serves_ui else self.authentication,
                limit=RateLimit(settings.request_rate),
                public=settings.is_open,
                ui=settings.serves_ui,
                mcp=self.mcp,
            )
        return _Mounted(self._api, self._flush)

    async def worker(self, _: Request) -> Response:
        """The routes for the task queue and the scheduler. The embedded runtime has its own queue and needs none."""
        if self._settings.backend == "embedded":
            from cloud_adapter.http import problems

            return problems.problem(404, "Not Found", EMBEDDED_WORKER)
        runtime = await self._start()
        if self._worker is None:
            from cloud_adapter.http.worker import create_worker

            self._worker = create_worker(runtime.engine, self._worker_verifier())
        return _Mounted(self._worker, self._flush)

    def _worker_verifier(self) -> OidcVerifier:
        if self._verifier is None:
            from cloud_adapter.http.auth import OidcVerifier

            self._verifier = OidcVerifier.from_settings(self._settings)
        return self._verifier

    def _with_login(self, settings: Settings) -> Authentication:
        from cloud_adapter.http.pages.login import with_login

        return with_login(self.authentication, settings)

    def _check_access(self) -> None:
        """Checks that it was decided who may use a deployed API.

        Raises:
            SettingsError: it was not.
        """
        if not self._settings.is_deployed:
            return
        authenticators = self.authentication.authenticators
        if not (authenticators or self._settings.access == "open"):
            raise SettingsError(
                "the Service has no authenticators, so everyone who reaches it could do everything: pass "
                f"authenticators=[...] to Service(...), or set {PREFIX}ACCESS=open if that is what you want"
            )
        from cloud_adapter.http.authenticators.dev import Dev, check_backend

        if any(isinstance(authenticator, Dev) for authenticator in authenticators):
            check_backend("cloud")

    async def _start(self) -> Runtime:
        if self._runtime is None:
            from cloud_adapter.observability import logs

            # Not at import: `gorchestrate` imports the file too, and configures its own logs.
            logs.configure(self._settings.log_level, self._settings.project)
            runtime = self._new_runtime()
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(runtime.close)
                # With the context variables of the import, not those of the request that happens to be the first.
                await runtime.start(self._context)
                stack.pop_all()
            self._runtime = runtime  # only now: the next request must not use a runtime that failed to start
        return self._runtime

    def _new_runtime(self) -> Runtime:
        # Imported lazily: a process needs only one of them, and the warm-up has imported that of the cloud.
        if self._make_runtime is None and self._settings.backend == "cloud":
            from cloud_adapter.hosting.cloud import CloudRuntime

            credentials = None if self._warm is None else self._warm.credentials
            return CloudRuntime(self.workflows, self._settings, internal=self.internal, credentials=credentials)
        if self._make_runtime is None:
            from cloud_adapter.hosting.runtimes import runtime_for

            self._make_runtime = runtime_for(self._settings)
        return self._make_runtime(self.workflows, self._settings, internal=self.internal)


def _check_workflows(workflows: tuple[object, ...], internal: object) -> None:
    """Checks that a service gets the classes of workflows, before their attributes are used.

    Raises:
        SettingsError: it does not; the message says what to pass.
    """
    if isinstance(internal, str) or not isinstance(internal, Collection):
        raise SettingsError(f"Service: internal is {internal!r}: pass a list of workflow classes, internal=[Parcel]")
    if not workflows and not internal:
        raise SettingsError("Service: there is no workflow: pass the classes to serve, as in Service(Order, Parcel)")
    for value in (*workflows, *internal):
        if isinstance(value, type) and issubclass(value, Workflow):
            if not hasattr(value, "__program__"):
                raise SettingsError(f"Service: {value.__name__} has neither run nor definition, so it cannot be served")
            continue
        hint = "pass the classes of workflows"
        if isinstance(value, list | tuple | set | frozenset):
            hint = "pass the classes one by one"
        elif isinstance(value, Workflow):
            hint = f"pass the class {type(value).__name__}, not an instance of it"
        raise SettingsError(f"Service: {value!r} is not a workflow class: {hint}, as in Service(Order, Parcel)")


class _Mounted(Response):
    """A response that an ASGI application sends."""

    def __init__(self, app: ASGIApp, flush: bool) -> None:
        super().__init__()
        self.app = app
        self.flush = flush

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def flushing(message: Message) -> None:
            from cloud_adapter.observability import telemetry

            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await telemetry.flush()
            await send(message)

        await self.app(scope, receive, flushing if self.flush else send)
