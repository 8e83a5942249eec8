"""The README: every block in it is run, every table in it is compared with what it tells of."""

from __future__ import annotations
import __future__

import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pizza import PizzaOrder
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import PREFIX, Settings
from tests.cli.processes import GORCHESTRATE, ROOT, environment, started
from tests.http.helpers import serving
from tests.markdown import compiled
from workflow_core import Workflow
from workflow_core import __all__ as vocabulary

README = (ROOT / "README.md").read_text()
KINDS = {"python", "bash fresh", "bash server", "bash curl", "bash emulators", "json"}


@dataclass(frozen=True)
class Block:
    """A fenced block, the line that its text begins at, and its text."""

    kind: str
    line: int
    text: str


def read_blocks() -> list[Block]:
    blocks: list[Block] = []
    kind, start, text = None, 0, ""
    for number, line in enumerate(README.splitlines(keepends=True), 1):
        if line.lstrip().startswith("```"):
            if kind is None:
                kind, start, text = line.strip()[3:], number + 1, ""
            else:
                blocks.append(Block(kind, start, text))
                kind = None
        elif kind is not None:
            text += line
    assert kind is None, f"the block of line {start} does not end"
    return blocks


BLOCKS = read_blocks()


def of(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def table(first: str) -> list[list[str]]:
    """The rows of the table whose header begins so."""
    lines = README.splitlines()
    (start,) = (number for number, line in enumerate(lines) if line.startswith(first))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return rows


def test_each_block_is_of_a_kind_that_is_tested() -> None:
    assert {block.kind for block in BLOCKS} == KINDS
    for block, before in zip(BLOCKS[1:], BLOCKS, strict=False):
        assert block.kind != "json" or before.kind == "bash curl", "a json block is what the commands above it print"


def test_the_python_blocks_run_one_after_the_other() -> None:
    module = ModuleType("readme")
    sys.modules["readme"] = module
    try:
        for block in of("python"):
            exec(compiled("README.md", block.line, block.text, __future__.annotations.compiler_flag), vars(module))
    finally:
        del sys.modules["readme"]
    workflow = vars(module)["PizzaOrder"]
    assert issubclass(workflow, Workflow) and workflow.__workflow_name__ == "pizza"
    explicit = vars(module)["ExplicitOrder"]
    assert list(workflow.__program__.rests) == list(explicit.__program__.rests), "both forms have the same names"
    assert workflow.__program__.entries.keys() == explicit.__program__.entries.keys()


def test_the_first_python_block_can_be_served(tmp_path: Path) -> None:
    source = tmp_path / "readme_order.py"
    source.write_text(of("python")[0].text)
    command = [*GORCHESTRATE, "dev", str(source), "--port", "0", "--db", str(tmp_path / "readme.db")]
    with started(command, tmp_path) as process:
        process.wait_for("/wf/pizza/ID")


def test_two_commands_start_everything_and_continuous_integration_runs_them() -> None:
    install = "python3 -m venv .venv && .venv/bin/pip install -e"
    commands = [f"{install} . && .venv/bin/gorchestrate demo", f"{install} '.[test]' && .venv/bin/pytest"]
    assert [block.text.strip() for block in of("bash fresh")] == commands
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    assert ".venv/bin/pytest -m slow" in lines and "`pytest -m slow` runs the other tests" in README
    steps = [lines.index(command) for command in [*commands, ".venv/bin/pytest -m slow"]]
    assert steps == sorted(steps)
    assert "rm -rf .venv" in lines[: steps[0]], "they are run as on a fresh machine"
    assert "set -euo pipefail" in lines[: steps[0]]


def test_the_commands_do_what_is_said(tmp_path: Path) -> None:
    (server,) = of("bash server")
    (command,) = server.text.strip().splitlines()
    assert "--port 8080" in command
    binary, *arguments = command.replace("--port 8080", "--port 0").split()
    assert binary == ".venv/bin/gorchestrate"
    program = [str(Path(sys.executable).with_name("gorchestrate")), *arguments]
    with started(program, tmp_path, GORCHESTRATE_DB=str(tmp_path / "readme.db")) as process:
        url = process.wait_for("Serving ").split(" on ")[1].split(",")[0]
        printed = ""
        for block in BLOCKS:
            if block.kind == "bash curl":
                assert "http://127.0.0.1:8080/" in block.text
                printed = bash(block.text.replace("http://127.0.0.1:8080", url))
            elif block.kind == "json":
                assert json.loads(printed) == json.loads(block.text), f"line {block.line}"
                printed = ""
            assert "urn:gorchestrate:problem" not in printed or follows(block) == "json", "it is refused"


def test_the_commands_of_operators_do_what_is_said(tmp_path: Path) -> None:
    """Runs each command of the table without its optional parts; commands without an instance in the table get one."""
    rows = [
        command.strip("`") for row in table("| command |") for command in re.findall(r"`(gorchestrate [^`]+)`", row[0])
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


def bash(text: str) -> str:
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout
    return result.stdout


def follows(block: Block) -> str:
    index = BLOCKS.index(block) + 1
    return BLOCKS[index].kind if index < len(BLOCKS) else ""


def test_the_table_of_settings_is_that_of_the_code() -> None:
    fields = Settings.model_fields
    rows = {variable.strip("`"): default.strip("`") for variable, default, _ in table("| variable |")}
    assert rows == {
        PREFIX + name.upper(): ("" if field.default == () else str(field.default)) for name, field in fields.items()
    }
    assert all(what for _, _, what in table("| variable |"))


def test_the_table_of_what_is_where_names_what_there_is() -> None:
    section = README.partition("## Project layout")[2]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows
    first = [re.match(r"\| `([^`]+)`", row)[1] for row in rows]  # type: ignore[index]
    named = set(first) | {word for word in re.findall(r"`([^` ]+)`", section) if "/" in word}
    named |= set(re.findall(r"\b[\w./]+/\w+\.py\b", section))
    for path in named:
        assert (ROOT / path).exists(), path
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} | {"functions", "benchmarks"}
    assert {path.rstrip("/") for path in first} >= packages


def test_every_file_that_the_readme_names_is_there() -> None:
    folders = "functions|benchmarks|tests|cloud_adapter|workflow_core|deploy"
    named = set(re.findall(rf"`((?:{folders})/[^` ]*)`", README))
    assert named
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(
    "word",
    [
        *["S", "Step", "If", "Switch", "While", "Select", "WaitFor", "Within", "Do", "Go", "Sleep", "Try", "Fail"],
        *["ForEach", "Parallel", "Race", "Activity", "Child"],
    ],
)
def test_the_table_of_statements_has_each(word: str) -> None:
    assert word in vocabulary
    assert any(row[0].startswith(f"`{word}(") for row in table("| statement |"))


def test_the_table_of_routes_is_that_of_the_code() -> None:
    engine: Any = SimpleNamespace(callbacks=None)
    api = create_api(engine, max_body_bytes=1, repair=True, ui=True)
    served = {
        (method, re.sub(r":\w+}", "}", route.path))  # type: ignore[attr-defined]
        for route in api.routes
        for method in route.methods  # type: ignore[attr-defined]
        if method != "HEAD"
    }
    cells = [cell for row in table("| route |") for cell in re.findall(r"`([A-Z]+ [^`]+)`", row[0])]
    told = {tuple(cell.partition("?")[0].split()) for cell in cells}
    assert served - {("GET", "/")} == told


def test_the_version_of_python_is_that_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11"' in project and "Python 3.11 or later" in README


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("firestore_emulator_programs")
def test_the_demo_on_the_emulators() -> None:
    (block,) = of("bash emulators")
    command = block.text.strip().replace(".venv/bin/gorchestrate", " ".join(GORCHESTRATE))
    result = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"status": "completed"' in result.stdout
