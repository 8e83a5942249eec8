"""The tables in docs/reference/ are those of the code."""

from __future__ import annotations

import inspect
import re
import runpy
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from pizza import PizzaOrder
from typer.testing import CliRunner

import gorchestrate
from cloud_adapter.cli.main import app
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from cloud_adapter.variables import PREFIX
from tests.http.helpers import serving
from tests.markdown import table_of

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE = DOCS / "reference"


def test_the_generated_parts_are_those_of_the_code() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"))
    old = [str(path) for path, text in generate["files"]().items() if not path.exists() or path.read_text() != text]
    assert not old, "run: python docs/generate.py"


def test_the_help_of_a_command_has_no_line_that_ends_within_a_sentence() -> None:
    """typer joins the lines of the first paragraph only."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        for line in inspect.cleandoc(command.help).partition("\n\n")[2].splitlines():
            assert not line or line.endswith("."), f"{name}: {line}"


def test_each_public_name_is_described_once() -> None:
    pages = [(REFERENCE / f"{name}.md").read_text() for name in ("python", "statements", "errors")]
    text = "\n".join(pages)
    for name in gorchestrate.__all__:
        described = re.findall(rf"^(?:### {name}$|@{name}$|{name}\(|\| `{name}` \|)", text, re.MULTILINE)
        assert described or name in ("Section", "Statement"), name


@pytest.mark.slow
def test_the_commands_of_operators_do_what_is_said(tmp_path: Path) -> None:
    """Runs each command of the table without its optional parts; commands without an instance in the table get one."""
    rows = [
        command.strip("`")
        for row in table_of(REFERENCE / "cli.md", "| command |")
        for command in re.findall(r"`(gorchestrate [^`]+)`", row[0])
    ]
    assert len(rows) == 12
    with serving(tmp_path / "operate.db", PizzaOrder) as http:
        http.create("/wf/pizza/order-7")
        for row in rows:
            _, name, *arguments = shlex.split(re.sub(r" \[.*\]", "", row))
            arguments = arguments or ["pizza", "order-8"] * (name != "ls")
            yes = ["--yes"] * (name in ("goto", "set"))
            result = CliRunner().invoke(app, [name, *arguments, *yes, "--url", str(http.client.base_url)])
            refused = name == "retry" and "is waiting" in str(result.exception)
            assert result.exit_code == 0 or refused, f"{row}: {result.output}{result.exception}"
        assert http.get("/wf/pizza/order-8")["meta"]["status"] == "canceled"


def test_the_table_of_settings_is_that_of_the_code() -> None:
    fields = Settings.model_fields
    table = table_of(REFERENCE / "settings.md", "| variable |")
    assert {variable.strip("`"): default.strip("`") for variable, default, _ in table} == {
        PREFIX + name.upper(): ("" if field.default == () else str(field.default)) for name, field in fields.items()
    }
    assert all(what for _, _, what in table)


def test_the_table_of_routes_is_that_of_the_code() -> None:
    engine: Any = SimpleNamespace(callbacks=None)
    api = create_api(engine, max_body_bytes=1, repair=True, ui=True)
    served = {
        (method, re.sub(r":\w+}", "}", route.path))  # type: ignore[attr-defined]
        for route in api.routes
        for method in route.methods  # type: ignore[attr-defined]
        if method != "HEAD"
    }
    rows = table_of(REFERENCE / "http.md", "| route |")
    cells = [cell for row in rows for cell in re.findall(r"`([A-Z]+ [^`]+)`", row[0])]
    assert served - {("GET", "/")} == {tuple(cell.partition("?")[0].split()) for cell in cells}
