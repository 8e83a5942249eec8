"""The library alone, without any cloud: the caller keeps the state and decides when an instance runs.

Each function takes the fields (a ``Workflow``) and where the instance stands (an ``Execution``), and changes both.
Where one raises because user code did, discard both and go on from what was saved last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from inspect import isawaitable, iscoroutine
from typing import Any

from workflow_core.errors import AsyncInSyncCall, EventNotAccepted
from workflow_core.execution import Execution
from workflow_core.machine.checkpoints import Checkpoint, CheckpointKind
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import ThreadWork, Work
from workflow_core.workflow import Workflow

AsyncCheckpoint = Callable[[CheckpointKind], Awaitable[object] | None]
"""The same for ``aresume``; may be async."""


def resume(
    workflow: Workflow, execution: Execution, checkpoint: Checkpoint | None = None, *, now: datetime | None = None
) -> None:
    """Runs an instance until every thread is blocked, then returns.

    Activities are run here as well, one after another. What fails goes to the ``Try`` that catches it if no attempt is
    left by the ``Retry`` of its statement or the workflow's ``default_retry``, at once if there is neither.

    Args:
        workflow: the instance's fields; changed by its steps.
        execution: where it stands; changed.
        checkpoint: called with a ``CheckpointKind`` each time the state should be saved. Going on from what
            was saved at any call gives the same end.
        now: the current time; without it timeouts get no deadline.

    Raises:
        AsyncInSyncCall: the definition has asynchronous code; nothing was changed. Use ``aresume``.
        ExecutionError: see its subclasses.
        Exception: what a condition raises, or a step or an activity, unless a ``Try`` catches it. The last two stay
            due, and their errors are also noted in their threads.
    """
    machine = Machine(workflow, execution, now, alone=True)
    if machine.program.async_parts:
        raise AsyncInSyncCall(f"{machine.program.async_parts[0]!r} is asynchronous: call 'await aresume(...)'")
    if machine.run_alone(checkpoint):
        return
    machine.retry_errors()
    while (work := machine.next_work()) is not None:
        result = None
        if not work.is_move:
            try:
                result = machine.call(work)
                if result is not None and iscoroutine(result):
                    result.close()
                    raise AsyncInSyncCall(f"{work.statement!r} returned a coroutine: call 'await aresume(...)'")
                machine.take_in(work, result)
            except Exception as error:
                _note(machine, work, error, checkpoint)
                continue
        machine.done(work, result)
        if checkpoint is not None:
            checkpoint(work.kind)
        if machine.run_alone(checkpoint):
            return


async def aresume(
    workflow: Workflow,
    execution: Execution,
    checkpoint: AsyncCheckpoint | None = None,
    *,
    now: datetime | None = None,
) -> None:
    """Like ``resume``, for definitions with asynchronous code; ``checkpoint`` may be async as well."""
    machine = Machine(workflow, execution, now, alone=True)
    machine.retry_errors()
    while (work := machine.next_work()) is not None:
        result = None
        if not work.is_move:
            try:
                result = machine.call(work)
                if isawaitable(result):
                    result = await result
                machine.take_in(work, result)
            except Exception as error:
                saved = _note(machine, work, error, checkpoint)
                if isawaitable(saved):
                    await saved
                continue
        machine.done(work, result)
        if checkpoint is not None and isawaitable(saved := checkpoint(work.kind)):
            await saved


def handle_event(
    workflow: Workflow,
    execution: Execution,
    event: str,
    input: Any = None,
    *,
    thread_id: str | None = None,
    wait_id: str | None = None,
    pc: int | None = None,
    now: datetime | None = None,
) -> Any:
    """Delivers an event: runs its handler and moves its thread on to the next step or wait. Then call ``resume``.

    One that comes too early, for an ``On`` that is ``buffered``, is kept; ``resume`` delivers it.

    Args:
        event: the event's name; for a ``Timeout``, a ``Sleep``, an ``Activity`` or a ``Child``, its name.
        input: what the handler takes: an instance of the annotated type, or JSON data that fits it; for a child, its
            result.
        thread_id: the thread that is meant, where several wait for the event; by default the first.
        wait_id: the wait that is meant; a later wait for the same event does not count.
        pc: the pc at which that wait was entered; another one does not count.
        now: the current time; without it timeouts that are entered get no deadline.

    Returns:
        What the handler returns; None for an event that is kept.

    Raises:
        EventNotAccepted: no thread waits for it now; nothing was changed.
        InvalidInput: the input does not fit the handler's annotation; nothing was changed.
        AsyncInSyncCall: the handler is asynchronous; nothing was changed. Use ``ahandle_event``.
    """
    machine = Machine(workflow, execution, now)
    try:
        accepted = machine.accept(event, thread_id, wait_id, pc)
    except EventNotAccepted:
        if _keeps(machine, event, input, thread_id, wait_id, pc):
            return None
        raise
    if execution.buffer and machine.comes_later(accepted) and _keeps(machine, event, input, thread_id, wait_id, pc):
        return None
    signature = accepted.case.signature
    if signature is None:
        value = None
    elif signature.is_async:
        raise AsyncInSyncCall(f"the handler of {event!r} is asynchronous: call 'await ahandle_event(...)'")
    else:
        value = signature.validate(event, input)
    output = machine.handle(accepted, value)
    if output is not None and iscoroutine(output):
        output.close()
        raise AsyncInSyncCall(f"the handler of {event!r} returned a coroutine: make it a plain function")
    machine.handled(accepted)
    return output


async def ahandle_event(
    workflow: Workflow,
    execution: Execution,
    event: str,
    input: Any = None,
    *,
    thread_id: str | None = None,
    wait_id: str | None = None,
    pc: int | None = None,
    now: datetime | None = None,
) -> Any:
    """Like ``handle_event``, for an ``EventHandler`` whose ``handle`` is asynchronous as well."""
    machine = Machine(workflow, execution, now)
    try:
        accepted = machine.accept(event, thread_id, wait_id, pc)
    except EventNotAccepted:
        if _keeps(machine, event, input, thread_id, wait_id, pc):
            return None
        raise
    if execution.buffer and machine.comes_later(accepted) and _keeps(machine, event, input, thread_id, wait_id, pc):
        return None
    signature = accepted.case.signature
    value = None if signature is None else signature.validate(event, input)
    output = machine.handle(accepted, value)
    if isawaitable(output):
        output = await output
    machine.handled(accepted)
    return output


def _keeps(
    machine: Machine, event: str, input: Any, thread_id: str | None, wait_id: str | None, pc: int | None
) -> bool:
    """Keeps an event that cannot be delivered now, if it is buffered and for no certain wait."""
    if thread_id is not None or wait_id is not None or pc is not None or not machine.buffers(event):
        return False
    signature = machine.kept_as(event)
    value = signature.validate(event, input)
    machine.buffer(event, signature.input.dump_json(value, by_alias=True).decode())
    return True


def _note(machine: Machine, work: Work, error: Exception, checkpoint: Checkpoint | None) -> object:
    """Notes a failure. That of a setup or teardown disturbs nobody; one for good that a ``Try`` catches goes on there;
    any other is the caller's."""
    if work.kind in (CheckpointKind.SETUP, CheckpointKind.TEARDOWN):
        machine.failed(work, error)
    elif work.is_refused(error):
        machine.drop(work)
    elif (
        isinstance(work, ThreadWork)
        and not machine.tries_again(machine.policy(work), work.attempt + 1, error)
        and machine.catches(work.thread, machine.start_of(work.thread), error)
    ):
        machine.give_up(work, error)
    else:
        if work.kind in (CheckpointKind.STEP, CheckpointKind.ACTIVITY):
            machine.failed(work, error)
        raise error
    return checkpoint(work.kind) if checkpoint is not None else None
