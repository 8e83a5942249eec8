"""Names of tasks."""

from __future__ import annotations

from datetime import UTC, datetime

from cloud_adapter.engine.tasks import TimeoutTask, timer_name
from workflow_core import Execution, WaitStatus
from workflow_core.wait_types import TimerWait

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FENCE = "0123456789abcdef"


def test_a_timer_is_found_by_its_fence() -> None:
    execution = Execution(id="a", workflow="flow", pc=7)
    wait = TimerWait("expired", WaitStatus.SET_UP, "main@6", task=FENCE)
    task = TimeoutTask.of(execution, wait, NOW).task(FENCE, NOW)
    assert timer_name("flow", "a", wait.id, wait.event, FENCE) == task.name
