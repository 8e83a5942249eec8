"""What the tests of the core share: a workflow that logs, and ways to start, look at and reload an instance.

Holds no test and no fake: everything goes through the public functions of ``workflow_core``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from workflow_core import CheckpointKind, Execution, Step, Workflow, resume
from workflow_core.interpreter import Machine

W = TypeVar("W", bound=Workflow)

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class Logged(Workflow):
    """The fields that most tests need; abstract, as it has no definition."""

    log: list[str] = []
    n: int = 0
    flag: bool = False


def do(name: str) -> Step:
    """A step that logs its own name."""
    return Step(name, log(name))


def log(text: str) -> Callable[[Any], None]:
    """A function of the workflow that appends ``text`` to its log: a step's action, or a handler."""

    def append(w: Any) -> None:
        w.log.append(text)

    return append


def start(workflow: type[W], *, now: datetime | None = None, **fields: Any) -> tuple[W, Execution]:
    """A new instance, run until it is blocked."""
    order, execution = workflow(**fields), Execution.start("id-1", workflow, now=now)
    resume(order, execution, now=now)
    return order, execution


def run(workflow: type[W], **fields: Any) -> W:
    """The fields of an instance that runs to its end without an event."""
    order, execution = start(workflow, **fields)
    assert execution.status == "finished"
    return order


def kinds(order: Workflow, execution: Execution) -> list[CheckpointKind]:
    """Resumes, and gives the kinds of the checkpoints."""
    seen: list[CheckpointKind] = []
    resume(order, execution, seen.append)
    return seen


def standing(execution: Execution) -> dict[str, str]:
    """The id of each live thread, and the statement it stands on, in the order of the threads."""
    return {thread.id: thread.step for thread in execution.threads}


def accepted(order: Workflow, execution: Execution) -> list[str]:
    """The names of the events that are accepted now."""
    return Machine(order, execution).accepted_names()


def saved(order: Workflow, execution: Execution) -> tuple[str, str]:
    """Everything there is to know of an instance, as text."""
    return order.model_dump_json(), execution.to_json()


def reload(order: W, execution: Execution) -> tuple[W, Execution]:
    """The instance as another process would load it."""
    return type(order).load_fields(order.dump_fields()), Execution.from_json(execution.to_json())


@contextmanager
def unchanged(order: Workflow, execution: Execution) -> Iterator[None]:
    """Asserts that what happens inside leaves the instance exactly as it was."""
    before = saved(order, execution)
    yield
    assert saved(order, execution) == before
