"""``gorchestrate explain``, and the stored locals that ``show`` and the page of an instance show."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from pathlib import Path

from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest
from tests.http.helpers import serving
from workflow_core import Workflow, event, go, select, step, timeout
from workflow_core.diagrams.outline import outline

ROOT = Path(__file__).parents[2]
PIZZA = ROOT / "functions" / "pizza.py"


class Reminders(Workflow, name="reminders"):
    done: bool = False

    @event
    def answer(self, text: str) -> None:
        self.done = True

    @event
    def note(self) -> None: ...

    @step
    def remind(self, number: int) -> None: ...

    async def notes(self, about: str) -> None:
        while not self.done:
            await select(self.note)
            about += "!"

    async def run(self) -> None:
        sent = 3
        texts = ["a <b>"]
        go(self.notes("x"))
        # nobody has answered
        while not self.done:
            got = await select(self.answer, timeout=timedelta(days=2))
            if got.timed_out:
                sent += 1
                await self.remind(sent)
                texts.append(str(sent))


def test_the_outline_has_lines_and_locals() -> None:
    run, notes = (method.__code__.co_firstlineno for method in (Reminders.run, Reminders.notes))
    assert outline(Reminders.__program__).splitlines() == [
        f"{run + 1}  code: sent = 3 ...",
        f"{run + 3}  go notes",
        "      starts with notes/about",
        "      section notes",
        f"{notes + 1}      while not self.done",
        f"{notes + 2}        select note (stores notes/about)",
        "            on note (calls note)",
        f'{notes + 3}        code: about += "!"',
        f"{run + 5}  while nobody has answered",
        f"{run + 6}    select answer (stores sent, texts)",
        "        on answer (calls answer)",
        "        timeout answer timed out (after 2 days)",
        f"{run + 8}        code: sent += 1",
        f"{run + 9}        step remind (stores sent, texts)",
        f"{run + 10}        code: texts.append(str(sent))",
    ]


class Headers(Workflow, name="headers"):
    tries: int = 0

    @step
    async def work(self, number: int) -> int:
        return number

    async def run(self) -> None:
        number = await self.work(1)
        try:
            async with timeout(timedelta(days=number)).named("time to work"):
                number = await self.work(2).named("second")
                self.tries += number
        except ValueError:
            pass
        else:
            match self.tries:
                case 2:
                    await self.work(3).named("third")
        if self.tries > 9:
            self.tries = 9
            return
        await self.work(4).named("last")


def test_headers_and_what_the_compiler_makes_are_no_code() -> None:
    run = Headers.run.__code__.co_firstlineno
    assert outline(Headers.__program__).splitlines() == [
        f"{run + 1}  step work",
        f"{run + 2}  try time to work",
        f"{run + 3}    within time to work (at a computed time)",
        f"{run + 4}      step second",
        f"{run + 5}      code: self.tries += number",
        "      except try time to work except 1 (ValueError)",
        f"{run + 2}  else",
        f"{run + 9}    code: match self.tries: ...",
        f"{run + 10}    case 2",
        f"{run + 11}      step third",
        f"{run + 12}  if self.tries > 9",
        f"{run + 13}    code: self.tries = 9",
        f"{run + 14}    return",
        f"{run + 15}  step last",
    ]


def test_lines_of_another_file_name_it(tmp_path: Path) -> None:
    head = "from gorchestrate import Workflow, step\nclass Base(Workflow):\n"
    methods = (
        "    @step\n    def work(self) -> None: ...\n    async def part(self) -> None:\n        await self.work()\n"
    )
    (tmp_path / "explained_base.py").write_text(head + methods)
    source = tmp_path / "explained.py"
    source.write_text(
        "from explained_base import Base\nclass Flow(Base, name='explained'):\n    async def run(self) -> None:\n"
        "        await self.work()\n        await self.part()\n        await self.work().named('last')\n"
    )
    _, _, *lines = CliRunner().invoke(app, ["explain", str(source)]).output.splitlines()
    assert lines == [
        "4  step work",
        "   section part",
        "6    step work  [explained_base.py]",
        "6  step last  [explained.py]",
    ]


def test_the_command_explains_both_forms() -> None:
    plain = CliRunner().invoke(app, ["explain", str(PIZZA)])
    assert plain.exit_code == 0
    head, _, *lines = plain.output.splitlines()
    assert head == f"pizza: async def run of PizzaOrder, {PIZZA}"
    source = PIZZA.read_text().splitlines()
    number, _, text = lines[0].partition("  ")
    assert text == "while order not yet submitted"
    assert source[int(number) - 1].strip() == 'while self.status != "submitted":'

    explicit = CliRunner().invoke(app, ["explain", str(PIZZA.with_name("pizza_explicit.py")), "--workflow", "pizza"])
    assert explicit.output.splitlines()[2:4] == [
        "while order not yet submitted (calls is_open)",
        "  select customer fills the cart",
    ]


def test_an_unknown_workflow_is_refused() -> None:
    result = CliRunner().invoke(app, ["explain", str(PIZZA), "--workflow", "pasta"])
    assert isinstance(result.exception, InvalidRequest)
    assert str(result.exception) == f"{PIZZA} has no workflow 'pasta'. Available: pizza"


def test_stored_locals_are_shown(tmp_path: Path) -> None:
    with serving(tmp_path / "locals.db", Reminders, ui=True) as http:
        http.create("/wf/reminders/r-1")
        url = str(http.client.base_url)
        shown = CliRunner().invoke(app, ["show", "reminders", "r-1", "--url", url]).output.splitlines()
        rows = [line.split("\t") for line in shown if line.startswith("locals")]
        assert rows == [
            ["locals", "main", "sent", "3"],
            ["locals", "main", "texts", '["a <b>"]'],
            ["locals", "go notes", "notes/about", '"x"'],
        ]
        page = http.request("GET", "/ui/reminders/instances/r-1").text
        _, found, table = page.partition("<caption>Local variables</caption>")
        assert found
        table = table.partition("</table>")[0]
        assert ">sent</th><td><code>3</code>" in table
        assert "a &lt;b&gt;" in table and "thread go notes" in table
        assert ".return" not in table, "what the compiler made is not shown"


def test_the_guide_shows_what_is_printed(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "plain-python.md").read_text()
    source = tmp_path / "expenses.py"
    source.write_text(guide.partition("```python\n")[2].partition("```")[0])
    printed = CliRunner().invoke(app, ["explain", str(source)]).output.replace(str(source), source.name)
    assert textwrap.indent(printed, "    ") in guide
