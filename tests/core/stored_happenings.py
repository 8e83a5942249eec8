"""What can happen to an instance before and after it is stored; see ``stored_scenarios``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.core.stored_workflows import Stored
from workflow_core import Execution, handle_event
from workflow_core.error_texts import error_info
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ActivityWait

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

Happening = Sequence[Any]
"""The name of one of ``HAPPENINGS`` and its arguments, as JSON data."""


def happen(order: Stored, execution: Execution, happening: Happening) -> Execution:
    """Lets one thing happen; gives the execution, which may be another object."""
    name, *arguments = happening
    changed = HAPPENINGS[name](order, execution, *arguments)
    return execution if changed is None else changed


def _machine(order: Stored, execution: Execution) -> Machine:
    return Machine(order, execution, NOON)


def _work(order: Stored, execution: Execution, count: int = 1) -> None:
    machine = _machine(order, execution)
    machine.settle()
    for _ in range(count):
        work = machine.next_work()
        assert work is not None
        machine.done(work, machine.call(work))
        machine.settle()


def _settle(order: Stored, execution: Execution) -> None:
    _machine(order, execution).settle()


def _all_work(order: Stored, execution: Execution) -> None:
    machine = _machine(order, execution)
    machine.settle()
    while (work := machine.next_work()) is not None:
        machine.done(work, machine.call(work))
        machine.settle()


def _fail_work(order: Stored, execution: Execution, seconds: float | None = None) -> None:
    machine = _machine(order, execution)
    machine.settle()
    work = machine.next_work()
    assert work is not None
    retry_at = None if seconds is None else NOON + timedelta(seconds=seconds)
    machine.failed(work, OSError("down"), retry_at)


def _give_work_up(order: Stored, execution: Execution) -> None:
    machine = _machine(order, execution)
    work = machine.next_work()
    assert work is not None
    machine.give_up(work, OSError("down"))
    machine.settle()


def _event(order: Stored, execution: Execution, name: str, input: Any = None, thread: str | None = None) -> None:
    handle_event(order, execution, name, input, thread_id=thread, now=NOON)
    _settle(order, execution)


def _attempts(machine: Machine, name: str) -> Any:
    for thread in list(machine.execution.threads):
        for wait in list(thread.waits):
            if isinstance(wait, ActivityWait) and wait.event == name:
                accepted = machine.activity(name, wait.id, wait.attempt)
                assert accepted is not None
                yield accepted


def _activity(order: Stored, execution: Execution, name: str) -> None:
    machine = _machine(order, execution)
    for accepted in _attempts(machine, name):
        machine.handle_json(accepted, json.dumps(machine.call_activity(accepted)).encode())
        machine.handled(accepted)
        machine.settle()


def _activity_fails(order: Stored, execution: Execution, name: str, seconds: float | None = None) -> None:
    machine = _machine(order, execution)
    retry_at = None if seconds is None else NOON + timedelta(seconds=seconds)
    for accepted in _attempts(machine, name):
        machine.activity_failed(accepted, error_info(OSError("down"), name), retry_at)
        machine.settle()


def _heartbeat(order: Stored, execution: Execution, name: str) -> None:
    machine = Machine(order, execution, NOON + timedelta(seconds=30))
    for accepted in _attempts(machine, name):
        machine.heartbeat(accepted)


def _child_fails(order: Stored, execution: Execution, name: str) -> None:
    machine = _machine(order, execution)
    thread = next(one for one in execution.threads if one.step == name)
    machine.child_failed(thread, name, error_info(OSError("down"), name))
    machine.settle()


def _operate(name: str) -> Callable[..., None]:
    def operate(order: Stored, execution: Execution, *arguments: Any) -> None:
        machine = _machine(order, execution)
        getattr(machine, name)(*arguments)
        if name not in ("pause", "fail"):
            machine.settle()

    return operate


def _fail_instance(order: Stored, execution: Execution) -> None:
    _machine(order, execution).fail(ValueError("broken"), "somewhere")


def _tasks(order: Stored, execution: Execution, task: str) -> Execution:
    """What the engine does at a commit: it notes the task of each timer and attempt that has none."""
    data = execution.to_dict()
    for thread in data["threads"]:
        for wait in thread["waits"]:
            if wait["kind"] in ("timeout", "activity") and wait["setup_data"] is None:
                wait["setup_data"] = task
    return Execution.from_json(json.dumps(data))


def _known_as(order: Stored, execution: Execution, name: str) -> Execution:
    """As if each event that is waited for had had another name when the thread came to it."""
    data = execution.to_dict()
    for wait in (*(wait for thread in data["threads"] for wait in thread["waits"]), *data["teardowns"]):
        wait["known_as"] = name
    return Execution.from_json(json.dumps(data))


def _set_flag(order: Stored, execution: Execution) -> None:
    order.flag = True


def _parent(order: Stored, execution: Execution, **more: Any) -> Execution:
    """What the engine does when it starts a child."""
    parent = {"workflow": "elsewhere", "id": "p-1", "wait_id": "main@3", "event": "kid", **more}
    return Execution.from_json(json.dumps(execution.to_dict() | {"parent": parent}))


HAPPENINGS: dict[str, Callable[..., Execution | None]] = {
    "settle": _settle,
    "work": _work,
    "all work": _all_work,
    "work fails": _fail_work,
    "work is given up": _give_work_up,
    "event": _event,
    "activity": _activity,
    "activity fails": _activity_fails,
    "heartbeat": _heartbeat,
    "child fails": _child_fails,
    "cancel": _operate("cancel"),
    "pause": _operate("pause"),
    "unpause": _operate("unpause"),
    "retry": _operate("retry"),
    "goto": _operate("goto"),
    "instance fails": _fail_instance,
    "tasks": _tasks,
    "parent": _parent,
    "known as": _known_as,
    "flag": _set_flag,
}


def standing(execution: Execution) -> list[Any]:
    """The position of an instance, as JSON data."""
    return [
        str(execution.status),
        [
            [
                thread.id,
                str(thread.status),
                thread.step,
                [[wait.event, wait.kind, wait.status] for wait in thread.waits],
            ]
            for thread in execution.threads
        ],
        [[teardown.event, teardown.kind, teardown.status, teardown.handled] for teardown in execution.teardowns],
    ]


def play(order: Stored, execution: Execution, happenings: Sequence[Happening]) -> Execution:
    """Lets things happen one after another."""
    for happening in happenings:
        execution = happen(order, execution, happening)
    return execution
