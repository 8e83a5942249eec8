"""The machine: one instance in memory, and the only place where the state of an instance changes.

It does no I/O, reads no clock and draws no random number. It never calls a user's step, setup or teardown by
itself: ``next_work`` says what is due, the caller performs it with ``call`` and reports with ``done`` or
``failed``; ``run_alone`` is these in one, for a caller that awaits nothing. Conditions and condition handlers,
which only look at fields and change them, are called here.

Rules:

1. A transition is one of: a thread starts (or starts anew), a condition was seen true, an event was handled, a
   step, a setup or a teardown was done or has failed. Each adds 1 to the instance's pc; the state may be saved
   after any of them, and going on from there gives the same end.
2. A thread comes to rest only on a step, a select or a wait for a condition. Its ``pc`` there is that of the
   transition that brought it, so thread id and pc name the visit uniquely.
3. What is not legal raises before anything is changed. Where a user's function raises, the caller discards the
   fields and the execution, and goes on from what was saved last.
4. When an execution ends, by its main thread or by a failure, every event still set up is to be torn down.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import to_json

from workflow_core.errors import EventNotAccepted
from workflow_core.events import ActivityContext, EventRequest
from workflow_core.execution import (
    FROM_CLIENTS,
    BufferedEvent,
    ErrorInfo,
    Parent,
    Status,
    Teardown,
    Thread,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
)
from workflow_core.machine.moving import Checkpoint, CheckpointKind, Mover, error_info, error_text
from workflow_core.program.program import Instruction, Op, SelectCase
from workflow_core.retry import Retry
from workflow_core.signatures import HandlerSignature, is_async

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_EXECUTING = ThreadStatus.EXECUTING
_RESUMING = ThreadStatus.RESUMING
_SETTING_UP = ThreadStatus.SETTING_UP
_WAITING = ThreadStatus.WAITING
_STEP, _WAIT_FOR, _FORK = Op.STEP, Op.WAIT_FOR, Op.FORK
_CONDITION, _EVENT, _ACTIVITY = WaitKind.CONDITION, WaitKind.EVENT, WaitKind.ACTIVITY
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING

NAMED_WAITS_MAX = 10
"""How many waits for an event an error names."""

MOVES = (CheckpointKind.RESUME, CheckpointKind.CONDITION)
"""The kinds that ``done`` performs without a ``call``."""

_STEP_WORK, _RESUME_WORK = CheckpointKind.STEP, CheckpointKind.RESUME
_EVENT_WORK, _ACTIVITY_WORK = CheckpointKind.EVENT, CheckpointKind.ACTIVITY


@dataclass(slots=True)
class Work:
    """One thing that is due: of ``thread`` (None for a teardown, or for the parent), on ``wait`` (None for a step)."""

    kind: CheckpointKind
    thread: Thread | None
    wait: Wait | Teardown | Parent | None

    @property
    def attempt(self) -> int:
        """How often it has failed so far."""
        return (self.wait or self.thread).attempt  # type: ignore[union-attr]

    @property
    def statement(self) -> str:
        """The name of the step, or of the event."""
        return self.wait.event if self.wait is not None else self.thread.step  # type: ignore[union-attr]

    @property
    def concerns_others(self) -> bool:
        """Whether it is about another instance: a child to be started or canceled, or the parent to be told."""
        wait = self.wait
        return isinstance(wait, Parent) or (
            self.kind is not CheckpointKind.STEP and wait is not None and wait.kind is WaitKind.CHILD
        )


@dataclass(slots=True)
class Accepted:
    """An event that may be received now: ``thread`` waits for it under ``wait_id``."""

    thread: Thread
    case: SelectCase
    wait_id: str
    wait: Wait | None


class Machine(Mover):
    """One instance in memory; for its arguments see ``Mover``."""

    __slots__ = ()

    # --- what is due ---------------------------------------------------------------------

    def next_work(self) -> Work | None:
        """What is to be done next: moves first, then teardowns, setups, buffered events, and at last a step.

        None: all are blocked.
        """
        execution = self.execution
        step: Work | None = None
        setup: Work | None = None
        delivery: Work | None = None
        live: Counter[str] | None = None
        status = execution.status
        for thread in execution.threads if status is _RUNNING or status is _IDLE else ():
            thread_status = thread.status
            if thread_status is _WAITING:
                waits = thread.waits
                if waits:
                    kind = waits[0].kind
                    if kind is _CONDITION:
                        instruction = self.program.at(thread.step)
                        if instruction.op is _FORK:
                            live = self.live_branches() if live is None else live  # once for all that have branches
                        if self._holds(thread, instruction, live):
                            return Work(CheckpointKind.CONDITION, thread, None)
                    elif self.alone and kind is _ACTIVITY:
                        if step is None and self._due(waits[0].retry_at):
                            step = Work(_ACTIVITY_WORK, thread, waits[0])
                    elif execution.buffer:
                        delivery = delivery or self._delivery(thread)
            elif thread_status is _EXECUTING:
                if step is None and (thread.retry_at is None or self._due(thread.retry_at)):
                    step = Work(_STEP_WORK, thread, None)
            elif thread_status is _RESUMING:
                return Work(_RESUME_WORK, thread, None)
            else:
                setup = setup or self._setup_due(thread)
        for teardown in execution.teardowns:
            if self._pending(teardown.status, WaitStatus.PENDING_TEARDOWN, teardown.retry_at):
                return Work(CheckpointKind.TEARDOWN, None, teardown)
        parent = execution.parent
        if parent is not None and not parent.told and execution.ended and self._due(parent.retry_at):
            return Work(CheckpointKind.TELL, None, parent)
        return setup or delivery or step

    def _holds(self, thread: Thread, instruction: Instruction, live: Counter[str] | None) -> bool:
        try:
            if instruction.op is _FORK:
                assert live is not None
                return self.can_fork(thread, instruction, live[thread.id])
            return instruction.op is not _WAIT_FOR or bool(self.value(thread, instruction, instruction.cond))
        except BaseException as error:
            error.add_note(f"raised by the condition {instruction.name!r} of workflow {self.program.workflow!r}")
            raise

    def settle(self) -> None:
        """Performs every move that is due, so that each thread rests on a step or a wait."""
        while (work := self.next_work()) is not None and work.kind in MOVES:
            self.done(work)

    def _due(self, retry_at: datetime | None) -> bool:
        return retry_at is None or self.now is None or retry_at <= self.now

    def _pending(self, status: WaitStatus, pending: WaitStatus, retry_at: datetime | None) -> bool:
        # An error without a next attempt was given up.
        return status is pending or (
            status is not _SET_UP and retry_at is not None and (self.now is None or retry_at <= self.now)
        )

    def _setup_due(self, thread: Thread) -> Work | None:
        for wait in thread.waits:
            if self._pending(wait.status, _PENDING_SETUP, wait.retry_at):
                return Work(CheckpointKind.SETUP, thread, wait)
        return None

    def _delivery(self, thread: Thread) -> Work | None:
        """The delivery of the first buffered event that the thread waits for."""
        for buffered in self.execution.buffer:
            for wait in thread.waits:
                if wait.buffered and wait.event == buffered.event:
                    return Work(_EVENT_WORK, thread, wait)
        return None

    def check(self) -> None:
        """Whether the definition still has every statement that a thread stands on.

        Raises:
            UnknownStatement: it has not.
        """
        for thread in self.execution.threads:
            self.start_of(thread)

    def tick(self) -> None:
        """Counts a save that changes nothing but who holds the instance."""
        self.execution.pc += 1

    # --- performing it -------------------------------------------------------------------

    def call(self, work: Work) -> Any:
        """Calls the user's code that ``work`` stands for; what it returns may be awaitable.

        What concerns other instances is not known here: for a child, or for the parent, nothing is called.

        Raises:
            UnknownStatement: the definition no longer has the statement.
            InvalidInput: a buffered event does not fit its handler any more.
            Exception: whatever the user's code raises.
        """
        thread = work.thread
        self.touched = True
        if work.kind is _STEP_WORK:
            assert thread is not None
            instruction = self.program.step(thread.step)
            if instruction.takes_context:
                return instruction.action(self.workflow, self.step_context(thread))
            return instruction.action(self.workflow)
        wait = work.wait
        if work.concerns_others:
            return None
        if work.kind is CheckpointKind.EVENT:
            assert thread is not None
            accepted = self._waiting(thread, wait.event)  # type: ignore[union-attr]
            assert accepted.case.signature is not None
            body = self._buffered(accepted.case.event).input.encode()
            return self.handle(accepted, accepted.case.signature.validate_json(accepted.case.event, body))
        if work.kind is CheckpointKind.ACTIVITY:
            assert thread is not None
            return self.call_activity(self._waiting(thread, wait.event))  # type: ignore[union-attr]
        if isinstance(wait, Teardown):
            handler = self._event_handler(wait.step, wait.event)
            return handler.teardown(self.request(wait, "teardown"), wait.handled)
        assert isinstance(wait, Wait) and thread is not None
        return self._event_handler(thread.step, wait.event).setup(self.request(wait, "setup"))

    def is_async(self, work: Work) -> bool:
        """Whether the user's code behind ``work`` is a coroutine function."""
        wait = work.wait
        if wait is None:
            return is_async(self.program.at(work.thread.step).action)  # type: ignore[union-attr]
        if work.concerns_others or work.kind in (CheckpointKind.EVENT, CheckpointKind.ACTIVITY):
            return False
        select = wait.step if isinstance(wait, Teardown) else work.thread.step  # type: ignore[union-attr]
        handler = self._event_handler(select, wait.event)
        return is_async(handler.teardown if isinstance(wait, Teardown) else handler.setup)

    def take_in(self, work: Work, result: Any) -> None:
        """Hands what an activity has returned to its ``then``; call it before ``done``, and for any work.

        Raises:
            InvalidOutput: it does not fit the annotation of the activity.
            InvalidInput: it does not fit that of ``then``.
            Exception: whatever ``then`` raises.
        """
        if work.kind is not _ACTIVITY_WORK:
            return
        assert work.thread is not None
        accepted = self._waiting(work.thread, work.statement)
        if accepted.case.handler is not None:
            assert accepted.case.activity is not None
            self.handle_json(accepted, accepted.case.activity.signature.output_json(accepted.case.event, result))

    def done(self, work: Work, result: Any = None) -> None:
        """The work was performed; ``result`` is what the user's code returned."""
        execution = self.execution
        kind = work.kind
        if kind is _EVENT_WORK or kind is _ACTIVITY_WORK:
            self._delivered(work)
            return
        execution.pc += 1
        thread = work.thread
        if kind is _STEP_WORK:
            assert thread is not None
            if thread.attempt:
                thread.attempt = 0
                thread.retry_at = thread.error = None
            self.allowances = None
            self.run(thread, self.program.step(thread.step).next)
            return
        wait = work.wait
        if wait is None:
            assert thread is not None
            if thread.waits:
                self.leave_wait(thread)
            self.run(thread, self.start_of(thread))
        elif isinstance(wait, Teardown):
            execution.teardowns.remove(wait)
        elif isinstance(wait, Parent):
            wait.told = True
            wait.attempt, wait.retry_at, wait.error = 0, None, None
        else:
            assert thread is not None
            wait.status, wait.setup_data = _SET_UP, result
            wait.attempt, wait.retry_at, wait.error = 0, None, None
            if wait.kind is WaitKind.CHILD and wait.input["detached"]:
                self.allowances = None
                self.leave_wait(thread, wait.event)
                self.run(thread, self.program.at(thread.step).cases[wait.event].entry)
                return
            self.rest(thread)
            self.summarize()

    def _delivered(self, work: Work) -> None:
        """A buffered event, or the result of an activity, has come to its thread."""
        assert work.thread is not None and work.wait is not None
        accepted = self._waiting(work.thread, work.wait.event)
        if work.kind is CheckpointKind.EVENT:
            self._forget_buffered(work)
        self.handled(accepted)

    def _waiting(self, thread: Thread, event: str) -> Accepted:
        accepted = self._accepts(thread, event)
        assert accepted is not None
        return accepted

    def _buffered(self, event: str) -> BufferedEvent:
        return next(one for one in self.execution.buffer if one.event == event)

    def drop(self, work: Work) -> None:
        """The buffered event was refused by its handler: it has not happened."""
        self.execution.pc += 1
        self._forget_buffered(work)

    def _forget_buffered(self, work: Work) -> None:
        self.execution.buffer.remove(self._buffered(work.statement))

    def run_alone(self, checkpoint: Checkpoint | None) -> bool:
        """Moves the instance on from step to step while it has one thread and nothing else is due.

        The short way for a caller that awaits nothing: the same transitions as with ``next_work``, ``call`` and
        ``done``, in the same order, but what is due next is not looked for, as only the next step can be.

        Args:
            checkpoint: called after each transition.

        Returns:
            Whether nothing is due any more. False says nothing: ask ``next_work``.

        Raises:
            AsyncInSyncCall: a step returned a coroutine. Like any error of a step, it is noted in the thread.
            Exception: whatever a step or a condition raises.
        """
        execution = self.execution
        threads = execution.threads
        if len(threads) != 1 or execution.status is not _RUNNING or execution.teardowns or execution.buffer:
            return False
        thread = threads[0]
        if thread.attempt or thread.retry_at is not None or thread.waits:
            return False
        if thread.status is _RESUMING:
            execution.pc += 1
            self.run(thread, self.start_of(thread), True, checkpoint, _RESUME_WORK)
        else:
            step = self.program.rests.get(thread.step)
            if step is None or step.op is not _STEP or thread.pc != execution.pc:
                return False
            self.run(thread, step, True, checkpoint)
        if execution.status is _RUNNING or execution.teardowns or execution.buffer or execution.parent is not None:
            return False
        waits = thread.waits
        if not waits:
            return True
        kind = waits[0].kind
        return kind is not _CONDITION and kind is not _ACTIVITY

    def failed(self, work: Work, error: BaseException, retry_at: datetime | None = None) -> None:
        """The work has failed; it is tried again at ``retry_at``, or, for a setup or teardown, given up if None.

        A step without a next attempt stays due; whether the instance fails is said with ``fail``.
        """
        thread, wait = work.thread, work.wait
        if work.kind is _STEP_WORK:
            assert thread is not None
            self.failed_step(thread, error, retry_at)
            return
        self.execution.pc += 1
        assert wait is not None
        wait.attempt += 1
        wait.retry_at = retry_at
        wait.error = error_text(error)
        if isinstance(wait, Teardown):
            wait.status = WaitStatus.TEARDOWN_ERROR
        elif isinstance(wait, Wait) and wait.status is not _SET_UP:
            assert thread is not None
            wait.status = WaitStatus.SETUP_ERROR
            self.rest(thread)
            self.summarize()

    def retry_errors(self) -> None:
        """Makes setups and teardowns that have failed due again."""
        for thread in self.execution.threads:
            for wait in thread.waits:
                if wait.status is WaitStatus.SETUP_ERROR:
                    wait.status = _PENDING_SETUP
                    thread.status = _SETTING_UP
        for teardown in self.execution.teardowns:
            teardown.status = WaitStatus.PENDING_TEARDOWN

    def give_up(self, work: Work, error: BaseException) -> None:
        """The work has failed for good: its thread goes on where that is caught, else the instance fails.

        A buffered event that was not caught stays in the buffer.
        """
        assert work.thread is not None
        self.execution.pc += 1
        self.throw(work.thread, error_info(error, work.statement))
        if work.kind is CheckpointKind.EVENT and not self.execution.ended:
            self._forget_buffered(work)

    def fail(self, error: BaseException, statement: str = "") -> None:
        """Ends the instance as failed. Its threads stay where they stand; their events are to be torn down."""
        self.execution.pc += 1
        self.fail_with(error_info(error, statement))

    def policy(self, work: Work) -> Retry | None:
        """The policy for what has failed, if the definition has one."""
        if work.kind is _STEP_WORK:
            policy = self.program.at(work.statement).retry
        elif work.kind is _ACTIVITY_WORK:
            assert work.thread is not None
            activity = self._waiting(work.thread, work.statement).case.activity
            policy = None if activity is None else activity.retry
        else:
            return None
        return policy or self.workflow.default_retry

    # --- what an operator does -----------------------------------------------------------

    def cancel(self) -> None:
        """Cancels the instance: every thread leaves what it is in. It is canceled once all ``finally_`` sections have
        come to their end. The caller says before whether it may be."""
        execution = self.execution
        was_paused = execution.status is Status.PAUSED
        execution.pc += 1
        execution.canceling = True
        execution.buffer = []
        execution.status = _RUNNING
        for thread in list(execution.threads):
            # A branch is canceled by the thread that waits for it, unless that is in a finally_ section.
            if not thread.parent and thread in execution.threads and not execution.ended:
                self.cancel_thread(thread)
        if execution.threads and not execution.ended:
            self.summarize()
            if was_paused:
                self._schedule_again()

    def pause(self) -> None:
        """Nothing of the instance moves from now on."""
        self.execution.pc += 1
        self.execution.status = Status.PAUSED

    def unpause(self) -> None:
        """It goes on."""
        self.execution.pc += 1
        self.summarize()
        self._schedule_again()

    def _schedule_again(self) -> None:
        """What came of timers and activities during a pause was not heard."""
        for thread in self.execution.threads:
            for wait in thread.waits:
                if wait.kind in (WaitKind.TIMEOUT, _ACTIVITY):
                    wait.setup_data = None
                if wait.kind is _ACTIVITY:
                    start = None if self._due(wait.retry_at) else wait.retry_at
                    wait.deadline = self.attempt_ends(self.program.at(thread.step).cases[wait.event], start)

    # --- activities ----------------------------------------------------------------------

    def call_activity(self, accepted: Accepted, heartbeat: Any = None) -> Any:
        """Calls the function of an activity; what it returns may be awaitable."""
        spec, wait = accepted.case.activity, accepted.wait
        assert spec is not None and wait is not None
        arguments: list[Any] = []
        if spec.signature.takes_input:
            arguments.append(spec.signature.validate_json(wait.event, to_json(wait.input)))
        if spec.takes_context:
            execution = self.execution
            where = (execution.workflow, execution.id, accepted.thread.id, wait.event, wait.id, wait.attempt + 1)
            beat = {} if heartbeat is None else {"heartbeat": heartbeat}
            arguments.append(ActivityContext(*where, **beat, known_as=wait.known_as))
        return spec.function(*arguments)

    def activity(self, event: str, wait_id: str, attempt: int) -> Accepted | None:
        """Who waits for that attempt of an activity; None if nobody does any more."""
        accepted = self._wait_for(event, wait_id, _ACTIVITY)
        if accepted is None or accepted.wait is None or accepted.wait.attempt != attempt:
            return None
        return accepted

    def heartbeat(self, accepted: Accepted) -> None:
        """An attempt of an activity gives a sign of life, which puts its end off."""
        assert accepted.wait is not None
        self.execution.pc += 1
        accepted.wait.deadline = self.attempt_ends(accepted.case)

    def activity_failed(self, accepted: Accepted, error: ErrorInfo, retry_at: datetime | None) -> None:
        """An attempt of an activity has failed. It is tried again at ``retry_at``; None: it is given up."""
        self.execution.pc += 1
        wait = accepted.wait
        assert wait is not None
        if retry_at is None:
            self.throw(accepted.thread, error)
            return
        wait.attempt += 1
        wait.retry_at = retry_at
        wait.error = error.text
        wait.setup_data = None
        wait.deadline = self.attempt_ends(accepted.case, retry_at)

    # --- children ------------------------------------------------------------------------

    def child(self, event: str, wait_id: str) -> Accepted | None:
        """Who waits for the end of a child, or for its start; None if nobody does any more."""
        return self._wait_for(event, wait_id, WaitKind.CHILD)

    def child_failed(self, thread: Thread, event: str, error: ErrorInfo) -> None:
        """A child has failed, or was canceled, or could not be started."""
        self.execution.pc += 1
        self.leave_wait(thread, event)
        self.throw(thread, error)

    def _wait_for(self, event: str, wait_id: str, kind: WaitKind) -> Accepted | None:
        event = self.program.event(event)
        for thread in self.execution.threads:
            for wait in thread.waits:
                if wait.id == wait_id and wait.event == event and wait.kind is kind:
                    case = self.program.at(thread.step).cases.get(event)
                    return None if case is None or case.kind is not kind else Accepted(thread, case, wait_id, wait)
        return None

    # --- events --------------------------------------------------------------------------

    def accepted(self) -> Iterator[Accepted]:
        """The events that may be received now, timeouts included, in the order of the threads and cases."""
        for thread in self.execution.threads if self.execution.live else ():
            for event in self.program.at(thread.step).cases if thread.status in (_WAITING, _SETTING_UP) else ():
                if (one := self._accepts(thread, event)) is not None:
                    yield one

    def accept(
        self, event: str, thread_id: str | None = None, wait_id: str | None = None, pc: int | None = None
    ) -> Accepted:
        """The first thread that waits for the event, of the thread, wait and pc that are named, if they are.

        Raises:
            EventNotAccepted: there is none. Nothing is changed.
        """
        program = self.program
        if program.has_renamed:
            event = program.event(event)
        execution = self.execution
        status = execution.status
        for thread in execution.threads if status is _IDLE or status is _RUNNING else ():
            if (thread_id is None or thread.id == thread_id) and (pc is None or thread.pc == pc):
                one = self._accepts(thread, event)
                if one is not None and (wait_id is None or one.wait_id == wait_id):
                    return one
        detail = f" in thread {thread_id!r}" if thread_id else ""
        detail += f" under wait id {wait_id!r}" if wait_id else ""
        detail += f" for pc {pc}" if pc is not None else ""
        if detail:
            detail += self._elsewhere(event)
        raise EventNotAccepted(event, self.accepted_names(), status, detail)

    def _elsewhere(self, event: str) -> str:
        """By which threads and waits an event is accepted, where others were named."""
        waits = [
            f"{one.thread.id!r} under {one.wait_id!r}"
            for one in self.accepted()
            if one.case.event == event and one.case.kind in FROM_CLIENTS
        ]
        more = ", ..." if len(waits) > NAMED_WAITS_MAX else ""
        return f", but in thread {', '.join(waits[:NAMED_WAITS_MAX])}{more}" if waits else ""

    def accepted_names(self) -> list[str]:
        """The names of the events that may be received now, timeouts left out, each once."""
        return list(dict.fromkeys(one.case.event for one in self.accepted() if one.case.kind in FROM_CLIENTS))

    def _accepts(self, thread: Thread, event: str) -> Accepted | None:
        if thread.status is not _WAITING and thread.status is not _SETTING_UP:
            return None
        try:
            case = self.program.rests[thread.step].cases.get(event)
        except KeyError:
            raise self.program.unknown(thread.step) from None
        if case is None:
            return None
        for wait in thread.waits:
            if wait.event == event:
                return Accepted(thread, case, wait.id, wait) if wait.status is _SET_UP else None
        if case.kind is _EVENT:
            # A plain case that was added to the definition while the thread was parked: it needs no setup.
            return Accepted(thread, case, f"{thread.id}@{thread.pc}", None)
        return None

    def handle(self, accepted: Accepted, value: Any) -> Any:
        """Calls the handler with a validated input; its output may be awaitable for an ``EventHandler``."""
        case = accepted.case
        handler = case.handler
        self.touched = True
        if handler is not None:
            if case.takes_item:
                each = self.program.at(accepted.thread.step).each
                arguments = (self.workflow, value) if case.takes_input else (self.workflow,)
                return handler(*arguments, item=self.item(accepted.thread, each)[0])
            return handler(self.workflow, value) if case.takes_input else handler(self.workflow)
        if case.event_handler is not None:
            wait = accepted.wait
            assert wait is not None
            return case.event_handler.handle(self.request(wait, "handle"), value)
        return None

    def handle_json(self, accepted: Accepted, body: bytes) -> None:
        """Calls the handler, if there is one, of a result that comes as JSON."""
        signature = accepted.case.signature
        if signature is not None:
            self.handle(accepted, signature.validate_json(accepted.case.event, body) if signature.takes_input else None)

    def handled(self, accepted: Accepted) -> None:
        """The event has happened: its thread leaves the select and moves on behind the case."""
        self.execution.pc += 1
        self.allowances = None
        thread, case = accepted.thread, accepted.case
        self.leave_wait(thread, case.event)
        self.run(thread, case.entry)

    def buffers(self, event: str) -> bool:
        """Whether the event is kept if it comes before it is waited for."""
        cases = self.program.events.get(self.program.event(event), ())
        execution = self.execution
        return execution.live and not execution.canceling and any(case.buffered for _, case in cases)

    def kept_as(self, event: str) -> HandlerSignature:
        """The types of an event that is buffered."""
        cases = self.program.events[self.program.event(event)]
        signature = next(case.signature for _, case in cases if case.buffered)
        assert signature is not None
        return signature

    def comes_later(self, accepted: Accepted) -> bool:
        """Whether events of that name that came before are still to be delivered there."""
        wait = accepted.wait
        return wait is not None and wait.buffered and any(one.event == wait.event for one in self.execution.buffer)

    def buffer(self, event: str, input: str) -> None:
        """Keeps an event that nobody waits for yet; ``input`` is its JSON text."""
        self.execution.pc += 1
        self.execution.buffer.append(BufferedEvent(self.program.event(event), input, self.now))

    # --- contexts ------------------------------------------------------------------------

    def request(self, wait: Wait | Teardown, action: str) -> EventRequest:
        """What an ``EventHandler`` is told."""
        thread_id = wait.id.rpartition("@")[0]
        where = self.execution.id, thread_id, wait.id, wait.event
        return EventRequest(self.workflow, *where, wait.setup_data, action, wait.known_as)

    def _event_handler(self, select: str, event: str) -> Any:
        case = self.program.at(select).cases.get(event)
        if case is None or case.event_handler is None:
            raise self.program.unknown(event)
        return case.event_handler
