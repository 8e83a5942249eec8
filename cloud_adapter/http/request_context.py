"""Middleware that records the trace of a request, for its logs and spans."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.observability import telemetry, trace_context
from cloud_adapter.observability.trace_context import ServedRequest


class TracedRequests:
    """Continues the caller's trace from ``traceparent`` or Google's ``X-Cloud-Trace-Context``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)  # decodes only what is read
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": headers.get("x-forwarded-proto", scope.get("scheme", "http")),
        }
        trace = trace_context.from_headers(headers)
        token = trace_context.served.set(ServedRequest(trace, attributes))
        try:
            with telemetry.continued(headers, trace):
                await self.app(scope, receive, send)
        finally:
            trace_context.served.reset(token)
