"""A ``try`` of an ``async def run`` gets another name while an instance waits in its ``except``: it has the name of its
first call. The instance continues if nothing there reads the error, which is stored under the former name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud_adapter.cli.stored_instances import check_store
from tests.engine.harness import World, in_world
from workflow_core import Retry, StepContext, UnknownStatement, Workflow, event, gather, select, step

ONCE = Retry(max_attempts=1)


class Base(Workflow, name="article"):
    log: list[str] = []

    @event
    def begin(self) -> None: ...

    @step(retry=ONCE)
    async def fail(self) -> None:
        raise ValueError("no luck")

    @step
    async def note(self) -> None:
        self.log.append("note")

    @step
    async def note_error(self, context: StepContext) -> None:
        self.log.append("no error" if context.error is None else context.error.message)

    async def section(self) -> None:
        await self.note_error()

    async def run(self) -> None:
        await select(self.begin)


class Silent(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.note()


class Bound(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.fail()
        except ValueError as error:
            await select(self.begin)
            self.log.append(str(error))


class InContext(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.note_error()


class InSection(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.section()


class Inner(Base, name="article"):
    """The inner ``except`` reads no error, but its step finds the one of the outer."""

    async def run(self) -> None:
        try:
            await self.fail()
        except ValueError:
            try:
                await self.fail().named("fail again")
            except ValueError:
                await select(self.begin)
            await self.note_error()


class NewSilent(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.note()


class NewBound(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError as error:
            await select(self.begin)
            self.log.append(str(error))


class NewRaised(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            await select(self.begin)
            raise


class NewInContext(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.note_error()


class NewInSection(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            await select(self.begin)
            await self.section()


class NewInThread(Base, name="article"):
    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            await select(self.begin)
            await gather(self.note_error(), self.note())


class NewInner(Base, name="article"):
    """Only the outer ``try`` has another name."""

    async def run(self) -> None:
        try:
            await self.note().named("first")
            await self.fail()
        except ValueError:
            try:
                await self.fail().named("fail again")
            except ValueError:
                await select(self.begin)
            await self.note_error()


@in_world(Silent)
async def test_it_continues_if_nothing_reads_the_error(world: World) -> None:
    await world.started()
    assert (await check_store(world.store, [NewSilent])).problems == {}
    new = world.start(NewSilent)
    await new.send("begin")
    await world.deliver(new)
    assert (await world.fields()).log == ["note"]
    assert (await world.instance()).execution.status == "finished"


@pytest.mark.parametrize("new", [NewBound, NewRaised, NewInContext, NewInSection, NewInThread])
@pytest.mark.parametrize("old", [Silent, Bound])
def test_it_waits_if_the_error_is_read(tmp_path: Path, old: type[Workflow], new: type[Workflow]) -> None:
    @in_world(old)
    async def run(world: World) -> None:
        await world.started()
        before = await world.instance()
        assert len((await check_store(world.store, [new])).problems) == 1
        with pytest.raises(UnknownStatement, match="in the except_ 'try fail except 1'"):
            await world.start(new).send("begin")
        assert await world.instance() == before

    run(tmp_path)


@in_world(Inner)
async def test_it_waits_if_the_error_of_an_except_around_is_read(world: World) -> None:
    await world.started()
    with pytest.raises(UnknownStatement, match="in the except_ 'try fail except 1'"):
        await world.start(NewInner).send("begin")
    await world.send("begin")
    await world.deliver()
    assert (await world.fields()).log == ["no luck"]


@pytest.mark.parametrize("cls", [Bound, InContext, InSection])
def test_the_error_is_the_one_that_was_caught(tmp_path: Path, cls: type[Workflow]) -> None:
    @in_world(cls)
    async def run(world: World) -> None:
        await world.started()
        await world.send("begin")
        await world.deliver()
        assert (await world.fields()).log == ["no luck"]

    run(tmp_path)
