"""The trace of the current request, from its HTTP headers, without OpenTelemetry.

Correlates logs with traces if OpenTelemetry is not set up: Cloud Run adds every request to a trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import field

from workflow_core.records import record

TRACEPARENT = "traceparent"
CLOUD_TRACE_HEADER = "x-cloud-trace-context"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_CLOUD_TRACE = re.compile(r"([0-9a-fA-F]{32})(?:/([0-9]{1,20}))?(?:;o=([0-9]))?")
_NOTHING = re.compile(r"0+")


@record(frozen=True, slots=True)
class TraceContext:
    """A position in a trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        span_id: 16 hexadecimal digits; empty if the header does not name a span.
        sampled: whether the trace is recorded.
    """

    trace_id: str
    span_id: str
    sampled: bool


@record(frozen=True, slots=True)
class ServedRequest:
    """The HTTP request that is being served.

    Attributes:
        trace: the context of the caller.
        attributes: the attributes of its span, under OpenTelemetry's names.
    """

    trace: TraceContext | None
    attributes: Mapping[str, str] = field(default_factory=dict)


served: ContextVar[ServedRequest | None] = ContextVar("gorchestrate_served", default=None)
"""The request that is being served; None outside a request."""


def leave() -> None:
    """Makes the current context belong to no request."""
    served.set(None)


def from_headers(headers: Mapping[str, str]) -> TraceContext | None:
    """Returns the context in ``traceparent`` or, if missing, in ``X-Cloud-Trace-Context``; None if neither is valid.

    Args:
        headers: the headers, with names in lower case.
    """
    return _w3c(headers.get(TRACEPARENT, "")) or _cloud(headers.get(CLOUD_TRACE_HEADER, ""))


def _w3c(text: str) -> TraceContext | None:
    found = _TRACEPARENT.fullmatch(text.strip())
    if found is None or (found[4] and text.startswith("00")):
        return None
    return _valid(TraceContext(found[1], found[2], bool(int(found[3], 16) & 1)))


def _cloud(text: str) -> TraceContext | None:
    found = _CLOUD_TRACE.fullmatch(text.strip())
    if found is None:
        return None
    span = int(found[2] or 0)  # decimal, whereas traceparent uses hexadecimal
    span_id = f"{span:016x}" if 0 < span < 1 << 64 else ""
    return _valid(TraceContext(found[1].lower(), span_id, found[3] == "1"))


def _valid(context: TraceContext) -> TraceContext | None:
    nothing = _NOTHING.fullmatch(context.trace_id) or (context.span_id and _NOTHING.fullmatch(context.span_id))
    return None if nothing else context
