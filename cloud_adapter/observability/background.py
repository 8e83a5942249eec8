"""The context variables of work that belongs to no request, such as steps and activities of the embedded runtime."""

from __future__ import annotations

from contextvars import Context, copy_context

from cloud_adapter.observability import logs, telemetry, trace_context


def background_context() -> Context:
    """Returns a copy of the current context variables, without what describes a current request: its trace, its span,
    and the fields of its logs."""
    context = copy_context()
    for leave in (logs.leave, trace_context.leave, telemetry.leave):
        context.run(leave)
    return context
