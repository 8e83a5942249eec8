"""``gorchestrate graph``: what is drawn is tested in ``tests/core``."""

from __future__ import annotations

from pathlib import Path

from pizza import PizzaOrder
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest
from workflow_core.diagrams import mermaid, svg

MAIN = Path(__file__).parents[2] / "functions" / "main.py"


def test_the_command() -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["graph", "pizza", str(MAIN)])
    assert (result.exit_code, result.output) == (0, svg.draw(PizzaOrder.__program__) + "\n")
    result = runner.invoke(app, ["graph", "pizza", str(MAIN), "--format", "mermaid"])
    assert result.output == mermaid.draw(PizzaOrder.__program__)
    assert runner.invoke(app, ["graph", "pizza", str(MAIN), "--format", "json"]).output.startswith('[{"kind":"while"')


def test_the_command_of_what_is_not_there() -> None:
    result = CliRunner().invoke(app, ["graph", "pasta", str(MAIN)])
    assert isinstance(result.exception, InvalidRequest)
    assert str(result.exception) == f"{MAIN} has no workflow 'pasta'. Available: pizza"
    assert CliRunner().invoke(app, ["graph", "pizza", str(MAIN), "--format", "png"]).exit_code == 2
