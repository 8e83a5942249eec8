"""Repairs: a thread is moved to another statement, and a failed instance is retried.

The rule: a thread that was moved to a statement stands before it, with nothing begun: it has no wait, no attempt and no
error, and enters the statement as soon as the instance can move. It is inside of all statements around that one, as if
it had come there by itself, without their conditions. In a loop that it was in before, it keeps its item; otherwise it
has the first. A retry lets each thread enter its statement again. The thread that has failed stands before the
statement that failed, in the state of that moment: how a cleanup continues afterwards is remembered.

The executor's threads are generators, which only go forward. A thread that is moved therefore gets a new one, which
first walks to its statement without doing anything on the way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Literal

from tests.core.reference import Canceled, Leave, Parallels, RefThread, Rest, Thrown, Visit, Walk
from tests.simulation.model.errands import Errand, ReferenceWithChildren
from tests.simulation.model.violations import require
from workflow_core import (
    Activity,
    Break,
    Child,
    Do,
    Fail,
    ForEach,
    Go,
    If,
    Parallel,
    Race,
    Return,
    Section,
    Select,
    Sleep,
    Step,
    Switch,
    Try,
    WaitFor,
    While,
    Workflow,
)

PLACES = (Step, Select, WaitFor, Sleep, Activity, Child, Fail, Parallel, Race, Do)
"""What a thread can be moved to, beside a parallel ``ForEach``."""

HEADS = (Go, ForEach)
"""What a thread stands at only if its function has failed the instance."""


@dataclass(eq=False)
class Moved(RefThread):
    """A thread that can be moved.

    Attributes:
        body, prefix: what it runs.
        before: the items, the errors and the number of cleanups that it began with.
        positions: its last item in each loop, by name.
        caught: the last error that each ``except_`` section has caught, by name.
        pending: how each ``Try`` was left whose cleanup it is in, or has failed in.
        visits: the last visit to each ``Try``, by name.
        put: it stands before its statement. ``again``: to enter it once more; ``on``: its generator has still to go to
            it.
    """

    body: Section = field(default_factory=lambda: Section(()))
    prefix: str = ""
    before: tuple[list[Any], list[Exception], int] | None = None
    positions: dict[str, int] = field(default_factory=dict)
    caught: dict[str, Exception] = field(default_factory=dict)
    pending: dict[str, Leave | Exception] = field(default_factory=dict)
    visits: dict[str, Visit] = field(default_factory=dict)
    put: Literal["", "again", "on"] = ""


@dataclass
class Caught:
    """An ``except_`` section that a thread is moved into, with the error that it has caught before, if any."""

    body: Section
    error: Exception | None


class ReferenceWithRepairs(ReferenceWithChildren):
    """The naive executor, whose threads can be moved."""

    thread_type = Moved

    def __init__(self, workflow: Workflow, id: str) -> None:
        self.path: list[int] | None = None
        self.fallen: list[RefThread] = []
        super().__init__(workflow, id)

    # --- what an operator does -----------------------------------------------------------

    def goto(self, thread: Any, name: str) -> None:
        self.pc += 1
        if self.error is None:
            self.leave(thread, None)
        path = path_to(thread.body, thread.prefix, name)
        require(path is not None and not self.canceling, f"{thread.id!r} was moved to {name!r}")
        assert path is not None
        inside = self.loops(thread, thread.at.name) if thread.at is not None else []
        for loop in self.loops(thread, name):
            if loop not in inside:
                thread.positions[loop] = 0
        thread.pending, thread.leaving = {}, None
        thread.is_canceled = thread.is_doomed = False
        self.seek(thread, path)
        thread.pc, thread.put = self.pc, "on"
        self.begin_anew(thread)

    def retry(self) -> None:
        self.pc += 1
        self.error = None
        for thread in self.threads:
            assert isinstance(thread, Moved)
            self.begin_anew(thread)
            if thread in self.fallen:
                self.stand_up(thread)
            elif not thread.put and thread.at is not None and not isinstance(thread.at.statement, Step):
                thread.put = "on" if isinstance(thread.at.statement, (WaitFor, *Parallels)) else "again"
        self.fallen = []
        for thread in list(self.threads) if self.canceling else ():
            if not thread.parent and thread in self.threads and not is_leaving(thread):
                self.cancel_thread(thread)

    def begin_anew(self, thread: RefThread) -> None:
        """Hook: the attempts at the statement of the thread count from the start."""

    def stand_up(self, thread: Moved) -> None:
        """Lets a thread that has failed stand before its statement."""
        if thread.put:
            return  # it was moved since
        assert thread.at is not None
        path = path_to(thread.body, thread.prefix, thread.at.name)
        assert path is not None
        self.seek(thread, path)
        assert thread.at is not None
        if isinstance(thread.at.statement, Step):
            thread.at = thread.walk.send(None)
        else:
            thread.put = "on"

    def loops(self, thread: Moved, name: str) -> list[str]:
        """The sequential loops of the thread around a statement."""
        path = path_to(thread.body, thread.prefix, name) or []
        return [loop for loop, _ in loops_on(thread.body, thread.prefix, path)]

    # --- the way to a statement ----------------------------------------------------------

    def seek(self, thread: Moved, path: list[int]) -> None:
        """Lets a new generator walk to a statement, and stand before it."""
        self.remember(thread)
        assert thread.before is not None
        thread.walk.close()
        thread.items, thread.errors, thread.cleaning = list(thread.before[0]), list(thread.before[1]), thread.before[2]
        thread.tries, thread.outcomes, thread.lates, thread.overtaken = [], {}, [], []
        before, self.current = self.current, thread
        self.path = list(path)
        thread.walk = self.section(thread.body, thread.prefix)
        thread.at = next(thread.walk)
        self.current = before

    def section(self, section: Any, prefix: str) -> Walk:
        if isinstance(section, Caught):
            self.current.errors.append(section.error)  # type: ignore[arg-type]
            section = section.body
        if self.path is None:
            return (yield from super().section(section, prefix))
        prefix += section.prefix + "/" if section.prefix else ""
        number = self.path.pop(0)
        leave = yield from self.sought(section.statements[number], prefix)
        if leave is not None:
            return leave
        return (yield from super().section(Section(section.statements[number + 1 :]), prefix))

    def sought(self, statement: Any, prefix: str) -> Walk:
        """A statement on the way: the last one is the one to stand before."""
        if not self.path:
            self.path = None
            name = prefix + statement.name
            yield Rest(name, statement, prefix)
            if isinstance(statement, ForEach) and not statement.parallel:
                thread: Any = self.current
                return (yield from self.rounds(statement, prefix, thread.positions[name] + 1))
            return (yield from self.statement(statement, prefix))
        if isinstance(statement, Try):
            return (yield from self.attempt(statement, prefix))
        if isinstance(statement, ForEach):
            return (yield from self.rounds(statement, prefix))
        leave = yield from self.section(parts_of(statement)[self.path.pop(0)], prefix)
        if not isinstance(statement, While):
            return leave
        if leave in (Break, Return):
            return Return if leave is Return else None
        return (yield from self.statement(statement, prefix))

    def attempt(self, statement: Any, prefix: str) -> Walk:
        part = self.path.pop(0) if self.path else 0
        thread = self.current
        assert isinstance(thread, Moved)
        if not part:
            return (yield from super().attempt(statement, prefix))
        if part <= len(statement.excepts):
            clause, caught = statement.excepts[part - 1], len(thread.errors)
            body = Caught(clause.body, thread.caught.get(prefix + clause.name))
            rest: Any = SimpleNamespace(name=statement.name, body=body, excepts=(), cleanup=statement.cleanup)
            leave = yield from super().attempt(rest, prefix)
            del thread.errors[caught:]
            return leave
        outcome = thread.pending.get(prefix + statement.name)
        yield from self.cleaned_up(statement, prefix, outcome, is_late=False)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def enter_try(self, thread: RefThread, statement: Any, prefix: str) -> Visit:
        visit = super().enter_try(thread, statement, prefix)
        visit.is_in_body = not isinstance(statement, SimpleNamespace)
        return visit

    def visit(self, thread: RefThread, statement: Any, prefix: str) -> Visit:
        """A thread that is moved into a ``Try`` is in its last visit to it."""
        assert isinstance(thread, Moved)
        name = prefix + statement.name
        if self.path is None or name not in thread.visits:
            thread.visits[name] = super().visit(thread, statement, prefix)
        thread.visits[name].statement = statement
        return thread.visits[name]

    def catch(self, name: str, error: Exception) -> None:
        super().catch(name, error)
        self.current.caught[name] = error  # type: ignore[attr-defined]

    def clean_up(self, statement: Try, prefix: str, outcome: Leave | Exception) -> Walk:
        pending, name = self.current.pending, prefix + statement.name  # type: ignore[attr-defined]
        pending[name] = outcome
        leave = yield from super().clean_up(statement, prefix, outcome)
        pending.pop(name, None)
        return leave

    def rounds(self, statement: ForEach, prefix: str, position: int = 0) -> Walk:
        thread: Any = self.current
        name = prefix + statement.name
        if self.path:
            self.path.pop(0)
            position = thread.positions[name]
        elif not position:
            thread.positions[name] = -1
        while self.path or (self.begins(statement, prefix) and position < len([*self.call(statement.items)])):
            thread.items.append((statement, position))
            thread.positions[name] = position
            leave = yield from self.section(statement.body, prefix)
            thread.items.pop()
            if leave in (Break, Return):
                return Return if leave is Return else None
            position += 1
        return None

    # --- threads -------------------------------------------------------------------------

    def start(self, id: str, body: Section, prefix: str, by: RefThread | None = None) -> RefThread:
        thread = super().start(id, body, prefix, by)
        assert isinstance(thread, Moved)
        thread.body, thread.prefix = body, prefix
        if isinstance(by, Moved):
            thread.caught = dict(by.caught)
        return thread

    def remember(self, thread: RefThread) -> None:
        """Keeps what a thread begins with."""
        assert isinstance(thread, Moved)
        if thread.before is None and inspect.getgeneratorstate(thread.walk) == inspect.GEN_CREATED:
            thread.before = list(thread.items), list(thread.errors), thread.cleaning

    def walk(self, thread: RefThread, go: Callable[[], Any]) -> None:
        self.remember(thread)
        thread.put = ""  # type: ignore[attr-defined]
        super().walk(thread, go)

    def advance(self, thread: RefThread, event: str | None = None) -> None:
        assert isinstance(thread, Moved)
        if not thread.put:
            super().advance(thread, event)
            return
        self.pc += 1
        thread.to_set_up = []
        again = thread.put == "again"
        self.walk(thread, lambda: self.enter_again(thread) if again else thread.walk.send(None))

    def enter_again(self, thread: RefThread) -> Rest:
        """The thread enters the statement that it stands before. A select with a true condition is left at once."""
        assert thread.at is not None
        return thread.walk.send(None) if isinstance(thread.at.statement, Select) else thread.at

    def leave(self, thread: RefThread, event: str | None) -> None:
        if thread.put:  # type: ignore[attr-defined]
            thread.to_set_up = []
        else:
            super().leave(thread, event)

    def is_to_move(self, thread: RefThread) -> bool:
        return bool(thread.put) or super().is_to_move(thread)  # type: ignore[attr-defined]

    def errands_of(self, thread: RefThread) -> dict[str, Errand]:
        return {} if thread.put else super().errands_of(thread)  # type: ignore[attr-defined]

    def fell(self, thread: RefThread, thrown: Thrown) -> None:
        super().fell(thread, thrown)
        if self.error is thrown:
            self.fallen = [thread, *thrown.failed]


def is_leaving(thread: RefThread) -> bool:
    """Whether the thread is already being canceled."""
    assert isinstance(thread, Moved)
    pending = (*thread.pending.values(), thread.leaving)
    return thread.is_canceled or any(isinstance(outcome, Canceled) for outcome in pending)


# --- statements by name ----------------------------------------------------------------------


def parts_of(statement: Any) -> list[Section]:
    """The sections of a statement that its own thread runs."""
    match statement:
        case Section():
            return [statement]
        case If() | Switch():
            return [branch.body for branch in statement.branches]
        case Select():
            return [case.body for case in statement.cases]
        case Try():
            cleanup = [] if statement.cleanup is None else [statement.cleanup]
            return [statement.body, *(clause.body for clause in statement.excepts), *cleanup]
        case While():
            return [statement.body]
        case ForEach() if not statement.parallel:
            return [statement.body]
    return []


def is_place(statement: Any) -> bool:
    return isinstance(statement, PLACES) or (isinstance(statement, ForEach) and statement.parallel)


def path_to(section: Section, prefix: str, name: str) -> list[int] | None:
    """The way to the statement of that name: in turns, the number of a statement and that of a part of it."""
    prefix += section.prefix + "/" if section.prefix else ""
    for number, statement in enumerate(section.statements):
        if isinstance(statement, (*PLACES, *HEADS)) and prefix + statement.name == name:
            return [number]
        for part, inner in enumerate(parts_of(statement)):
            rest = path_to(inner, prefix, name)
            if rest is not None:
                return [number, part, *rest]
    return None


def loops_on(section: Section, prefix: str, path: list[int]) -> Iterator[tuple[str, ForEach]]:
    """The sequential loops on a way, the outermost first."""
    if len(path) < 2:
        return
    prefix += section.prefix + "/" if section.prefix else ""
    statement: Any = section.statements[path[0]]
    if isinstance(statement, ForEach):
        yield prefix + statement.name, statement
    yield from loops_on(parts_of(statement)[path[1]], prefix, path[2:])


def places_in(section: Section, prefix: str) -> Iterator[str]:
    """The names of all statements that a thread with this body can be moved to."""
    prefix += section.prefix + "/" if section.prefix else ""
    for statement in section.statements:
        if is_place(statement):
            yield prefix + statement.name  # type: ignore[attr-defined]
        for part in parts_of(statement):
            yield from places_in(part, prefix)
