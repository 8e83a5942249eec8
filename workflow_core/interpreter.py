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

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from inspect import iscoroutine
from typing import Any

from workflow_core.errors import (
    AsyncInSyncCall,
    DefinitionError,
    DuplicateThread,
    EventNotAccepted,
    ExecutionError,
    LoopLimitExceeded,
    UnknownStatement,
)
from workflow_core.events import EventRequest, StepContext
from workflow_core.execution import (
    MAIN_THREAD,
    ErrorInfo,
    Execution,
    Status,
    Teardown,
    Thread,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
)
from workflow_core.program import Instruction, Op, Program, SelectCase
from workflow_core.signatures import is_async
from workflow_core.workflow import Workflow

MESSAGE_CHARS_MAX = 2_000
"""How much of an error's message is kept."""

MOVES_MAX = 10_000
"""How many instructions a thread may pass in one transition before it counts as an endless loop."""

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_EXECUTING = ThreadStatus.EXECUTING
_RESUMING = ThreadStatus.RESUMING
_SETTING_UP = ThreadStatus.SETTING_UP
_WAITING = ThreadStatus.WAITING
_STEP, _SELECT, _WAIT_FOR, _JUMP, _BRANCH, _GO, _END = Op
_CONDITION, _HANDLER, _TIMEOUT, _EVENT = WaitKind.CONDITION, WaitKind.HANDLER, WaitKind.TIMEOUT, WaitKind.EVENT
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING


class CheckpointKind(StrEnum):
    """A kind of transition: what is due, and what ``resume`` tells its checkpoint callback was done."""

    RESUME = "resume"
    """A thread was started, or started anew, and came to rest."""
    CONDITION = "condition"
    """A thread waited for a condition that holds now, and moved on."""
    TEARDOWN = "teardown"
    SETUP = "setup"
    STEP = "step"


MOVES = (CheckpointKind.RESUME, CheckpointKind.CONDITION)
"""The kinds that ``done`` performs without a ``call``."""


Checkpoint = Callable[[CheckpointKind], object]
"""Called each time the state should be saved."""

_STEP_WORK, _RESUME_WORK = CheckpointKind.STEP, CheckpointKind.RESUME


@dataclass(slots=True)
class Work:
    """One thing that is due: of ``thread`` (None for a teardown), on ``wait`` (a setup or a teardown)."""

    kind: CheckpointKind
    thread: Thread | None
    wait: Wait | Teardown | None

    @property
    def attempt(self) -> int:
        """How often it has failed so far."""
        return (self.wait or self.thread).attempt  # type: ignore[union-attr]

    @property
    def statement(self) -> str:
        """The name of the step, or of the event."""
        return self.wait.event if self.wait is not None else self.thread.step  # type: ignore[union-attr]


@dataclass(slots=True)
class Accepted:
    """An event that may be received now: ``thread`` waits for it under ``wait_id``."""

    thread: Thread
    case: SelectCase
    wait_id: str
    wait: Wait | None


class Machine:
    """One instance in memory.

    Args:
        now: the current time, in UTC. Without it timeouts get no deadline, and waits for a next attempt count
            as over.
    """

    __slots__ = ("execution", "moves", "now", "program", "workflow")

    def __init__(self, workflow: Workflow, execution: Execution, now: datetime | None = None) -> None:
        program: Program = workflow.__program__
        if execution.workflow != program.workflow:
            raise UnknownStatement(
                f"the execution is one of workflow {execution.workflow!r}, the fields are of "
                f"{program.workflow!r}: pass the two that belong together"
            )
        self.program = program
        self.workflow = workflow
        self.execution = execution
        self.now = now
        self.moves = 0

    # --- what is due ---------------------------------------------------------------------

    def next_work(self) -> Work | None:
        """What is to be done next: moves first, then teardowns, setups, and at last a step. None: all blocked."""
        execution = self.execution
        step: Work | None = None
        setup: Work | None = None
        status = execution.status
        for thread in execution.threads if status is _RUNNING or status is _IDLE else ():
            thread_status = thread.status
            if thread_status is _WAITING:
                waits = thread.waits
                if waits and waits[0].kind is _CONDITION and self._holds(self.program.at(thread.step)):
                    return Work(CheckpointKind.CONDITION, thread, None)
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
        return setup or step

    def _holds(self, instruction: Instruction) -> bool:
        try:
            return instruction.op is not _WAIT_FOR or bool(instruction.cond(self.workflow))
        except Exception as error:
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

    def check(self) -> None:
        """Whether the definition still has every statement that a thread stands on.

        Raises:
            UnknownStatement: it has not.
        """
        for thread in self.execution.threads:
            self._instruction(thread)

    def tick(self) -> None:
        """Counts a save that changes nothing but who holds the instance."""
        self.execution.pc += 1

    # --- performing it -------------------------------------------------------------------

    def call(self, work: Work) -> Any:
        """Calls the user's code that ``work`` stands for; what it returns may be awaitable.

        Raises:
            UnknownStatement: the definition no longer has the statement.
            Exception: whatever the user's code raises.
        """
        thread = work.thread
        if work.kind is _STEP_WORK:
            assert thread is not None
            instruction = self.program.step(thread.step)
            if instruction.takes_context:
                return instruction.action(self.workflow, self.step_context(thread))
            return instruction.action(self.workflow)
        wait = work.wait
        if isinstance(wait, Teardown):
            handler = self._event_handler(wait.step, wait.event)
            return handler.teardown(self.request(wait, "teardown"), wait.handled)
        assert wait is not None and thread is not None
        return self._event_handler(thread.step, wait.event).setup(self.request(wait, "setup"))

    def is_async(self, work: Work) -> bool:
        """Whether the user's code behind ``work`` is a coroutine function."""
        wait = work.wait
        if wait is None:
            return is_async(self.program.at(work.thread.step).action)  # type: ignore[union-attr]
        select = wait.step if isinstance(wait, Teardown) else work.thread.step  # type: ignore[union-attr]
        handler = self._event_handler(select, wait.event)
        return is_async(handler.teardown if isinstance(wait, Teardown) else handler.setup)

    def done(self, work: Work, result: Any = None) -> None:
        """The work was performed; ``result`` is what the user's code returned."""
        execution = self.execution
        execution.pc += 1
        kind = work.kind
        thread = work.thread
        if kind is _STEP_WORK:
            assert thread is not None
            if thread.attempt:
                thread.attempt = 0
                thread.retry_at = thread.error = None
            self.moves = 0
            self._run(thread, self.program.step(thread.step).next)
            return
        wait = work.wait
        if wait is None:
            assert thread is not None
            self.moves += 1
            if self.moves > MOVES_MAX:
                raise LoopLimitExceeded(
                    f"after {MOVES_MAX} moves thread {thread.id!r} goes on at {thread.step!r} without a step: two "
                    f"threads make each other's conditions true for ever; put a Step or a Select on their way"
                )
            if thread.waits:
                self._leave(thread)
            self._run(thread, self._instruction(thread))
        elif isinstance(wait, Teardown):
            execution.teardowns.remove(wait)
        else:
            assert thread is not None
            wait.status, wait.setup_data = _SET_UP, result
            wait.attempt, wait.retry_at, wait.error = 0, None, None
            self._rest(thread)
            self._summarize()

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
        if len(threads) != 1 or execution.status is not _RUNNING or execution.teardowns:
            return False
        thread = threads[0]
        if thread.attempt or thread.retry_at is not None or thread.waits:
            return False
        if thread.status is _RESUMING:
            execution.pc += 1
            self._run(thread, self._instruction(thread), True, checkpoint, _RESUME_WORK)
        else:
            step = self.program.rests.get(thread.step)
            if step is None or step.op is not _STEP or thread.pc != execution.pc:
                return False
            self._run(thread, step, True, checkpoint)
        waits = thread.waits
        if execution.status is _RUNNING or execution.teardowns:
            return False
        return not waits or waits[0].kind is not _CONDITION

    def failed(self, work: Work, error: BaseException, retry_at: datetime | None = None) -> None:
        """The work has failed; it is tried again at ``retry_at``, or, for a setup or teardown, given up if None.

        A step without a next attempt stays due; whether the instance fails is said with ``fail``.
        """
        self.execution.pc += 1
        thread, wait = work.thread, work.wait
        if work.kind is _STEP_WORK:
            assert thread is not None
            thread.attempt += 1
            thread.retry_at = retry_at
            thread.error = error_info(error, thread.step)
            return
        assert wait is not None
        wait.status = WaitStatus.TEARDOWN_ERROR if thread is None else WaitStatus.SETUP_ERROR
        wait.attempt += 1
        wait.retry_at = retry_at
        wait.error = error_text(error)
        if thread is not None:
            self._rest(thread)
            self._summarize()

    def retry_errors(self) -> None:
        """Makes setups and teardowns that have failed due again."""
        for thread in self.execution.threads:
            for wait in thread.waits:
                if wait.error is not None:
                    wait.status = _PENDING_SETUP
                    thread.status = _SETTING_UP
        for teardown in self.execution.teardowns:
            teardown.status = WaitStatus.PENDING_TEARDOWN

    def fail(self, error: BaseException, statement: str = "") -> None:
        """Ends the instance as failed. Its threads stay where they stand; their events are to be torn down."""
        execution = self.execution
        execution.pc += 1
        execution.status = Status.FAILED
        execution.error = error_info(error, statement)
        for thread in execution.threads:
            self._leave(thread)
            if thread.status in (_WAITING, _SETTING_UP):
                thread.status = _RESUMING

    # --- events --------------------------------------------------------------------------

    def accepted(self) -> Iterator[Accepted]:
        """The events that may be received now, timeouts included, in the order of the threads and cases."""
        for thread in () if self.execution.ended else self.execution.threads:
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
        raise EventNotAccepted(event, self.accepted_names(), status, detail)

    def accepted_names(self) -> list[str]:
        """The names of the events that may be received now, timeouts left out, each once."""
        return list(dict.fromkeys(one.case.event for one in self.accepted() if one.case.kind is not _TIMEOUT))

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
        if handler is not None:
            return handler(self.workflow, value) if case.takes_input else handler(self.workflow)
        if case.event_handler is not None:
            wait = accepted.wait
            assert wait is not None
            return case.event_handler.handle(self.request(wait, "handle"), value)
        return None

    def handled(self, accepted: Accepted) -> None:
        """The event has happened: its thread leaves the select and moves on behind the case."""
        self.execution.pc += 1
        thread, case = accepted.thread, accepted.case
        self._leave(thread, case.event)
        self._run(thread, case.entry)

    # --- contexts ------------------------------------------------------------------------

    def step_context(self, thread: Thread) -> StepContext:
        """What the step that the thread stands on is told."""
        execution = self.execution
        return StepContext(execution.workflow, execution.id, thread.id, thread.step, thread.pc, thread.attempt + 1)

    def request(self, wait: Wait | Teardown, action: str) -> EventRequest:
        """What an ``EventHandler`` is told."""
        thread_id = wait.id.rpartition("@")[0]
        return EventRequest(self.workflow, self.execution.id, thread_id, wait.id, wait.event, wait.setup_data, action)

    def _event_handler(self, select: str, event: str) -> Any:
        case = self.program.at(select).cases.get(event)
        if case is None or case.event_handler is None:
            raise self.program.unknown(event)
        return case.event_handler

    # --- moving a thread -----------------------------------------------------------------

    def _run(
        self,
        thread: Thread,
        instruction: Instruction,
        through_steps: bool = False,
        checkpoint: Checkpoint | None = None,
        kind: CheckpointKind | None = None,
    ) -> None:
        """Moves the thread from an instruction on until it rests or ends.

        Steps are run in this same loop because calls are what an interpreter in Python spends its time on.

        Args:
            through_steps: run the steps it comes to as well, until another thread is started; see ``run_alone``.
            checkpoint: called after each transition then.
            kind: the transition that is under way; None if the thread already rests on ``instruction``.
        """
        execution = self.execution
        workflow = self.workflow
        moves_left = MOVES_MAX
        while True:
            op = instruction.op
            if op is _STEP:
                pc = execution.pc
                thread.status = _EXECUTING
                thread.step = instruction.name
                thread.pc = pc
                execution.status = _RUNNING
                if not through_steps:
                    break
                if checkpoint is not None and kind is not None:
                    checkpoint(kind)
                    if execution.pc != pc or execution.status is not _RUNNING:
                        return  # the callback has moved or ended the instance
                try:
                    action = instruction.action
                    result = (
                        action(workflow, self.step_context(thread)) if instruction.takes_context else action(workflow)
                    )
                    if result is not None and iscoroutine(result):
                        result.close()
                        raise AsyncInSyncCall(f"{thread.step!r} returned a coroutine: call 'await aresume(...)'")
                except Exception as error:
                    self.failed(Work(_STEP_WORK, thread, None), error)
                    raise
                execution.pc = pc + 1
                kind = _STEP_WORK
                moves_left = MOVES_MAX
                instruction = instruction.next
                continue
            try:
                if op is _BRANCH:
                    cond = instruction.cond  # bound first: CPython is slow to call what it finds in a slot
                    instruction = instruction.next if cond(workflow) else instruction.other
                elif op is _SELECT:
                    self._park(thread, instruction)
                    break
                elif op is _END:
                    self._end(thread)
                    break
                elif op is _JUMP:
                    instruction = instruction.other
                elif op is _GO:
                    self._start(instruction)
                    through_steps = False
                    instruction = instruction.next
                elif instruction.cond(workflow):
                    if instruction.handler is not None:
                        instruction.handler(workflow)
                    instruction = instruction.next
                else:
                    self._park(thread, instruction)
                    break
                moves_left -= 1
                if not moves_left:
                    raise LoopLimitExceeded(
                        f"thread {thread.id!r} passed {MOVES_MAX} instructions without reaching a step or a wait: a "
                        f"loop there never ends; put a Step, Select or WaitFor on every way through it"
                    )
            except Exception as error:
                error.add_note(f"raised at {instruction.name!r} of workflow {self.program.workflow!r}")
                raise
        if checkpoint is not None and kind is not None:
            checkpoint(kind)

    def _park(self, thread: Thread, instruction: Instruction) -> None:
        execution = self.execution
        pc = execution.pc
        wait_id = f"{thread.id}@{pc}"
        status = _WAITING
        waits: list[Wait] = []
        for case in instruction.cases.values():
            kind = case.kind
            if kind is _EVENT:
                waits.append(Wait(case.event, kind, _SET_UP, wait_id))
            elif kind is _TIMEOUT:
                waits.append(Wait(case.event, kind, _SET_UP, wait_id, self._deadline(case)))
            else:
                waits.append(Wait(case.event, kind, _PENDING_SETUP, wait_id))
                status = _SETTING_UP
        if not waits:
            waits.append(Wait(instruction.name, _CONDITION, _SET_UP, wait_id))
        thread.status = status
        thread.step = instruction.name
        thread.pc = pc
        thread.waits = waits
        if len(execution.threads) == 1:
            execution.status = _IDLE if status is _WAITING else _RUNNING
        else:
            self._summarize()

    def _deadline(self, case: SelectCase) -> datetime | None:
        delay = case.delay
        if not isinstance(delay, timedelta):
            delay = delay(self.workflow)
            if not isinstance(delay, timedelta):
                raise DefinitionError(
                    f"Timeout {case.event!r}", f"its delay function returned {delay!r}", "Let it return a timedelta."
                )
        return None if self.now is None else self.now + delay

    def _rest(self, thread: Thread) -> None:
        """Whether a parked thread still has events to set up."""
        pending = any(
            wait.status is _PENDING_SETUP or (wait.status is not _SET_UP and wait.retry_at) for wait in thread.waits
        )
        thread.status = _SETTING_UP if pending else _WAITING

    def _leave(self, thread: Thread, event: str | None = None) -> None:
        """Leaves a wait: what an outside system may know of is to be torn down, even if its setup never ended."""
        for wait in thread.waits:
            if wait.kind is _HANDLER:
                self.execution.teardowns.append(
                    Teardown(thread.step, wait.event, wait.id, wait.event == event, wait.setup_data)
                )
        thread.waits = []

    def _start(self, instruction: Instruction) -> None:
        id = instruction.id
        if id is None:
            id = instruction.name
        elif not isinstance(id, str):
            value = id(self.workflow)
            id = str(value)
            if value is None or not id:
                raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}: return a text")
        if self.execution.thread(id) is not None:
            raise DuplicateThread(
                f"Go {instruction.name!r}: a thread {id!r} still lives; give each thread an id of its own: "
                f"Go(name, ..., id=lambda w: ...)"
            )
        self.execution.threads.append(Thread(id, instruction.name))

    def _instruction(self, thread: Thread) -> Instruction:
        """What the thread stands on, or starts with."""
        program = self.program
        if thread.step:
            return program.at(thread.step)
        try:
            return program.code[program.entries[thread.name]]
        except KeyError:
            raise program.unknown(thread.name) from None

    def _end(self, thread: Thread) -> None:
        execution = self.execution
        if thread.id != MAIN_THREAD:
            execution.threads.remove(thread)
            self._summarize()
            return
        for other in execution.threads:
            self._leave(other)
        execution.threads = []
        execution.status = Status.FINISHED

    def _summarize(self) -> None:
        execution = self.execution
        status = _IDLE
        for thread in execution.threads:
            if thread.status is not _WAITING:
                status = _RUNNING
                break
        execution.status = status


def error_info(error: BaseException, statement: str) -> ErrorInfo:
    """An error as it is kept with an instance."""
    return ErrorInfo(type(error).__name__, _message(error), statement)


def error_text(error: BaseException) -> str:
    """An error in one line: its type and its message."""
    return f"{type(error).__name__}: {_message(error)}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as raised:
        text = f"(its message cannot be had: str() raised {type(raised).__name__})"
    # It may hold what is no valid Unicode, such as the name of a file, and is to be saved as JSON.
    return text[:MESSAGE_CHARS_MAX].encode(errors="backslashreplace").decode()[:MESSAGE_CHARS_MAX]
