"""Which branches, cases and labels a plain definition has in the program, and that they run as Python says."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import standing
from workflow_core import Execution, Workflow, event, handle_event, resume, select, step
from workflow_core.diagrams import describe
from workflow_core.diagrams.outline import outline

DAY = timedelta(days=1)


class Door(Workflow):
    """The events and steps that the workflows below share; abstract."""

    log: list[str] = []
    n: int = 0

    @event
    def open(self, by: str) -> str:
        return f"open by {by}"

    @event
    def close(self) -> None: ...

    @step
    def ring(self, text: str = "ring") -> None:
        self.log.append(text)

    @step
    def knock(self) -> None:
        self.log.append("knock")


class Cases(Door, name="cases"):
    async def run(self) -> None:
        while self.n == 0:
            got = await select(self.open, self.close, timeout=DAY)
            if got.timed_out:
                await self.ring()
                self.n = 1
            elif got.happened(self.open):
                self.log.append(str(got.output))
            else:
                await self.knock()


class Negated(Door, name="negated"):
    async def run(self) -> None:
        got = await select(self.open, timeout=DAY)
        if not got.timed_out:
            await self.ring(f"{got.input}")
        else:
            await self.knock()
        self.log.append(got.event)


class Shared(Door, name="shared"):
    """Two events lead to the same statements, so these cannot stand in the cases."""

    async def run(self) -> None:
        got = await select(self.open, self.close, timeout=DAY)
        if got.timed_out:
            await self.knock()
        else:
            await self.ring(got.event)


class Reassigned(Door, name="reassigned"):
    async def run(self) -> None:
        first = await select(self.open, timeout=DAY)
        second: Any = await select(self.close, timeout=DAY)
        second = first if self.n else second
        if second.timed_out:
            await self.ring()


class Labels(Door, name="labels"):
    async def run(self) -> None:
        # not yet rung
        while self.n < 1:
            self.n += 1
            # ring
            if self.n:
                await self.ring()
            # A comment of several lines
            # is prose.
            if self.n > 5:
                await self.knock()
            if self.n:  # no await and no exit: only code
                self.log.append("code")
            if self.n == 1:
                break


def cases_of(workflow: type[Workflow]) -> dict[str, list[str]]:
    """The kinds and names of the statements in each case of the only select."""
    nodes = describe.statements(workflow.__program__)
    while nodes[0]["kind"] != "select":
        nodes = nodes[0]["statements"]
    return {
        case["name"]: [f"{node['kind']} {node.get('name', '')}".strip() for node in case["statements"]]
        for case in nodes[0]["cases"]
    }


def test_an_if_after_a_select_becomes_its_cases() -> None:
    assert cases_of(Cases) == {
        "open": [],
        "close": ["step knock"],
        "open or close timed out": ["step ring"],
    }
    assert cases_of(Negated) == {"open": ["step ring"], "open timed out": ["step knock"]}


@pytest.mark.parametrize("workflow", [Shared, Reassigned])
def test_other_ifs_stay_ifs(workflow: type[Workflow]) -> None:
    assert not any(statements for statements in cases_of(workflow).values())
    assert "if" in [node["kind"] for node in describe.statements(workflow.__program__)]


def played(workflow: type[Door], *events: tuple[str, Any]) -> tuple[list[str], str, dict[str, str]]:
    """Sends events, one after the other. Each time, the instance is saved and loaded."""
    order, execution = workflow(), Execution.start("door-1", workflow)
    resume(order, execution)
    for name, input in events:
        order, execution = workflow.load_fields(order.dump_fields()), Execution.from_json(execution.to_json())
        handle_event(order, execution, name, input)
        resume(order, execution)
    return order.log, execution.status, standing(execution)


def test_cases_run_as_the_source_says() -> None:
    late = ("open or close timed out", None)
    assert played(Cases, ("open", "Ada"), ("close", None), late) == (["open by Ada", "knock", "ring"], "finished", {})
    assert played(Cases, ("close", None))[1:] == ("waiting", {"main": "open or close"})
    assert played(Negated, ("open", "Ada")) == (["Ada", "open"], "finished", {})
    assert played(Negated, ("open timed out", None)) == (["knock", ""], "finished", {})
    assert played(Shared, ("close", None))[0] == ["close"]
    assert played(Shared, late)[0] == ["knock"]
    assert played(Reassigned, ("open", "Ada"), ("close timed out", None))[0] == ["ring"]


def test_labels_are_source_or_the_comment_above() -> None:
    (loop,) = describe.statements(Labels.__program__)
    assert loop["name"] == "not yet rung"
    names = [branch["name"] for node in loop["statements"] for branch in node.get("branches", ())]
    assert names == ["ring (condition)", "if self.n > 5", "if self.n == 1"]
    assert loop["statements"][-1]["branches"][0]["statements"] == [{"kind": "break"}]
    assert played(Labels) == (["ring", "code"], "finished", {})


def test_the_outline_shows_code_without_an_await() -> None:
    assert "code: if self.n:" in outline(Labels.__program__)
