"""Compares the stored state with the state of the executor.

The rule: after each write, everything in the stored execution that affects later writes equals the executor's state:
status, ``pc``, fields, threads, waits, teardowns, buffered events and the data about the parent. A wrong state is
therefore found at the write that stored it, even if it would have an effect only much later, or never in this run.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import LEASE_BYTES, Instance
from tests.core.reference import RefThread, case_name, is_handler
from tests.simulation.acts import attempt_of
from tests.simulation.flows import ADDED
from tests.simulation.model.children import TELL
from tests.simulation.model.executor import Executor
from tests.simulation.model.violations import require, require_equal
from tests.simulation.typed import SAMPLES, sample_of
from workflow_core import Activity, Child, Done, Execution, Select, Status, Step, Thread, Wait, WaitStatus, When
from workflow_core.shown import SHOWN
from workflow_core.wait_types import (
    ActivityWait,
    AnyTeardown,
    ChildTeardown,
    ChildWait,
    ConditionWait,
    HandlerTeardown,
    HandlerWait,
)

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model

ENDS = (Status.FINISHED, Status.FAILED, Status.CANCELED)


def check_stored_state(model: Model, new: Instance) -> None:
    executor, execution = model.executor, new.execution
    _learn_ids(executor, execution)
    _check_status(executor, execution)
    require_equal("pc", execution.pc, executor.pc)
    fields = json.loads(new.fields)
    if model.world.settings.is_renamed:
        require_equal("generation", fields.pop("generation"), execution.fields_version - 1)
    require_equal("fields", fields, json.loads(executor.workflow.dump_fields()))
    _check_search_fields(model, new, fields)
    _check_size(model, new)
    require_equal(
        "threads",
        # Of an instance that has failed, whether a cleanup was passed on the way decides what is left of attempts.
        [(one.id, one.step, one.pc, 0 if executor.failed else one.attempt) for one in execution.threads],
        [(one.id, one.at.name if one.at else "", one.pc, _failures(executor, one)) for one in executor.threads],
    )
    _check_teardowns(executor, execution)
    if not execution.ended:
        for stored, thread in zip(execution.threads, executor.threads, strict=True):
            _check_waits(executor, stored, thread)
    kept = [(event.event, json.loads(event.input)) for event in execution.buffer]
    require_equal("buffer", kept, executor.buffer)
    _check_parent(model, execution)


def _learn_ids(executor: Executor, execution: Execution) -> None:
    """Takes the ids of children that have none of their own from the wait that stores them first. They are random."""
    found: list[tuple[str, str, str]] = []
    for thread in execution.threads:
        found += [(wait.id, wait.event, wait.child["id"]) for wait in thread.waits if isinstance(wait, ChildWait)]
    found += [(one.id, one.event, one.child["id"]) for one in execution.teardowns if isinstance(one, ChildTeardown)]
    for wait_id, event, id in found:
        errand = executor.errands.get((wait_id, event))
        if errand is not None and not errand.id:
            executor.learn_id(errand, wait_id, event, id)


def _check_size(model: Model, new: Instance) -> None:
    """Without what may go beyond it, a document keeps to the limit, so that there is room left for a cancellation."""
    execution = new.execution
    if not model.world.settings.has_limit or execution.canceling or execution.status in (*ENDS, Status.PAUSED):
        return
    size = len(execution.to_json().encode()) + len(new.fields.encode())
    most = model.world.settings.room + (0 if new.lease is None else LEASE_BYTES)
    require(size <= most, f"{size} bytes are stored, and the limit is {most}")


def _check_search_fields(model: Model, new: Instance, fields: dict[str, Any]) -> None:
    names = model.world.definitions.flows[0].search_fields
    expected = {name: sample_of(name, fields[name]).stored if name in SAMPLES else fields[name] for name in names}
    require_equal("search fields", new.search, expected)
    unsearchable = [value for value in new.search.values() if isinstance(value, int) and abs(value) >= 2**63]
    require(not unsearchable, f"{unsearchable} is stored as a search field")


def _check_status(executor: Executor, execution: Execution) -> None:
    status = Status.FINISHED if executor.finished else Status.FAILED if executor.failed else None
    status = Status.CANCELED if executor.canceled else Status.PAUSED if executor.paused else status
    goes_on = status is None and not execution.ended
    require(execution.status == status or goes_on, f"the status is {execution.status}, and should be {status}")


def _failures(executor: Executor, thread: RefThread) -> int:
    """How often the step that the thread stands on has failed."""
    if thread.at is None or not isinstance(thread.at.statement, Step) or executor.failed:
        return 0
    return executor.attempts.failures["step", thread.id, thread.pc]


def _check_teardowns(executor: Executor, execution: Execution) -> None:
    failures = executor.attempts.failures
    require_equal(
        "teardowns",
        sorted((one.event, one.id, one.handled, _setup_data(one), one.attempt) for one in execution.teardowns),
        sorted(
            (one.event, one.wait_id, handled, one.setup_data, failures["teardown", one.wait_id, one.event])
            for _, one, handled in executor.teardowns
        ),
    )


def _setup_data(teardown: AnyTeardown) -> Any:
    if isinstance(teardown, HandlerTeardown):
        return teardown.setup_data
    return {name: value for name, value in teardown.child.items() if name != SHOWN}


def _check_waits(executor: Executor, stored: Thread, thread: RefThread) -> None:
    """The waits of a thread are those of the statement that it stands on."""
    at, failures, what = thread.at, executor.attempts.failures, f"waits of {thread.id!r}"
    if thread.put:  # type: ignore[attr-defined]
        require_equal(what, stored.waits, [])
    elif at is not None and isinstance(at.statement, Child):
        errand = executor.errands[thread.wait_id, at.name]
        waits = [wait for wait in stored.waits if isinstance(wait, ChildWait)]
        require_equal(what, waits, stored.waits)
        found = [(wait.event, wait.id, _is_set_up(wait), wait.attempt) for wait in waits]
        require_equal(what, found, [(at.name, thread.wait_id, errand.is_started, 0)])
        require_equal(f"fields of child {at.name!r}", waits[0].child["fields"], errand.fields)
    elif at is not None and isinstance(at.statement, Activity):
        work = "activity", thread.wait_id, at.name
        attempt = thread.wait_id, at.name, failures[work]
        require_equal(what, [attempt_of(wait) for wait in stored.waits], [attempt])
        require_equal(f"progress of {at.name!r}", _progress(stored.waits[0]), executor.progress.get(attempt))
    elif at is not None and isinstance(at.statement, Select):
        to_set_up = [case.event for case in thread.to_set_up]
        expected: dict[str, Any] = {}
        for case in at.statement.cases:
            if isinstance(case, When):
                continue
            name = case_name(case, at.prefix)
            data = thread.setup_data.get(name) if is_handler(case) else None
            failed = failures["activity" if isinstance(case, Done) else "setup", thread.wait_id, name]
            if isinstance(case, Done):
                data = executor.progress.get((thread.wait_id, name, failed))
            is_set_up = name not in to_set_up
            if isinstance(case, Done) and isinstance(case.work, Child):
                errand = executor.errands[thread.wait_id, name]
                is_set_up, data = errand.is_started, errand.fields
            expected[name] = thread.wait_id, is_set_up, data, failed
        known = [wait for wait in stored.waits if wait.event != ADDED and not isinstance(wait, ConditionWait)]
        require_equal(what, {wait.event: _description(wait) for wait in known}, expected)


def _progress(wait: Wait) -> Any:
    assert isinstance(wait, ActivityWait)
    return wait.progress


def _is_set_up(wait: Wait) -> bool:
    return wait.status is WaitStatus.SET_UP


def _description(wait: Wait) -> tuple[Any, ...]:
    if isinstance(wait, ActivityWait):
        return wait.id, True, wait.progress, wait.attempt
    if isinstance(wait, HandlerWait):
        return wait.id, _is_set_up(wait), wait.setup_data, wait.attempt
    if isinstance(wait, ChildWait):
        return wait.id, _is_set_up(wait), wait.child["fields"], wait.attempt
    return wait.id, _is_set_up(wait), None, 0


def _check_parent(model: Model, execution: Execution) -> None:
    """What a child knows of its parent, and whether that was told of its end."""
    link, parent = execution.parent, model.parent
    stored = link and (link.workflow, link.id, link.wait_id, link.event, link.told, link.attempt)
    failures = model.executor.attempts.failures[TELL]
    known = parent and ("flow", parent.id, parent.wait_id, parent.event, model.children.told, failures)
    require_equal("parent", stored, known)
