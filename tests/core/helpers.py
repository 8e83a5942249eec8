"""What the tests of the core share: a workflow that logs, and ways to start, look at and reload an instance.

Holds no test and no fake: everything goes through the public functions of ``workflow_core``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from workflow_core import CheckpointKind, Execution, S, Step, StepContext, Workflow, aresume, handle_event, resume
from workflow_core.compact import unfold
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import StepWork

W = TypeVar("W", bound=Workflow)

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class Logged(Workflow):
    """The fields that most tests need; abstract, as it has no definition."""

    log: list[str] = []
    n: int = 0
    flag: bool = False


def flow(*statements: Any) -> type[Logged]:
    """A version of a workflow: each has the same name, and a definition of its own."""

    class Flow(Logged, name="flow"):
        definition = S(*statements)

    return Flow


def migrate(order: Logged, execution: Execution, version: type[Logged]) -> tuple[Logged, Execution]:
    """The instance as a process with another version of the code loads it."""
    return version.load_fields(order.dump_fields()), Execution.from_json(execution.to_json())


class Outside:
    """An event that is registered with somebody."""

    def setup(self, request: Any) -> None:
        request.workflow.log.append("setup")

    def handle(self, request: Any, input: int) -> None: ...

    def teardown(self, request: Any, handled: bool) -> None:
        request.workflow.log.append(f"teardown {handled}")


def do(name: str) -> Step:
    """A step that logs its own name."""
    return Step(name, log(name))


def log(text: str) -> Callable[[Any], None]:
    """A function of the workflow that appends ``text`` to its log: a step's action, or a handler."""

    def append(w: Any) -> None:
        w.log.append(text)

    return append


class Unlucky(Exception):
    """An error that ``play`` retries if no ``Try`` catches it."""


def failing(name: str, error: type[Exception] | Exception = ValueError, **options: Any) -> Step:
    """A step that raises each time."""

    def fail(w: Any) -> None:
        raise error if isinstance(error, Exception) else error(f"{name} failed")

    return Step(name, fail, **options)


def unlucky(name: str, times: int = 1, **options: Any) -> Step:
    """A step that fails that often, and then logs its name."""

    def act(w: Any, step: StepContext) -> None:
        if step.attempt <= times:
            raise Unlucky(f"{name}, attempt {step.attempt}")
        w.log.append(name)

    return Step(name, act, **options)


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
    """Everything there is to know of an instance, as text. Branches are not folded: how they are grouped depends on how
    they were stored before."""
    state = json.dumps(unfold(json.loads(execution.to_json())), sort_keys=True)
    return order.model_dump_json(), state


def reload(order: W, execution: Execution) -> tuple[W, Execution]:
    """The instance as another process would load it."""
    return type(order).load_fields(order.dump_fields()), Execution.from_json(execution.to_json())


@contextmanager
def unchanged(order: Workflow, execution: Execution) -> Iterator[None]:
    """Asserts that what happens inside leaves the instance exactly as it was."""
    before = saved(order, execution)
    yield
    assert saved(order, execution) == before


# --- the whole life of an instance -----------------------------------------------------------

Op = str | tuple[str, Any] | Callable[[Any, Execution], object]
"""What is done to a blocked instance: an event, an event and its input, or a function such as ``cancel``."""

State = tuple[int, str, str]
"""What was saved at a checkpoint, and how many operations had been done by then."""


def cancel(order: Workflow, execution: Execution) -> None:
    """What an operator does."""
    Machine(order, execution).cancel()


def give_up(error: Exception) -> Op:
    """Gives up the step of an instance, as a caller does after its last attempt."""

    def act(order: Workflow, execution: Execution) -> None:
        thread = next(one for one in execution.threads if one.status == "executing")
        Machine(order, execution).give_up(StepWork(thread), error)

    return act


def play(
    workflow: type[W], *ops: Op, end: str = "finished", now: datetime | None = None, **fields: Any
) -> tuple[W, Execution]:
    """Runs an instance through its life, and does the operations one after another, each when it is blocked.

    Asserts how it ends; that it does so whether it is run by ``resume`` or ``aresume``, with the same checkpoints; and
    that going on from what was saved at any checkpoint gives the same end.
    """
    order, execution = workflow(**fields), Execution.start("id-1", workflow, now=now)
    states = _live(order, execution, ops, now, awaits=True)
    assert execution.status == end, f"{execution.status}: {execution.error}, at {standing(execution)}"
    last = saved(order, execution)
    is_sync = not workflow.__program__.async_parts
    if is_sync:
        again = workflow(**fields), Execution.start("id-1", workflow, now=now)
        assert _live(*again, ops, now, awaits=False) == states
        assert saved(*again) == last
    for done, saved_fields, saved_execution in states:
        loaded = workflow.load_fields(saved_fields), Execution.from_json(saved_execution)
        _live(*loaded, ops[done:], now, awaits=not is_sync)
        assert saved(*loaded) == last, f"going on from {saved_execution} gave another end"
    return order, execution


def _live(
    order: Workflow, execution: Execution, ops: Sequence[Op], now: datetime | None, *, awaits: bool
) -> list[State]:
    states: list[State] = []
    done = 0

    def save(kind: str) -> None:
        states.append((done, order.dump_fields(), execution.to_json()))

    _go_on(order, execution, save, now, awaits)
    for done, op in enumerate(ops, 1):  # noqa: B007 - save reads it
        if isinstance(op, str):
            handle_event(order, execution, op, now=now)
        elif isinstance(op, tuple):
            handle_event(order, execution, *op, now=now)
        else:
            op(order, execution)
        save("operation")
        _go_on(order, execution, save, now, awaits)
    return states


def _go_on(
    order: Workflow, execution: Execution, save: Callable[[str], None], now: datetime | None, awaits: bool
) -> None:
    while True:
        try:
            if awaits:
                asyncio.run(aresume(order, execution, save, now=now))
            else:
                resume(order, execution, save, now=now)
            return
        except Unlucky:
            save("failed")
