"""The limits within which a task is sent to Cloud Tasks: its size, its time, and how long a delivery may take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import SettingsError, TooLarge
from cloud_adapter.ports import TASK_BYTES_MAX, Task
from cloud_adapter.queues.cloud_task import CloudTask
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from gorchestrate.testing.clock import ManualClock
from tests.contract.queue_contract import task


def translated(sent: Task, **options: Any) -> CloudTask:
    """What the queue makes of a task for Google's client."""
    queue = CloudTasksQueue("p", "l", "q", TaskTarget("https://worker.example"), ManualClock(), **options)
    return queue._translate(sent)


@pytest.mark.parametrize("seconds", [15, 16, 600, 1799, 1800])
def test_a_delivery_may_take_as_long_as_the_task_or_else_the_queue_says(seconds: int) -> None:
    limit = timedelta(seconds=seconds)
    assert translated(task("a"), dispatch_deadline=limit).deadline == limit
    assert translated(replace(task("a"), deadline=limit), dispatch_deadline=timedelta(minutes=1)).deadline == limit
    for beyond in (timedelta(seconds=14.9), timedelta(seconds=1800.1), timedelta(0)):
        with pytest.raises(SettingsError, match="15 seconds to 30 minutes"):
            translated(task("a"), dispatch_deadline=beyond)
    assert translated(replace(task("a"), deadline=timedelta(seconds=1))).deadline == timedelta(seconds=15)
    assert translated(replace(task("a"), deadline=timedelta(days=1))).deadline == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("days", "sent"), [(0, 0), (29, 29), (30, 30 - 1 / 1440), (31, 30 - 1 / 1440), (400, 30 - 1 / 1440)]
)
def test_a_task_is_sent_a_minute_before_the_horizon_at_the_latest(days: float, sent: float) -> None:
    """Google's clock may be behind this one, and a later task would be rejected."""
    now = ManualClock().now()
    assert translated(task("a", now + timedelta(days=days))).at == now + timedelta(days=sent)


@pytest.mark.parametrize("letter", ["x", "ä", "€"])
def test_the_largest_body_is_sent(letter: str) -> None:
    size, width = TASK_BYTES_MAX - len('{"text": ""}'), len(letter.encode())
    text = letter * (size // width) + "x" * (size % width)
    assert len(translated(task("a", text=text)).body) == TASK_BYTES_MAX
    with pytest.raises(TooLarge, match=f"has {TASK_BYTES_MAX + 1} bytes"):
        translated(task("a", text=f"{text}x"))
