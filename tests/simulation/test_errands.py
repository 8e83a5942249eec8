"""The model foresees what is stored for a child."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.generate import Fields
from tests.simulation.flows import Answering
from tests.simulation.model.errands import taken_fields
from tests.simulation.rare import RareStatements
from tests.waits import the
from workflow_core import Execution, S
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ChildWait


class Known(Answering, name="child"):
    """A child."""

    definition = S()


@pytest.mark.parametrize("workflow", [Known, "child"], ids=["class", "name"])
@pytest.mark.parametrize("how", range(5))
def test_fields_of_a_child_are_stored_as_its_class_takes_them(how: int, workflow: Any) -> None:
    builder = RareStatements()
    builder.child_class = workflow
    child = builder.given_child(how)

    class Parent(Fields, name="flow"):
        definition = S(child)

    fields, execution = Parent(x=2), Execution.start("i", Parent)
    Machine(fields, execution).settle()
    given = {} if child.input is None else child.input(fields)
    assert the(ChildWait, execution.threads[0].waits).child["fields"] == taken_fields(child, given)
