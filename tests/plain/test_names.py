"""What names mean: methods that are overridden or replaced, private names, closures, and globals that change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from workflow_core import (
    DefinitionError,
    Execution,
    Status,
    Workflow,
    activity,
    aresume,
    event,
    go,
    handle_event,
    section,
    select,
    step,
)

FACTOR = 2


class Base(Workflow, name="names-base"):
    log: list[str] = []

    def note(self, text: str) -> None:
        self.log.append(text)

    @event
    def decide(self, n: int) -> int:
        self.note(f"base decides {n}")
        return n

    @step
    async def remind(self, n: int) -> int:
        self.note(f"base reminds {n}")
        return n

    @activity
    async def check(self, n: int) -> int:
        return n * FACTOR

    async def part(self) -> None:
        await self.remind(1).named("part reminds")
        self.note("base part")

    async def run(self) -> None:
        got = await select(self.decide)
        n = await self.remind(got.input)
        n = await self.check(n)
        self.note(f"checked {n}")
        await self.part()


class Derived(Base, name="names-derived"):
    @event
    def decide(self, n: int) -> int:
        self.note(f"derived decides {n}")
        return n + 1

    @step
    async def remind(self, n: int) -> int:
        self.note(f"derived reminds {n}")
        return n

    async def part(self) -> None:
        await super().part()
        await super().remind(2)
        self.note("derived part")

    async def run(self) -> None:
        self.note("derived run")
        await super().run()
        self.note("derived end")


def driven(cls: Any, *inputs: int) -> list[str]:
    return asyncio.run(_driven(cls, inputs))


async def _driven(cls: Any, inputs: tuple[int, ...]) -> list[str]:
    workflow, execution = cls(), Execution.start("x", cls)
    await aresume(workflow, execution)
    for given in inputs:
        handle_event(workflow, execution, "decide", given)
        await aresume(workflow, execution)
    assert execution.status is Status.FINISHED
    return list(workflow.log)


BASE_LOG = ["base decides 5", "base reminds 5", "checked 10", "base reminds 1", "base part"]


def test_a_base() -> None:
    assert driven(Base, 5) == BASE_LOG


def test_a_subclass_overrides_all_kinds_of_methods_and_calls_super() -> None:
    assert driven(Derived, 5) == [
        "derived run",
        "derived decides 5",
        "derived reminds 5",
        "checked 10",
        "derived reminds 1",
        "base part",
        "base reminds 2",
        "derived part",
        "derived end",
    ]


def test_replaced_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    async def remind(self: Base, n: int) -> int:
        self.note(f"fake reminds {n}")
        return n

    async def check(self: Any, n: int) -> int:
        return 77

    def decide(self: Base, n: int) -> int:
        self.note(f"fake decides {n}")
        return n

    def note(self: Base, text: str) -> None:
        self.log.append(text.upper())

    with monkeypatch.context() as patch:
        patch.setattr(Base, "remind", remind)
        patch.setattr(Base, "check", check)
        patch.setattr(Base, "decide", decide)
        patch.setattr(Base, "note", note)
        expected = ["FAKE DECIDES 5", "FAKE REMINDS 5", "CHECKED 77", "FAKE REMINDS 1", "BASE PART"]
        assert driven(Base, 5) == expected
    assert driven(Base, 5) == BASE_LOG


def test_a_replaced_section_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fake(self: Base) -> None: ...

    with pytest.raises(DefinitionError, match=r"Base.part.*is compiled into run of Base.*Replace the steps"):
        monkeypatch.setattr(Base, "part", fake)
    assert driven(Base, 5) == BASE_LOG


def test_globals_are_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FACTOR", 3)
    assert "checked 15" in driven(Base, 5)


def made(word: str) -> Any:
    class Local(Workflow, name=f"names-{word}"):
        log: list[str] = []

        @step
        def work(self) -> str:
            return word

        async def run(self) -> None:
            self.log.append(word)
            got = await self.work()
            self.log.append(got + word)
            self.log.append(",".join(word + part for part in ["a", "b"]))

    return Local


def test_closures() -> None:
    assert driven(made("x")) == ["x", "xx", "xa,xb"]
    assert driven(made("y")) == ["y", "yy", "ya,yb"]


class Mixin:
    marked: bool

    @step
    async def mixed(self, n: int) -> int:
        return n + 1

    async def mixed_part(self) -> int:
        return await self.mixed(1)

    @section
    async def marked_part(self) -> None:
        self.marked = True


class Mixing(Mixin, Workflow, name="names-mixing"):
    log: list[str] = []
    marked: bool = False

    async def run(self) -> None:
        n = await self.mixed_part()
        m = await self.mixed(n).named("again")
        await self.marked_part()
        self.log.append(f"{n} {m}")


def test_a_mixin() -> None:
    assert driven(Mixing) == ["2 3"]


@pytest.mark.parametrize("name", ["mixed_part", "marked_part"])
def test_a_fake_of_a_section_of_a_mixin_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    async def fake(self: Any) -> None: ...

    monkeypatch.setattr(Mixin, name, fake)
    with pytest.raises(DefinitionError, match=rf"Mixin\.{name}: it was replaced"):
        driven(Mixing)


class Going(Workflow, name="names-going"):
    log: list[str] = []

    @step
    async def pay(self, n: int) -> int:
        self.log.append(f"pays {n}")
        return n

    @section
    async def beside(self, n: int) -> None:
        m = n * 2
        paid = await self.pay(m)
        self.log.append(f"beside {n} {m} {paid}")

    @event
    def decide(self, n: int) -> None: ...

    async def run(self) -> None:
        for n in [1, 2]:
            go(self.beside(n), id=f"pay {n}")
        await select(self.decide)


def test_threads_have_their_own_locals() -> None:
    assert sorted(driven(Going, 1)) == ["beside 1 2 2", "beside 2 4 4", "pays 2", "pays 4"]
