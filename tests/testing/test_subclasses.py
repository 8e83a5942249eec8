"""Fakes and overrides in subclasses of a workflow, in both forms."""

from __future__ import annotations

from typing import Any

import pytest

from gorchestrate import (
    Activity,
    If,
    On,
    Return,
    S,
    Select,
    Step,
    Workflow,
    activity,
    child,
    event,
    select,
    step,
    until,
)
from gorchestrate.testing import Environment


class Note(Workflow, name="subclass-note"):
    text: str = "real"

    async def run(self) -> None:
        await until(lambda: self.text != "")


class LongNote(Note, name="subclass-long-note"): ...


class Plain(Workflow, name="subclass-plain"):
    log: list[str] = []

    @activity
    async def look(self, n: int) -> str:
        return "real"

    @activity
    def add(self, a: int, b: int) -> str:
        return "real"

    @step
    def pay(self) -> str:
        return "real"

    @event
    def confirm(self) -> str:
        return "real"

    def is_ready(self) -> bool:
        return True

    async def last(self) -> None:
        self.log.append((await child(Note)).text)

    async def run(self) -> None:
        self.log += [await self.look(1), await self.add(1, 2), await self.pay()]
        got = await select(self.confirm)
        output = got.output
        self.log.append(output if got.happened(self.confirm) else "another event")
        await until(lambda: self.is_ready())
        await self.last()


class Middle(Plain, name="subclass-middle"): ...


class Last(Middle, name="subclass-last"): ...


class Overriding(Plain, name="subclass-overriding"):
    @activity
    async def look(self, n: int) -> str:
        return "override"

    def pay(self) -> str:  # type: ignore[override]
        return "override"

    def confirm(self) -> str:
        return "override"

    async def last(self) -> None:
        self.log.append("override")


class BelowOverriding(Overriding, name="subclass-below-overriding"): ...


def replaced(environment: Environment, owner: type[Plain]) -> None:
    environment.fake(owner, "look", lambda self, n: "fake")
    environment.fake(owner, "add", lambda self, a, b: "fake")
    environment.fake(owner, "pay", lambda self: "fake")
    environment.fake(owner, "confirm", lambda self: "fake")
    environment.fake_child(Note, fields={"text": "fake"})


def log_of(environment: Environment, workflow: type[Plain]) -> list[str]:
    made = environment.create(workflow)
    made.send("confirm")
    assert made.is_finished
    return list(made.fields.log)


@pytest.mark.parametrize(
    ("workflow", "owner"),
    [(Plain, Plain), (Middle, Middle), (Middle, Plain), (Last, Last), (Last, Middle), (Last, Plain)],
)
def test_fakes_in_plain_form(workflow: type[Plain], owner: type[Plain]) -> None:
    with Environment(workflow, Note) as environment:
        replaced(environment, owner)
        assert log_of(environment, workflow) == ["fake"] * 5
    with Environment(workflow, Note) as environment:
        assert log_of(environment, workflow) == ["real"] * 5


@pytest.mark.parametrize("workflow", [Overriding, BelowOverriding])
def test_overrides_in_plain_form(workflow: type[Plain]) -> None:
    expected = ["override", "real", "override", "override", "override"]
    with Environment(workflow, Note) as environment:
        assert log_of(environment, workflow) == expected
        replaced(environment, Plain)
        assert log_of(environment, workflow) == ["override", "fake", "override", "override", "override"]
        replaced(environment, workflow)
        assert log_of(environment, workflow) == [*["fake"] * 4, "override"]


def test_a_subclass_that_is_made_while_its_base_is_replaced() -> None:
    with Environment(Plain, Note) as environment:
        replaced(environment, Plain)

        class Late(Plain, name="subclass-late"): ...

        with Environment(Late, Note) as inner:
            assert log_of(inner, Late) == [*["fake"] * 4, "real"]
    with Environment(Late, Note) as environment:
        assert log_of(environment, Late) == ["real"] * 5


def test_a_subclass_of_a_child_is_faked() -> None:
    class Parent(Workflow, name="subclass-parent"):
        text: str = ""

        async def run(self) -> None:
            self.text = (await child(LongNote)).text

    with Environment(Parent, LongNote) as environment:
        environment.fake_child(LongNote, fields={"text": "fake"})
        assert environment.create(Parent).fields.text == "fake"


class Explicit(Workflow, name="subclass-explicit"):
    log: list[str] = []

    def number(self) -> int:
        return 1

    @staticmethod
    def look(n: int) -> str:
        return f"real {n}"

    def found(self, text: str) -> None:
        self.log.append(text)

    def pay(self) -> None:
        self.log.append("real")

    def confirm(self) -> None:
        self.log.append("real")

    def is_small(self) -> bool:
        return True

    definition = S(
        Activity("look", look, input=number, then=found),
        If("small", is_small, Step("pay", pay)),
        Select("wait", On("confirm", confirm, Return())),
    )


class ExplicitMiddle(Explicit, name="subclass-explicit-middle"): ...


class ExplicitLast(ExplicitMiddle, name="subclass-explicit-last"): ...


@pytest.mark.parametrize("owner", [Explicit, ExplicitMiddle, ExplicitLast])
def test_fakes_in_explicit_form(owner: Any) -> None:
    with Environment(ExplicitLast) as environment:
        environment.fake(owner, "number", lambda self: 2)
        environment.fake(owner, "found", lambda self, text: self.log.append(f"fake {text}"))
        environment.fake(owner, "pay", lambda self: self.log.append("fake"))
        environment.fake(owner, "confirm", lambda self: self.log.append("fake"))
        made = environment.create(ExplicitLast)
        made.send("confirm")
        assert made.fields.log == ["fake real 2", "fake", "fake"]
        environment.fake(owner, "is_small", lambda self: False)
        made = environment.create(ExplicitLast)
        assert made.fields.log == ["fake real 2"]
