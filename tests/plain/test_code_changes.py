"""Changing code under parked instances: what is stored belongs to names, never to lines or to what else is computed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.plain.snippets import program
from workflow_core import Execution, ExecutionError, UnknownStatement, aresume, handle_event
from workflow_core.value_form import ValueForm

OLD = """
total = self.b + await self.work("before", 1)
rest = 0
for x in self.items:
    if x == 1:
        await select(self.first)
    rest += x
self.say(total, rest)
"""


def parked(body: str, extra: str = "") -> tuple[str, str]:
    """The stored form of an instance that waits for ``first``."""
    cls = program("library_words", body, extra)
    workflow, execution = cls(), Execution.start("x", cls)
    drive(workflow, execution)
    assert execution.status == "waiting"
    return workflow.dump_fields(), execution.to_json()


def drive(workflow: Any, execution: Execution) -> None:
    asyncio.run(aresume(workflow, execution))


def go_on(stored: tuple[str, str], body: str, extra: str = "") -> Any:
    """The instance at its end, under other code."""
    cls = program("library_words", body, extra)
    workflow, execution = cls.load_fields(stored[0]), Execution.from_json(stored[1])
    handle_event(workflow, execution, "first", 4)
    drive(workflow, execution)
    assert execution.status == "finished"
    return workflow


STAYS = {
    "code before it": OLD.replace("rest = 0", "more = self.b + await self.work('new', 2).named('new')\nrest = 0"),
    "a branch before it": OLD.replace("rest = 0", "if await self.note(1):\n    self.b += 1\nrest = 0"),
    "lines before it": "\n# a comment\n" + OLD,
    "code in the loop": OLD.replace("    rest += x", "    self.b += x\n    rest += x"),
    "a new local with a default": OLD.replace("rest = 0", 'rest = 0\nfresh = local("fresh", default=0)').replace(
        "self.say(total, rest)", "rest += fresh\nself.say(total, rest)"
    ),
}


@pytest.mark.parametrize("what", STAYS)
def test_an_instance_goes_on(what: str) -> None:
    log = go_on(parked(OLD), STAYS[what]).log
    assert log == ["work before 1", "first 4", "4 6"]


def test_a_local_that_is_missing_is_an_error_with_the_fix() -> None:
    new = OLD.replace("rest = 0", "rest = fresh = 0").replace("(total, rest)", "(total, rest + fresh)")
    fix = r"needs the local 'fresh', which it does not have.*assign it with fresh = local\('fresh', default=...\)"
    with pytest.raises(UnknownStatement, match=fix):
        go_on(parked(OLD), new)


SECTION = """
async def part(self, n: int) -> int:
    m = n + 1
    await select(self.first)
    k = await self.send(m)
    return m + k

@step{options}
def {step}(self, number: int) -> int:
    self.log.append(f"sends {{number}}")
    return number
"""


def test_a_step_is_renamed() -> None:
    old = SECTION.format(step="send", options="")
    new = SECTION.format(step="post", options="(renamed_from='send')").replace("self.send", "self.post")
    stored = parked("self.say(await self.part(1))", old)
    assert go_on(stored, "self.say(await self.part(1))", new).log == ["first 4", "sends 2", "4"]


def test_a_step_is_renamed_while_it_is_due() -> None:
    old = SECTION.format(step="send", options="")
    new = SECTION.format(step="post", options="(renamed_from='send')").replace("self.send", "self.post")
    cls = program("library_words", "self.say(await self.part(1))", old)
    workflow, execution = cls(), Execution.start("x", cls)
    drive(workflow, execution)
    handle_event(workflow, execution, "first", 4)
    assert execution.status == "running"  # the step is due, with its arguments stored
    stored = workflow.dump_fields(), execution.to_json()
    cls = program("library_words", "self.say(await self.part(1))", new)
    workflow, execution = cls.load_fields(stored[0]), Execution.from_json(stored[1])
    drive(workflow, execution)
    assert execution.status == "finished"
    assert workflow.log == ["first 4", "sends 2", "4"]


def test_a_section_is_renamed() -> None:
    old = SECTION.format(step="send", options="").replace("async def part", "@section\nasync def part")
    new = old.replace("@section\nasync def part", "@section(renamed_from='part')\nasync def piece")
    stored = parked("self.say(await self.part(1))", old)
    assert go_on(stored, "self.say(await self.piece(1))", new).log == ["first 4", "sends 2", "4"]


def test_an_error_that_was_not_caught_is_an_error_with_the_place() -> None:
    stored = parked("await select(self.first)")
    with pytest.raises(
        ExecutionError, match=r"reads the error of 'try work except 1', but the thread 'main' has caught"
    ):
        go_on(
            stored, "try:\n    await self.work()\nexcept Odd as e:\n    await select(self.first)\n    self.say(str(e))"
        )


BEHIND = {
    "the results of a gather": """
a, b = await gather(self.one(), self.two())
self.say(a, b)
---
async def one(self) -> int:
    await select(self.first)
    return 1
async def two(self) -> int:
    return 2
""",
    "an except that raises": """
try:
    await select(self.first)
    note = await self.work()
except ValueError as error:
    raise Odd("other") from error
self.say(note)
""",
    "an except that raises again": """
try:
    await select(self.first)
    note = await self.work()
except ValueError:
    raise
self.say(note)
""",
    "a finally": """
try:
    await select(self.first)
    note = await self.work()
finally:
    await self.note("clean").named("clean")
self.say(note)
""",
    "a finally in a section": """
self.say(await self.part())
---
async def part(self) -> int:
    try:
        await select(self.first)
        if self.a > 90:
            return 9
    finally:
        await self.work()
    return 1
""",
    "a finally in a branch": """
await gather(self.part(), self.work())
---
async def part(self) -> None:
    try:
        await select(self.first)
        note = "x"
    finally:
        self.say("clean")
    self.say(note)
""",
}


@pytest.mark.parametrize("what", BEHIND)
def test_a_local_that_is_only_assigned_behind_the_place_is_not_missed(what: str) -> None:
    body, _, extra = BEHIND[what].partition("---")
    assert go_on(parked(body, extra), f"{body}await self.note('more')", extra).log[-1] == "note 'more'"


def test_the_version_changes_with_the_type_of_a_local_that_is_described_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = "rows: list[{}] = []\nawait self.work()\nawait select(self.first)\nself.say(rows)"
    described = []
    found = ValueForm.described

    def count(form: ValueForm) -> str:
        described.append(form)
        return found(form)

    monkeypatch.setattr(ValueForm, "described", count)
    first, second = (program("library_words", body.format(kind)).__program__.version for kind in ("Row", "Point"))
    assert first != second
    assert len(described) == 2
