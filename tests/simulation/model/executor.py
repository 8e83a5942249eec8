"""The naive executor of one instance. It makes single moves on request, and accepts reports of failures.

The rule: which moves are legal depends only on the state of the executor, and each move adds 1 to ``pc``. The executor
interprets the tree of statements, as described in ``tests.core.reference``, and shares no code with the interpreter. If
the stored state equals the executor's state after each write, no effect was lost, duplicated or out of order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cloud_adapter.options import EngineOptions
from tests.core.generate import Fields
from tests.core.reference import RefThread, Rest, Thrown, Walk, activities_at, case_name
from tests.simulation.flows import BROKEN, REJECTED, UNSEARCHABLE
from tests.simulation.model.attempts import Attempts, Work
from tests.simulation.model.errands import Cancellation
from tests.simulation.model.repairs import ReferenceWithRepairs
from tests.simulation.model.violations import Violation, require
from workflow_core import (
    Activity,
    Child,
    DuplicateThread,
    Fail,
    ForEach,
    Go,
    On,
    Parallel,
    Race,
    Select,
    Sleep,
    Step,
    Timeout,
    WaitFor,
    Within,
)

Offer = tuple[RefThread, Any, str]
"""What may happen now: a thread, the case that it waits with, and the name of that."""

ASKING = (Select, Sleep, Activity, Child, Go, Fail)
"""Statements with functions that are asked before they begin: for an input, a delay, an id or a message."""


def is_at_work(thread: RefThread, name: str) -> bool:
    """Whether the thread waits for the activity of that name."""
    return thread.at is not None and name in dict(activities_at(thread.at))


class Executor(ReferenceWithRepairs):
    """The naive executor, one move at a time, with failures and pauses.

    Attributes:
        caught: the errors of functions that are asked before a statement begins, and that are caught, in their order:
            in which thread, of which statement.
        progress: the last report of each attempt at an activity that was stored.
    """

    def __init__(self, workflow: Fields, id: str, options: EngineOptions) -> None:
        self.caught: list[tuple[str, str, Exception]] = []
        self.progress: dict[tuple[str, str, int], Any] = {}
        super().__init__(workflow, id)
        assert options.retry.max_attempts is not None
        self.kept_max = options.buffer_max
        self.paused = False
        self.attempts = Attempts(options.retry.max_attempts)

    def settle(self) -> None:
        while not self.paused and self.move():
            pass

    def statement(self, statement: Any, prefix: str) -> Walk:
        if isinstance(statement, ASKING) and self.path is None:
            at: Any = statement
            thrown = self._asked(self.current, Rest(prefix + at.name, at, prefix))
            if thrown is not None:
                if isinstance(thrown.error, DuplicateThread):
                    id = self.thread_id(at, prefix)
                    require(self.thread(id) is not None, f"thread {id!r} could be started: {thrown.error}")
                raise thrown
        return (yield from super().statement(statement, prefix))

    def begins(self, statement: Parallel | Race | ForEach, prefix: str) -> bool:
        thrown = self._asked(self.current, Rest(prefix + statement.name, statement, prefix))
        if thrown is not None:
            raise thrown
        return True

    def enter_again(self, thread: RefThread) -> Rest:
        assert thread.at is not None
        thrown = self._asked(thread, thread.at)
        return super().enter_again(thread) if thrown is None else thread.walk.throw(thrown)

    def _asked(self, thread: RefThread, at: Rest) -> Thrown | None:
        """Returns the error with which a function of a statement has failed, if it has."""
        if not self.caught or self.caught[0][:2] != (thread.id, at.name):
            return None
        return Thrown(self.caught.pop(0)[2], at.name, at, self.pc)

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def ended(self) -> bool:
        return self.finished or self.failed or self.canceled

    @property
    def live_threads(self) -> list[RefThread]:
        """The threads that may go on: none of an instance that has ended or is paused."""
        return [] if self.ended or self.paused else self.threads

    def thread(self, id: str) -> RefThread | None:
        return next((thread for thread in self.threads if thread.id == id), None)

    def standing(self, thread_id: str, name: str, kind: type[Any]) -> Any:
        """The thread of that id, which must stand on the statement of that name."""
        thread = self.thread(thread_id)
        require(thread is not None, f"{name!r} was run in thread {thread_id!r}, which does not live")
        assert thread is not None
        at = thread.at
        require(
            at is not None and at.name == name and isinstance(at.statement, kind),
            f"{name!r} was run in thread {thread_id!r}, which stands on {at.name if at else 'nothing'!r}",
        )
        return thread

    def working(self, thread_id: str, name: str) -> tuple[RefThread, Activity]:
        """The thread of that id, and the activity of that name, which it must wait for."""
        thread = self.thread(thread_id)
        known = dict(activities_at(thread.at)) if thread is not None and thread.at is not None else {}
        require(name in known, f"{name!r} was run in thread {thread_id!r}, which waits for {[*known]}")
        assert thread is not None
        return thread, known[name]

    # --- user code -----------------------------------------------------------------------

    def run_step(self, thread: RefThread) -> None:
        self.attempts.succeeded(("step", thread.id, thread.pc))
        self.step_of(thread)

    def step_failed(self, thread: RefThread, error: Exception, at: datetime) -> None:
        self.pc += 1
        if self.attempts.failed(("step", thread.id, thread.pc), at, error):
            self.fail_at(thread, error)

    def set_up_event(self, thread_id: str, event: str) -> None:
        thread, case = self._to_set_up(thread_id, event)
        self.attempts.succeeded(("setup", thread.wait_id, event))
        self.set_up_of(thread, case)

    def setup_failed(self, thread_id: str, event: str, at: datetime) -> None:
        thread, _ = self._to_set_up(thread_id, event)
        self.pc += 1
        self.attempts.failed(("setup", thread.wait_id, event), at)

    def _to_set_up(self, thread_id: str, event: str) -> tuple[RefThread, On]:
        for thread in self.threads:
            for case in thread.to_set_up if thread.id == thread_id else ():
                if case.event == event:
                    return thread, case
        raise Violation(f"{event!r} of {thread_id!r} was set up, and needed no setup")

    def torn_down(self, wait_id: str, event: str) -> None:
        self.attempts.succeeded(("teardown", wait_id, event))
        places = [(request.wait_id, request.event) for _, request, _ in self.teardowns]
        self.tear_down_of(places.index((wait_id, event)))

    def teardown_failed(self, wait_id: str, event: str, at: datetime) -> None:
        self.pc += 1
        self.attempts.failed(("teardown", wait_id, event), at)

    # --- operators -----------------------------------------------------------------------

    def fail(self) -> None:
        require(not self.ended, "an instance that had ended has failed")
        self.pc += 1
        self.error = Thrown(Exception(), "", None, self.pc)
        self.paused = False
        for thread in self.threads:
            self.leave(thread, None)

    def cancel(self) -> None:
        self.paused = False
        super().cancel()

    def terminate(self) -> None:
        """Ends at once: what outside systems know is forgotten, and children are canceled if it has not ended yet."""
        self.pc += 1
        had_ended = self.ended
        for thread in () if had_ended else self.threads:
            self.leave(thread, None)
        kept = [left for left in self.teardowns if not had_ended and isinstance(left[0], Cancellation)]
        for _, request, _ in (left for left in self.teardowns if left not in kept):
            self.attempts.given_up.add(("teardown", request.wait_id, request.event))
        self.teardowns = kept
        if not had_ended:
            self.threads, self.buffer, self.paused, self.canceled = [], [], False, True

    def pause(self, *, paused: bool) -> None:
        self.pc += 1
        self.paused = paused

    def begin_anew(self, thread: RefThread) -> None:
        self.attempts.forget(("step", thread.id, thread.pc))

    def retry(self) -> None:
        for _, request, _ in self.teardowns:
            self.attempts.try_again(("teardown", request.wait_id, request.event))
        super().retry()

    # --- events that are kept ------------------------------------------------------------

    def deliver_kept(self, thread_id: str, event: str, how: str, message: str) -> None:
        """An event that was kept has come to its thread: it was handled, refused by its handler, or that has failed."""
        due = self.kept_due()
        require(due is not None, f"{event!r} of {thread_id!r} was delivered, and nothing that was kept is due")
        assert due is not None
        thread, case = due
        require(
            (thread.id, case.event) == (thread_id, event),
            f"{event!r} of {thread_id!r} was delivered before {case.event!r} of {thread.id!r}",
        )
        body = next(input for name, input in self.buffer if name == event)
        refused = {REJECTED: "event rejected", UNSEARCHABLE: "event rejected", BROKEN: "event failed"}
        expected = refused.get(body, "event")
        require(how == expected, f"{event!r} with {body} has come to {how!r}: {message}")
        if how == "event":
            self.deliver_to(thread, case)
        elif how == "event rejected":
            self.take_kept(event)
            self.pc += 1
        else:
            self.pc += 1
            self.throw(thread, Thrown(ValueError(message), event, thread.at, thread.pc))
            if not self.ended:
                self.take_kept(event)

    def kept_due(self) -> tuple[RefThread, On] | None:
        """Returns the next buffered event and its thread, unless events of that thread are being set up."""
        for thread in self.live_threads:
            if self.is_setting_up(thread):
                continue
            for event, _ in self.buffer:
                case = self.buffering_case(thread, event)
                if case is not None:
                    return thread, case
        return None

    # --- what may happen, and what is to be done -----------------------------------------

    def accepts(self) -> frozenset[tuple[str, str, str]]:
        """Event, thread and wait of everything that may be received now; without the two, of what would be kept. Of an
        activity, its name and how often it has failed."""
        if self.ended or self.paused:
            return frozenset()
        accepted = [(name, thread.id, thread.wait_id) for thread, _, name in self.accepted()]
        kept = self.buffered if not self.canceling and len(self.buffer) < self.kept_max else ()
        attempts = [
            (f"{name} {count}", thread.id, wait_id)
            for thread, (wait_id, name, count) in self.timed_waits()
            if is_at_work(thread, name)
        ]
        return frozenset([*accepted, *attempts, *((event, "", "") for event in kept)])

    def offer(self, event: str, thread_id: str) -> Offer | None:
        """What is accepted of that name in that thread."""
        for thread, case, name in self.accepted():
            if (name, thread.id) == (event, thread_id):
                return thread, case, name
        return None

    def is_setting_up(self, thread: RefThread) -> bool:
        """Whether an event of the thread is still to be set up, or a child to be started."""
        return any(True for _ in self._setups(thread))

    def _setups(self, thread: RefThread) -> Iterator[Work]:
        for case in thread.to_set_up:
            work = "setup", thread.wait_id, case.event
            if work not in self.attempts.given_up:
                yield work
        for name, errand in self.errands_of(thread).items():
            if not errand.is_started:
                yield "setup", thread.wait_id, name

    def work(self) -> Iterator[Work]:
        """Returns the work that is due without input from outside, now or at its next attempt."""
        for _, request, _ in self.teardowns:
            work = "teardown", request.wait_id, request.event
            if work not in self.attempts.given_up:
                yield work
        for thread in self.live_threads:
            if thread.at is None or isinstance(thread.at.statement, Step):
                yield "step", thread.id, thread.pc
            yield from self._setups(thread)
        if self.kept_due() is not None:
            yield ("delivery of an event that was kept",)

    def timed_waits(self) -> Iterator[tuple[RefThread, tuple[str, str, int]]]:
        """What ends at its deadline: the thread, and the wait, its name, and how often that has failed."""
        for thread in self.live_threads:
            at = thread.at
            if at is not None and isinstance(at.statement, (Sleep, Within)):
                yield thread, (thread.wait_id, at.name, 0)
            elif at is not None and isinstance(at.statement, WaitFor) and at.statement.timeout is not None:
                yield thread, (thread.wait_id, f"{at.name} timeout", 0)
            for name, _ in activities_at(at) if at is not None else ():
                yield thread, (thread.wait_id, name, self.attempts.failures["activity", thread.wait_id, name])
            if at is not None and isinstance(at.statement, Select):
                for case in at.statement.cases:
                    if isinstance(case, Timeout):
                        yield thread, (thread.wait_id, case_name(case, at.prefix), 0)
