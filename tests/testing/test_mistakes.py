"""Natural mistakes get an error that says what to write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gorchestrate import Workflow, event, select
from gorchestrate.testing import Environment, crash_everywhere


class Parcel(Workflow, name="parcel"):
    delivered_to: str = ""

    @event
    def deliver(self, to: str) -> None:
        self.delivered_to = to

    async def run(self) -> None:
        await select(self.deliver)


@pytest.fixture
def environment() -> Iterator[Environment]:
    with Environment(Parcel) as made:
        yield made


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda it: Environment([Parcel]), r"a list: pass the classes one by one"),  # type: ignore[arg-type]
        (lambda it: Environment(Parcel()), r"an object of the class Parcel: pass the class itself"),  # type: ignore[arg-type]
        (lambda it: it.create("order"), r"'order': pass the class of a workflow"),
        (
            lambda it: it.create(Parcel, {"delivered_to": "x"}),
            r"pass fields by their names, such as create\(Parcel",
        ),
        (lambda it: it.advance(30), r"write advance\(seconds=30\)"),
        (lambda it: it.create(Parcel).send(Parcel.deliver, "x"), r"pass its name, such as send\('deliver', input\)"),
        (lambda it: it.create(Parcel).send("deliver", to="x"), r"without a name: send\('deliver', value\)"),
        (lambda it: it.fake("order", "pay", lambda self: 1), r"such as fake\(Approval, name, function\)"),
        (lambda it: it.fake_child("order"), r"such as fake_child\(Approval\)"),
        (lambda it: it.restart([Parcel]), r"a list: pass the classes one by one"),
        (lambda it: crash_everywhere(Parcel, lambda it: 1), r"crash_everywhere\(script, Approval\)"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_get_advice(environment: Environment, mistake: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        mistake(environment)
    assert all(parcel.fields.delivered_to == "" for parcel in environment.instances(Parcel))
