"""What is right: the naive executor beside each instance, and the rules that every write must keep.

Each write that lands must be exactly one legal move of the executor (or a lease taken or renewed), done by the actor
that may do it; the stored state must be the executor's. So an effect that is lost, doubled, out of order or of a wait
that was over is found at the very write that does it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import HISTORY_MAX, HistoryEntry, Instance, KeyRecord
from cloud_adapter.engine.inbox import entry_name
from tests.core.generate import Fields, FirstError, SecondError
from tests.core.reference import (
    Activity,
    Child,
    DuplicateId,
    On,
    Reference,
    RefThread,
    Select,
    Sleep,
    Step,
    Thrown,
    case_name,
    is_handler,
)
from tests.simulation.actors import Operator, SimulatedFailure
from tests.simulation.acts import Act, Attempt, attempt_of
from tests.simulation.flows import ADDED, BROKEN, DELAYS, REJECTED
from workflow_core import (
    ActivityContext,
    ChildFailed,
    EventRequest,
    Parent,
    Status,
    TimedOut,
    Timeout,
    WaitKind,
    WaitStatus,
)
from workflow_core.events import stable_key

if TYPE_CHECKING:
    from tests.simulation.actors import Actor, Run
    from tests.simulation.clients import Call
    from tests.simulation.world import World

UNHEARD_MAX = timedelta(minutes=2)
"""For how long a result may lie in an inbox before the end of its attempt takes notice of it."""

LATE_MAX = timedelta(minutes=15)
"""How late a timeout may be that nothing but other work of its instance holds up."""

RAISED: dict[str, type[Exception]] = {
    one.__name__: one for one in (FirstError, SecondError, SimulatedFailure, TimedOut)
}
"""What steps and activities raise."""

DELIVERIES = ("event", "event rejected", "event failed")
"""How the delivery of an event that was kept may end."""

OVER_LEASES = ("cancel", "pause", "unpause")
"""What operators do although a step runs, leaving its lease in place."""

USER_CODE = ("step", "setup", "teardown")

Move = tuple[Act, bool]
"""What was done to an instance, and whether it has failed by that."""

Deadlines = dict[Attempt, datetime | None]

KEPT = object()
"""The output of an event that was kept, and is handled later."""


class Violation(AssertionError):
    """A promise was broken."""


def _is_call(actor: Actor) -> bool:
    """Whether it is a client that waits for an answer."""
    return hasattr(actor, "request")


def _is_done_under_lease(act: Act) -> bool:
    """Whether it is what only the holder of the lease may do."""
    if act.kind in DELIVERIES and not _is_call(act.actor):
        return True
    return act.kind.split(" ")[0] in (*USER_CODE, "tell")


def _deadlines(instance: Instance) -> Deadlines:
    """Until when each attempt at an activity may go on."""
    waits = (wait for thread in instance.execution.threads for wait in thread.waits)
    return {attempt_of(one): one.deadline for one in waits if one.kind is WaitKind.ACTIVITY}


def require(holds: object, what: str, *details: object) -> None:
    if not holds:
        raise Violation(what + "".join(f"; {detail}" for detail in details))


@dataclass(eq=False)
class Errand:
    """A child as its parent sees it.

    Attributes:
        is_born: the other instance was created.
        is_started: the parent knows that.
        is_over: the parent waits no more, as it knows of the end, or does not care.
        is_left: the parent waits no more, and the child is to be canceled.
        is_torn_down: it is said to have been canceled.
    """

    id: str
    fields: dict[str, int]
    detached: bool
    is_born: bool = False
    is_started: bool = False
    is_over: bool = False
    is_left: bool = False
    is_torn_down: bool = False


class _Cancellation:
    """Stands in the list of teardowns for a child that is to be canceled."""

    def setup(self, request: EventRequest) -> None: ...

    def handle(self, request: EventRequest, input: Any) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


def _cannot_begin(world: World, errand: Errand) -> bool:
    """Whether a child with these fields fails at once."""
    try:
        Mirror(world.plain["child"](**errand.fields), errand.id, 0).settle()
    except DuplicateId:
        return True
    return False


class Mirror(Reference):
    """The naive executor, one move at a time, and with failures; it keeps up to ``kept_max`` events."""

    def __init__(self, workflow: Fields, id: str, kept_max: int) -> None:
        super().__init__(workflow, id)
        self.kept_max = kept_max
        self.errands: dict[tuple[str, str], Errand] = {}
        self.paused = False
        self.attempts: Counter[tuple[Any, ...]] = Counter()
        self.given_up: set[tuple[str, str, str]] = set()

    def settle(self) -> None:
        while not self.paused and self.move():
            pass

    def run_step(self, thread_id: str, name: str) -> None:
        thread = self.standing(thread_id, name, Step)
        self.attempts.pop(("step", thread.id, thread.pc), None)
        self.step_of(thread)

    def step_failed(self, thread_id: str, name: str, error: Exception, *, given_up: bool) -> None:
        thread = self.standing(thread_id, name, Step)
        self.attempts["step", thread.id, thread.pc] += 1
        self.pc += 1
        if given_up:
            self.fail_at(thread, error)

    def set_up_event(self, thread_id: str, event: str) -> None:
        thread = next(one for one in self.threads if one.id == thread_id)
        case = next((one for one in thread.to_set_up if one.event == event), None)
        require(case is not None, f"{event!r} of {thread_id!r} was set up, and needed no setup")
        assert case is not None
        self.attempts.pop(("setup", thread.wait_id, event), None)
        self.set_up_of(thread, case)

    def setup_failed(self, thread_id: str, event: str, *, given_up: bool) -> None:
        thread = next(one for one in self.threads if one.id == thread_id)
        require(any(one.event == event for one in thread.to_set_up), f"{event!r} of {thread_id!r} needed no setup")
        self.attempts["setup", thread.wait_id, event] += 1
        self.pc += 1
        if given_up:
            self.given_up.add(("setup", thread.wait_id, event))

    def torn_down(self, wait_id: str, event: str) -> None:
        self.attempts.pop(("teardown", wait_id, event), None)
        self.tear_down_of([(one.wait_id, one.event) for _, one, _ in self.teardowns].index((wait_id, event)))

    def teardown_failed(self, wait_id: str, event: str, *, given_up: bool) -> None:
        self.attempts["teardown", wait_id, event] += 1
        self.pc += 1
        if given_up:
            self.given_up.add(("teardown", wait_id, event))

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

    def pause(self, *, paused: bool) -> None:
        self.pc += 1
        self.paused = paused

    @property
    def failed(self) -> bool:
        return self.error is not None

    @property
    def ended(self) -> bool:
        return self.finished or self.failed or self.canceled

    # --- children ------------------------------------------------------------------------

    def walk(self, thread: RefThread, go: Callable[[], Any]) -> None:
        super().walk(thread, go)
        at = thread.at
        if at is not None and isinstance(at.statement, Child) and (thread.wait_id, at.name) not in self.errands:
            before, self.current = self.current, thread
            own = stable_key(type(self.workflow).__workflow_name__, self.id, thread.wait_id, at.name)
            id = own if at.statement.id is None else str(self.call(at.statement.id))  # type: ignore[arg-type]
            fields = self.call(at.statement.input)  # type: ignore[arg-type]
            self.errands[thread.wait_id, at.name] = Errand(id, fields, at.statement.detached)
            self.current = before

    def leave(self, thread: RefThread, event: str | None) -> None:
        """What waits for a child no longer leaves its cancellation to be done."""
        super().leave(thread, event)
        at = thread.at
        errand = self.errands.get((thread.wait_id, at.name)) if at is not None else None
        if errand is None or errand.is_over or errand.is_left:
            return
        assert at is not None
        errand.is_left = True
        child: dict[str, Any] = {"workflow": "child", "id": errand.id}
        if not errand.is_started:
            child |= {"fields": errand.fields, "detached": errand.detached}
        request = EventRequest(self.workflow, self.id, thread.id, thread.wait_id, at.name, child, "teardown")
        self.teardowns.append((_Cancellation(), request, False))

    def stands_on_child(self, thread_id: str, name: str) -> RefThread | None:
        for thread in self.threads:
            at = thread.at
            if thread.id == thread_id and at is not None and at.name == name and isinstance(at.statement, Child):
                return thread
        return None

    def child_started(self, thread: RefThread, errand: Errand) -> None:
        errand.is_started = True
        if errand.detached:
            errand.is_over = True
            self.advance(thread)
        else:
            self.pc += 1

    def child_done(self, thread: RefThread, errand: Errand, result: int) -> None:
        errand.is_over = True
        thread.at.statement.then(self.workflow, result)  # type: ignore[union-attr]
        self.advance(thread)

    def child_failed(self, thread: RefThread, errand: Errand) -> None:
        errand.is_over = True
        self.fail_at(thread, ChildFailed())

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
        expected = {REJECTED: "event rejected", BROKEN: "event failed"}.get(body, "event")
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
        """What is to be delivered next, and to whom: not while events of that thread are being set up."""
        for thread in () if self.ended or self.paused else self.threads:
            if any(("setup", thread.wait_id, case.event) not in self.given_up for case in thread.to_set_up):
                continue
            for event, _ in self.buffer:
                case = self.buffering_case(thread, event)
                if case is not None:
                    return thread, case
        return None

    def standing(self, thread_id: str, name: str, kind: type[Any]) -> Any:
        thread = next((one for one in self.threads if one.id == thread_id), None)
        require(thread is not None, f"{name!r} was run in thread {thread_id!r}, which does not live")
        assert thread is not None
        at = thread.at
        require(
            at is not None and at.name == name and isinstance(at.statement, kind),
            f"{name!r} was run in thread {thread_id!r}, which stands on {at.name if at else 'nothing'!r}",
        )
        return thread

    def attempts_of(self, thread: RefThread) -> int:
        """How often the step that the thread stands on has failed."""
        if thread.at is None or not isinstance(thread.at.statement, Step) or self.failed:
            return 0
        return self.attempts["step", thread.id, thread.pc]

    def accepts(self) -> frozenset[tuple[str, str, str]]:
        """Event, thread and wait of everything that may be received now; without the two, of what would be kept. Of an
        activity, its name and how often it has failed."""
        if self.ended or self.paused:
            return frozenset()
        accepted = [(name, thread.id, thread.wait_id) for thread, _, name in self.accepted()]
        kept = self.buffered if not self.canceling and len(self.buffer) < self.kept_max else ()
        attempts = [
            (f"{one.at.name} {self.attempts['activity', one.wait_id, one.at.name]}", one.id, one.wait_id)
            for one in self.threads
            if one.at is not None and isinstance(one.at.statement, Activity)
        ]
        return frozenset([*accepted, *attempts, *((event, "", "") for event in kept)])

    def pending(self) -> str:
        """What is still to be done without anything that comes from outside; empty if nothing is."""
        for wait_id, event in [(request.wait_id, request.event) for _, request, _ in self.teardowns]:
            if ("teardown", wait_id, event) not in self.given_up:
                return f"the teardown of {event!r}"
        for thread in () if self.ended or self.paused else self.threads:
            statement = thread.at.statement if thread.at is not None else None
            if statement is None or isinstance(statement, (Step, Activity)):
                return f"the step of thread {thread.id!r}"
            if any(("setup", thread.wait_id, case.event) not in self.given_up for case in thread.to_set_up):
                return f"a setup of thread {thread.id!r}"
            if isinstance(statement, Child) and not self.errands[thread.wait_id, thread.at.name].is_started:
                return f"the start of the child of thread {thread.id!r}"
            cases = statement.cases if isinstance(statement, Select) else ()
            if isinstance(statement, Sleep) or any(isinstance(case, Timeout) for case in cases):
                return f"a timeout of thread {thread.id!r}"
        if self.kept_due() is not None:
            return "the delivery of an event that was kept"
        return ""


@dataclass(eq=False)
class Model:
    """What is known of one instance.

    Attributes:
        parent: who has started it, and whether it knows of its end.
        states: since when which events were accepted, the first of these when it was created.
        accepted_at: the same by pc.
        holders: who wrote each lease's token first.
        commits: how many writes have landed.
        turns: the number of the last that was committed of those that have come to each lane.
    """

    world: World
    id: str
    workflow: str = "flow"
    parent: Parent | None = None
    mirror: Mirror | None = None
    states: list[tuple[float, frozenset[tuple[str, str, str]]]] = field(default_factory=list)
    accepted_at: dict[int, frozenset[tuple[str, str, str]]] = field(default_factory=dict)
    holders: dict[str, Actor] = field(default_factory=dict)
    commits: int = 0
    turns: dict[object, int] = field(default_factory=dict)
    told: bool = False

    # --- a write that landed -------------------------------------------------------------

    def committed(
        self, actor: Actor, old: Instance | None, new: Instance, acts: Sequence[Act], keys: Sequence[KeyRecord]
    ) -> None:
        """Checks a write, and follows what it holds, one after another.

        Raises:
            Violation: it breaks a promise.
        """
        self.world.say(
            "%s commits %s, pc %d%s",
            actor.name,
            ", ".join(str(act) if act.actor is actor else f"{act} by {act.actor.name}" for act in acts),
            new.execution.pc,
            f", leased until {new.lease.expires_at:%M:%S}" if new.lease else "",
        )
        self._check_history(old, new, acts)
        moves = self._moves(actor, acts)
        self._check_lease(actor, old, new, moves)
        self._check_keys(old, moves, keys)
        self.commits += 1
        if old is None:
            require([act.kind for act, _ in moves] == ["created"], f"the first write is {[str(act) for act in acts]}")
            fields = self._born(actor, new) if self.parent is not None else self._created(actor)
            self.mirror = Mirror(self.world.plain[self.workflow](**fields), self.id, self.world.options.buffer_max)
            self._settled()
        else:
            self._follow_all(old, new, moves)
        self._compare(new)
        self._check_limits(actor, new)
        self.world.activities.written(new)
        self.accepted_at[new.execution.pc] = self.states[-1][1]

    def _check_history(self, old: Instance | None, new: Instance, acts: Sequence[Act]) -> None:
        """All that was noted is in the history, behind what was there."""
        before = () if old is None else old.history
        noted = tuple(act.entry for act in acts if act.entry is not None)
        self._equal("history", new.history, (*before, *noted)[-HISTORY_MAX:])

    def _moves(self, actor: Actor, acts: Sequence[Act]) -> list[Move]:
        """The acts of a write, each with whether the instance failed by it."""
        moves: list[Move] = []
        for act in acts:
            if act.kind == "failed" and moves:
                moves[-1] = moves[-1][0], True
            else:
                require(not (moves and moves[-1][1]), f"{act} came after the instance had failed")
                moves.append((act, False))
        require(moves, f"{actor.name} has written what nobody has done")
        several = len(moves) > 1
        arrived = [act.arrival.number for act, _ in moves if act.arrival is not None]
        require(arrived == sorted(arrived), f"not in the order in which they came: {[str(act) for act in acts]}")
        for act, _ in moves:
            require(act.actor.process is actor.process, f"{actor.name} commits what {act.actor.name} has done")
            alone = act.kind in OVER_LEASES or _is_done_under_lease(act)
            require(not (several and alone) or self._is_left_over(moves), f"{act} is committed with others")
            own = act.actor is actor or act.arrival is not None
            require(own, f"{actor.name} commits what {act.actor.name} has done")
            self._check_turn(act)
        return moves

    @staticmethod
    def _is_left_over(moves: Sequence[Move]) -> bool:
        """Whether it is one act behind renewals of a lease that nothing was heard of."""
        return all(act.kind == "tick" and act.actor is moves[-1][0].actor for act, _ in moves[:-1])

    def _check_turn(self, act: Act) -> None:
        """Nobody who could be decided was passed over by one who came later."""
        arrival = act.arrival
        if arrival is not None:
            last = self.turns.setdefault(arrival.lane, arrival.number)
            require(arrival.has_waited or last <= arrival.number, f"{act} was overtaken by what came later")
            self.turns[arrival.lane] = max(last, arrival.number)

    def _check_keys(self, old: Instance | None, moves: Sequence[Move], keys: Sequence[KeyRecord]) -> None:
        """Each request's key is recorded in the very write that it takes effect in."""
        used = [act.actor.request.key for act, _ in moves if _is_call(act.actor)]  # type: ignore[attr-defined]
        self._equal("keys", sorted(key.key for key in keys), sorted(key for key in used if key is not None))

    def _follow_all(self, old: Instance, new: Instance, moves: Sequence[Move]) -> None:
        deadlines, beaten = _deadlines(old), set[Attempt]()
        for act, fails in moves:
            if act.kind == "beat":
                self._beat(act, deadlines, beaten)
                self.executor.pc += 1
            elif act.kind == "tick":
                require(new.lease is not None or old.lease is not None, "a write changed nothing")
                self.executor.pc += 1
            else:
                self._follow(act, old, new, deadlines, fails=fails)
            self._settled()
        if not {"unpause", "cancel"} & {act.kind for act, _ in moves}:
            after = _deadlines(new)
            both = after.keys() & deadlines.keys()
            self._equal("deadlines", {one: after[one] for one in both}, {one: deadlines[one] for one in both})
        self._check_new_deadlines(old, new, moves)

    def _check_new_deadlines(self, old: Instance, new: Instance, moves: Sequence[Move]) -> None:
        """What is waited for counts from when it was begun, not from an earlier time."""
        times = [act.entry.at for act, _ in moves if act.entry is not None]
        known = {wait.id for thread in old.execution.threads for wait in thread.waits}
        limits = self.world.least_delays[self.workflow]
        for thread in new.execution.threads if times else ():
            for wait in thread.waits:
                if wait.deadline is not None and wait.id not in known:
                    least = min(times) + limits.get(wait.event, timedelta(seconds=min(DELAYS)))
                    require(wait.deadline >= least, f"the deadline of {wait.event!r} is {wait.deadline}, not {least}")

    def _settled(self) -> None:
        """It has come to rest for a moment, which nobody may see but whoever is decided then."""
        self.executor.settle()
        self.states.append((self.world.timeline.now, self.executor.accepts()))

    def _check_limits(self, actor: Actor, new: Instance) -> None:
        """No more rounds of a ``ForEach`` live than may."""
        live = Counter((one.parent, one.name) for one in new.execution.threads if one.parent)
        code = actor.process.engine.workflow(self.workflow).__program__.code
        limits = {one.name: one.limit for one in code if one.limit is not None}
        for (_, name), count in live.items():
            limit = limits.get(name, count)
            require(count <= limit, f"{count} rounds of {name!r} live, and {limit} may")

    def _created(self, actor: Any) -> Any:
        """A client has created it."""
        actor.request.group.commits.append((actor, None))
        return json.loads(actor.request.body or b"{}")

    # --- children ------------------------------------------------------------------------

    def _born(self, actor: Actor, new: Instance) -> Any:
        """Its parent has created it: gives its first fields."""
        parent, errand = self.parent, self.errand
        assert parent is not None
        require(not _is_call(actor), f"{actor.name} has created a child")
        require(errand is not None, f"{new.id!r} is born, and {parent.id!r} has no child {parent.event!r} there")
        assert errand is not None
        require(errand.id == new.id, f"child {parent.event!r} is born as {new.id!r}, and should be {errand.id!r}")
        require(not errand.is_born, f"child {new.id!r} is born twice")
        require(not errand.is_torn_down, f"child {new.id!r} is born after it was canceled with its parent")
        self._equal("parent's knowledge", parent.told, errand.detached)
        errand.is_born = True
        self.told = parent.told
        return errand.fields

    @property
    def errand(self) -> Errand | None:
        """How the parent sees it."""
        parent = self.parent
        assert parent is not None
        return self.world.models[parent.id].executor.errands.get((parent.wait_id, parent.event))

    def _start(self, new: Instance, thread: Any, entry: HistoryEntry) -> None:
        """A child was started, or could not be."""
        mirror, name = self.executor, entry.statement
        errand = mirror.errands[thread.wait_id, name]
        if entry.kind == "setup":
            require(errand.is_born, f"child {name!r} is said to be started, and is not")
            mirror.child_started(thread, errand)
            return
        taken = errand.id in self.world.models and not errand.is_born
        require(taken or _cannot_begin(self.world, errand), f"child {name!r} could be started: {entry.error}")
        mirror.pc += 1
        mirror.child_failed(thread, errand)

    def _end_of_child(self, entry: HistoryEntry) -> None:
        """The end of a child has come to its parent."""
        thread = self.executor.standing(entry.thread, entry.statement, Child)
        errand = self.executor.errands[thread.wait_id, entry.statement]
        require(errand.is_started, f"child {errand.id!r} is said to have ended, and was not started")
        child = self.world.models[errand.id].executor
        if entry.kind == "child":
            require(child.finished, f"child {errand.id!r} is said to have finished")
            self.executor.child_done(thread, errand, child.workflow.result())  # type: ignore[attr-defined]
        else:
            require(child.failed or child.canceled, f"child {errand.id!r} is said to have failed: {entry.error}")
            self.executor.child_failed(thread, errand)

    def _tell(self, kind: str) -> None:
        """The parent was told of the end, or could not be."""
        require(self.parent is not None and self.executor.ended and not self.told, f"a {kind!r} that was not to be")
        self.executor.pc += 1
        if kind == "tell failed":
            self.executor.attempts["tell",] += 1
            return
        knows = self._is_posted() or not self._is_awaited()
        require(knows, f"the parent of {self.id!r} waits on, and is said to know of its end")
        self.executor.attempts.pop(("tell",), None)
        self.told = True

    def _is_posted(self) -> bool:
        """Whether its end lies in the inbox of its parent."""
        assert self.parent is not None
        entries = self.world.database.inbox(self.parent.workflow, self.parent.id)
        about = {"kind": "end", "wait_id": self.parent.wait_id, "event": self.parent.event}
        return any(about.items() <= json.loads(entry.body).items() for entry in entries)

    def _is_awaited(self) -> bool:
        assert self.parent is not None
        parent = self.world.models[self.parent.id].executor
        threads = () if parent.ended else parent.threads
        return any(
            (thread.wait_id, thread.at.name if thread.at else "") == (self.parent.wait_id, self.parent.event)
            for thread in threads
        )

    def _check_child(self) -> None:
        """Where a child is at the end: its parent knows, or it still waits, or it was canceled."""
        errand, ended = self.errand, self.executor.ended
        assert errand is not None and self.parent is not None
        require(self.told or not ended, f"{self.id!r} has ended, and its parent was not told")
        given_up = self.world.models[self.parent.id].executor.given_up
        left = errand.is_left and ("teardown", self.parent.wait_id, self.parent.event) not in given_up
        canceled = ended or self.executor.canceling  # its cleanup may wait for an event
        require(canceled or not left, f"{self.id!r} lives on, and its parent was canceled")
        awaited = self._is_awaited()
        require(ended or errand.detached or errand.is_left or awaited, f"nobody waits for {self.id!r}")
        require(not (ended and awaited) or self._is_posted(), f"{self.id!r} has ended, and its parent waits for ever")

    @property
    def executor(self) -> Mirror:
        assert self.mirror is not None
        return self.mirror

    def _check_lease(self, actor: Actor, old: Instance | None, new: Instance, moves: Sequence[Move]) -> None:
        before = old.lease if old is not None else None
        if before is not None:
            holder = self.holders[before.token]
            if moves[0][0].kind in OVER_LEASES:
                require(new.lease in (before, None), f"{actor.name} has changed a lease")
                require(
                    new.lease is not None or before.expires_at <= actor.process.now(),
                    f"{actor.name} has ended the live lease of {holder.name}",
                )
                holder.disturbed = True
            elif any(act.actor is not holder for act, _ in moves):
                require(
                    before.expires_at <= actor.process.now(),
                    f"{actor.name} has committed over the live lease of {holder.name}",
                )
                require(
                    holder.process.dead or holder.disturbed or not holder.running,
                    f"the lease of {holder.name} ran out while it was at work undisturbed",
                )
        if new.lease is not None and new.lease != before:
            require(
                self.holders.setdefault(new.lease.token, actor) is actor, f"{actor.name} has written another's lease"
            )
        for act, _ in moves:
            if _is_done_under_lease(act):
                require(
                    before is not None and self.holders[before.token] is act.actor,
                    f"{act.actor.name} has committed a {act.kind} without the lease",
                )

    def _follow(self, act: Act, old: Instance, new: Instance, deadlines: Deadlines, *, fails: bool) -> None:
        mirror, actor, entry = self.executor, act.actor, act.entry
        assert entry is not None
        kind, statement, thread = entry.kind, entry.statement, entry.thread
        failed_before = mirror.failed
        if kind == "buffered":
            self._buffered(actor, statement)
        elif kind in DELIVERIES and not _is_call(actor):
            error = entry.error.partition(": ")[2]
            mirror.deliver_kept(thread, statement, kind, error)
        elif kind == "event":
            self._event(actor, statement, thread)
        elif kind == "timeout":
            offer = self._offer(statement, thread)
            self._check_time(actor, old, offer[0].wait_id, statement)
            mirror.handle(*offer, None)
        elif kind == "failed":
            mirror.fail()
        elif kind == "cancel":
            by_parent = self.parent is not None and self.errand is not None and self.errand.is_left
            require(by_parent or isinstance(actor, Operator), f"{actor.name} has canceled {self.id!r}")
            self.world.activities.renewals[self.id] += mirror.paused
            mirror.cancel()
        elif kind in ("pause", "unpause"):
            self.world.activities.renewals[self.id] += kind == "unpause"
            mirror.pause(paused=kind == "pause")
        elif kind in ("activity", "activity failed"):
            self._activity(act, old, deadlines)
        elif kind in ("child", "child failed"):
            self._end_of_child(entry)
        elif kind in ("tell", "tell failed"):
            self._tell(kind)
        elif kind in ("setup", "setup failed") and (child := mirror.stands_on_child(thread, statement)) is not None:
            self._start(new, child, entry)
        else:
            self._user_code(actor, old, new, entry)
        mirror.settle()
        newly = mirror.failed and not failed_before
        require(kind == "failed" or fails == newly, f"after {act} the instance has failed: {fails}, not {newly}")

    def _buffered(self, actor: Any, event: str) -> None:
        """An event came that nobody waits for."""
        require(_is_call(actor), f"{actor.name} has kept the event {event!r}")
        request, mirror = actor.request, self.executor
        require(request.event == event, f"the history tells of {event!r}, and {request.event!r} was sent")
        require(mirror.keeps(event) and not mirror.paused, f"{event!r} is kept, which is not to be")
        require(len(mirror.buffer) < mirror.kept_max, f"more than {mirror.kept_max} events are kept")
        require(request.thread_id is request.wait_id is None, f"{request.what} was for a certain wait, and is kept")
        waiting = [offer for offer in mirror.accepted() if offer[2] == event]
        require(not waiting, f"{event!r} is kept, and could be handled")
        mirror.keep(event, json.loads(request.body))
        self._once(actor)
        request.group.commits.append((actor, KEPT))

    def _event(self, actor: Any, event: str, thread: str) -> None:
        request = actor.request
        require(request.event == event, f"the history tells of {event!r}, and {request.event!r} was sent")
        offer = self._offer(event, thread)
        require(not self.executor.comes_later(offer[1]), f"{request.what} has overtaken an earlier one")
        body = json.loads(request.body) if request.body else None
        output = self.executor.handle(*offer, body)
        self._once(actor)
        request.group.commits.append((actor, output))

    def _offer(self, event: str, thread: str) -> Any:
        """What the model accepts of that name in that thread."""
        for offer in self.executor.accepted():
            if (offer[2], offer[0].id) == (event, thread):
                return offer
        raise Violation(f"{event!r} of thread {thread!r} has happened, and is not waited for")

    def _check_time(self, actor: Actor, old: Instance, wait_id: str, timeout: str) -> None:
        """A timeout happens after its deadline, and soon once nothing disturbs it any more."""
        waits = (one for thread in old.execution.threads for one in thread.waits)
        deadline = next(one.deadline for one in waits if (one.id, one.event) == (wait_id, timeout))
        assert deadline is not None
        require(deadline <= actor.process.now(), f"the timeout {timeout!r} has happened before its time")
        late = self.world.now - max(deadline, self.world.quiet_since)
        require(late < LATE_MAX or self.world.queue.has_lost, f"the timeout {timeout!r} has happened {late} late")

    @staticmethod
    def _once(actor: Call) -> None:
        group = actor.request.group
        require(not group.commits, f"{actor.request.what} has taken effect twice")
        require(not actor.refused, f"{actor.request.what} has taken effect though it was refused")

    def _user_code(self, actor: Actor, old: Instance, new: Instance, entry: HistoryEntry) -> None:
        mirror = self.executor
        kind, statement, thread = entry.kind, entry.statement, entry.thread
        what, _, failed = kind.partition(" ")
        require(what in USER_CODE and failed in ("", "failed"), f"the history has an entry {kind!r}")
        wait_id = ""
        if what == "step":
            at = mirror.standing(thread, statement, Step)
            stored = next(one for one in old.execution.threads if one.id == thread)
            early = stored.retry_at is not None and stored.retry_at > actor.process.now()
            require(not early, f"{statement!r} was tried again before {stored.retry_at}")
            count = mirror.attempts["step", at.id, at.pc]
            key = self._step_key(thread, at.pc)
            require(
                actor.done.get(("step", key)) == (count + 1, bool(failed)),
                f"{kind!r} of {statement!r} was committed, not as it was run: {actor.done.get(('step', key))}",
            )
        else:
            wait_id = self._wait_id(old, new, what, statement, thread)
        if kind == "step":
            mirror.run_step(thread, statement)
        elif kind == "step failed":
            given_up = not any(
                (one.id, one.step, one.pc) == (thread, statement, at.pc) and one.retry_at is not None
                for one in new.execution.threads
            )
            name, _, message = entry.error.partition(": ")
            require(name in RAISED, f"{statement!r} has failed with {entry.error}")
            mirror.step_failed(thread, statement, RAISED[name](message), given_up=given_up)
        elif kind == "setup":
            mirror.set_up_event(thread, statement)
        elif kind == "setup failed":
            wait = next(w for t in new.execution.threads for w in t.waits if (w.id, w.event) == (wait_id, statement))
            mirror.setup_failed(thread, statement, given_up=wait.retry_at is None)
        elif kind == "teardown":
            errand = mirror.errands.get((wait_id, statement))
            if errand is not None:
                if errand.is_born:
                    child = self.world.models[errand.id].executor
                    require(child.ended or child.canceling, f"child {errand.id!r} was not canceled")
                else:
                    cannot_be = errand.id in self.world.models or _cannot_begin(self.world, errand)
                    require(cannot_be, f"child {errand.id!r} may still be born, and is said to be canceled")
                errand.is_torn_down = True
            mirror.torn_down(wait_id, statement)
        else:
            left = [one for one in new.execution.teardowns if (one.id, one.event) == (wait_id, statement)]
            require(left, f"the teardown of {statement!r} has failed, and is forgotten")
            mirror.teardown_failed(wait_id, statement, given_up=left[0].retry_at is None)

    def _activity(self, act: Act, old: Instance, deadlines: Deadlines) -> None:
        mirror, entry = self.executor, act.entry
        assert entry is not None
        name = entry.statement
        thread = mirror.standing(entry.thread, name, Activity)
        stored = next(one for one in old.execution.threads if one.id == thread.id).waits[0]
        key = thread.wait_id, name
        count = mirror.attempts[("activity", *key)]
        require(stored.attempt == count, f"{name!r} has failed {count} times, stored is {stored.attempt}")
        about = stable_key(self.workflow, self.id, thread.wait_id, name)
        error, _, message = entry.error.partition(": ")
        runs = self.world.activities.runs[about, count + 1]
        require(not self.world.is_peaceful or runs == 1, f"attempt {count + 1} of {name!r} has run {runs} times")
        if not error:
            ran = ("activity", about, count + 1, False) in self.world.done
            require(ran, f"attempt {count + 1} of {name!r} was never run to its end")
            activity: Any = thread.at.statement
            mirror.activity_done(thread, activity.function(thread.input, None))
            return
        if error == "TimedOut":
            deadline = deadlines[(*key, count)]
            late = deadline is not None and deadline <= act.actor.process.now() + timedelta(seconds=1)
            require(late, f"{name!r} has timed out before {deadline}")
            posted = self.world.database.posted.get((self.workflow, self.id, entry_name("result", *key, count)))
            unheard = posted is not None and self.world.now - posted > UNHEARD_MAX and not act.actor.disturbed
            require(not unheard, f"{name!r} has timed out, and its result was posted at {posted}")
        else:
            ran = ("activity", about, count + 1, True) in self.world.done
            require(ran, f"attempt {count + 1} of {name!r} is said to have failed, and did not: {entry.error}")
        if act.given_up:
            mirror.fail_at(thread, RAISED[error](message))
        else:
            mirror.attempts[("activity", *key)] += 1
            mirror.pc += 1

    def _beat(self, act: Act, deadlines: Deadlines, beaten: set[Attempt]) -> None:
        """A sign of life puts the end of its attempt off, and does nothing else. Another run of the same attempt may
        have done so just before."""
        actor, deadline = act.actor, act.deadline
        assert act.attempt is not None
        wait_id, name, attempt = act.attempt
        require(actor.beating is not None, f"{actor.name} gives a sign of life, and runs nothing")
        assert actor.beating is not None
        run, since = actor.beating
        require(act.attempt in deadlines, f"the sign of life of {run.key} is of {act.attempt}, which is not stored")
        moved = deadlines[act.attempt] != deadline or act.attempt in beaten
        require(moved, f"the sign of life of {run.key} has moved no deadline")
        beaten.add(act.attempt)
        key = stable_key(self.workflow, self.id, wait_id, name)
        require(
            (key, attempt + 1) == (run.key, run.attempt), f"{name!r}: attempt {run.attempt} moves another's deadline"
        )
        case = actor.process.engine.workflow(self.workflow).__program__.at(name).cases[name]
        assert case.activity is not None and case.activity.heartbeat is not None
        heartbeat = case.activity.heartbeat
        least, most = since + heartbeat, actor.process.now() + heartbeat
        require(deadline is not None and least <= deadline <= most, f"the deadline of {name!r} becomes {deadline}")
        deadlines[act.attempt] = deadline

    def check_over(self, context: ActivityContext, since: float) -> None:
        """An attempt is said to be over."""
        name = f"{context.activity} {context.attempt - 1}"
        waited = self.accepted_all_along(since, name, context.thread_id, context.wait_id)
        if waited:
            self.world.violate(f"attempt {context.attempt} of {context.activity!r} is not over, as it is told")

    def check_heard(self, run: Run, since: float, commits: int) -> None:
        """A sign of life was given: it was committed, if nothing was in its way for long."""
        if self.world.timeline.now - since >= self.world.options.max_wait.total_seconds():
            return
        lease = self.world.database.load(self.workflow, self.id).lease
        if self.commits == commits and lease is None and not run.actor.disturbed:
            self.world.violate(f"a sign of life of attempt {run.attempt} was not heard")

    def _step_key(self, thread: str, pc: int) -> str:
        from workflow_core import StepContext

        return StepContext(self.workflow, self.id, thread, "", pc, 1).idempotency_key

    @staticmethod
    def _wait_id(old: Instance, new: Instance, what: str, event: str, thread: str) -> str:
        """Which wait a setup or teardown was of: the history does not say."""
        if what == "setup":
            return next(one.waits[0].id for one in old.execution.threads if one.id == thread)
        after = {(one.id, one.event): one.attempt for one in new.execution.teardowns}
        for one in old.execution.teardowns:
            if one.event == event and after.get((one.id, one.event)) != one.attempt:
                return one.id
        raise Violation(f"the history tells of a teardown of {event!r}, and none was done")

    # --- what is stored ------------------------------------------------------------------

    def _compare(self, new: Instance) -> None:
        """The stored state is the executor's."""
        mirror, execution = self.executor, new.execution
        status = Status.FINISHED if mirror.finished else Status.FAILED if mirror.failed else None
        status = Status.CANCELED if mirror.canceled else Status.PAUSED if mirror.paused else status
        require(
            execution.status == status or (status is None and not execution.ended),
            f"the status is {execution.status}, and should be {status}",
        )
        attempts = mirror.attempts
        self._equal("pc", execution.pc, mirror.pc)
        self._equal("fields", json.loads(new.fields), json.loads(mirror.workflow.dump_fields()))
        self._equal(
            "threads",
            # Of an instance that has failed, whether a cleanup was passed on the way decides what is left of attempts.
            [(one.id, one.step, one.pc, 0 if mirror.failed else one.attempt) for one in execution.threads],
            [(one.id, one.at.name if one.at else "", one.pc, mirror.attempts_of(one)) for one in mirror.threads],
        )
        self._equal(
            "teardowns",
            sorted((one.event, one.id, one.handled, one.setup_data, one.attempt) for one in execution.teardowns),
            sorted(
                (one.event, one.wait_id, handled, one.setup_data, attempts["teardown", one.wait_id, one.event])
                for _, one, handled in mirror.teardowns
            ),
        )
        if not execution.ended:
            for stored, thread in zip(execution.threads, mirror.threads, strict=True):
                self._compare_waits(stored, thread)
        self._equal("buffer", [(one.event, json.loads(one.input)) for one in execution.buffer], mirror.buffer)
        link, parent = execution.parent, self.parent
        stored_link = link and (link.workflow, link.id, link.wait_id, link.event, link.told, link.attempt)
        known_link = parent and ("flow", parent.id, parent.wait_id, parent.event, self.told, attempts["tell",])
        self._equal("parent", stored_link, known_link)
        self._check_wake_up(new)

    def _compare_waits(self, stored: Any, thread: Any) -> None:
        statement = thread.at.statement if thread.at is not None else None
        if isinstance(statement, Child):
            (wait,) = stored.waits
            attempts = self.executor.attempts["setup", thread.wait_id, thread.at.name]
            started = self.executor.errands[thread.wait_id, thread.at.name].is_started
            found = (wait.event, wait.id, wait.status is WaitStatus.SET_UP, wait.attempt)
            self._equal(f"wait of {thread.id!r}", found, (thread.at.name, thread.wait_id, started, attempts))
        if isinstance(statement, Activity):
            (wait,) = stored.waits
            known = (thread.wait_id, thread.at.name, self.executor.attempts["activity", thread.wait_id, thread.at.name])
            self._equal(f"wait of {thread.id!r}", attempt_of(wait), known)
        if not isinstance(statement, Select):
            return
        to_set_up = [case.event for case in thread.to_set_up]
        expected = {}
        for case in statement.cases:
            name = case_name(case, thread.at.prefix)
            data = thread.setup_data.get(name) if is_handler(case) else None
            attempts = self.executor.attempts["setup", thread.wait_id, name]
            expected[name] = (thread.wait_id, name not in to_set_up, data, attempts)
        self._equal(
            f"waits of {thread.id!r}",
            {
                one.event: (
                    one.id,
                    one.status is WaitStatus.SET_UP,
                    one.setup_data if one.kind is WaitKind.HANDLER else None,
                    one.attempt,
                )
                for one in stored.waits
                if one.event != ADDED
            },
            expected,
        )

    @staticmethod
    def _equal(what: str, stored: object, expected: object) -> None:
        require(stored == expected, f"the stored {what} are not those of the model", f"{stored} != {expected}")

    @staticmethod
    def _check_wake_up(new: Instance) -> None:
        """Recovery finds the instance in time, and not before."""
        execution = new.execution
        times: list[datetime] = [] if new.lease is None else [new.lease.expires_at]
        assert execution.updated_at is not None
        for teardown in execution.teardowns:
            if teardown.status is WaitStatus.PENDING_TEARDOWN or teardown.retry_at is not None:
                times.append(teardown.retry_at or execution.updated_at)
        parent = execution.parent
        if parent is not None and not parent.told and execution.ended:
            times.append(parent.retry_at or execution.updated_at)
        kept = {one.event for one in execution.buffer}
        for thread in execution.threads if execution.live else ():
            if thread.status == "waiting" and any(one.buffered and one.event in kept for one in thread.waits):
                times.append(execution.updated_at)
            times += [one.deadline for one in thread.waits if one.deadline is not None]
            if thread.status in ("executing", "resuming"):
                times.append(thread.retry_at or execution.updated_at)
            for wait in thread.waits:
                if wait.kind is WaitKind.ACTIVITY:
                    continue  # its deadline counts, by which its next attempt has begun
                if wait.status is WaitStatus.PENDING_SETUP or wait.retry_at is not None:
                    times.append(wait.retry_at or execution.updated_at)
        if new.lease is not None:
            require(
                new.wake_at is not None and new.wake_at <= new.lease.expires_at, "recovery would not find the lease"
            )
        elif not times:
            require(new.wake_at is None, f"it is to be woken at {new.wake_at}, for nothing")
        else:
            require(
                new.wake_at == min(times),
                f"it is to be woken at {new.wake_at}, and something is due at {min(times)}",
            )

    # --- what clients see ----------------------------------------------------------------

    @property
    def keepable(self) -> list[str]:
        """The events that are kept where nobody waits for them."""
        return sorted(self.mirror.buffered) if self.mirror is not None else []

    def accepted_all_along(self, since: float, event: str, thread_id: str | None, wait_id: str | None) -> bool:
        """Whether the event was accepted at each moment since then."""
        always = bool(self.states) and self.states[0][0] <= since
        for i, (_, accepts) in enumerate(self.states):
            if i + 1 < len(self.states) and self.states[i + 1][0] < since:
                continue
            always = always and any(
                name == event and thread_id in (None, thread) and wait_id in (None, wait)
                for name, thread, wait in accepts
            )
        return always

    # --- the end -------------------------------------------------------------------------

    def _check_inbox(self, stored: Instance) -> None:
        """Nothing that is waited for lies in the inbox, unless the instance is paused; and nothing at all, if recovery
        comes for what was posted twice."""
        if self.executor.paused:
            return
        left = self.world.database.inbox(self.workflow, self.id)
        waits = [wait for thread in stored.execution.threads for wait in thread.waits if stored.execution.live]
        for entry in left:
            body = json.loads(entry.body)
            about = body["wait_id"], body["event"], body.get("attempt", 0)
            waited = any((wait.id, wait.event, wait.attempt if "attempt" in body else 0) == about for wait in waits)
            require(not waited, f"it has come to rest, and waits for {entry.name!r} in its inbox")
        require(not left or not self.world.recovers, f"it has come to rest, and {len(left)} entries are in its inbox")

    def check_rest(self, stored: Instance) -> None:
        """Once nothing moves any more, nothing is left that should."""
        if self.parent is not None:
            self._check_child()
        pending = self.executor.pending()
        require(not pending, f"it has come to rest, and {pending} is still to be done")
        require(stored.lease is None, "it has come to rest under a lease")
        self._check_inbox(stored)
        require(stored.wake_at is None, f"it has come to rest, and is to be woken at {stored.wake_at}")
        ends = (Status.FINISHED, Status.FAILED, Status.CANCELED)
        expected = ends if self.executor.ended else (Status.PAUSED,) if self.executor.paused else (Status.WAITING,)
        # An instance with a setup that was given up stays as it is.
        require(stored.execution.status in expected, f"it has come to rest as {stored.execution.status}")
