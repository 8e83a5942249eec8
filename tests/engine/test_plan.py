"""What a commit writes, as a pure function of what is stored and what is to be saved."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import TOKEN_CHARS_MAX, Instance, Lease
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.plan import KEEP, RELEASE, After, Before, Change, Hold, LeasePolicy, next_stops, plan
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.schedule import due
from cloud_adapter.engine.secrets import Secrets
from cloud_adapter.engine.session import Session, begin
from cloud_adapter.engine.tasks import ACTIVITY_PATH, RESUME_PATH, TIMEOUT_PATH, ResumeTask
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.options import EngineOptions
from cloud_adapter.stores.sqlite.store import SqliteStore
from gorchestrate.testing.clock import ManualClock
from tests.engine.harness import ManualQueue
from workflow_core import Activity, Execution, Go, On, S, Select, Step, Thread, Timeout, WaitStatus, Workflow
from workflow_core.execution import BufferedEvent, ThreadStatus
from workflow_core.wait_types import ActivityWait, EventWait, HandlerTeardown, HandlerWait, TimedWait

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
FENCE, OTHER = "0123456789abcdef", "fedcba9876543210"
OPTIONS = EngineOptions(horizon=timedelta(days=10))
LEASE = Lease("of another", NOW + timedelta(seconds=30))


def ask(word: str) -> str:
    return word


class Asking(Workflow, name="asking"):
    """Waits for a timeout, then for an activity, then runs a step."""

    word: str = "hello"
    search_fields = ("word",)

    definition = S(
        Select("wait", On("Go", lambda w: None), Timeout("late", timedelta(days=2))),
        Activity("ask", ask, input=lambda w: w.word),
        Step("end", lambda w: None),
    )


REF = InstanceRef(Asking, "a")


def waiting(now: datetime = NOW) -> Session:
    return begin(REF, b"", now, salt=str)


def asking() -> Session:
    """It has left the select, and waits for its activity."""
    session = stored(waiting())
    accepted = session.machine.accept("Go")
    session.machine.handled(accepted)
    return session


def stored(session: Session, policy: LeasePolicy = RELEASE) -> Session:
    """The session after a commit."""
    change = planned(session, policy)
    session.committed(replace(change.instance, version=1), change)
    return session


def planned(
    session: Session,
    policy: LeasePolicy = RELEASE,
    token: str = FENCE,
    now: datetime = NOW,
    before: Before | None = None,
) -> Change:
    execution, program = session.execution, session.machine.program
    after = After(execution, program, session.instance.fields, {"word": "new"}, session.entries, session.delivered)
    return plan(before or session.before, after, now, policy, token, OPTIONS)


def paths(change: Change) -> list[str]:
    return [task.path for task in change.create]


# --- it changes nothing ----------------------------------------------------------------------


@pytest.mark.parametrize("policy", [RELEASE, Hold("mine"), Hold("mine", renews=True)])
def test_a_plan_changes_nothing(policy: LeasePolicy) -> None:
    for session in (waiting(), asking()):
        before = session.execution.to_dict(), session.instance, list(session.entries)
        first = planned(session, policy)
        assert (session.execution.to_dict(), session.instance, session.entries) == before
        assert first == planned(session, policy), "nor does it depend on anything else"


@pytest.mark.anyio
async def test_a_commit_that_is_refused_or_lost_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    store, queue, clock = SqliteStore(tmp_path / "db"), ManualQueue(), ManualClock(NOW)
    committer = Committer(store, queue, clock, OPTIONS, random.Random(1), Secrets(None, {}))
    await committer.create(waiting())

    async def refused(*_: object) -> Instance:
        raise Conflict("somebody else was faster")

    async def lost(*_: object) -> Instance:
        raise Unavailable("no answer")

    async def no_pause(self: Committer, attempt: int) -> None:
        return None

    for write, error in ((refused, Conflict), (lost, Unavailable)):
        for policy in (RELEASE, Hold("mine"), Hold("mine", renews=True)):
            session = await committer.load(REF)
            session.machine.handled(session.machine.accept("Go"))
            before = session.execution.to_dict(), session.instance, list(session.entries)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(store, "commit", write)
                patch.setattr(Committer, "pause", no_pause)
                with pytest.raises(error):
                    await committer.commit(session, lease=policy)
            assert (session.execution.to_dict(), session.instance, session.entries) == before
    await store.close()


# --- the document ----------------------------------------------------------------------------


def test_a_commit_writes_the_state_and_what_it_is_found_by() -> None:
    session = waiting()
    instance = planned(session).instance
    assert instance.execution.updated_at == NOW
    assert instance.execution.definition_version == Asking.__program__.version
    assert instance.search == {"word": "new"}
    assert [entry.kind for entry in instance.new_entries] == ["created"]
    assert instance.tokens == (FENCE[:TOKEN_CHARS_MAX],)
    assert instance.wake_at == NOW + timedelta(days=2), "the timeout"


def test_a_lease_counts_from_now_and_hides_what_is_due() -> None:
    change = planned(asking(), Hold("mine"))
    assert change.leases
    assert change.instance.lease == Lease("mine", NOW + OPTIONS.lease)
    assert change.instance.wake_at == NOW + OPTIONS.lease
    later = change.lease_until(NOW + timedelta(minutes=5))
    assert later.instance.lease == Lease("mine", NOW + timedelta(minutes=5))
    assert later.instance.wake_at == NOW + timedelta(minutes=5)


def test_a_renewal_saves_nothing_but_the_lease_and_counts() -> None:
    session = stored(waiting(), Hold("mine"))
    after = After(session.execution, session.machine.program, '{"word": "half done"}', {"word": "half done"})
    instance = plan(session.before, after, NOW, Hold("mine", renews=True), OTHER, OPTIONS).instance
    assert instance.execution.pc == session.execution.pc + 1
    assert (instance.fields, instance.search) == (session.instance.fields, session.instance.search)
    saved = plan(session.before, after, NOW, Hold("mine"), OTHER, OPTIONS).instance
    assert (saved.fields, saved.search) == (after.fields, after.search), "another commit under the lease saves all"
    assert not planned(session, Hold("mine", renews=True), OTHER).create


KEEPING, BRIEF = replace(LEASE, keeps_events=True), LEASE


@pytest.mark.parametrize("is_empty", [False, True])
@pytest.mark.parametrize("policy", [RELEASE, KEEP, Hold("mine"), Hold("mine", renews=True), Hold("mine", True)])
@pytest.mark.parametrize(("lease", "has_kept"), [(None, False), (None, True), (BRIEF, False), (KEEPING, False)])
def test_a_document_says_that_its_inbox_may_have_events_until_that_is_known_to_be_wrong(
    lease: Lease | None, has_kept: bool, policy: LeasePolicy, is_empty: bool
) -> None:
    """An empty inbox proves nothing while a lease tells senders that events are kept: one may come at any time."""
    if policy == KEEP and lease is None:
        return
    session = stored(waiting())
    before = Before.of(replace(session.instance, lease=lease, has_kept_events=has_kept))
    after = After(session.execution, session.machine.program, "{}", {}, has_no_events=is_empty)
    instance = plan(before, after, NOW, policy, OTHER, OPTIONS).instance
    may_have = instance.has_kept_events if instance.lease is None else instance.lease.keeps_events
    tells = isinstance(policy, Hold) and policy.keeps_events
    assert may_have == (tells or lease == KEEPING or (has_kept and not is_empty))


# --- the tasks -------------------------------------------------------------------------------


def test_a_timeout_gets_its_task_from_the_commit_that_stores_its_fence() -> None:
    session = waiting()
    change = planned(session)
    (task,) = change.create
    assert (task.path, task.at, task.body["fence"]) == (TIMEOUT_PATH, NOW + timedelta(days=2), FENCE)
    assert change.own_names == (task.name,)
    assert fences(change.instance.execution) == [FENCE]
    assert fences(session.execution) == [None], "not before it is saved"
    session.committed(change.instance, change)
    assert fences(session.execution) == [FENCE]
    assert not planned(session, token=OTHER).create, "it has its task"
    assert planned(waiting(), token=OTHER).own_names != change.own_names, "one that lost takes no name from another"


def fences(execution: Execution) -> list[str | None]:
    waits = [wait for thread in execution.threads for wait in thread.waits if isinstance(wait, TimedWait)]
    return [wait.task for wait in waits if wait.deadline is not None]


def test_an_attempt_gets_a_task_and_one_for_its_end() -> None:
    change = planned(asking(), token=OTHER)
    attempt, end = change.create
    assert change.own_names == (attempt.name, end.name)
    assert (attempt.path, attempt.at, attempt.body["fence"]) == (ACTIVITY_PATH, None, OTHER)
    assert attempt.deadline == end.at - NOW if end.at else None
    assert (end.path, end.body["wait_id"], end.body["fence"]) == (TIMEOUT_PATH, "", OTHER)


async def ask_slowly(word: str) -> str:
    return word


class Beating(Workflow, name="beating"):
    definition = S(Activity("ask", ask_slowly, input=lambda w: "a", heartbeat=timedelta(seconds=30)))


def test_with_a_heartbeat_only_the_queue_limits_an_attempt() -> None:
    attempt, _ = planned(begin(InstanceRef(Beating, "a"), b"", NOW, salt=str)).create
    assert attempt.deadline == timedelta(days=1)


def test_the_task_of_a_timeout_that_was_left_is_deleted_unless_it_has_come() -> None:
    first = planned(waiting())
    session = asking()
    assert planned(session, token=OTHER).delete == first.own_names
    session.delivered |= session.before.timers.keys()
    assert planned(session, token=OTHER).delete == ()


@pytest.mark.parametrize("ahead", [timedelta(), CLOCK_SKEW])
def test_the_task_of_a_lazy_timer_is_deleted_if_recovery_may_have_created_it(ahead: timedelta) -> None:
    """The clock of the process that runs recovery may be ahead."""
    session = asking()
    for at, may_exist in ((NOW + ahead, True), (NOW + CLOCK_SKEW + timedelta(seconds=1), False)):
        before = replace(session.before, timers=dict.fromkeys(session.before.timers, at))
        assert bool(planned(session, token=OTHER, before=before).delete) == may_exist


def ending(retry_at: datetime | None = None) -> Session:
    """It stands on its step."""
    session = stored(asking())
    session.machine.handled(session.machine.accept("ask"))
    session.execution.threads[0].retry_at = retry_at
    return session


def test_what_is_due_at_once_gets_a_task_without_a_name() -> None:
    (task,) = planned(ending(), token=OTHER).create
    assert (task.path, task.at, task.name) == (RESUME_PATH, None, "")


@pytest.mark.parametrize("seconds", [0.001, 1, CLOCK_SKEW.total_seconds(), 11, 180])
def test_what_is_due_later_gets_the_same_task_from_every_commit(seconds: float) -> None:
    at = NOW + timedelta(seconds=seconds)
    (task,), (again,) = planned(ending(at)).create, planned(ending(at), token=OTHER).create
    assert (task.path, task.at) == (RESUME_PATH, at)
    assert task.name == again.name != ""


def test_a_task_goes_no_further_than_the_horizon() -> None:
    (task,) = planned(ending(NOW + timedelta(days=25))).create
    assert task.at is not None and NOW < task.at <= NOW + OPTIONS.horizon


def test_the_tasks_of_an_attempt_go_no_further_than_the_horizon() -> None:
    session = asking()
    (wait,) = session.execution.threads[0].waits
    assert isinstance(wait, ActivityWait)
    wait.retry_at, wait.deadline = NOW + timedelta(days=25), NOW + timedelta(days=26)
    attempt, end = planned(session).create
    assert attempt.at == end.at == NOW + OPTIONS.horizon


def test_an_intermediate_stop_leads_to_the_next_one() -> None:
    body, stop = ResumeTask.of(waiting().execution, NOW), NOW + OPTIONS.horizon
    (next_stop,) = next_stops(ending(NOW + timedelta(days=15)).execution, body, stop, OPTIONS.horizon)
    assert next_stop.at == NOW + timedelta(days=15)
    assert not [*next_stops(ending(NOW + timedelta(days=9)).execution, body, NOW, OPTIONS.horizon)], "it has its task"


def test_what_was_due_before_has_its_task() -> None:
    session = ending(NOW + timedelta(minutes=3))
    assert planned(session).create
    assert not planned(session, before=Before.of(replace(session.instance, execution=session.execution))).create


def test_the_end_of_a_lease_counts_everything_as_new() -> None:
    session = ending()
    leased = Before.of(replace(session.instance, lease=LEASE))
    assert paths(planned(session, before=leased)) == [RESUME_PATH]
    assert paths(planned(session, Hold("mine"), before=leased)) == [], "the holder goes on"


class Two(Workflow, name="two"):
    definition = S(Go("beside", Step("other", lambda w: None)), Step("end", lambda w: None))


@pytest.mark.parametrize("after", [False, True], ids=["under a lease", "after it"])
@pytest.mark.parametrize(
    ("due", "at_lease_end"),
    [
        ((None, 3), [None]),
        ((3, None), [None]),
        ((-5, 3), [None]),
        ((0, 3), [None]),
        ((5, 3), [3]),
        ((3, 10), [3]),
        ((10, 11), [10, 11]),
        ((11, 10), [10, 11]),
        ((11, 12), [11, 12]),
    ],
)
def test_at_the_end_of_a_lease_one_task_serves_all_that_is_due_soon(
    due: tuple[float | None, float | None], at_lease_end: list[float | None], after: bool
) -> None:
    """It comes when the first of it is due. What is due later than clocks may differ has a task of its own."""
    session = stored(begin(InstanceRef(Two, "a"), b"", NOW, salt=str))
    times = [None if seconds is None else NOW + timedelta(seconds=seconds) for seconds in due]
    for thread, at in zip(session.execution.threads, times, strict=True):
        thread.retry_at = at
    before = Before.of(replace(session.instance, lease=LEASE))
    change = planned(session, RELEASE if after else Hold("mine"), before=before)
    found = [None if task.at is None else (task.at - NOW).total_seconds() for task in change.create]
    assert sorted(found, key=lambda seconds: seconds or 0) == (at_lease_end if after else [])
    (task, *_) = planned(session, before=before).create
    (again, *_) = planned(session, token=OTHER, before=before).create
    if task.at is None:
        assert task.name == again.name == ""
    elif task.at <= NOW + CLOCK_SKEW:
        assert task.name != again.name, "one of the same time may have come, too early"
    else:
        assert task.name == again.name


@pytest.mark.parametrize("has_task", [False, True])
@pytest.mark.parametrize("seconds", [1, 11])
def test_at_the_end_of_a_lease_a_timeout_gets_one_task_at_most(seconds: float, has_task: bool) -> None:
    """Its own, or another one if that was put off until the end of the lease."""
    session = stored(waiting()) if has_task else waiting()
    before = Before.of(replace(session.instance, lease=LEASE))
    due = NOW + timedelta(days=2, seconds=seconds)
    is_put_off = timedelta(seconds=seconds) > OPTIONS.max_wait
    expected = [TIMEOUT_PATH] if not has_task or is_put_off else []
    change = planned(session, token=OTHER, now=due, before=before)
    assert paths(change) == expected
    assert len(change.own_names) == (0 if has_task else 1), "what is put off is due at once, and has no name"


class Both(Workflow, name="both"):
    definition = S(Go("beside", Activity("other", ask, input=lambda w: "a")), Activity("ask", ask, input=lambda w: "b"))


def test_at_the_end_of_a_lease_one_task_ends_all_attempts_of_a_commit() -> None:
    session = stored(begin(InstanceRef(Both, "a"), b"", NOW, salt=str))
    before = Before.of(replace(session.instance, lease=LEASE))
    assert paths(planned(session, token=OTHER, now=NOW + timedelta(days=2), before=before)) == [TIMEOUT_PATH]


def test_under_the_lease_of_another_its_end_wakes_the_instance() -> None:
    session = ending()
    change = planned(session, KEEP, before=Before.of(replace(session.instance, lease=LEASE)))
    (task,) = change.create
    assert (task.path, task.at) == (RESUME_PATH, LEASE.expires_at)
    assert change.instance.lease == LEASE
    assert not change.leases, "it is not counted anew"
    assert task.name, "the repetition of a lost call creates no second task"


def test_an_instance_that_is_revived_counts_everything_as_new() -> None:
    at = NOW + timedelta(minutes=3)
    session = ending(at)
    was_paused = replace(Before.of(session.instance), is_live=False)
    (task,) = planned(session, before=was_paused).create
    (other,) = planned(session, token=OTHER, before=was_paused).create
    assert task.at == other.at == at
    assert task.name != other.name, "the one under its own name may have come and gone"


def test_each_piece_of_work_has_a_name_of_its_own() -> None:
    """Work with the name and the time of other work would get no task."""
    execution = waiting().execution
    (main,) = execution.threads
    main.waits = [HandlerWait(event, WaitStatus.PENDING_SETUP, "main@1") for event in ("A", "B")]
    other = Thread("other", "other", ThreadStatus.WAITING, "wait", 1)
    other.waits = [EventWait(event, WaitStatus.SET_UP, "other@1", buffered=True) for event in ("A", "B")]
    execution.threads.append(other)
    execution.buffer = [BufferedEvent(event, "", NOW) for event in ("A", "B")]
    execution.teardowns = [HandlerTeardown("select", event, "main@0", False) for event in ("A", "B")]
    names = [name for name, _ in due(execution)]
    assert [name[0] for name in names] == ["teardown"] * 2 + ["setup"] * 2 + ["buffered"] * 2
    assert len(set(names)) == len(names)
