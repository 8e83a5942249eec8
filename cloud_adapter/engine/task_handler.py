"""What a task does when it comes, from a queue in this process or over HTTP, and what the queue is told.

Only an acknowledgement takes a task out of its queue, and errors slow a whole queue down: what a new attempt cannot
fix is logged and acknowledged. Recovery finds the instance again once its cause is gone.
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
from cloud_adapter.errors import Busy, InvalidRequest, NotYet, Unavailable
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Span, Value
from cloud_adapter.observability.telemetry import UNKNOWN_DELIVERY, Delivery
from workflow_core import NewerVersion, WorkflowError

_logger = logging.getLogger("gorchestrate.tasks")


class Outcome(Enum):
    """What a queue is told of a delivery."""

    DONE = "done"
    """Acknowledged."""
    NOT_YET = "not yet"
    """To be sent again: the commit that the task belongs to has not landed, the instance is busy, or newer code has to
    do it."""
    FAILED = "failed"
    """To be sent again: the database or the queue did not answer, or the engine has a bug."""


_Kind = tuple[type[InstanceTask], str, Callable[[Engine, Any], Awaitable[None]]]

_KINDS: Mapping[str, _Kind] = {
    RESUME_PATH: (ResumeTask, "resume", lambda engine, task: engine.resume(task)),
    TIMEOUT_PATH: (TimeoutTask, "timeout", lambda engine, task: engine.handle_timeout(task)),
    ACTIVITY_PATH: (ActivityTask, "deliver activity", lambda engine, task: engine.run_activity(task)),
    COLLECT_PATH: (CollectTask, "collect", lambda engine, task: engine.collect(task)),
}
"""By the path of a task: its body, what its span is called, and what it does."""


async def run_task(engine: Engine, path: str, body: Mapping[str, Any], come: Delivery = UNKNOWN_DELIVERY) -> Outcome:
    """Performs a task.

    Args:
        come: how it was delivered.

    Raises:
        InvalidRequest: it is no task of this engine.
    """
    if path not in _KINDS:
        raise InvalidRequest(f"no task has the path {path!r}")
    model, name, perform = _KINDS[path]
    try:
        task = model.model_validate(body)
    except ValidationError as error:
        raise InvalidRequest(f"the body of a task to {path!r} is wrong: {error}") from error
    if isinstance(task, WaitTask) and task.event:
        name = f"{name} {task.event}"
    about: dict[str, Value] = {"workflow": task.workflow, "instance": task.id, "pc": task.pc}
    now = engine.clock.now()
    with (
        logs.about(task.workflow, task.id),
        telemetry.task(name, now, task.created_at, task.trace, come, **about) as span,
    ):
        try:
            await perform(engine, task)
        except InvalidRequest:
            raise
        except (NotYet, Busy) as error:
            return _again(span, error)
        except NewerVersion as error:
            _logger.warning("task to %s: %s", path, error)
            return _again(span, error)
        except Unavailable as error:
            _logger.warning("task to %s: %s", path, error)
            span.failed(error)
            return Outcome.FAILED
        except WorkflowError as error:
            _logger.exception("task to %s cannot be done: %s", path, dict(body))
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
