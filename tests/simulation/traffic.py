"""Counts what each request does: its calls, and its decisions in lanes. Bounds them by what there was to do.

The rule: a decision costs one read, and one more each time that it is made again: because it had to wait, or because a
write failed. A task is created for a commit, which has a rule of its own (``model/tasks.py``), or it continues the task
that was delivered. A call that has failed may be made again. Everything beyond that is work for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from cloud_adapter.engine import inbox
from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.attempts import Beat, BeginLate
from cloud_adapter.engine.decisions import FailInstance
from cloud_adapter.engine.lanes import Lane
from cloud_adapter.engine.leases import LeaseLost, Leases
from cloud_adapter.engine.line import Item, Line
from cloud_adapter.engine.recent_sessions import RecentSessions
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.steps import Stepper
from cloud_adapter.engine.sync_pool import SyncPool
from cloud_adapter.engine.tasks import ACTIVITY_PATH, COLLECT_PATH, RESUME_PATH, TIMEOUT_PATH
from cloud_adapter.engine.transaction import Transactor
from cloud_adapter.errors import Unavailable
from tests.simulation.actors import CURRENT, Actor, Delivery, Denied, Operator, Question
from tests.simulation.acts import ARRIVAL
from tests.simulation.model.attempts import DELAY_SECONDS_MAX
from tests.simulation.model.violations import Violation
from workflow_core import NewerVersion
from workflow_core.machine.outside_work import ChildCancel, ChildStart, TellWork
from workflow_core.machine.work import Work

if TYPE_CHECKING:
    from tests.simulation.world import World

POLLS_MAX, POLL_SECONDS = 8, 0.32
"""What waits is looked at again at growing intervals: so often at first, and then at most once in that time."""


@dataclass(frozen=True)
class Needs:
    """What a request needs, beside what its commits and its work need.

    Attributes:
        decisions: how many decisions; an attempt of an activity begins, and ends; its deadline looks for it first.
        reads: how many reads without a decision.
        tasks: how many tasks it may create for a later time.
        inboxes: how often it may read an inbox.
        posts: how many entries it may add to an inbox.
    """

    decisions: int
    reads: int = 0
    tasks: int = 0
    inboxes: int = 0
    posts: int = 0


NEEDS = {
    RESUME_PATH: Needs(1, tasks=1, inboxes=1),
    TIMEOUT_PATH: Needs(2, tasks=1, inboxes=1),
    ACTIVITY_PATH: Needs(2, tasks=1, posts=1),
    COLLECT_PATH: Needs(0, tasks=2, inboxes=1),
}


def _needs(actor: Actor) -> Needs:
    if isinstance(actor, Delivery):
        needs = NEEDS[actor.delivered.path]
        return replace(needs, tasks=needs.tasks + _stops(actor), reads=actor.traffic.too_large)
    if isinstance(actor, Denied):
        return Needs(1, reads=2, inboxes=2)
    if isinstance(actor, Question):
        return Needs(0, reads=2, inboxes=2)
    has_principal = int(getattr(actor, "principal", None) is not None)  # what it may do takes a read, in some cases
    if isinstance(actor, Operator):
        return Needs(1, reads=has_principal, inboxes=1)
    if getattr(actor, "request", None):
        return Needs(1, reads=int(not actor.request.event) or has_principal)  # type: ignore[attr-defined]
    return Needs(0, reads=1 + len(actor.traffic.due), tasks=actor.traffic.recovered, posts=1)


def _stops(actor: Delivery) -> int:
    """How many tasks a resume may create for what is due beyond the horizon: one for each attempt that was to come when
    it loaded the instance."""
    is_near = actor.process.world.settings.limits.horizon > timedelta(seconds=DELAY_SECONDS_MAX)
    return 0 if actor.delivered.path != RESUME_PATH or is_near else actor.traffic.retries


def check_traffic(actor: Actor) -> None:
    """Checks what a request has done that is over."""
    traffic, calls, failed, needs = actor.traffic, actor.traffic.calls, actor.traffic.failed, _needs(actor)
    failed_writes = failed["create"] + failed["commit"]
    again = actor.disturbances + actor.drags + actor.process.dead + failed_writes
    brought = traffic.entries + traffic.too_large
    looks = traffic.in_line  # after each wait for a thread
    for name, number, most in (
        ("decisions", traffic.decisions, needs.decisions + traffic.errands + traffic.beats + brought + looks + again),
        ("leases", traffic.takes, traffic.works + again),
        # Whether a failed write was applied takes a read; then there is another decision.
        (
            "load",
            calls["load"],
            traffic.decisions
            + traffic.again
            + needs.reads
            + looks
            + 2 * failed_writes
            + failed["load"]
            + traffic.kept
            + traffic.looked
            + traffic.unrecorded,
        ),
        ("create", calls["create"], traffic.births + needs.reads + traffic.lost["create"]),
        (
            "create task",
            calls["create task"],
            traffic.planned + needs.tasks + calls["post"] + traffic.kept + failed["create task"],
        ),
        ("delete task", calls["delete task"], traffic.obsolete + (traffic.own if failed_writes else 0)),
        (
            "inbox",
            calls["inbox"],
            needs.inboxes + traffic.entries // inbox.COLLECT_MAX + failed["inbox"] + traffic.kept + traffic.looked,
        ),
        ("is_current", calls["is_current"], traffic.decisions + traffic.again + looks + failed_writes),
        ("post", calls["post"], traffic.errands + traffic.kept + needs.posts + failed["post"]),
        ("discard", calls["discard"], traffic.entries),
        (
            "load_key",
            calls["load_key"],
            2 * (traffic.decisions + traffic.looked + traffic.unrecorded)
            + traffic.withheld
            + traffic.kept
            + needs.reads
            + 10 * failed_writes
            + failed["load_key"],
        ),
    ):
        if number > most:
            raise Violation(f"{actor.name} needs {number} times {name!r}, and may {most} times; {traffic}")


@contextmanager
def counted(world: World) -> Iterator[None]:
    """Counts inside the block."""
    looks: Counter[Item] = Counter()
    arrived: Counter[InstanceRef] = Counter()
    before: dict[Item, int] = {}
    is_over, take, check = Activities._is_over, SyncPool._take, Leases.check
    prepare, add, perform, reuse = Session.prepare, Lane.add, Stepper._perform, RecentSessions.take
    decide, put_off, put_last, fail = Transactor.decide, Transactor._put_off, Line.put_last, Item.fail

    def preparing(session: Session, *rest: Any) -> Any:
        change = prepare(session, *rest)
        traffic = CURRENT.get().traffic
        traffic.planned += len(change.create)
        traffic.obsolete += len(change.delete)
        traffic.own += len(change.own_names)
        return change

    async def adding(lane: Any, decision: Any) -> Any:
        if isinstance(decision, FailInstance | BeginLate):
            CURRENT.get().traffic.errands += 1
            world.models[lane.ref.id].runs.dropped(CURRENT.get())
        if isinstance(decision, Beat) and not CURRENT.get().running:
            CURRENT.get().traffic.in_line += 1
        CURRENT.get().traffic.decisions += 1
        arrived[lane.ref] += 1
        return await add(lane, decision)

    async def taking(pool: SyncPool) -> None:
        CURRENT.get().traffic.in_line += pool.is_full
        await take(pool)

    async def deciding(transactor: Any, batch: Sequence[Item]) -> Sequence[Item]:
        rest: Sequence[Item] = await decide(transactor, batch)
        for item in rest:
            item.context[CURRENT].traffic.again += 1
        return rest

    def putting_last(line: Line, item: Item) -> None:
        item.context[CURRENT].traffic.again += 1  # its handler was interrupted
        if (arrival := item.context[ARRIVAL]) is not None:
            arrival.has_waited = True
        put_last(line, item)

    def failing(item: Item, error: Exception) -> None:
        fail(item, error)
        if isinstance(item.decision, FailInstance):
            item.context[CURRENT].traffic.again += 1

    async def putting_off(transactor: Any, item: Any, wait: Any) -> None:
        actor = item.context[CURRENT]
        actor.traffic.again += 1
        looks[item] += 1
        ref = transactor.ref
        happened = arrived[ref] + world.sent[ref.id]
        seconds = (transactor.now() - item.since).total_seconds()
        most = POLLS_MAX + seconds / POLL_SECONDS + 2 * (happened - before.setdefault(item, happened))
        if looks[item] > most and not actor.disturbed:
            world.violate(f"{actor.name} waits, and has looked {looks[item]} times in {seconds:.1f} s")
        await put_off(transactor, item, wait)

    async def performing(stepper: Stepper, session: Session, work: Work, *rest: Any) -> None:
        actor, model = CURRENT.get(), world.models[session.instance.id]
        actor.traffic.works += 1
        actor.traffic.births += isinstance(work, ChildStart | ChildCancel)
        actor.traffic.errands += isinstance(work, ChildCancel | TellWork)
        model.runs.begin(actor, work, session.execution.pc)
        try:
            await perform(stepper, session, work, *rest)
        except (Unavailable, NewerVersion):
            model.runs.dropped(actor)  # the work concerns another instance, which is busy
            raise
        finally:
            model.runs.end(actor)

    async def checking(leases: Leases, session: Session) -> None:
        try:
            await check(leases, session)
        except LeaseLost:
            world.models[session.instance.id].runs.dropped(CURRENT.get())  # no code has run yet
            raise

    async def reusing(sessions: RecentSessions, ref: InstanceRef, *, assumes: bool) -> Session | None:
        session = await reuse(sessions, ref, assumes=assumes)
        if session is not None:
            CURRENT.get().traffic.saw(session.execution)
        return session

    async def looking(activities: Activities, *rest: Any) -> bool:
        CURRENT.get().traffic.too_large += 1
        return await is_over(activities, *rest)

    with (
        patch.object(Activities, "_is_over", looking),
        patch.object(Leases, "check", checking),
        patch.object(RecentSessions, "take", reusing),
        patch.object(Session, "prepare", preparing),
        patch.object(Lane, "add", adding),
        patch.object(Transactor, "_put_off", putting_off),
        patch.object(Transactor, "decide", deciding),
        patch.object(Line, "put_last", putting_last),
        patch.object(Item, "fail", failing),
        patch.object(SyncPool, "_take", taking),
        patch.object(Stepper, "_perform", performing),
    ):
        yield
