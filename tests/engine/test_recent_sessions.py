"""What an engine keeps of the instances that it has committed last. It saves loads, and no response depends on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from cloud_adapter.document import Lease
from cloud_adapter.engine import recent_sessions
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.errors import Unavailable
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import START
from tests.engine.harness import World, in_world
from workflow_core import EventRejected, EventRequest, Go, On, S, Select, Step, WaitFor, While, Workflow


class Counted(Workflow, name="counted"):
    """Counts to a limit. A rejected event changes the count, which must not be seen."""

    count: int = 0
    limit: int = 100
    text: str = ""
    seen: ClassVar[list[int]] = []
    """The counts that its handler has seen."""

    def add(self) -> int:
        self.seen.append(self.count)
        self.count += 1
        if self.count > self.limit:
            raise EventRejected(f"the limit is {self.limit}")
        return self.count

    def set_limit(self, limit: int) -> None:
        self.limit = limit

    definition = S(While("for ever", lambda w: True, Select("wait", On("Add", add), On("SetLimit", set_limit))))


class Secretive(Workflow, name="secretive"):
    """Has a secret."""

    secret: SecretStr = SecretStr("pssst")
    count: int = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    definition = S(While("for ever", lambda w: True, Select("wait", On("Add", add))))


class Stepping(Workflow, name="stepping"):
    """Does a step after each event."""

    done: int = 0

    def ask(self) -> int:
        return self.done

    def step(self) -> None:
        self.done += 1

    definition = S(While("for ever", lambda w: True, Select("wait", On("Add", ask)), Step("work", step)))


class Careless(Workflow, name="careless"):
    """Has a condition that changes the fields, which is against the rules."""

    noise: int = 0
    done: int = 0

    def ask(self) -> int:
        return self.noise

    def step(self) -> None:
        self.done += 1

    def is_done(self) -> bool:
        self.noise += 1
        return self.done > 2

    definition = S(
        Go("side", S(Step("work", step), While("for ever", lambda w: True, Select("wait", On("Ask", ask))))),
        WaitFor("done", is_done),
    )


class Loads:
    """Counts the instances that a runtime loads."""

    def __init__(self, runtime: EmbeddedRuntime, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        load = runtime.store.load

        async def counted(*args: Any, **details: Any) -> Any:
            self.count += 1
            return await load(*args, **details)

        patch.setattr(runtime.store, "load", counted)


@asynccontextmanager
async def runtimes(path: Path, count: int = 1, **settings: Any) -> AsyncIterator[Sequence[EmbeddedRuntime]]:
    """Processes on one file, without tasks."""
    opened = [
        EmbeddedRuntime([Counted, Secretive, Stepping, Careless], Settings(db=str(path / "db"), **settings))
        for _ in range(count)
    ]
    try:
        yield opened
    finally:
        for runtime in opened:
            await runtime.close()


async def send(runtime: EmbeddedRuntime, event: str = "Add", body: bytes = b"", workflow: str = "counted") -> bytes:
    return await runtime.engine.handle_event(workflow, "a", event, body)


def test_events_one_after_another_take_one_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            loads = Loads(runtime, monkeypatch)
            await runtime.engine.create("counted", "a")
            assert [await send(runtime) for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
            assert loads.count == 1

    asyncio.run(run())


def test_steps_continue_with_what_the_event_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.queue.start()  # without recovery, which may deliver another task that reads what is kept
            await runtime.engine.create("stepping", "a")
            assert await send(runtime, workflow="stepping") == b"0"
            await runtime.queue.idle()
            loads = Loads(runtime, monkeypatch)
            for count in range(1, 4):
                assert await send(runtime, workflow="stepping") == str(count).encode()
                await runtime.queue.idle()
            assert loads.count == 0

    asyncio.run(run())


def test_what_another_process_has_committed_counts(tmp_path: Path) -> None:
    async def run() -> None:
        async with runtimes(tmp_path, 2) as (one, other):
            await one.engine.create("counted", "a")
            for count in range(1, 10, 2):
                assert await send(one) == b"%d" % count
                assert await send(other) == b"%d" % (count + 1)
            await send(other, "SetLimit", b"5")
            with pytest.raises(EventRejected, match="the limit is 5"):
                await send(one)
            await send(other, "SetLimit", b"11")
            assert await send(one) == b"11"

    asyncio.run(run())


def test_a_rejected_event_leaves_nothing_behind(tmp_path: Path) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.engine.create("counted", "a", b'{"limit": 1}')
            assert await send(runtime) == b"1"
            for _ in range(3):
                with pytest.raises(EventRejected):
                    await send(runtime)
            await send(runtime, "SetLimit", b"9")
            assert await send(runtime) == b"2"

    asyncio.run(run())


def test_an_event_that_arrived_during_the_commit_before_it_takes_no_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.engine.create("counted", "a")
            begun, goes_on = asyncio.Event(), asyncio.Event()
            commit = runtime.store.commit

            async def disturbed(*args: Any, **details: Any) -> Any:
                begun.set()
                await goes_on.wait()
                return await commit(*args, **details)

            monkeypatch.setattr(runtime.store, "commit", disturbed)
            loads = Loads(runtime, monkeypatch)
            first = asyncio.create_task(send(runtime))
            await begun.wait()
            second = asyncio.create_task(send(runtime))
            await asyncio.sleep(0.05)
            goes_on.set()
            assert [await first, await second] == [b"1", b"2"]
            assert loads.count == 1

    asyncio.run(run())


def test_an_event_that_could_not_be_committed_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was decided on the session that the event before it had just committed."""

    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.engine.create("counted", "a")
            begun, goes_on, commits = asyncio.Event(), asyncio.Event(), list[bytes]()
            commit = runtime.store.commit

            async def disturbed(*args: Any, **details: Any) -> Any:
                commits.append(b"")
                begun.set()
                await goes_on.wait()
                if 1 < len(commits) < 20:
                    raise Unavailable("the disk is full")
                return await commit(*args, **details)

            monkeypatch.setattr(runtime.store, "commit", disturbed)
            first = asyncio.create_task(send(runtime))
            await begun.wait()
            second = asyncio.create_task(send(runtime))
            await asyncio.sleep(0.05)
            goes_on.set()
            assert await first == b"1"
            with pytest.raises(Unavailable, match="the disk is full"):
                await second
            commits += [b""] * 20
            assert await send(runtime) == b"2"

    asyncio.run(run())


# --- assumptions -------------------------------------------------------------------------------
# The harness hides that its store is on the same machine, so the engine takes it for one that many share.


class Asked:
    """An asynchronous handler. It notes the counts that it has seen."""

    seen: ClassVar[list[int]] = []

    def setup(self, request: EventRequest) -> None:
        """Nothing to do."""

    async def handle(self, request: EventRequest, input: None) -> None:
        self.seen.append(request.workflow.count)

    def teardown(self, request: EventRequest, handled: bool) -> None:
        """Nothing to do."""


class Asking(Workflow, name="asking"):
    """Counts, and can be asked once."""

    count: int = 0

    def add(self) -> None:
        self.count += 1

    definition = S(
        Go("counting", While("for ever", lambda w: True, Select("wait", On("Add", add)))),
        Select("ask", On("Ask", Asked())),
    )


@in_world(Counted)
async def test_a_wrong_assumption_costs_one_commit(world: World) -> None:
    one, other = world.process, world.start()
    await world.create()
    assert [await one.send("Add") for _ in range(2)] == [1, 2]
    assert await other.send("Add") == 3
    Counted.seen.clear()
    with one.calls() as calls:
        assert await one.send("Add") == 4
    assert calls == ["commit", "load", "commit"]
    assert Counted.seen == [2, 3], "the handler was called again, on what is stored"
    with one.calls() as calls:
        assert [await one.send("Add") for _ in range(2)] == [5, 6]
    assert calls == ["load", "commit"] * 2, "nothing is assumed for a while"
    await world.clock.advance(recent_sessions.WRONG.total_seconds())
    with one.calls() as calls:
        assert [await one.send("Add") for _ in range(2)] == [7, 8]
    assert calls == ["load", "commit", "commit"]


@in_world(Counted)
async def test_nothing_is_assumed_later(world: World) -> None:
    await world.create()
    await world.send("Add")
    await world.clock.advance(recent_sessions.SHARED.total_seconds())
    with world.process.calls() as calls:
        await world.send("Add")
    assert calls == ["load", "commit"]


@in_world(Counted)
async def test_nobody_is_refused_because_of_an_assumption(world: World) -> None:
    one, other = world.process, world.start()
    await world.create(limit=1)
    await one.send("Add")
    await other.send("SetLimit", 9)
    with one.calls() as calls:
        assert await one.send("Add") == 2
    assert calls == ["load", "commit"]
    await one.send("SetLimit", 2)
    with one.calls() as calls, pytest.raises(EventRejected):
        await one.send("Add")
    assert calls == ["load"]


@in_world(Asking)
async def test_an_asynchronous_handler_is_only_called_on_what_is_stored(world: World) -> None:
    one, other = world.process, world.start()
    await world.started()
    await one.send("Add")
    await other.send("Add")
    Asked.seen.clear()
    await one.send("Ask")
    assert Asked.seen == [2]


@in_world(Counted)
async def test_events_that_wait_together_share_an_assumption(world: World) -> None:
    """The second one is refused only if the first one is accepted, whoever has committed before."""
    one, other = world.process, world.start()
    for wrong in (False, True):
        await world.create(id=f"{wrong}", limit=3)
        await one.send("Add", id=f"{wrong}")
        if wrong:
            await other.send("Add", id=f"{wrong}")
        sent = [one.post("Add", id=f"{wrong}") for _ in range(3)]
        results = await world.finish(asyncio.gather(*sent, return_exceptions=True))
        assert [result for result in results if isinstance(result, bytes)] == ([b"3"] if wrong else [b"2", b"3"])
        assert all(isinstance(result, bytes | EventRejected) for result in results)


@in_world(Stepping)
async def test_what_another_process_has_to_move_is_not_kept(world: World) -> None:
    await world.create()
    await world.send("Add")
    await world.deliver(world.start())
    with world.process.calls() as calls:
        await world.send("Add")
    assert calls == ["load", "create_task", "commit"]


@in_world(Stepping)
async def test_a_task_does_not_wait_because_of_an_assumption(world: World) -> None:
    """What this process has committed is older than the commit to which the task belongs."""
    one, other = world.process, world.start()
    await world.create()
    await one.send("Add")
    await world.deliver(one)
    await other.send("Add")
    with one.calls() as calls:
        await world.deliver(one)
    assert calls == ["load", "commit", "commit"]
    assert (await world.fields()).done == 2


def test_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_sessions, "CHARS_MAX", 50_000)

    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            for number in range(8):
                await runtime.engine.create("counted", f"a{number}", b'{"text": "%s"}' % (b"x" * 10_000))
                await runtime.engine.handle_event("counted", f"a{number}", "Add")
            assert len(runtime.engine.lanes.recent) == 4
            loads = Loads(runtime, monkeypatch)
            for number in (4, 5, 6, 7, 0):
                assert await runtime.engine.handle_event("counted", f"a{number}", "Add") == b"2"
            assert loads.count == 1

    asyncio.run(run())


@pytest.mark.parametrize("change", [{"lease": Lease("other", START)}, {"has_kept_events": True}])
def test_an_instance_with_a_lease_or_events_in_its_inbox_is_loaded_again(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.engine.create("counted", "a")
            recent, committer = runtime.engine.lanes.recent, runtime.engine.lanes.committer
            for instance_change, count in (({}, 1), (change, 0)):
                session = await committer.load(InstanceRef(Counted, "a"))
                session.instance = session.instance.with_values(**instance_change)
                recent.keep(session)
                assert len(recent) == count
                await recent.take(session.ref, assumes=True)

    asyncio.run(run())


def test_secrets_are_not_kept(tmp_path: Path) -> None:
    async def run() -> None:
        async with runtimes(tmp_path, secret_keys=Fernet.generate_key().decode()) as (runtime,):
            await runtime.engine.create("secretive", "a")
            assert [await send(runtime, workflow="secretive") for _ in range(2)] == [b"1", b"2"]
            assert not len(runtime.engine.lanes.recent)

    asyncio.run(run())


def test_what_a_condition_changes_has_no_other_effects_than_after_a_load(tmp_path: Path) -> None:
    async def run() -> None:
        async with runtimes(tmp_path) as (runtime,):
            await runtime.engine.create("careless", "a")
            # Not with the queue, because it may deliver another task afterwards, which reads what the step has kept.
            await runtime.engine.resume(ResumeTask(workflow="careless", id="a", pc=1, created_at=START))
            assert len(runtime.engine.lanes.recent) == 1
            stored = Careless.load_fields((await runtime.store.load("careless", "a")).fields)
            assert await send(runtime, "Ask", workflow="careless") == str(stored.noise).encode()

    asyncio.run(run())
