"""Commit tokens: a commit whose reply was lost is recognized among the last commits of its instance. Beyond them, it is
unknown whether it was applied, and the client is told so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cloud_adapter.document import TOKENS_MAX
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import InstanceExists, Unavailable
from tests.engine.harness import World, in_world
from workflow_core import On, S, Select, Step, While, Workflow


class Account(Workflow, name="account"):
    balance: int = 0
    steps: int = 0
    steps_max: int = 0

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def count(self) -> None:
        self.steps += 1

    definition = S(
        While("working", lambda w: w.steps < w.steps_max, Step("work", count)),
        While("open", lambda w: True, Select("teller", On("Deposit", deposit))),
    )


def others(world: World, count: int, *first: Callable[[], Any], is_cut: bool = True) -> Callable[[], Any]:
    """Another process commits so many times, and the call that was under way gets no answer."""

    async def commit() -> None:
        for call in first:
            await call()
        other = world.start()
        for _ in range(count):
            await other.post("Deposit", b"10")
        if is_cut:
            raise Unavailable("the test cut it")

    return commit


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("count", [1, TOKENS_MAX - 2, TOKENS_MAX - 1])
@in_world(Account)
async def test_a_commit_is_recognized_among_the_last_ones(world: World, count: int, key: str | None) -> None:
    await world.create()
    world.process.fault("commit", after=others(world, count))
    assert await world.send("Deposit", 5, key=key) == 5
    assert (await world.fields()).balance == 5 + 10 * count


@pytest.mark.parametrize("count", [1, TOKENS_MAX - 2, TOKENS_MAX - 1])
@pytest.mark.parametrize("is_cut", [True, False])
@in_world(Account)
async def test_a_commit_that_was_not_applied_is_decided_anew(world: World, count: int, is_cut: bool) -> None:
    await world.create()
    world.process.fault("commit", before=others(world, count, is_cut=is_cut))
    assert await world.send("Deposit", 5) == 5 + 10 * count
    assert (await world.fields()).balance == 5 + 10 * count


@pytest.mark.parametrize("count", [TOKENS_MAX, TOKENS_MAX + 5])
@pytest.mark.parametrize("where", ["before", "after"])
@in_world(Account)
async def test_too_many_commits_later_it_is_unknown_whether_it_was_applied(
    world: World, where: str, count: int
) -> None:
    await world.create()
    world.process.fault("commit", **{where: others(world, count)})  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="unknown whether the commit was applied"):
        await world.send("Deposit", 5, key="k")
    applied = 5 if where == "after" else 0
    assert (await world.fields()).balance == 10 * count + applied, "nothing is done twice on suspicion"
    first = 5 if where == "after" else 10 * count + 5
    assert await world.send("Deposit", 5, key="k") == first, "the key tells"
    assert (await world.fields()).balance == 10 * count + 5


@pytest.mark.parametrize("count", [TOKENS_MAX, TOKENS_MAX + 5])
@in_world(Account)
async def test_a_conflict_that_the_store_is_certain_of_is_decided_anew_whatever_followed(
    world: World, count: int
) -> None:
    await world.create()
    world.process.fault("commit", before=others(world, count, is_cut=False))
    assert await world.send("Deposit", 5) == 5 + 10 * count
    assert (await world.fields()).balance == 5 + 10 * count


@in_world(Account)
async def test_a_conflict_after_too_many_commits_does_not_tell_either(world: World) -> None:
    """The first attempt got no answer, and the second one meets a conflict, maybe with the first one."""
    await world.create()
    world.process.unavailable("commit", applied=False)
    world.process.fault("commit", 2, before=others(world, TOKENS_MAX, is_cut=False))
    with pytest.raises(Unavailable, match="unknown whether the commit was applied"):
        await world.send("Deposit", 5)
    assert (await world.fields()).balance == 10 * TOKENS_MAX


@in_world(Account)
async def test_a_request_that_was_made_elsewhere_gets_its_response_whatever_followed(world: World) -> None:
    await world.create()
    twin = world.start()
    first = others(world, TOKENS_MAX + 1, lambda: twin.post("Deposit", b"5", key="k"), is_cut=False)
    world.process.fault("commit", before=first)
    assert await world.send("Deposit", 5, key="k") == 5
    assert (await world.fields()).balance == 5 + 10 * (TOKENS_MAX + 1)


# --- create ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, TOKENS_MAX - 1])
@in_world(Account)
async def test_a_creation_is_recognized_among_the_commits_that_followed(world: World, count: int) -> None:
    world.process.fault("create", after=others(world, count))
    view = await world.create()
    assert view.workflow.balance == 10 * count  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", [None, "c"])
@in_world(Account)
async def test_too_many_commits_later_a_creation_is_not_taken_for_that_of_another(
    world: World, key: str | None
) -> None:
    world.process.fault("create", after=others(world, TOKENS_MAX))
    with pytest.raises(Unavailable, match="unknown whether the commit was applied"):
        await world.create(key=key)
    await world.clock.advance(1)
    if key:
        assert (await world.create(key=key)).workflow.balance == 10 * TOKENS_MAX  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1, TOKENS_MAX, TOKENS_MAX + 1])
@in_world(Account)
async def test_an_instance_of_another_time_exists_whatever_was_committed_to_it(world: World, count: int) -> None:
    await world.create()
    await others(world, count, is_cut=False)()
    await world.clock.advance(1)
    world.process.unavailable("create", applied=False)
    with pytest.raises(InstanceExists):
        await world.create()
    assert (await world.fields()).balance == 10 * count


# --- the window ------------------------------------------------------------------------------


async def tokens_of_each_commit(world: World, count: int) -> list[str]:
    """A list to which the token of each of the next commits is added when it is stored."""
    tokens: list[str] = []

    async def note() -> None:
        tokens.append((await world.instance()).tokens[-1])

    for number in range(count):
        world.process.fault("commit", number + 1, after=note)
    return tokens


@in_world(Account)
async def test_an_instance_remembers_the_last_tokens_in_their_order(world: World) -> None:
    await world.create()
    tokens = [*(await world.instance()).tokens]
    for _ in range(TOKENS_MAX + 3):
        await world.send("Deposit", 1)
        stored = (await world.instance()).tokens
        tokens.append(stored[-1])
        assert stored == tuple(tokens[-TOKENS_MAX:])
    assert len(set(tokens)) == len(tokens)


@in_world(Account)
async def test_what_commits_many_times_in_one_go_remembers_the_last_tokens_too(world: World) -> None:
    """A holder of a lease, and a lane, go on from what they have committed."""
    await world.create(steps_max=TOKENS_MAX + 5)
    (first,) = (await world.instance()).tokens
    under_lease = await tokens_of_each_commit(world, TOKENS_MAX + 6)
    await world.deliver()
    assert len(under_lease) == TOKENS_MAX + 6
    assert (await world.instance()).tokens == tuple([first, *under_lease][-TOKENS_MAX:])

    in_lane = await tokens_of_each_commit(world, 3)
    world.process.wire.faults[0].before = lambda: world.clock.sleep(1)
    sending = [asyncio.ensure_future(world.process.post("Deposit", b"1"))]
    await world.clock.settle()
    sending += [asyncio.ensure_future(world.process.post("Deposit", b"1")) for _ in range(2)]
    for one in sending:
        await world.finish(one)
    assert len(in_lane) == 2
    assert (await world.instance()).tokens == tuple([*under_lease, *in_lane][-TOKENS_MAX:])


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("count", [1, TOKENS_MAX - 1])
@in_world(Account)
async def test_a_commit_is_recognized_after_many_of_its_own_process(world: World, count: int, where: str) -> None:
    steps = TOKENS_MAX + 2
    await world.create(steps_max=steps)

    async def others_then_lost() -> None:
        for number in range(count):  # not through a lane, because the instance has a lease
            instance = await world.instance()
            execution = replace(instance.execution, pc=instance.execution.pc + 1)
            tokens = (*instance.tokens, f"{number:016x}")
            await world.store.commit(replace(instance, execution=execution, tokens=tokens))
        raise Unavailable("the test cut it")

    world.process.fault("commit", steps, **{where: others_then_lost})
    await world.deliver()
    await world.pass_time(world.options.lease)
    assert (await world.fields()).steps == steps
    assert len(await world.history("step")) == steps
    assert (await world.instance()).execution.status == "waiting"


@pytest.mark.parametrize("nth", [1, 2, 3])
@in_world(Account)
async def test_after_a_lost_reply_its_process_goes_on_from_what_it_has_committed(world: World, nth: int) -> None:
    await world.create(steps_max=3)
    world.process.unavailable("commit", nth, applied=True)
    (task,) = world.queue.resumes
    with world.process.calls() as calls:
        assert await world.process.deliver(task) is Outcome.DONE
    assert calls == ["load", *["commit"] * nth, "load", *["commit"] * (4 - nth)], "it looks once, and meets no conflict"
    assert (await world.fields()).steps == 3
