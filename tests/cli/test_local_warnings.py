"""``gorchestrate check`` warns of locals whose types nothing tells."""

from __future__ import annotations

import json
from typing import Any

import agent
import batch
import expense
import order
import pytest
import subscription
import trip

from cloud_adapter.cli.definition_warnings import advise
from cloud_adapter.store_settings import SecretSettings
from workflow_core import Workflow, step


class Untyped(Workflow, name="untyped"):
    text: str = "[1, 2]"

    @step
    def work(self) -> None: ...

    async def part(self) -> Any:
        inner = json.loads(self.text)
        await self.work()
        return inner

    async def run(self) -> None:
        unknown = json.loads(self.text)
        annotated: list[int] = json.loads(self.text)
        number = 1
        await self.work()
        self.text = f"{unknown} {annotated} {number}"
        await self.part()


def test_a_local_of_unknown_type_is_reported() -> None:
    warnings = [warning for warning in advise([Untyped], SecretSettings()) if warning.statement.startswith("local")]
    assert [warning.statement for warning in warnings] == ["local 'unknown'", "local 'part/inner'"]
    assert "nothing tells its type" in str(warnings[0])
    assert [warning.fix.split(":")[1].strip() for warning in warnings] == ["unknown", "inner"]


@pytest.mark.parametrize("module", [agent, batch, expense, order, subscription, trip])
def test_the_examples_give_no_such_warning(module: Any) -> None:
    classes = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Workflow)]
    classes = [cls for cls in classes if "__program__" in vars(cls)]
    assert classes
    assert not [str(w) for w in advise(classes, SecretSettings()) if w.statement.startswith("local")]
