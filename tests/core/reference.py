"""A naive executor of definitions, written independently of the interpreter, for the property tests to compare with.

Children need an engine. Here, a thread only rests on them; ``tests.simulation`` covers the rest.

The executor walks the tree of statements: each thread is a generator that stops at a step or a wait. Nothing is
compiled and nothing can be saved. A failure is thrown into the generator of its thread, where Python's own ``try``
implements ``Try``; a cancellation is thrown in the same way. ``resume`` contains the order that the interpreter
promises:

1. Threads are listed in the order in which they were started. A new thread begins in a transition of its own, after the
   thread that started it has come to rest.
2. Moves come first: the first thread in the list that has not begun, or whose condition is true.
3. Then teardowns, in the order in which their waits were left, and within one wait in the order of its cases.
4. Then setups: the first thread with a setup that is due, and its first such case.
5. Then buffered events: the first thread that waits for one with a buffering ``On``, and the earliest such event.
6. Finally a step or an activity: that of the first thread that is at one. Then everything is repeated from 2.

Each of these, each event that is handled or buffered, each failure and each cancellation adds 1 to ``pc``. When the
main thread ends, all threads end and their waits are torn down, in the order of the threads.

An event that no thread waits for is buffered if any ``On`` of the definition buffers it, unless the instance has ended
or is being canceled. An event is also buffered if it would overtake an earlier one of its name. An event for a specific
thread or wait is never buffered. The buffer is emptied when the instance finishes or is canceled.

If a branch of a parallel statement fails, it cancels the other branches, in the order of the threads. When all have
ended, its error is thrown at the statement. If the branches are canceled together with their parent, an error of one of
them in a ``finally_`` section is thrown there as well. A canceled thread that is in a ``finally_`` section first runs
it to its end, including the branches that were started there. An error in that section passes all ``except_`` sections
outside it.

When the deadline of a ``Within`` has passed, its error is thrown in the same way, and caught at the ``Within``. In a
``finally_`` section inside, it waits for the end of the section, and then replaces what else would leave it, but for a
cancellation. If that section fails, or a branch that the deadline has canceled, the deadline replaces the error where
an ``except_`` section inside of the ``Within`` would catch it.

The error of a thread that a ``Go`` has started is thrown in the same way, where a thread is still in a ``Try`` around
the ``Go``: it passes the ``except_`` sections inside of this ``Try``. In a ``finally_`` section inside, it waits for
the end of the section, as a deadline does. It fails the instance if all these were left, if it is caught nowhere and no
``finally_`` section is on its way, or if the thread already leaves for a reason that leads further out. If an error of
another thread leads there or further out, that one alone is thrown.

The first branch of a race to end cancels the others in the same way. When all have ended, the race goes on, or fails if
a ``finally_`` section of the others has failed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypeGuard

from workflow_core import (
    Activity,
    Break,
    Child,
    Continue,
    Do,
    Done,
    EventHandler,
    EventRequest,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Race,
    Return,
    Section,
    Select,
    Sleep,
    Step,
    StepContext,
    Switch,
    TimedOut,
    Timeout,
    Try,
    WaitFor,
    When,
    While,
    Within,
    Workflow,
)
from workflow_core.error_texts import error_info
from workflow_core.statements.selects import SelectPart

Leave = type[Break] | type[Continue] | type[Return] | None
"""How a statement was left: None, to go on behind it."""

Walk = Generator["Rest", str | None, Leave]
"""A thread: gives where it rests, is sent the event that happened."""

Parallels = (Parallel, Race, ForEach)
"""What a thread rests on while it waits for its branches."""


class Thrown(Exception):
    """An error without a further attempt: its statement, and the position of its thread.

    Attributes:
        target: for the error of another thread, the ``Try`` in which that was started.
        failed: the threads that have failed with it, and stand where they failed if it fails the instance.
    """

    def __init__(self, error: Exception, statement: str, at: Rest | None, pc: int, target: Visit | None = None) -> None:
        super().__init__(error, statement)
        self.target: Any = target
        self.failed: list[RefThread] = []
        self.pc = pc
        self.error = error
        self.statement = statement
        self.at = at


class Canceled(Exception):
    """Thrown into a thread that must leave all its statements."""


class Won(Exception):
    """Thrown into nothing: kept by a thread while the branches of a race that have lost end.

    Attributes:
        prefix: that of the branch that has ended first.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix)
        self.prefix = prefix


class Late(Exception):
    """Thrown into a thread when the deadline of a ``Within`` has passed.

    Attributes:
        target: the timer of the visit to the ``Within``.
    """

    def __init__(self, timer: RefThread) -> None:
        super().__init__()
        self.target = timer


@dataclass(eq=False)
class Visit:
    """A visit of a thread to a ``Try``.

    Attributes:
        level: the number of visits to a ``Try`` or a ``Within`` around it.
        depth: the number of ``finally_`` sections around it.
        is_in_body: the thread is in the statements of the ``Try``.
    """

    statement: Try
    level: int = 0
    depth: int = 0
    is_in_body: bool = True

    @property
    def can_cover(self) -> bool:
        """Whether it covers what is started: in an ``except_`` section, only a ``finally_`` section is left."""
        return self.is_in_body or self.statement.cleanup is not None


class DuplicateId(Exception):
    """A thread was started under the id of a live one."""


@dataclass
class Rest:
    """Where a thread rests."""

    name: str
    statement: Step | Within | Select | WaitFor | Sleep | Activity | Child | Parallel | Race | ForEach | Fail | Do
    prefix: str


@dataclass
class RefThread:
    id: str
    walk: Walk
    at: Rest | None = None
    pc: int = 0
    to_set_up: list[On] = field(default_factory=list)
    setup_data: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    items: list[tuple[ForEach, int]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    cleaning: int = 0
    is_sheltered: bool = False
    is_canceled: bool = False
    is_doomed: bool = False
    leaving: Exception | None = None
    timers: list[RefThread] = field(default_factory=list)
    lates: list[Late | Thrown] = field(default_factory=list)
    overtaken: list[Late | Thrown] = field(default_factory=list)
    outcomes: dict[int, Leave | Exception] = field(default_factory=dict)
    tries: list[Visit] = field(default_factory=list)
    covers: list[tuple[RefThread, Visit, bool]] = field(default_factory=list)
    watched: RefThread | None = None
    level: int = 0
    depth: int = 0
    started: int = 0
    inputs: dict[str, Any] = field(default_factory=dict)

    @property
    def wait_id(self) -> str:
        return f"{self.id}@{self.pc}"


class Reference:
    """One instance, standing before its first statement."""

    thread_type = RefThread

    def __init__(self, workflow: Workflow, id: str) -> None:
        self.workflow = workflow
        self.id = id
        self.pc = 0
        self.finished = False
        self.error: Thrown | None = None
        self.canceling = False
        self.canceled = False
        self.current: RefThread
        self.threads: list[RefThread] = []
        self.teardowns: list[tuple[EventHandler, EventRequest, bool]] = []
        self.buffer: list[tuple[str, Any]] = []
        self.buffered = {on.event for on in every_on(workflow.definition) if on.buffered}
        self.start("main", workflow.definition, "")

    # --- the walk ------------------------------------------------------------------------

    def start(self, id: str, body: Section, prefix: str, by: RefThread | None = None) -> RefThread:
        if any(thread.id == id for thread in self.threads):
            raise DuplicateId(id)
        thread = self.thread_type(id, self.section(body, prefix))
        if by is not None:
            thread.items, thread.errors = list(by.items), list(by.errors)
            thread.is_sheltered = by.cleaning > 0 or by.is_sheltered
            thread.cleaning = 1 if thread.is_sheltered else 0
        self.threads.append(thread)
        return thread

    def call(self, function: Callable[..., Any]) -> Any:
        """Calls a function of the workflow, or of the workflow and the item."""
        return function(*(self.workflow, self.item(self.current)[0])[: arity(function)])

    def item(self, thread: RefThread) -> tuple[Any, int | None]:
        return self.item_in(thread.items)

    def item_in(self, loops: list[tuple[ForEach, int]]) -> tuple[Any, int | None]:
        """The item of the last of these loops, each of which is inside of the one before it."""
        if not loops:
            return None, None
        statement, position = loops[-1]
        outer = self.workflow, self.item_in(loops[:-1])[0]
        return [*statement.items(*outer[: arity(statement.items)])][position], position

    def at_once(self, handler: Callable[..., Any]) -> None:
        """Calls a handler in the transition of the current thread."""
        self.handled(self.current, handler, self.workflow)

    def handled(self, thread: RefThread, handler: Callable[..., Any], *given: Any) -> Any:
        """Calls a handler with what it takes: the workflow, the input or the result, and the item."""
        if "item" in inspect.signature(handler).parameters:
            return handler(*given[: arity(handler) - 1], item=self.item(thread)[0])
        return handler(*given[: arity(handler)])

    def section(self, section: Section, prefix: str) -> Walk:
        if section.prefix:
            prefix += section.prefix + "/"
        for statement in section.statements:
            leave = yield from self.statement(statement, prefix)
            if leave is not None:
                return leave
        return None

    def statement(self, statement: Any, prefix: str) -> Walk:
        match statement:
            case Break() | Continue() | Return():
                return type(statement)
            case Section():
                return (yield from self.section(statement, prefix))
            case Step():
                yield Rest(prefix + statement.name, statement, prefix)
            case If() | Switch():
                for branch in statement.branches:
                    if branch.cond is None or self.call(branch.cond):
                        return (yield from self.section(branch.body, prefix))
            case While():
                while self.call(statement.cond):
                    leave = yield from self.section(statement.body, prefix)
                    if leave is Break:
                        break
                    if leave is Return:
                        return Return
            case Select():
                case: Any = None
                while case is None and (case := self.true_case(statement)) is None:
                    event = yield Rest(prefix + statement.name, statement, prefix)
                    case = None if event is None else find_case(statement, prefix, event)
                if isinstance(case, (Timeout, When)) and case.handler is not None:
                    self.at_once(case.handler)
                return (yield from self.section(case.body, prefix))
            case WaitFor():
                while not self.call(statement.cond):
                    event = yield Rest(prefix + statement.name, statement, prefix)
                    if event is not None:
                        return (yield from self.late(event, statement, prefix))
                if statement.handler is not None:
                    self.at_once(statement.handler)
            case Go():
                id = self.thread_id(statement, prefix)
                self.start(id, statement.body, prefix, self.current).covers = self.covers_of(self.current)
            case Sleep() | Activity() | Child():
                yield Rest(prefix + statement.name, statement, prefix)
            case Do():
                self.at_once(statement.handler)
            case Fail():
                name = prefix + statement.name
                error = statement.error(statement.message)
                raise Thrown(error, name, Rest(name, statement, prefix), self.pc)
            case Try():
                return (yield from self.attempt(statement, prefix))
            case Within():
                return (yield from self.within(statement, prefix))
            case ForEach() if not statement.parallel:
                return (yield from self.rounds(statement, prefix))
            case ForEach() | Parallel() | Race():
                yield from self.branches(statement, prefix)
            case _:
                raise TypeError(f"the reference executor does not know {type(statement).__name__}")
        return None

    def thread_id(self, go: Go, prefix: str) -> str:
        """The id of the thread that a ``Go`` starts."""
        if go.id is None:
            return prefix + go.name
        return str(self.call(go.id)) if callable(go.id) else go.id

    def true_case(self, select: Select) -> When | None:
        """The first condition that a select waits for, and that is true."""
        return next((case for case in select.cases if isinstance(case, When) and self.call(case.cond)), None)

    def late(self, timer: str, statement: WaitFor, prefix: str) -> Walk:
        """A timeout has passed."""
        if statement.late is not None:
            return (yield from self.section(statement.late, prefix))
        error = TimedOut(f"{prefix + statement.name!r} did not become true in time")
        raise Thrown(error, timer, Rest(timer, Fail(timer, ""), prefix), self.pc)

    def attempt(self, statement: Try, prefix: str) -> Walk:
        thread = self.current
        in_cleanup = thread.cleaning > 0
        depth, caught = len(thread.items), len(thread.errors)
        visit = self.enter_try(thread, statement, prefix)
        is_abandoned = is_late = False
        outcome: Leave | Exception = None
        try:
            try:
                outcome = yield from self.section(statement.body, prefix)
            except Thrown as thrown:
                self.leave_body(thread, visit, thrown)
                if thrown.target is not None:
                    raise
                clause = next((one for one in statement.excepts if isinstance(thrown.error, one.types)), None)
                if clause is None or (thread.is_doomed and not in_cleanup):
                    raise
                overdue = [late for late in thread.overtaken if late.target.depth == thread.cleaning]
                if overdue:
                    raise min(overdue, key=lambda late: late.target.level) from None
                del thread.items[depth:]
                self.catch(prefix + clause.name, thrown.error)
                if clause.then is not None:
                    self.handled(thread, clause.then, self.workflow, error_info(thrown.error, thrown.statement))
                outcome = yield from self.section(clause.body, prefix)
                del thread.errors[caught:]
            return outcome
        except Thrown as thrown:
            is_late = thread.is_canceled  # it failed in the cleanup that a cancellation has left to run
            outcome = thrown
            raise
        except (Canceled, Late) as left:
            outcome = left
            raise
        except GeneratorExit:
            is_abandoned = True
            raise
        finally:
            if not is_abandoned:
                self.leave_body(thread, visit, outcome)
                thread.tries.remove(visit)
            if statement.cleanup is not None and not is_abandoned:
                del thread.items[depth:], thread.errors[caught:]
                yield from self.cleaned_up(statement, prefix, outcome, is_late=is_late)

    def cleaned_up(self, statement: Try, prefix: str, outcome: Leave | Exception, *, is_late: bool) -> Walk:
        """Runs a ``finally_`` section, and throws what has waited for its end."""
        thread = self.current
        try:
            leave = yield from self.clean_up(statement, prefix, outcome)
        except Thrown:
            thread.overtaken += [late for late in thread.lates if late.target.depth == thread.cleaning]
            thread.overtaken += [outcome] if has_target(outcome) else []
            raise
        finally:
            due = [late for late in thread.lates if late.target.depth == thread.cleaning]
            thread.lates = [late for late in thread.lates if late not in due]
        if thread.is_canceled and not thread.cleaning and not is_late:
            raise Canceled
        late = min(due, key=lambda late: late.target.level, default=None)
        is_outer = has_target(outcome) and late and outcome.target.level < late.target.level
        if late is not None and not isinstance(outcome, Canceled) and not is_outer:
            raise late
        return leave

    def within(self, statement: Within, prefix: str) -> Walk:
        thread, name = self.current, prefix + statement.name
        items, errors = len(thread.items), len(thread.errors)
        timer = self.watch(thread, statement, prefix)
        is_abandoned = False
        try:
            return (yield from self.section(statement.body, prefix))
        except Late as late:
            if late.target is not timer:
                raise
        except GeneratorExit:
            is_abandoned = True
            raise
        finally:
            if not is_abandoned:
                self.unwatch(timer)
                forget(thread, timer)
        del thread.items[items:], thread.errors[errors:]
        if statement.late is not None:
            return (yield from self.section(statement.late, prefix))
        place = Rest(f"{name} timeout", Fail(f"{name} timeout", ""), prefix)
        raise Thrown(TimedOut(f"{name!r} did not end in time"), f"{name} timeout", place, self.pc)

    def watch(self, thread: RefThread, statement: Within, prefix: str) -> RefThread:
        """Starts the timer of a ``Within``."""
        name = prefix + statement.name
        id = name if thread.id == "main" else f"{thread.id}/{name}"
        if any(one.id == id for one in self.threads):
            raise DuplicateId(id)
        timer = self.thread_type(id, self.section(Section(()), prefix))
        timer.at, timer.pc, timer.watched = Rest(name, statement, prefix), self.pc, thread
        timer.level, timer.depth = len(thread.timers) + len(thread.tries), thread.cleaning
        thread.timers.append(timer)
        self.threads.append(timer)
        return timer

    def unwatch(self, timer: RefThread) -> None:
        assert timer.watched is not None
        if timer in timer.watched.timers:
            timer.watched.timers.remove(timer)
        if timer in self.threads:
            self.threads.remove(timer)

    def expire(self, timer: RefThread) -> None:
        """The deadline of a ``Within`` has passed."""
        self.pc += 1
        thread, late = timer.watched, Late(timer)
        assert thread is not None and thread.at is not None
        self.threads.remove(timer)
        self.interrupt(thread, late)

    def interrupt(self, thread: RefThread, reason: Late | Thrown) -> None:
        """Throws a reason to leave into a thread, which may have to wait for the end of a cleanup or of branches."""
        assert thread.at is not None and reason.target is not None
        if thread.cleaning > reason.target.depth:
            thread.lates.append(reason)
            return
        leaving, children = thread.leaving, self.children(thread)
        is_outer = has_target(leaving) and leaving.target.level < reason.target.level
        if isinstance(leaving, Canceled) or is_outer:
            return  # its branches have been canceled, too
        if children:
            thread.leaving = reason
            for child in children:
                if child in self.threads:
                    self.cancel_thread(child)
        else:
            thread.leaving = None
            self.throw(thread, reason)

    # --- errors of threads that were started ---------------------------------------------

    def enter_try(self, thread: RefThread, statement: Try, prefix: str) -> Visit:
        visit = self.visit(thread, statement, prefix)
        visit.level, visit.depth, visit.is_in_body = len(thread.timers) + len(thread.tries), thread.cleaning, True
        thread.tries.append(visit)
        return visit

    def visit(self, thread: RefThread, statement: Try, prefix: str) -> Visit:
        return Visit(statement)

    def leave_body(self, thread: RefThread, visit: Visit, outcome: Leave | Exception) -> None:
        visit.is_in_body = False
        if isinstance(outcome, Thrown):
            overtaken = (late for late in (*thread.lates, *thread.overtaken) if late.target is visit)
            outcome.failed += [one for late in overtaken for one in late.failed if one not in outcome.failed]
        forget(thread, visit)
        if isinstance(outcome, Thrown) and outcome.target is visit:
            outcome.target = None

    def covers_of(self, thread: RefThread) -> list[tuple[RefThread, Visit, bool]]:
        """Each ``Try`` that the thread or one that waits for it is in, the innermost first, and those of the thread
        that has started it."""
        found: list[tuple[RefThread, Visit, bool]] = []
        by_branch = False
        while True:
            found += [(thread, visit, by_branch) for visit in reversed(thread.tries) if visit.can_cover]
            parent = next((one for one in self.threads if thread.parent and one.id == thread.parent), None)
            if parent is None:
                return found + thread.covers
            thread, by_branch = parent, True

    def covering(self, thread: RefThread, error: Exception) -> tuple[RefThread, Visit, bool] | None:
        """Where the error of a thread that was started is thrown."""
        for inside, visit, by_branch in thread.covers:
            if inside not in self.threads or visit not in inside.tries or not visit.can_cover:
                continue
            reason = self.reason(inside, visit)
            if isinstance(reason, Canceled) or (isinstance(reason, Late) and reason.target.level < visit.level):
                continue
            inner = inside.tries[inside.tries.index(visit) + 1 :]
            has_cleanup = any(one.statement.cleanup is not None for one in inner)
            if has_cleanup or self.is_caught(inside, inside.tries[: inside.tries.index(visit) + 1], error):
                return inside, visit, by_branch
        return None

    def reason(self, thread: RefThread, visit: Visit) -> Leave | Exception:
        """Why a thread is going to leave that is inside of a ``Try``, after a cleanup there or its branches."""
        if thread.cleaning <= visit.depth:
            return thread.leaving
        outcome = thread.outcomes.get(visit.depth)
        if visit.depth == 0 and (thread.is_canceled or isinstance(outcome, Canceled)):
            return Canceled()
        reasons = [late for late in thread.lates if late.target.depth == visit.depth]
        reasons += [outcome] if has_target(outcome) else []
        return min(reasons, key=lambda late: late.target.level, default=outcome)

    def is_caught(self, thread: RefThread, tries: list[Visit], error: Exception) -> bool:
        """Whether an error that passes these visits is caught, or reaches a cleanup."""
        for visit in reversed(tries):
            can_catch = visit.is_in_body and (
                visit.depth or not (thread.is_doomed or isinstance(thread.leaving, Canceled))
            )
            clauses = visit.statement.excepts if can_catch else ()
            if visit.statement.cleanup is not None or any(isinstance(error, one.types) for one in clauses):
                return True
        if not thread.parent:
            return self.covering(thread, error) is not None
        parent = next(one for one in self.threads if one.id == thread.parent)
        return self.is_caught(parent, parent.tries, error)

    def throw_in(self, thread: RefThread, thrown: Thrown, inside: RefThread, visit: Visit, by_branch: bool) -> None:
        """Ends a thread that has failed, and throws its error into the one that is still in its ``Try``."""
        thread.at, thread.pc = thrown.at, thrown.pc
        self.end(thread)
        failed = [] if by_branch else [*thrown.failed, thread]
        reason = self.reason(inside, visit)
        if isinstance(reason, Thrown) and reason.target is not None and reason.target.level <= visit.level:
            reason.failed += failed
            return
        at, pc, before = inside.at, inside.pc, []
        if isinstance(reason, Thrown):
            at, pc, before = reason.at, reason.pc, reason.failed
        new = Thrown(thrown.error, thrown.statement, at, pc, visit)
        new.failed = [*before, *failed]
        self.interrupt(inside, new)

    def catch(self, name: str, error: Exception) -> None:
        """An ``except_`` section of that name begins."""
        self.current.errors.append(error)

    def clean_up(self, statement: Try, prefix: str, outcome: Leave | Exception) -> Walk:
        """Runs a ``finally_`` section; ``outcome`` is how the rest of the statement was left."""
        assert statement.cleanup is not None
        thread = self.current
        thread.outcomes[thread.cleaning] = outcome
        thread.cleaning += 1
        try:
            return (yield from self.section(statement.cleanup, prefix))
        finally:
            thread.cleaning -= 1
            thread.outcomes.pop(thread.cleaning, None)

    def rounds(self, statement: ForEach, prefix: str) -> Walk:
        thread, position = self.current, 0
        while self.begins(statement, prefix) and position < len([*self.call(statement.items)]):
            thread.items.append((statement, position))
            leave = yield from self.section(statement.body, prefix)
            thread.items.pop()
            if leave is Break:
                break
            if leave is Return:
                return Return
            position += 1
        return None

    def begins(self, statement: Parallel | Race | ForEach, prefix: str) -> bool:
        """Hook: the items of a loop are about to be computed. Always true; it may throw."""
        return True

    def branches(self, statement: Parallel | Race | ForEach, prefix: str) -> Walk:
        thread, name = self.current, prefix + statement.name
        thread.started = 0
        while True:
            if thread.leaving is None and self.begins(statement, prefix):
                while thread.started < self.total(statement) and self.may_start(thread, statement):
                    number = thread.started
                    thread.started += 1
                    if isinstance(statement, (Parallel, Race)):
                        body = statement.branches[number]
                        id = f"{name}[{body.prefix or number}]"
                    else:
                        body, id = statement.body, f"{name}[{number}]"
                    branch = self.start(id if thread.id == "main" else f"{thread.id}/{id}", body, prefix, thread)
                    branch.parent, branch.cleaning = thread.id, 0
                    if isinstance(statement, ForEach):
                        branch.items.append((statement, number))
            if not self.children(thread):
                break
            yield Rest(name, statement, prefix)
        leaving, thread.leaving = thread.leaving, None
        if isinstance(leaving, Won):
            if isinstance(statement, Race) and statement.then is not None:
                statement.then(self.workflow, leaving.prefix)
        elif leaving is not None:
            thread.is_doomed = thread.is_doomed or isinstance(leaving, Canceled)
            raise leaving
        return None

    def total(self, statement: Parallel | Race | ForEach) -> int:
        if isinstance(statement, (Parallel, Race)):
            return len(statement.branches)
        return len([*self.call(statement.items)])

    def may_start(self, thread: RefThread, statement: Parallel | Race | ForEach) -> bool:
        limit = statement.limit if isinstance(statement, ForEach) else None
        return limit is None or len(self.children(thread)) < limit

    def children(self, thread: RefThread) -> list[RefThread]:
        return [one for one in self.threads if one.parent == thread.id]

    def advance(self, thread: RefThread, event: str | None = None) -> None:
        """Lets a thread walk on to its next rest."""
        self.pc += 1
        self.leave(thread, event)
        self.walk(thread, lambda: thread.walk.send(event))

    def throw(self, thread: RefThread, error: Exception) -> None:
        """Throws a failure or a cancellation into a thread."""
        if thread.at is None or inspect.getgeneratorstate(thread.walk) == inspect.GEN_CREATED:
            self.end(thread)
            return
        self.leave(thread, None)
        self.walk(thread, lambda: thread.walk.throw(error))

    def walk(self, thread: RefThread, go: Callable[[], Rest]) -> None:
        before = self.current if hasattr(self, "current") else thread
        self.current = thread
        try:
            rest = go()
        except StopIteration:
            self.finish(thread)
        except Canceled:
            self.end(thread)
        except Thrown as thrown:
            self.fell(thread, thrown)
        else:
            thread.at = rest
            thread.pc = self.pc
            thread.setup_data = {}
            thread.inputs = {name: self.input_of(thread, activity) for name, activity in activities_at(thread.at)}
            if isinstance(thread.at.statement, Select):
                cases = thread.at.statement.cases
                thread.to_set_up = [case for case in cases if isinstance(case, On) and is_handler(case)]
        finally:
            self.current = before

    def input_of(self, thread: RefThread, activity: Activity) -> Any:
        """What an activity gets: without an ``input``, the item, or else the default of its parameter."""
        if activity.input is not None:
            return self.call(activity.input)
        if thread.items:
            return self.item(thread)[0]
        return next((one.default for one in inspect.signature(activity.function).parameters.values()), None)

    def fell(self, thread: RefThread, thrown: Thrown) -> None:
        """Handles an error that no ``Try`` of the thread has caught."""
        parent = next((one for one in self.threads if thread.parent and one.id == thread.parent), None)
        if not thread.parent:
            if (covering := self.covering(thread, thrown.error)) is not None:
                self.throw_in(thread, thrown, *covering)
                return
            thread.at, thread.pc = thrown.at, thrown.pc
            self.error = thrown
            live = [one.id for one in self.threads]
            self.threads += [one for one in thrown.failed if one.id not in live]
            for one in self.threads:
                if one is not thread:
                    self.leave(one, None)
            return
        self.end(thread)
        if parent is None or isinstance(parent.leaving, Thrown):
            return
        is_won = isinstance(parent.leaving, (Won, Late))  # an error of another thread stays
        parent.is_doomed = parent.leaving is not None and not is_won
        parent.overtaken += [parent.leaving] if isinstance(parent.leaving, Late) else []
        parent.leaving = Thrown(thrown.error, thrown.statement, parent.at, parent.pc)
        if parent.is_doomed or is_won:
            return
        for other in self.children(parent):
            if other in self.threads:
                self.cancel_thread(other)

    def finish(self, thread: RefThread) -> None:
        """Ends a thread that has come to its end, and so the other branches of a race."""
        parent = next((one for one in self.threads if thread.parent and one.id == thread.parent), None)
        self.end(thread)
        statement = parent.at.statement if parent is not None and parent.at is not None else None
        if parent is None or not isinstance(statement, Race) or parent.leaving is not None:
            return
        assert parent.at is not None
        own = parent.at.name if parent.id == "main" else f"{parent.id}/{parent.at.name}"
        prefixes = {f"{own}[{one.prefix or number}]": one.prefix for number, one in enumerate(statement.branches)}
        parent.leaving = Won(prefixes[thread.id])
        for other in self.children(parent):
            if other in self.threads:
                self.cancel_thread(other)

    def fail_at(self, thread: RefThread, error: Exception, name: str = "") -> None:
        """Handles an error of the current statement of a thread, or of its case ``name``, without a further attempt."""
        assert thread.at is not None
        self.pc += 1
        self.throw(thread, Thrown(error, name or thread.at.name, thread.at, thread.pc))

    def cancel(self) -> None:
        self.pc += 1
        self.canceling = True
        self.buffer = []
        for thread in list(self.threads):
            is_own = not thread.parent and thread.watched is None
            if is_own and thread in self.threads and self.error is None:
                self.cancel_thread(thread)

    def cancel_thread(self, thread: RefThread) -> None:
        if thread.cleaning:
            thread.is_canceled = thread.is_doomed = True
            for reason in (*thread.lates, thread.outcomes.get(0)):  # the cancellation takes its place
                if isinstance(reason, Thrown) and (reason.target is None or not reason.target.depth):
                    reason.failed = []
        elif thread.at is None:
            self.end(thread)
        elif isinstance(thread.at.statement, Parallels) and (children := self.children(thread)):
            thread.leaving = Canceled()
            for child in children:
                if child in self.threads:
                    self.cancel_thread(child)
        else:
            thread.leaving, thread.is_doomed = None, True
            self.throw(thread, Canceled())

    def leave(self, thread: RefThread, event: str | None) -> None:
        if thread.at is not None and isinstance(thread.at.statement, Select):
            for case in thread.at.statement.cases:
                if isinstance(case, On) and isinstance(case.handler, EventHandler):
                    request = self.request(thread, case, "teardown")
                    self.teardowns.append((case.handler, request, case.event == event))
        thread.to_set_up = []

    def end(self, thread: RefThread) -> None:
        if thread.id == "main" and not self.canceling:
            self.threads.remove(thread)
            for other in self.threads:
                self.leave(other, None)
            self.threads, self.buffer = [], []
            self.finished = True
            return
        self.threads.remove(thread)
        self.threads = [one for one in self.threads if one.watched is not thread]
        self.canceled = self.canceling and not self.threads
        if self.canceled:
            self.buffer = []

    def request(self, thread: RefThread, case: On, action: str) -> EventRequest:
        data = thread.setup_data.get(case.event)
        return EventRequest(self.workflow, self.id, thread.id, thread.wait_id, case.event, data, action)

    # --- what callers do -----------------------------------------------------------------

    def resume(self) -> None:
        """Does what is due until all is blocked."""
        while self.move() or self.tear_down() or self.set_up() or self.deliver() or self.step():
            pass

    @staticmethod
    def can_move(thread: RefThread) -> bool:
        """Whether the thread needs nothing to happen: it has not begun, or has a step or a setup due."""
        return thread.at is None or isinstance(thread.at.statement, Step) or bool(thread.to_set_up)

    def move(self) -> bool:
        for thread in self.threads if self.error is None else ():
            self.current = thread
            waits_for = thread.at.statement if thread.at is not None else None
            if (
                self.is_to_move(thread)
                or (isinstance(waits_for, WaitFor) and self.call(waits_for.cond))
                or (isinstance(waits_for, Select) and self.true_case(waits_for) is not None)
                or (isinstance(waits_for, Parallels) and self.may_go_on(thread, waits_for))
            ):
                self.advance(thread)
                return True
        return False

    def is_to_move(self, thread: RefThread) -> bool:
        """Whether the thread moves without a reason."""
        return thread.at is None

    def may_go_on(self, thread: RefThread, statement: Any) -> bool:
        if not self.children(thread):
            return True
        limited = isinstance(statement, ForEach) and statement.limit is not None
        if thread.leaving is not None or not limited or not self.may_start(thread, statement):
            return False
        return thread.started < self.total(statement)

    def tear_down(self) -> bool:
        if not self.teardowns:
            return False
        self.tear_down_of(0)
        return True

    def tear_down_of(self, index: int) -> None:
        handler, request, handled = self.teardowns[index]
        handler.teardown(request, handled)
        self.pc += 1
        self.teardowns.pop(index)

    def set_up(self) -> bool:
        for thread in self.threads if self.error is None else ():
            if thread.to_set_up:
                self.set_up_of(thread, thread.to_set_up[0])
                return True
        return False

    def set_up_of(self, thread: RefThread, case: On) -> None:
        assert isinstance(case.handler, EventHandler)
        thread.setup_data[case.event] = case.handler.setup(self.request(thread, case, "setup"))
        self.pc += 1
        thread.to_set_up.remove(case)

    def deliver(self) -> bool:
        """Delivers an event that was kept."""
        for thread in self.threads if self.error is None else ():
            for event, _ in self.buffer:
                case = self.buffering_case(thread, event)
                if case is not None:
                    self.deliver_to(thread, case)
                    return True
        return False

    def deliver_to(self, thread: RefThread, case: On) -> None:
        self.handle(thread, case, case.event, self.take_kept(case.event))

    def take_kept(self, event: str) -> Any:
        """Removes and returns the first buffered event of this name."""
        return self.buffer.pop([name for name, _ in self.buffer].index(event))[1]

    @staticmethod
    def buffering_case(thread: RefThread, event: str) -> On | None:
        """Returns the case with which the thread waits for the event, if it buffers the event."""
        statement = thread.at.statement if thread.at is not None else None
        for case in statement.cases if isinstance(statement, Select) else ():
            if isinstance(case, On) and case.buffered and case.event == event:
                return case
        return None

    def step(self) -> bool:
        for thread in self.threads if self.error is None else ():
            if thread.at is not None and isinstance(thread.at.statement, Step):
                self.step_of(thread)
                return True
            if thread.at is not None and not thread.to_set_up:
                for name, activity in activities_at(thread.at):
                    self.activity_of(thread, name, activity)
                    return True
        return False

    def activity_of(self, thread: RefThread, name: str, activity: Activity) -> None:
        """What the library alone does with an activity: it runs it like a step."""
        try:
            result = activity.function(*(thread.inputs[name], None)[: arity(activity.function)])
        except Exception as raised:
            self.fail_at(thread, raised, name)
            return
        self.activity_done(thread, name, activity, result)

    def activity_done(self, thread: RefThread, name: str, activity: Activity, result: Any) -> None:
        if activity.then is not None:
            self.handled(thread, activity.then, self.workflow, result)
        self.advance(thread, name)

    def step_of(self, thread: RefThread) -> None:
        assert thread.at is not None
        name = type(self.workflow).__workflow_name__
        error = thread.errors[-1] if thread.errors else None
        known = None if error is None else error_info(error, "")
        context = StepContext(name, self.id, thread.id, thread.at.name, thread.pc, 1, *self.item(thread), known)
        action = thread.at.statement.action  # type: ignore[union-attr]
        try:
            action(*(self.workflow, context)[: arity(action)])
        except Exception as raised:
            self.fail_at(thread, raised)
            return
        self.advance(thread)

    def accepted(self) -> list[tuple[RefThread, Any, str]]:
        """The events that may be received now, timeouts included: thread, case and name."""
        offers: list[tuple[RefThread, Any, str]] = []
        for thread in self.threads if self.error is None else ():
            if thread.at is None:
                continue
            statement, prefix = thread.at.statement, thread.at.prefix
            if isinstance(statement, (Sleep, Within)):
                offers.append((thread, statement, thread.at.name))
            elif isinstance(statement, WaitFor) and statement.timeout is not None:
                offers.append((thread, statement, f"{thread.at.name} timeout"))
            elif isinstance(statement, Select):
                cases = (case for case in statement.cases if isinstance(case, (On, Timeout)))
                offers += [(thread, case, case_name(case, prefix)) for case in cases if case not in thread.to_set_up]
        return offers

    def keeps(self, event: str) -> bool:
        """Whether the event is kept where nobody waits for it."""
        ended = self.finished or self.error is not None or self.canceling
        return event in self.buffered and not ended

    def keep(self, event: str, input: Any) -> None:
        self.pc += 1
        self.buffer.append((event, input))

    def comes_later(self, case: Any) -> bool:
        """Whether events of that name that came before are still to be delivered to the case."""
        return isinstance(case, On) and case.buffered and any(event == case.event for event, _ in self.buffer)

    def handle(self, thread: RefThread, case: On | Timeout, event: str, input: Any) -> Any:
        """Delivers an event that is accepted."""
        output = None
        if isinstance(case, On):
            handler = case.handler
            if isinstance(handler, EventHandler):
                output = handler.handle(self.request(thread, case, "handle"), input)
            else:
                output = self.handled(thread, handler, self.workflow, input)
        if thread.watched is not None:
            self.expire(thread)
        else:
            self.advance(thread, event)
        return output


def forget(thread: RefThread, target: RefThread | Visit) -> None:
    """A thread leaves a ``Try`` or a ``Within``."""
    thread.lates = [late for late in thread.lates if late.target is not target]
    thread.overtaken = [late for late in thread.overtaken if late.target is not target]


def has_target(reason: Any) -> TypeGuard[Late | Thrown]:
    """Whether a thread leaves for a certain ``Try`` or ``Within``."""
    return isinstance(reason, (Late, Thrown)) and reason.target is not None


def arity(function: Callable[..., Any]) -> int:
    return len(inspect.signature(function).parameters)


def activities_at(at: Rest) -> list[tuple[str, Activity]]:
    """The activities that a thread waits for at a rest, by their names."""
    if isinstance(at.statement, Activity):
        return [(at.name, at.statement)]
    cases = at.statement.cases if isinstance(at.statement, Select) else ()
    works = (case.work for case in cases if isinstance(case, Done))
    return [(at.prefix + work.name, work) for work in works if isinstance(work, Activity)]


def is_handler(case: SelectPart) -> bool:
    return isinstance(case, On) and isinstance(case.handler, EventHandler)


def takes_input(case: SelectPart) -> bool:
    return isinstance(case, On) and (isinstance(case.handler, EventHandler) or arity(case.handler) == 2)


def case_name(case: SelectPart, prefix: str) -> str:
    """What happens in a case: for the end of an activity or a child, the name of that."""
    if isinstance(case, Done):
        return prefix + case.work.name
    return case.event if isinstance(case, On) else prefix + case.name


def find_case(select: Select, prefix: str, event: str | None) -> SelectPart:
    cases = (case for case in select.cases if not isinstance(case, When))
    return next(case for case in cases if case_name(case, prefix) == event)


def every_on(part: Any) -> Iterator[On]:
    """Each ``On`` in a part of a definition."""
    if isinstance(part, On):
        yield part
    if isinstance(part, tuple):
        inner: Any = part
    else:
        is_part = is_dataclass(part) and not isinstance(part, type)
        inner = (getattr(part, one.name) for one in fields(part)) if is_part else ()
    for one in inner:
        yield from every_on(one)
