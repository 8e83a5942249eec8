"""Each example is a source that can be served; what examples/README.md says about them is true."""

from __future__ import annotations

import re
import runpy

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from tests.examples.counting import EXAMPLES, NAMES, sizes_of

ROOT = EXAMPLES.parent
PLAIN_ONLY = ("large_batch", "webhook")
README = (EXAMPLES / "README.md").read_text()


@pytest.mark.parametrize("source", [f"{name}{form}" for name in NAMES for form in ("", "_explicit")] + [*PLAIN_ONLY])
def test_check_and_graph_accept_it(source: str) -> None:
    name = "payment" if source == "webhook" else source.removesuffix("_explicit")
    source = str(EXAMPLES / f"{source}.py")
    checked = CliRunner().invoke(app, ["check", source])
    assert (checked.exit_code, "compiles" in checked.output) == (0, True), checked.output
    drawn = CliRunner().invoke(app, ["graph", name, source, "--format", "mermaid"])
    assert drawn.exit_code == 0
    assert drawn.output.startswith("flowchart")


def test_the_table_has_each_example() -> None:
    both = {f"{name}{form}" for name in NAMES for form in ("", "_explicit")}
    assert set(re.findall(r"\((\w+)\.py\)", README)) == both | set(PLAIN_ONLY)
    assert both | set(PLAIN_ONLY) == {path.stem for path in EXAMPLES.glob("*.py")} - {"services"}


def test_the_diagrams_are_those_of_the_code() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "diagrams.py"))["drawn"]()
    for path, text in drawn.items():
        assert path.read_text() == text, "run: python docs/diagrams.py"
    assert set((EXAMPLES / "images").iterdir()) == {path for path in drawn if path.suffix == ".svg"}
    sections = set(re.findall(r"\((\w+)\.py\)", (EXAMPLES / "diagrams.md").read_text()))
    assert sections == {*NAMES, *PLAIN_ONLY}


@pytest.mark.parametrize("name", NAMES)
def test_the_counts_are_those_of_the_sources(name: str) -> None:
    assert f"| {name} | " + " | ".join(map(str, sizes_of(name))) + " |" in README
    plain, _, temporal, _ = sizes_of(name)
    assert plain.statements <= temporal.statements
    assert plain.lines <= temporal.lines
