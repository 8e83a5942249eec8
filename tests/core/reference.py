"""A naive executor of definitions, written independently of the interpreter, for the property tests to compare with.

It walks the tree of statements: each thread is a generator that stops at a step or a wait. Nothing is compiled,
nothing can be saved, errors of user code are not handled. What the interpreter promises about order is what
stands in ``resume``:

1. Threads are listed in the order in which they were started. A thread that was started begins in a transition of
   its own, after the thread that started it has come to rest.
2. Moves come first: the first thread in the list that has not begun, or whose condition holds.
3. Then teardowns, in the order in which their waits were left and, within one wait, of its cases.
4. Then setups: of the first thread that has one to do, of its first case.
5. At last a step: that of the first thread that stands on one. Then all is looked at anew, from 2 on.

Each of these, and each event that is handled, adds 1 to ``pc``. When the main thread ends, all threads end and what
they waited for is torn down, in the order of the threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from workflow_core import (
    Break,
    Continue,
    EventHandler,
    EventRequest,
    Go,
    If,
    On,
    Return,
    Section,
    Select,
    Step,
    StepContext,
    Switch,
    Timeout,
    WaitFor,
    While,
    Workflow,
)

Leave = type[Break] | type[Continue] | type[Return] | None
"""How a statement was left: None, to go on behind it."""

Walk = Generator["Rest", str | None, Leave]
"""A thread: gives where it rests, is sent the event that happened."""


class DuplicateId(Exception):
    """A thread was started under the id of a live one."""


@dataclass
class Rest:
    """Where a thread rests."""

    name: str
    statement: Step | Select | WaitFor
    prefix: str


@dataclass
class RefThread:
    id: str
    walk: Walk
    at: Rest | None = None
    pc: int = 0
    to_set_up: list[On] = field(default_factory=list)
    setup_data: dict[str, Any] = field(default_factory=dict)

    @property
    def wait_id(self) -> str:
        return f"{self.id}@{self.pc}"


class Reference:
    """One instance, standing before its first statement."""

    def __init__(self, workflow: Workflow, id: str) -> None:
        self.workflow = workflow
        self.id = id
        self.pc = 0
        self.finished = False
        self.threads: list[RefThread] = []
        self.teardowns: list[tuple[EventHandler, EventRequest, bool]] = []
        self.start("main", workflow.definition, "")

    # --- the walk ------------------------------------------------------------------------

    def start(self, id: str, body: Section, prefix: str) -> None:
        if any(thread.id == id for thread in self.threads):
            raise DuplicateId(id)
        self.threads.append(RefThread(id, self.section(body, prefix)))

    def section(self, section: Section, prefix: str) -> Walk:
        if section.prefix:
            prefix += section.prefix + "/"
        for statement in section.statements:
            leave = yield from self.statement(statement, prefix)
            if leave is not None:
                return leave
        return None

    def statement(self, statement: Any, prefix: str) -> Walk:
        w = self.workflow
        match statement:
            case Break() | Continue() | Return():
                return type(statement)
            case Section():
                return (yield from self.section(statement, prefix))
            case Step():
                yield Rest(prefix + statement.name, statement, prefix)
            case If() | Switch():
                for branch in statement.branches:
                    if branch.cond is None or branch.cond(w):
                        return (yield from self.section(branch.body, prefix))
            case While():
                while statement.cond(w):
                    leave = yield from self.section(statement.body, prefix)
                    if leave is Break:
                        break
                    if leave is Return:
                        return Return
            case Select():
                event = yield Rest(prefix + statement.name, statement, prefix)
                return (yield from self.section(find_case(statement, prefix, event).body, prefix))
            case WaitFor():
                while not statement.cond(w):
                    yield Rest(prefix + statement.name, statement, prefix)
                if statement.handler is not None:
                    statement.handler(w)
            case Go():
                id = statement.id
                name = prefix + statement.name
                self.start(name if id is None else str(id(w)) if callable(id) else id, statement.body, prefix)
        return None

    def advance(self, thread: RefThread, event: str | None = None) -> None:
        """Lets a thread walk on to its next rest."""
        self.pc += 1
        self.leave(thread, event)
        try:
            thread.at = thread.walk.send(event)
        except StopIteration:
            self.end(thread)
            return
        thread.pc = self.pc
        thread.setup_data = {}
        if isinstance(thread.at.statement, Select):
            thread.to_set_up = [case for case in thread.at.statement.cases if is_handler(case)]

    def leave(self, thread: RefThread, event: str | None) -> None:
        if thread.at is not None and isinstance(thread.at.statement, Select):
            for case in thread.at.statement.cases:
                if is_handler(case):
                    request = self.request(thread, case, "teardown")
                    self.teardowns.append((case.handler, request, case.event == event))
        thread.to_set_up = []

    def end(self, thread: RefThread) -> None:
        self.threads.remove(thread)
        if thread.id == "main":
            for other in self.threads:
                self.leave(other, None)
            self.threads = []
            self.finished = True

    def request(self, thread: RefThread, case: On, action: str) -> EventRequest:
        data = thread.setup_data.get(case.event)
        return EventRequest(self.workflow, self.id, thread.id, thread.wait_id, case.event, data, action)

    # --- what callers do -----------------------------------------------------------------

    def resume(self) -> None:
        """Does what is due until all is blocked."""
        while self.move() or self.tear_down() or self.set_up() or self.step():
            pass

    def move(self) -> bool:
        for thread in self.threads:
            waits_for = thread.at.statement if thread.at is not None else None
            if thread.at is None or (isinstance(waits_for, WaitFor) and waits_for.cond(self.workflow)):
                self.advance(thread)
                return True
        return False

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
        for thread in self.threads:
            if thread.to_set_up:
                self.set_up_of(thread, thread.to_set_up[0])
                return True
        return False

    def set_up_of(self, thread: RefThread, case: On) -> None:
        thread.setup_data[case.event] = case.handler.setup(self.request(thread, case, "setup"))
        self.pc += 1
        thread.to_set_up.remove(case)

    def step(self) -> bool:
        for thread in self.threads:
            if thread.at is not None and isinstance(thread.at.statement, Step):
                self.step_of(thread)
                return True
        return False

    def step_of(self, thread: RefThread) -> None:
        assert thread.at is not None
        name = type(self.workflow).__workflow_name__
        context = StepContext(name, self.id, thread.id, thread.at.name, thread.pc, attempt=1)
        action = thread.at.statement.action
        action(*(self.workflow, context)[: arity(action)])
        self.advance(thread)

    def accepted(self) -> list[tuple[RefThread, On | Timeout, str]]:
        """The events that may be received now, timeouts included: thread, case and name."""
        return [
            (thread, case, case_name(case, thread.at.prefix))
            for thread in self.threads
            if thread.at is not None and isinstance(thread.at.statement, Select)
            for case in thread.at.statement.cases
            if case not in thread.to_set_up
        ]

    def handle(self, thread: RefThread, case: On | Timeout, event: str, input: Any) -> Any:
        """Delivers an event that is accepted."""
        output = None
        if is_handler(case):
            output = case.handler.handle(self.request(thread, case, "handle"), input)
        elif isinstance(case, On):
            output = case.handler(*(self.workflow, input)[: arity(case.handler)])
        self.advance(thread, event)
        return output


def arity(function: Callable[..., Any]) -> int:
    return len(inspect.signature(function).parameters)


def is_handler(case: On | Timeout) -> bool:
    return isinstance(case, On) and isinstance(case.handler, EventHandler)


def takes_input(case: On | Timeout) -> bool:
    return is_handler(case) or (isinstance(case, On) and arity(case.handler) == 2)


def case_name(case: On | Timeout, prefix: str) -> str:
    return case.event if isinstance(case, On) else prefix + case.name


def find_case(select: Select, prefix: str, event: str | None) -> On | Timeout:
    return next(case for case in select.cases if case_name(case, prefix) == event)
