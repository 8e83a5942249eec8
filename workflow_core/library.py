"""The functions for using workflows without a cloud: the caller stores the state and decides when an instance runs.

Each function takes the fields (a ``Workflow``) and the state (an ``Execution``) of an instance, and changes both. If a
function raises an error of user code, discard both and continue from the last save.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from datetime import datetime
from inspect import isawaitable, iscoroutine
from typing import Any

from pydantic_core import PydanticSerializationError

from workflow_core.errors import AsyncInSyncCall, InvalidFields, InvalidInput
from workflow_core.execution import Execution
from workflow_core.machine.alone import NOT_ALONE, handle_alone, resume_alone
from workflow_core.machine.checkpoints import Checkpoint, CheckpointKind
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import ThreadWork, Work
from workflow_core.principal import Principal
from workflow_core.workflow import Workflow

AsyncCheckpoint = Callable[[CheckpointKind], Awaitable[object] | None]
"""Like ``Checkpoint``, for ``aresume``; may be async."""

_Call = tuple[str | None, Any]
"""The logic yields the name of a statement or event, and the return value of its code; the driver sends back the
awaited result. Without a name, it yields the return value of the checkpoint callback, which the sync driver ignores."""


def resume(
    workflow: Workflow, execution: Execution, checkpoint: Checkpoint | None = None, *, now: datetime | None = None
) -> None:
    """Runs an instance until every thread is blocked, then returns.

    Activities are run here as well, one after another. An error is passed to the ``Try`` that catches it once the
    ``Retry`` of its statement or the workflow's ``default_retry`` allows no further attempt; if there is no policy,
    immediately.

    Args:
        workflow: the instance's fields; changed by its steps.
        execution: the instance's state; changed.
        checkpoint: called with a ``CheckpointKind`` each time the state should be saved. Continuing from the save of
            any call leads to the same result.
        now: the current time; if omitted, timeouts get no deadline.

    Raises:
        AsyncInSyncCall: the definition has asynchronous code; nothing was changed. Use ``aresume``.
        UnknownStatement: older code has left the instance where this code cannot continue; nothing was changed.
        ExecutionError: see its subclasses.
        Exception: any error of a condition, and any error of a step or an activity that no ``Try`` catches. Steps and
            activities stay due, and their errors are also stored in their threads.
    """
    if (machine := resume_alone(workflow, execution, checkpoint, now)) is not None:
        _check(machine)
        if async_parts := machine.program.async_parts:
            raise AsyncInSyncCall(f"{async_parts[0]!r} is asynchronous. Call 'await aresume(...)'")
        _drive(_resume(machine, checkpoint, is_sync=True), "{!r} returned a coroutine. Call 'await aresume(...)'")


async def aresume(
    workflow: Workflow,
    execution: Execution,
    checkpoint: AsyncCheckpoint | None = None,
    *,
    now: datetime | None = None,
) -> None:
    """Like ``resume``, for definitions with asynchronous code; ``checkpoint`` may be async as well."""
    machine = Machine(workflow, execution, now, True)
    _check(machine)
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
    principal: Principal | None = None,
) -> Any:
    """Delivers an event: runs its handler and moves its thread to the next step or wait. Call ``resume`` afterwards.

    An event that arrives early is kept if its ``On`` is ``buffered``; ``resume`` delivers it.

    Args:
        event: the name of the event, or of the ``Timeout``, ``Sleep``, ``Activity`` or ``Child``.
        input: the input of the handler: an instance of the annotated type, or JSON data that fits it; for a child, its
            result.
        thread_id: the thread that receives the event, if several wait for it; by default the first.
        wait_id: the wait that receives the event. A later wait for the same event does not accept it.
        pc: the pc at which the wait was entered. A wait with another pc does not accept the event.
        now: the current time; if omitted, timeouts that are entered get no deadline.
        principal: who sends the event, for its handler. The caller has to decide whether it may.

    Returns:
        The return value of the handler; None if the event is kept.

    Raises:
        EventNotAccepted: no thread waits for it now; nothing was changed.
        InvalidInput: the input does not fit the handler's annotation; nothing was changed.
        UnknownStatement: older code has left the instance where this code cannot continue; nothing was changed.
        AsyncInSyncCall: the handler is asynchronous; nothing was changed. Use ``ahandle_event``.
    """
    if thread_id is None and wait_id is None and pc is None and principal is None:
        output = handle_alone(workflow, execution, event, input, now)
        if output is not NOT_ALONE:
            return output
    machine = Machine(workflow, execution, now)
    _check(machine)
    machine.principal = principal
    accepted = machine.find(event, thread_id, wait_id, pc)
    if accepted is None or execution.buffer:
        accepted = _unless_kept(machine, accepted, event, input, thread_id, wait_id, pc)
        if accepted is None:
            return None
    signature = accepted.case.signature
    if signature is not None and signature.is_async:
        raise AsyncInSyncCall(f"the handler of {event!r} is asynchronous. Call 'await ahandle_event(...)'")
    output = machine.handle(accepted, None if signature is None else signature.validate(event, input))
    if output is not None and iscoroutine(output):
        output.close()
        raise AsyncInSyncCall(f"the handler of {event!r} returned a coroutine. Call 'await ahandle_event(...)'")
    machine.handled(accepted)
    machine.note_version()
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
    principal: Principal | None = None,
) -> Any:
    """Like ``handle_event``, for an ``EventHandler`` whose ``handle`` is asynchronous as well."""
    machine = Machine(workflow, execution, now)
    _check(machine)
    machine.principal = principal
    accepted = machine.find(event, thread_id, wait_id, pc)
    if accepted is None or execution.buffer:
        accepted = _unless_kept(machine, accepted, event, input, thread_id, wait_id, pc)
        if accepted is None:
            return None
    signature = accepted.case.signature
    output = machine.handle(accepted, None if signature is None else signature.validate(event, input))
    if isawaitable(output):
        output = await output
    machine.handled(accepted)
    machine.note_version()
    return output


# --- the logic, for both the sync and the async calls ----------------------------------------


def _check(machine: Machine) -> None:
    """Checks that the definition can continue an instance that another version of it has moved last.

    Raises:
        UnknownStatement: it cannot. Nothing was changed.
    """
    if machine.execution.definition_version != machine.program.version:
        machine.check()
        machine.check_values()


def _resume(
    machine: Machine, checkpoint: Checkpoint | AsyncCheckpoint | None, *, is_sync: bool
) -> Generator[_Call, Any, None]:
    """Performs work until nothing is due."""
    machine.retry_errors()
    execution, version = machine.execution, machine.program.version
    while (work := machine.next_work()) is not None:
        if execution.definition_version != version:
            machine.note_version()
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
        instance = machine.workflow, machine.execution
        if is_sync and resume_alone(*instance, checkpoint, machine.now, machine) is None:
            return


def _note(machine: Machine, work: Work, error: Exception) -> None:
    """Records a failure.

    The failure of a setup or teardown is only stored. If no attempt is left and a ``Try`` catches the error, the thread
    continues there. Any other error is raised to the caller.
    """
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


def _unless_kept(
    machine: Machine,
    accepted: Accepted | None,
    event: str,
    input: Any,
    thread_id: str | None,
    wait_id: str | None,
    pc: int | None,
) -> Accepted | None:
    """Buffers an event that no thread waits for, or that is behind earlier ones in the buffer, if its case allows it
    and the caller names no thread or wait. Returns None if it was buffered, otherwise the wait for it.

    Raises:
        EventNotAccepted: no thread waits for it, and it cannot be buffered.
    """
    is_early = accepted is None or machine.is_behind_buffered(accepted)
    is_for_any = thread_id is None and wait_id is None and pc is None
    if is_early and is_for_any and machine.buffers(event):
        signature = machine.buffered_signature(event)
        try:
            packed = signature.input_form.pack(signature.validate(event, input), ("input",))
        except (InvalidFields, PydanticSerializationError) as error:
            detail = {"field": "", "message": f"the event cannot be kept: {error}", "type": "not_kept"}
            raise InvalidInput(f"event {event!r}", [detail]) from error
        machine.buffer(event, packed.text.decode(), by_name=True, shown=packed.shown_text)
        machine.note_version()
        return None
    return accepted or machine.accept(event, thread_id, wait_id, pc)


# --- the drivers -----------------------------------------------------------------------------


def _drive(logic: Generator[_Call, Any, None], refusal: str) -> None:
    """Runs the logic without awaiting anything. User code that returns a coroutine fails with ``AsyncInSyncCall``.

    Args:
        refusal: the message of that error, with a placeholder for the name of the statement.
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
        # Python replaces a StopIteration of user code that leaves a generator. Only the replaced error starts here.
        raised = error.__cause__
        if not isinstance(raised, StopIteration) or (error.__traceback__ and error.__traceback__.tb_next):
            raise
    raise raised


async def _drive_async(logic: Generator[_Call, Any, None]) -> None:
    """Runs the logic and awaits awaitable return values."""
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
