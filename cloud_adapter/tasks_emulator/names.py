"""Names of resources: ``projects/P/locations/L/queues/Q/tasks/T``."""

from __future__ import annotations

import re

from cloud_adapter.queues.rules import TASK_NAME
from cloud_adapter.tasks_emulator.refusal import invalid

_LOCATION = re.compile(r"projects/[A-Za-z0-9:.-]+/locations/[A-Za-z0-9-]+")
_QUEUE = re.compile(_LOCATION.pattern + r"/queues/[A-Za-z0-9-]{1,100}")
_TASK = re.compile(rf"({_QUEUE.pattern})/tasks/(.*)", re.DOTALL)


def location(name: str) -> str:
    """Returns the name if it is a location's.

    Raises:
        Refused: the name is invalid.
    """
    if _LOCATION.fullmatch(name) is None:
        raise invalid('Location name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>".')
    return name


def queue(name: str) -> str:
    """Returns the name if it is a queue's.

    Raises:
        Refused: the name is invalid.
    """
    if _QUEUE.fullmatch(name) is None:
        raise invalid(
            'Queue name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>".'
        )
    return name


def task(name: str) -> tuple[str, str]:
    """Splits the name of a task into the name of its queue and the id of the task.

    Raises:
        Refused: the name is invalid.
    """
    match = _TASK.fullmatch(name)
    if match is None:
        raise invalid(
            'Task name must be formatted: "projects/<PROJECT_ID>/locations/<LOCATION_ID>/queues/<QUEUE_ID>/tasks/'
            '<TASK_ID>"'
        )
    if TASK_NAME.fullmatch(match[2]) is None:
        raise invalid(
            f'Task ID "{match[2][:600]}" can contain only letters ([A-Za-z]), numbers ([0-9]), hyphens (-), or '
            "underscores (_). Task ID must between 1 and 500 characters."
        )
    return match[1], match[2]


def short(name: str) -> str:
    """Returns the last part of a name."""
    return name.rpartition("/")[2]
