"""The library alone, without any cloud: the caller keeps the state and decides when an instance runs.

Each function takes the fields (a ``Workflow``) and where the instance stands (an ``Execution``), and changes both.
Where one raises because user code did, discard both and go on from what was saved last.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from datetime import datetime
from inspect import isawaitable, iscoroutine
from typing import Any

from workflow_core.errors import AsyncInSyncCall, EventNotAccepted
from workflow_core.execution import Execution
from workflow_core.machine.checkpoints import Checkpoint, CheckpointKind
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import ThreadWork, Work
from workflow_core.workflow import Workflow

AsyncCheckpoint = Callable[[CheckpointKind], Awaitable[object] | None]
"""The same for ``aresume``; may be async."""

_Call = tuple[str | None, Any]
"""What the logic yields: the name of the statement or event whose code was called, and what that returned; it is sent
the awaited result. Without a name, what the checkpoint callback returned, which the sync calls leave alone."""


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
    machine = Machine(workflow, execution, now, True)
    if machine.program.async_parts:
        raise AsyncInSyncCall(f"{machine.program.async_parts[0]!r} is asynchronous: call 'await aresume(...)'")
    if not machine.run_alone(checkpoint):
        _drive(_resume(machine, checkpoint, is_sync=True), "{!r} returned a coroutine: call 'await aresume(...)'")


async def aresume(
    workflow: Workflow,
    execution: Execution,
    checkpoint: AsyncCheckpoint | None = None,
    *,
    now: datetime | None = None,
) -> None:
    """Like ``resume``, for definitions with asynchronous code; ``checkpoint`` may be async as well."""
    machine = Machine(workflow, execution, now, True)
    await _drive_async(_resume(machine, checkpoint, is_sync=False))


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
    accepted = _accepted(machine, event, input, thread_id, wait_id, pc)
    if accepted is None:
        return None
    signature = accepted.case.signature
    if signature is not None and signature.is_async:
        raise AsyncInSyncCall(f"the handler of {event!r} is asynchronous: call 'await ahandle_event(...)'")
    output = machine.handle(accepted, None if signature is None else signature.validate(event, input))
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
    accepted = _accepted(machine, event, input, thread_id, wait_id, pc)
    if accepted is None:
        return None
    signature = accepted.case.signature
    output = machine.handle(accepted, None if signature is None else signature.validate(event, input))
    if isawaitable(output):
        output = await output
    machine.handled(accepted)
    return output


# --- the logic, for both the sync and the async calls ----------------------------------------


def _resume(
    machine: Machine, checkpoint: Checkpoint | AsyncCheckpoint | None, *, is_sync: bool
) -> Generator[_Call, Any, None]:
    """Does what is due until nothing is."""
    machine.retry_errors()
    while (work := machine.next_work()) is not None:
        result = None
        if not work.is_move:
            try:
                result = yield work.statement, machine.call(work)
                machine.handle_result(work, result)
            except Exception as error:
                _note(machine, work, error)
                if checkpoint is not None:
                    yield None, checkpoint(work.kind)
                continue
        machine.done(work, result)
        if checkpoint is not None:
            yield None, checkpoint(work.kind)
        if is_sync and machine.run_alone(checkpoint):
            return


def _note(machine: Machine, work: Work, error: Exception) -> None:
    """Notes a failure. That of a setup or teardown disturbs nobody; one for good that a ``Try`` catches goes on there;
    any other is the caller's."""
    if work.is_only_noted:
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
        machine.failed(work, error)
        raise error


def _accepted(
    machine: Machine, event: str, input: Any, thread_id: str | None, wait_id: str | None, pc: int | None
) -> Accepted | None:
    """Who waits for an event; None if it was kept for later, as nobody does, or others came before it."""
    try:
        accepted = machine.accept(event, thread_id, wait_id, pc)
        is_early = machine.execution.buffer and machine.is_behind_buffered(accepted)
    except EventNotAccepted:
        if not _keeps(machine, event, input, thread_id, wait_id, pc):
            raise
        return None
    return None if is_early and _keeps(machine, event, input, thread_id, wait_id, pc) else accepted


def _keeps(
    machine: Machine, event: str, input: Any, thread_id: str | None, wait_id: str | None, pc: int | None
) -> bool:
    """Keeps an event that cannot be delivered now, if it is buffered and for no certain wait."""
    if thread_id is not None or wait_id is not None or pc is not None or not machine.buffers(event):
        return False
    signature = machine.buffered_signature(event)
    value = signature.validate(event, input)
    machine.buffer(event, signature.input.dump_json(value, by_alias=True).decode())
    return True


# --- the drivers -----------------------------------------------------------------------------


def _drive(logic: Generator[_Call, Any, None], refusal: str) -> None:
    """Runs to its end what awaits nothing. User code that returns a coroutine fails with ``AsyncInSyncCall``.

    Args:
        refusal: the text of that error, with a place for the name of what was called.
    """
    try:
        name, result = next(logic)
        while True:
            if result is not None and name is not None and iscoroutine(result):
                result.close()
                name, result = logic.throw(AsyncInSyncCall(refusal.format(name)))
            else:
                name, result = logic.send(result)
    except StopIteration:
        return
    except RuntimeError as error:
        # Python replaces a StopIteration of the user's code that leaves a generator. Only that error begins here.
        raised = error.__cause__
        if not isinstance(raised, StopIteration) or (error.__traceback__ and error.__traceback__.tb_next):
            raise
    raise raised


async def _drive_async(logic: Generator[_Call, Any, None]) -> None:
    """Runs to its end what may await what was returned."""
    try:
        _, result = next(logic)
        while True:
            if isawaitable(result):
                try:
                    result = await result
                except Exception as error:
                    _, result = logic.throw(error)
                    continue
            _, result = logic.send(result)
    except StopIteration:
        return
