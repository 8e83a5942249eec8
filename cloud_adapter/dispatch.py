"""What a task does when it comes, from a queue in this process or over HTTP, and what the queue is told.

Only an acknowledgement takes a task out of its queue, and errors slow a whole queue down: what a new attempt cannot
mend is logged and acknowledged. Recovery finds the instance again once its cause is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pydantic import ValidationError

from cloud_adapter.engine import Engine
from cloud_adapter.errors import InvalidRequest, NotYet, Unavailable
from cloud_adapter.tasks import (
    ACTIVITY_PATH,
    RESULT_PATH,
    RESUME_PATH,
    TIMEOUT_PATH,
    ActivityTask,
    ResultTask,
    ResumeTask,
    TimeoutTask,
)
from workflow_core import NewerVersion, WorkflowError

_logger = logging.getLogger("gorchestrate.tasks")


class Outcome(Enum):
    """What a queue is told of a delivery."""

    DONE = "done"
    """Acknowledged."""
    NOT_YET = "not yet"
    """To be sent again: the commit that the task belongs to has not landed, or newer code has to do it."""
    FAILED = "failed"
    """To be sent again: the database or the queue did not answer, or the engine has a bug."""


async def run_task(engine: Engine, path: str, body: Mapping[str, Any]) -> Outcome:
    """Performs a task.

    Raises:
        InvalidRequest: it is no task of this engine.
    """
    try:
        if path == RESUME_PATH:
            await engine.resume(ResumeTask.model_validate(body))
        elif path == TIMEOUT_PATH:
            await engine.handle_timeout(TimeoutTask.model_validate(body))
        elif path == ACTIVITY_PATH:
            await engine.run_activity(ActivityTask.model_validate(body))
        elif path == RESULT_PATH:
            await engine.handle_result(ResultTask.model_validate(body))
        else:
            raise InvalidRequest(f"no task has the path {path!r}")
    except ValidationError as error:
        raise InvalidRequest(f"the body of a task to {path!r} is wrong: {error}") from error
    except InvalidRequest:
        raise
    except NotYet:
        return Outcome.NOT_YET
    except NewerVersion as error:
        _logger.warning("task to %s: %s", path, error)
        return Outcome.NOT_YET
    except Unavailable as error:
        _logger.warning("task to %s: %s", path, error)
        return Outcome.FAILED
    except WorkflowError:
        _logger.exception("task to %s cannot be done: %s", path, dict(body))
        return Outcome.DONE
    except Exception:
        _logger.exception("task to %s failed: %s", path, dict(body))
        return Outcome.FAILED
    return Outcome.DONE
