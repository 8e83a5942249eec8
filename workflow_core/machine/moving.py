"""How a thread moves: through control flow from one rest to the next, into waits and out of them, and out of sections
by failures and cancellation. The lower half of the machine; ``workflow_core.machine.interpreter`` says what is due.

It does no I/O, reads no clock and draws no random number. The functions of the workflow that only look at fields, or
change them, are called here; so are steps, but only where the caller asked for the short way (``through_steps``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from inspect import iscoroutine
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from workflow_core.errors import (
    AsyncInSyncCall,
    DefinitionError,
    DuplicateThread,
    ExecutionError,
    Failure,
    LoopLimitExceeded,
    UnknownStatement,
)
from workflow_core.events import StepContext, stable_key
from workflow_core.execution import (
    MAIN_THREAD,
    ErrorInfo,
    Execution,
    Leave,
    LeaveKind,
    Status,
    Teardown,
    Thread,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
)
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.renaming import rename
from workflow_core.program.program import Clause, Each, Function, Guard, Instruction, Op, Program, SelectCase
from workflow_core.retry import Retry
from workflow_core.signatures import OfItem
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.workflow import Workflow, check_version

MESSAGE_CHARS_MAX = 2_000
"""How much of an error's message is kept."""

CALENDAR_START, CALENDAR_END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""For moments that Python's calendar does not reach; with some room for what is added to them."""

MOVES_MAX = 10_000
"""How many instructions a thread may pass without a step or an event before it counts as an endless loop. The rounds
of a ``ForEach`` do not count, as it has an end; see ``workflow_core.machine.allowance``."""

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_EXECUTING = ThreadStatus.EXECUTING
_RESUMING = ThreadStatus.RESUMING
_SETTING_UP = ThreadStatus.SETTING_UP
_WAITING = ThreadStatus.WAITING
_STEP, _SELECT, _WAIT_FOR, _JUMP, _BRANCH, _GO, _END, _BRANCH_OF_ITEM, _OPEN, _EACH, _FORK, _FAIL, _LEAVE, _LEFT = Op
_CONDITION, _TIMEOUT, _EVENT = WaitKind.CONDITION, WaitKind.TIMEOUT, WaitKind.EVENT
_HANDLER, _ACTIVITY, _CHILD = WaitKind.HANDLER, WaitKind.ACTIVITY, WaitKind.CHILD
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_RUNNING, _IDLE, _FINISHED = Status.RUNNING, Status.WAITING, Status.FINISHED
_ERROR, _CANCEL = LeaveKind.ERROR, LeaveKind.CANCEL


class CheckpointKind(StrEnum):
    """A kind of transition: what is due, and what ``resume`` tells its checkpoint callback was done."""

    RESUME = "resume"
    """A thread was started, or started anew, and came to rest."""
    CONDITION = "condition"
    """A thread waited for a condition that holds now, or for threads that have ended, and moved on."""
    TEARDOWN = "teardown"
    SETUP = "setup"
    EVENT = "event"
    """An event that was buffered was delivered."""
    ACTIVITY = "activity"
    """An activity was run, by a caller that has nobody else to run it."""
    STEP = "step"
    TELL = "tell"
    """The parent of an instance that has ended was told."""


_STEP_WORK = CheckpointKind.STEP

Checkpoint = Callable[[CheckpointKind], object]
"""Called each time the state should be saved."""


class Mover:
    """One instance in memory, and how its threads move.

    Args:
        now: the current time, in UTC. Without it timeouts get no deadline, and waits for a next attempt count
            as over.
        alone: there is nobody else to run activities: they are due like steps.

    Attributes:
        touched: whether code that may change the fields was called; whoever saves them sets it back.

    Raises:
        UnknownStatement: the execution is one of another workflow.
        NewerVersion: it was saved by a newer version of the workflow.
        ValueError: ``now`` has no time zone.
    """

    __slots__ = ("allowances", "alone", "execution", "now", "program", "touched", "workflow")

    def __init__(
        self, workflow: Workflow, execution: Execution, now: datetime | None = None, *, alone: bool = False
    ) -> None:
        program: Program = workflow.__program__
        if execution.workflow != program.workflow:
            raise UnknownStatement(
                f"the execution is one of workflow {execution.workflow!r}, the fields are of "
                f"{program.workflow!r}: pass the two that belong together"
            )
        if now is not None and now.tzinfo is None:
            raise ValueError(f"now is {now}, which has no time zone: pass datetime.now(UTC)")
        if execution.fields_version != program.fields_version:
            check_version(type(workflow), execution.fields_version)
            execution.fields_version = program.fields_version
        if program.has_renamed:
            rename(execution, program)
        self.program = program
        self.workflow = workflow
        self.execution = execution
        self.now = now
        self.alone = alone
        self.touched = False
        self.allowances: dict[str, Allowance] | None = None
        """Of the threads that rest on a condition, or on branches; None after a step or an event."""

    def failed_step(self, thread: Thread, error: BaseException, retry_at: datetime | None) -> None:
        """Notes in a thread that its step has failed, and is tried again at ``retry_at``."""
        self.execution.pc += 1
        thread.attempt += 1
        thread.retry_at = retry_at
        thread.error = error_info(error, thread.step)

    # --- moving on -----------------------------------------------------------------------

    def run(
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
            through_steps: run the steps it comes to as well, until another thread is started; see
                ``Machine.run_alone``.
            checkpoint: called after each transition then.
            kind: the transition that is under way; None if the thread already rests on ``instruction``.
        """
        execution = self.execution
        workflow = self.workflow
        moves_left, allowance = MOVES_MAX, None
        if self.allowances is not None and (allowance := self.allowances.get(thread.id)) is not None:
            moves_left = allowance.left
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
                kind = _STEP_WORK
                try:
                    action = instruction.action
                    result = (
                        action(workflow, self.step_context(thread)) if instruction.takes_context else action(workflow)
                    )
                    if result is not None and iscoroutine(result):
                        result.close()
                        raise AsyncInSyncCall(f"{thread.step!r} returned a coroutine: call 'await aresume(...)'")
                except Exception as error:
                    if (
                        instruction.guard is None
                        or self.tries_again(instruction.retry, 1, error)
                        or not self.catches(thread, instruction, error)
                    ):
                        self.failed_step(thread, error, None)
                        raise
                    execution.pc = pc + 1
                    moves_left, allowance = MOVES_MAX, None
                    leave = Leave(_ERROR, error_info(error, instruction.name), instruction.name, pc)
                    landed = self._depart(thread, leave, instruction.guard)
                    if landed is None:
                        break
                    instruction = landed
                    continue
                execution.pc = pc + 1
                moves_left, allowance = MOVES_MAX, None
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
                    self._go(thread, instruction)
                    through_steps = False
                    instruction = instruction.next
                elif op is _WAIT_FOR:
                    if not self.value(thread, instruction, instruction.cond):
                        self._park(thread, instruction)
                        self._rested(thread, allowance, moves_left - 1)
                        break
                    if instruction.handler is not None:
                        self.touched = True
                        instruction.handler(workflow)
                    instruction = instruction.next
                elif op is _EACH:
                    allowance = allowance or Allowance()
                    allowance.left = moves_left
                    instruction = self._each(thread, instruction, allowance)
                    moves_left = allowance.left
                else:
                    if op is _FORK:
                        through_steps = False
                        landed = self._fork(thread, instruction, allowance or Allowance(), moves_left)
                    else:
                        landed = self._structured(thread, instruction)
                    if landed is None:
                        break
                    instruction = landed
                moves_left -= 1
                if not moves_left:
                    raise self._endless(thread, allowance)
            except BaseException as error:
                error.add_note(f"raised at {instruction.name!r} of workflow {self.program.workflow!r}")
                raise
        if checkpoint is not None and kind is not None:
            checkpoint(kind)

    def _rested(self, thread: Thread, allowance: Allowance | None, left: int) -> None:
        """Keeps what is left to a thread that rests on what may be true at once."""
        if left <= 0:
            raise self._endless(thread, allowance)
        allowance = allowance or Allowance()
        allowance.left, allowance.has_rested = left, True
        if self.allowances is None:
            self.allowances = {}
        self.allowances[thread.id] = allowance

    def _endless(self, thread: Thread, allowance: Allowance | None) -> LoopLimitExceeded:
        passed = f"thread {thread.id!r} passed {MOVES_MAX} instructions without reaching a step or a"
        if allowance is not None and allowance.has_rested:
            return LoopLimitExceeded(
                f"{passed}n event: a loop there never ends, or threads make each other's conditions true for ever; put "
                f"a Step or a Select on their way"
            )
        return LoopLimitExceeded(
            f"{passed} wait: a loop there never ends; put a Step, Select or WaitFor on every way through it"
        )

    def _each(self, thread: Thread, instruction: Instruction, allowance: Allowance) -> Instruction:
        """Where the thread goes on at the head of a ``ForEach``."""
        name = instruction.name
        position = thread.positions.get(name, -1) + 1
        total = len(self.items(thread, instruction))
        if allowance.round(name, position, total):
            allowance.left = allowance.rounds[name][0]
        if position >= total:
            thread.positions.pop(name, None)
            return instruction.other
        thread.positions[name] = position
        return instruction.next

    def _structured(self, thread: Thread, instruction: Instruction) -> Instruction | None:
        """Where the thread goes on after another instruction, such as those of ``Try`` and ``Fail``; None: it rests or
        has ended."""
        op, name = instruction.op, instruction.name
        if op is _BRANCH_OF_ITEM:
            holds = instruction.cond(self.workflow, self.item(thread, instruction.each)[0])
            return instruction.next if holds else instruction.other
        if op is _OPEN:
            thread.positions.pop(name, None)
            thread.pending.pop(name, None)
        elif op is _FAIL:
            message = str(self.value(thread, instruction, instruction.message))
            error = error_info(Failure(message), name)
            return self._depart(thread, Leave(_ERROR, error, name, self.execution.pc), instruction.guard)
        elif op is _LEAVE:
            assert instruction.guard is not None
            thread.pending[instruction.guard.name] = Leave(instruction.leave)
            return instruction.guard.cleanup
        else:
            leave = thread.pending.pop(name, None)
            if leave is not None and leave.kind in (_ERROR, _CANCEL):
                return self._depart(thread, leave, instruction.guard)
            if leave is not None:
                if leave.kind not in instruction.exits:
                    raise self.program.unknown(f"{leave.kind.value} out of {name}")
                return instruction.exits[leave.kind]
        return instruction.next

    # --- functions of the workflow, and items --------------------------------------------

    def value(self, thread: Thread, instruction: Instruction, function: Function | Any) -> Any:
        """A plain value, or what a function of the workflow gives."""
        if isinstance(function, OfItem):
            return function.function(self.workflow, self.item(thread, instruction.each)[0])
        return function(self.workflow) if callable(function) else function

    def items(self, thread: Thread, instruction: Instruction | Each) -> Sequence[Any]:
        """The items of a ``ForEach``."""
        function = instruction.items
        assert function is not None
        if isinstance(function, OfItem):
            outer = instruction.outer if isinstance(instruction, Each) else instruction.each
            items = function.function(self.workflow, self.item(thread, outer)[0])
        else:
            items = function(self.workflow)
        if isinstance(items, (set, frozenset)) or not hasattr(items, "__iter__"):
            raise ExecutionError(
                f"ForEach {instruction.name!r}: its items are {items!r:.100}, which has no order: return a list"
            )
        return items if isinstance(items, Sequence) else list(items)

    def item(self, thread: Thread, each: Each | None) -> tuple[Any, int | None]:
        """The item of the innermost ``ForEach`` in which the thread is, and its position."""
        if each is None:
            return None, None
        position = thread.positions.get(each.name, 0)
        items = self.items(thread, each)
        if position >= len(items):
            raise ExecutionError(
                f"ForEach {each.name!r}: item {position} of {len(items)} is gone: let the collection not shrink while "
                f"its items are worked on"
            )
        return items[position], position

    def step_context(self, thread: Thread) -> StepContext:
        """What the step that the thread stands on is told."""
        execution = self.execution
        instruction = self.program.rests[thread.step]
        where = (execution.workflow, execution.id, thread.id, thread.step, thread.pc, thread.attempt + 1)
        if instruction.each is None and not instruction.caught:
            return StepContext(*where)
        return StepContext(*where, *self.item(thread, instruction.each), thread.errors.get(instruction.caught))

    # --- waits ---------------------------------------------------------------------------

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
                if case.buffered:
                    waits[-1].buffered = True
            elif kind is _TIMEOUT:
                waits.append(Wait(case.event, kind, _SET_UP, wait_id, self._deadline(thread, instruction, case)))
            elif kind is _ACTIVITY:
                input = self._activity_input(thread, instruction, case)
                waits.append(Wait(case.event, kind, _SET_UP, wait_id, self.attempt_ends(case), input=input))
            else:
                waits.append(Wait(case.event, kind, _PENDING_SETUP, wait_id))
                status = _SETTING_UP
                if kind is _CHILD:
                    waits[-1].input = self._child_input(thread, instruction, case, wait_id)
        if not waits:
            waits.append(Wait(instruction.name, _CONDITION, _SET_UP, wait_id))
        thread.status = status
        thread.step = instruction.name
        thread.pc = pc
        thread.waits = waits
        if len(execution.threads) == 1:
            execution.status = _IDLE if status is _WAITING else _RUNNING
        else:
            self.summarize()

    def _deadline(self, thread: Thread, instruction: Instruction, case: SelectCase) -> datetime | None:
        delay = self.value(thread, instruction, case.delay)
        try:
            if isinstance(delay, timedelta):
                return None if self.now is None else self.now + delay
            if isinstance(delay, datetime) and delay.tzinfo is not None:
                return delay.astimezone(UTC)
        except OverflowError:  # beyond the calendar
            is_ahead = delay > timedelta() if isinstance(delay, timedelta) else delay.year > 1
            return CALENDAR_END if is_ahead else CALENDAR_START
        raise DefinitionError(
            f"{'Sleep' if case.event == instruction.name else 'Timeout'} {case.event!r}",
            f"its delay function returned {delay!r}",
            "Let it return a timedelta, or a datetime with a time zone.",
        )

    def attempt_ends(self, case: SelectCase, start: datetime | None = None) -> datetime | None:
        """When an attempt of an activity that is due at ``start`` (None: now) counts as failed."""
        assert case.activity is not None
        start = start or self.now
        return start and start + (case.activity.timeout or case.activity.heartbeat or ACTIVITY_TIMEOUT)

    def _activity_input(self, thread: Thread, instruction: Instruction, case: SelectCase) -> Any:
        assert case.activity is not None
        if not case.activity.signature.takes_input:
            return None
        function = case.activity.input
        value = (
            self.item(thread, instruction.each)[0] if function is None else self.value(thread, instruction, function)
        )
        return _json(value, f"the input of activity {case.event!r}")

    def _child_input(self, thread: Thread, instruction: Instruction, case: SelectCase, wait_id: str) -> Any:
        spec = case.child
        assert spec is not None
        id = self.value(thread, instruction, spec.id)
        if id is None:
            id = stable_key(self.execution.workflow, self.execution.id, wait_id, case.event)
        fields = {} if spec.input is None else self.value(thread, instruction, spec.input)
        if isinstance(fields, Workflow):
            fields = json.loads(fields.dump_fields())
        elif isinstance(fields, BaseModel):
            fields = fields.model_dump(mode="json")
        fields = _json(fields, f"the input of child {case.event!r}")
        return {"workflow": spec.workflow, "id": str(id), "fields": fields, "detached": spec.detached}

    def rest(self, thread: Thread) -> None:
        """Says whether a parked thread still has events to set up."""
        pending = any(
            wait.status is _PENDING_SETUP or (wait.status is not _SET_UP and wait.retry_at) for wait in thread.waits
        )
        thread.status = _SETTING_UP if pending else _WAITING

    def leave_wait(self, thread: Thread, event: str | None = None) -> None:
        """Leaves a wait: what an outside system may know of is to be torn down, even if its setup never ended."""
        for wait in thread.waits:
            kind = wait.kind
            if kind is _HANDLER:
                self.execution.teardowns.append(
                    Teardown(
                        thread.step,
                        wait.event,
                        wait.id,
                        wait.event == event,
                        wait.setup_data,
                        known_as=wait.known_as,
                    )
                )
            elif kind is _CHILD and wait.event != event:
                child = wait.input
                if wait.status is _SET_UP:
                    child = {"workflow": child["workflow"], "id": child["id"]}
                self.execution.teardowns.append(
                    Teardown(thread.step, wait.event, wait.id, False, child, kind=WaitKind.CHILD)
                )
        thread.waits = []

    # --- threads -------------------------------------------------------------------------

    def _go(self, thread: Thread, instruction: Instruction) -> None:
        id = instruction.id
        if id is None:
            id = self._own_id(instruction.name)
        elif not isinstance(id, str):
            value = self.value(thread, instruction, id)
            id = str(value)
            if value is None or not id:
                raise ExecutionError(f"Go {instruction.name!r}: its id function returned {value!r}: return a text")
        self._start(thread, id, instruction.name, is_taken=self.execution.thread(id) is not None)

    def _own_id(self, name: str) -> str:
        """The id of the one thread of a ``Go``: its name, or that under which it lives since before it was renamed."""
        renamed = self.program.renamed
        former = (one.id for one in self.execution.threads if renamed.get(one.id) == name) if renamed else ()
        return next(iter(former), name)

    def _start(self, by: Thread, id: str, name: str, *, is_taken: bool) -> Thread:
        if is_taken:
            raise DuplicateThread(
                f"Go {name!r}: a thread {id!r} still lives; give each thread an id of its own: "
                f"Go(name, ..., id=lambda w: ...)"
            )
        thread = Thread(id, name, positions=dict(by.positions), errors=dict(by.errors))
        self.execution.threads.append(thread)
        return thread

    def _fork(
        self, thread: Thread, instruction: Instruction, allowance: Allowance, moves_left: int
    ) -> Instruction | None:
        """Starts the threads of a parallel statement that may run now; parks the thread while any of them lives."""
        name, branches = instruction.name, instruction.branches
        live = len(self._children(thread))
        is_progress = False
        if thread.leaving is None:
            has_items = instruction.items is not None
            total = len(self.items(thread, instruction)) if has_items else len(branches)
            first = position = thread.positions.get(name, 0)
            most = total if instruction.limit is None else min(total, position + instruction.limit - live)
            taken = {one.id for one in self.execution.threads} if position < most else ()
            while position < most:
                branch = branches[0] if has_items else branches[position]
                id = f"{branch}[{position}]" if has_items else branch
                id = id if thread.id == MAIN_THREAD else f"{thread.id}/{id}"
                child = self._start(thread, id, branch, is_taken=id in taken)
                child.parent = thread.id
                if has_items:
                    child.positions[name] = position
                position, live = position + 1, live + 1
            thread.positions[name] = position
            allowance.left = moves_left
            if not first:
                allowance.rounds.pop(name, None)
            is_progress = position > first and allowance.round(name, position, total)
        if live:
            self._park(thread, instruction)
            self._rested(thread, allowance, moves_left if is_progress else moves_left - 1)
            return None
        thread.positions.pop(name, None)
        leave, thread.leaving = thread.leaving, None
        return instruction.next if leave is None else self._depart(thread, leave, instruction.guard)

    def can_fork(self, thread: Thread, instruction: Instruction, live: int) -> bool:
        """Whether a thread that waits for so many live branches has something to do."""
        if not live or thread.leaving is not None or instruction.limit is None or live >= instruction.limit:
            return not live
        return thread.positions.get(instruction.name, 0) < len(self.items(thread, instruction))

    def live_branches(self) -> Counter[str]:
        """How many threads have been started, and are waited for, by the thread of an id."""
        return Counter([thread.parent for thread in self.execution.threads])

    def _children(self, thread: Thread) -> list[Thread]:
        return [one for one in self.execution.threads if one.parent == thread.id]

    def _end(self, thread: Thread) -> None:
        execution = self.execution
        if thread.id == MAIN_THREAD and not execution.canceling:
            for other in execution.threads:
                if other.waits:
                    self.leave_wait(other)
            self._finish(_FINISHED)
            return
        self.leave_wait(thread)
        # By identity: list.remove compares all that threads hold, for each thread before this one.
        for index, other in enumerate(execution.threads):
            if other is thread:
                del execution.threads[index]
                break
        if self.allowances:
            self.allowances.pop(thread.id, None)
        if execution.threads or not execution.canceling:
            self.summarize()
        else:
            self._finish(Status.CANCELED)

    def _finish(self, status: Status) -> None:
        execution = self.execution
        execution.threads = []
        execution.buffer = []
        execution.canceling = False
        execution.status = status

    def summarize(self) -> None:
        """Says whether any thread can move."""
        execution = self.execution
        status = _IDLE
        for thread in reversed(execution.threads):  # those that have just been started stand at the end
            if thread.status is not _WAITING:
                status = _RUNNING
                break
        execution.status = status

    def start_of(self, thread: Thread) -> Instruction:
        """What the thread stands on, or starts with."""
        program = self.program
        if thread.step:
            return program.at(thread.step)
        try:
            return program.code[program.entries[thread.name]]
        except KeyError:
            raise program.unknown(thread.name) from None

    # --- failures and cancellation -------------------------------------------------------

    def tries_again(self, policy: Retry | None, failures: int, error: BaseException) -> bool:
        """Whether the definition says that what has failed that often, the last time with ``error``, is tried again.

        Args:
            policy: the statement's own.
        """
        policy = policy or self.workflow.default_retry
        return policy is not None and policy.delay(failures, error) is not None

    def catches(self, thread: Thread, instruction: Instruction, error: BaseException) -> bool:
        """Whether a failure at the instruction is caught, or passes a ``finally_`` section on its way out."""
        return self._is_caught(thread, instruction.guard, error_info(error, instruction.name))

    def _is_caught(self, thread: Thread, guard: Guard | None, error: ErrorInfo) -> bool:
        doomed = self._is_doomed(thread)
        while guard is not None:
            if guard.cleanup_at >= 0 or self._clause(guard, error, doomed) is not None:
                return True
            guard = guard.outer
        parent = self.execution.thread(thread.parent) if thread.parent else None
        return parent is not None and self._is_caught(parent, self.start_of(parent).guard, error)

    def _clause(self, guard: Guard, error: ErrorInfo, doomed: bool) -> Clause | None:
        """The ``except_`` section that catches the error. One in a cleanup does not call a cancellation off: only a
        ``Try`` in that cleanup can catch it."""
        for clause in guard.clauses if guard.region or not doomed else ():
            if clause.names is None or not clause.names.isdisjoint(error.bases):
                return clause
        return None

    def throw(self, thread: Thread, error: ErrorInfo) -> None:
        """What the thread stands on has failed for good: it goes on where that is caught, or fails."""
        self.allowances = None
        landed = self._depart(thread, Leave(_ERROR, error, thread.step, thread.pc), self.start_of(thread).guard)
        if landed is not None:
            self.run(thread, landed)

    def cancel_thread(self, thread: Thread) -> None:
        """Takes a thread out of all that it is in, past its ``finally_`` sections; one that is in one runs it to its
        end first."""
        leave = Leave(_CANCEL)
        instruction = self.start_of(thread)
        if instruction.region:
            thread.pending[instruction.region] = leave
            return
        if not thread.step:
            self._end(thread)
            return
        if instruction.op is _FORK and (children := self._children(thread)):
            thread.leaving = leave
            for child in children:
                self.cancel_thread(child)
            return
        thread.leaving = None  # its branches have failed and ended, and it has not moved on since
        landed = self._depart(thread, leave, instruction.guard)
        if landed is not None:
            self.run(thread, landed)

    def _depart(self, thread: Thread, leave: Leave, guard: Guard | None) -> Instruction | None:
        """Takes a thread out of the sections around it. Gives where it goes on; None if it has ended by that."""
        error = leave.error
        doomed = leave.kind is _CANCEL or self._is_doomed(thread)
        while guard is not None:
            if error is not None and (clause := self._clause(guard, error, doomed)) is not None:
                self._land(thread)
                thread.errors[clause.name] = error
                if clause.then is not None:
                    self.touched = True
                    clause.then(self.workflow, error)
                return clause.entry
            if guard.cleanup_at >= 0:
                self._land(thread)
                thread.pending[guard.name] = leave
                return guard.cleanup
            guard = guard.outer
        if error is None:
            self._end(thread)
        elif thread.parent:
            self._fail_branch(thread, error)
        else:
            # Where it can be repaired: not at the end of the last finally_ section that it has passed.
            thread.step, thread.pc = leave.step, leave.pc
            failed = self.program.rests.get(leave.step)
            thread.status = _EXECUTING if failed is not None and failed.op is _STEP else _RESUMING
            self.fail_with(error)
        return None

    def _is_doomed(self, thread: Thread) -> bool:
        """Whether the thread is canceled: with the instance, or because another branch has failed."""
        return any(leave.kind is _CANCEL for leave in thread.pending.values())

    def _land(self, thread: Thread) -> None:
        self.leave_wait(thread)
        thread.attempt = 0
        thread.retry_at = thread.error = None

    def _fail_branch(self, thread: Thread, error: ErrorInfo) -> None:
        """A branch has failed: the others are canceled, and then whoever waits for them fails."""
        parent = self.execution.thread(thread.parent)
        self._end(thread)
        if parent is None:
            return
        if parent.leaving is not None:
            if parent.leaving.error is None:
                # In a cleanup, while all were canceled: whoever waits for them is, but not as if nothing had happened.
                parent.leaving = Leave(_CANCEL, error, parent.step, parent.pc)
            return
        parent.leaving = Leave(_ERROR, error, parent.step, parent.pc)
        for other in self._children(parent):
            self.cancel_thread(other)

    def fail_with(self, error: ErrorInfo) -> None:
        """Ends the instance as failed. Its threads stay where they stand; their events are to be torn down."""
        execution = self.execution
        execution.status = Status.FAILED
        execution.error = error
        for thread in execution.threads:
            self.leave_wait(thread)
            if thread.status in (_WAITING, _SETTING_UP):
                thread.status = _RESUMING


def _json(value: Any, what: str) -> Any:
    try:
        return json.loads(to_json(value))
    except PydanticSerializationError as error:
        raise ExecutionError(f"{what} cannot be JSON: {error}") from error


def error_info(error: BaseException, statement: str) -> ErrorInfo:
    """An error as it is kept with an instance."""
    bases = [
        f"{one.__module__}.{one.__qualname__}"
        for one in type(error).__mro__
        if one not in (Exception, BaseException, object)
    ]
    return ErrorInfo(type(error).__name__, _message(error), statement, bases)


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
