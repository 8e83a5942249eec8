"""Performs delivered tasks, from a queue in this process or over HTTP, and decides the response to the queue.

Only an acknowledgement removes a task from its queue, and errors slow a whole queue down. Errors that a new attempt
cannot fix are therefore logged and acknowledged. When their cause is gone, recovery finds the instance again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any

from pydantic import ValidationError

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.tasks import (
    ACTIVITY_PATH,
    COLLECT_PATH,
    RESUME_PATH,
    TIMEOUT_PATH,
    ActivityTask,
    CollectTask,
    InstanceTask,
    ResumeTask,
    TimeoutTask,
    WaitTask,
)
from cloud_adapter.engine.user_code import own_decimal_context
from cloud_adapter.errors import Busy, InvalidRequest, NotYet, SecretsUnreadable, Unavailable
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Span, Value
from cloud_adapter.observability.telemetry import UNKNOWN_DELIVERY, Delivery
from workflow_core import NewerVersion, WorkflowError

_logger = logging.getLogger("gorchestrate.tasks")


class Outcome(Enum):
    """The result of a delivery, for the queue."""

    DONE = "done"
    """The task is acknowledged."""
    NOT_YET = "not yet"
    """The queue has to send the task again: the commit that it belongs to is not complete, the instance is busy, or it
    needs newer code or another key."""
    FAILED = "failed"
    """The queue has to send the task again: the database or the queue did not answer, or the engine has a bug."""


_Kind = tuple[type[InstanceTask], str, Callable[[Engine, Any], Awaitable[None]]]

_KINDS: Mapping[str, _Kind] = {
    RESUME_PATH: (ResumeTask, "resume", lambda engine, task: engine.resume(task)),
    TIMEOUT_PATH: (TimeoutTask, "timeout", lambda engine, task: engine.handle_timeout(task)),
    ACTIVITY_PATH: (ActivityTask, "deliver activity", lambda engine, task: engine.run_activity(task)),
    COLLECT_PATH: (CollectTask, "collect", lambda engine, task: engine.collect(task)),
}
"""For each path of a task: the model of its body, the name of its span, and the function that performs it."""


async def run_task(
    engine: Engine, path: str, body: Mapping[str, Any], delivery: Delivery = UNKNOWN_DELIVERY
) -> Outcome:
    """Performs a task.

    Args:
        delivery: how the task was delivered.

    Raises:
        InvalidRequest: the path or the body is not one of a task of this engine.
    """
    if path not in _KINDS:
        raise InvalidRequest(f"unknown task path {path!r}. Available: {', '.join(sorted(_KINDS))}")
    model, name, perform = _KINDS[path]
    try:
        task = model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(f"the body of a task to {path!r} is invalid: {error}") from error
    if isinstance(task, WaitTask) and task.event:
        name = f"{name} {task.event}"
    about: dict[str, Value] = {"workflow": task.workflow, "instance": task.id, "pc": task.pc}
    now = engine.clock.now()
    own_decimal_context()
    with (
        logs.about(task.workflow, task.id),
        telemetry.task(name, now, task.created_at, task.trace, delivery, **about) as span,
    ):
        try:
            await perform(engine, task)
        except InvalidRequest:
            raise
        except (NotYet, Busy) as error:
            return _again(span, error)
        except (NewerVersion, SecretsUnreadable) as error:
            _logger.warning("task to %s: %s", path, error)
            return _again(span, error)
        except Unavailable as error:
            _logger.warning("task to %s: %s", path, error)
            span.failed(error)
            return Outcome.FAILED
        except WorkflowError as error:
            _logger.exception("task to %s failed, and a new attempt cannot fix it: %s", path, dict(body))
            span.failed(error)
            return Outcome.DONE
        except Exception as error:
            _logger.exception("task to %s failed: %s", path, dict(body))
            span.failed(error)
            return Outcome.FAILED
    return Outcome.DONE


def _again(span: Span, error: Exception) -> Outcome:
    span.refused(error)
    span.outcome = Outcome.NOT_YET.value
    return Outcome.NOT_YET
