"""Fields are dumped once and validated once for each commit. Another conversion would cost as much as the step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloud_adapter.engine.session import Session
from tests.engine.harness import World, in_world
from workflow_core import Activity, Child, On, S, Select, Step, Workflow
from workflow_core.value_form import ValueForm

LOAD = Counter(validated=1)
"""What each load of an instance costs."""

CHECK = Counter(dumped=1, validated=1, searched=1)
"""What it costs to check what user code has done to the fields; the commit takes what the check has made."""

UNCHANGED = Counter(searched=1)
"""A commit that finds the fields as they were loaded, as that of a lease, looks at the search fields alone."""

START = Counter(validated=2, dumped=1, searched=1)
"""An instance that is created: its input is validated, and what is stored of it is loaded once, so that nothing is
stored that cannot be loaded."""


class Parcel(Workflow, name="parcel"):
    weight: int = 0
    search_fields = ("weight",)

    definition = S(Step("drive", lambda w: None))


def fetch(weight: int) -> int:
    return weight + 1


class Shop(Workflow, name="shop"):
    weight: int = 0
    search_fields = ("weight",)

    def more(self) -> None:
        self.weight += 1

    def take(self, weight: int) -> None:
        self.weight = weight

    def fail(self) -> None:
        self.weight += 1
        raise ValueError("no")

    definition = S(
        Step("pack", more),
        Step("weigh", more),
        Select("wait", On("Add", more)),
        Activity("fetch", fetch, input=lambda w: w.weight, then=take),
        Select("again", On("Send", more)),
        Child("parcel", Parcel, input=lambda w: Parcel(weight=w.weight)),
        Select("last", On("Fail", more)),
        Step("fail", fail),
    )


@contextmanager
def counted(expected: Counter[str]) -> Iterator[None]:
    """Counts the conversions of fields inside of the block."""
    count: Counter[str] = Counter()
    dump_form, dump = ValueForm.dump, Workflow.model_dump
    validate = ValueForm.validate_json

    def dumped(self: ValueForm, value: Any) -> bytes:
        count["dumped"] += isinstance(value, Workflow)
        return dump_form(self, value)

    def converted(self: Workflow, **kwargs: Any) -> dict[str, Any]:
        count["searched" if kwargs.get("include") else "refused"] += 1
        return dump(self, **kwargs)

    def validated(self: ValueForm, *args: Any, **kwargs: Any) -> Any:
        value = validate(self, *args, **kwargs)
        count["validated"] += isinstance(value, Workflow)
        return value

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ValueForm, "dump", dumped)
        patch.setattr(Workflow, "model_dump", converted)
        patch.setattr(ValueForm, "validate_json", validated)
        yield
    assert count == expected


@in_world(Shop, Parcel)
async def test_fields_are_converted_once_on_their_way_to_a_commit(world: World) -> None:
    with counted(START):
        await world.create()
    with counted(LOAD + UNCHANGED + CHECK + CHECK):
        await world.deliver()  # two steps under one lease
    with counted(LOAD + CHECK):
        await world.send("Add")
    with counted(LOAD + LOAD + CHECK):
        await world.deliver()  # an attempt of an activity, and its result
    with counted(LOAD + CHECK + Counter(dumped=1)):
        await world.send("Send")  # which leads to the child, whose input is a workflow


async def standing_at_child(world: World) -> None:
    await world.started()
    await world.send("Add")
    await world.deliver()
    await world.send("Send")


@in_world(Shop, Parcel)
async def test_the_fields_of_a_child_are_converted_once_on_their_way(world: World) -> None:
    await standing_at_child(world)
    (start,) = world.queue.resumes
    # The parent's own fields are neither dumped nor validated for it.
    with counted(LOAD + UNCHANGED + START):
        await world.process.deliver(start)
    with counted(
        LOAD
        + UNCHANGED
        + CHECK  # its step
        + Counter(validated=1, dumped=1)  # its result, which a method of the user may compute
        + LOAD  # the parent, to which its end is told; its search fields are known from its last commit
    ):
        await world.deliver()


@in_world(Shop, Parcel)
async def test_what_a_step_that_has_failed_did_to_the_fields_costs_a_load(world: World) -> None:
    await standing_at_child(world)
    await world.deliver()
    await world.send("Fail")
    with counted(LOAD + UNCHANGED + LOAD):
        await world.deliver()


@in_world(Shop, Parcel)
async def test_a_check_that_is_made_twice_is_seen(world: World) -> None:
    """Without this, the tests above might count too little."""
    await world.started()
    prepare = Session.prepare

    def once_more(self: Session, *args: Any) -> Any:
        self.machine.touched = True
        self.seal()
        return prepare(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "prepare", once_more)
        with counted(LOAD + CHECK + CHECK):
            await world.send("Add")
