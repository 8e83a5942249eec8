"""Bodies and names of tasks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cloud_adapter.tasks import ActivityTask, TimeoutTask, timer_name
from workflow_core import Execution, Wait, WaitKind, WaitStatus

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FENCE = "0123456789abcdef"


@pytest.mark.parametrize("kind", [ActivityTask, TimeoutTask])
@pytest.mark.parametrize("now", [NOW, NOW.replace(microsecond=0)])
def test_a_new_task_is_the_one_that_its_body_makes(kind: type[ActivityTask | TimeoutTask], now: datetime) -> None:
    execution = Execution(id="ä/1", workflow="flow", pc=7)
    wait = Wait("fetch", WaitKind.ACTIVITY, WaitStatus.SET_UP, "rows[3]@6", setup_data=FENCE, attempt=2)
    task = kind.new(execution, wait, now, FENCE, now)
    assert task == kind.of(execution, wait, now).task(FENCE, now)
    assert kind.model_validate(task.body) == kind.of(execution, wait, now)
    assert kind.new(execution, replace(wait, id="rows[4]@6"), now, FENCE, now).name != task.name


def test_a_timer_is_found_by_its_fence() -> None:
    execution = Execution(id="a", workflow="flow", pc=7)
    wait = Wait("expired", WaitKind.TIMEOUT, WaitStatus.SET_UP, "main@6", setup_data=FENCE)
    task = TimeoutTask.new(execution, wait, NOW, FENCE, NOW)
    assert timer_name("flow", "a", wait.id, wait.event, FENCE) == task.name
