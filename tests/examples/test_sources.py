"""Each example is a source that can be served; what examples/README.md says about them is true."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from tests.examples.counting import EXAMPLES, NAMES, sizes_of

README = (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("form", ["", "_explicit"])
@pytest.mark.parametrize("name", NAMES)
def test_check_and_graph_accept_it(name: str, form: str) -> None:
    source = str(EXAMPLES / f"{name}{form}.py")
    checked = CliRunner().invoke(app, ["check", source])
    assert (checked.exit_code, "compiles" in checked.output) == (0, True), checked.output
    drawn = CliRunner().invoke(app, ["graph", name, source, "--format", "mermaid"])
    assert drawn.exit_code == 0
    assert drawn.output.startswith("flowchart")


def test_the_table_has_each_example() -> None:
    assert set(re.findall(r"\((\w+)\.py\)", README)) == {
        f"{name}{form}" for name in NAMES for form in ("", "_explicit")
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_counts_are_those_of_the_sources(name: str) -> None:
    assert f"| {name} | " + " | ".join(map(str, sizes_of(name))) + " |" in README
    plain, _, temporal, _ = sizes_of(name)
    assert plain.statements <= temporal.statements
    assert plain.lines <= temporal.lines
