"""Names of tasks."""

from __future__ import annotations

from datetime import UTC, datetime

from cloud_adapter.engine.tasks import TimeoutTask, timer_name
from workflow_core import Execution, Wait, WaitKind, WaitStatus

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FENCE = "0123456789abcdef"


def test_a_timer_is_found_by_its_fence() -> None:
    execution = Execution(id="a", workflow="flow", pc=7)
    wait = Wait("expired", WaitKind.TIMEOUT, WaitStatus.SET_UP, "main@6", setup_data=FENCE)
    task = TimeoutTask.of(execution, wait, NOW).task(FENCE, NOW)
    assert timer_name("flow", "a", wait.id, wait.event, FENCE) == task.name
