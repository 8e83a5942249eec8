"""What CONTRIBUTING.md and docs/ say: their code and commands run, and the tests and files that they name are there."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextvars import copy_context
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.processes import GORCHESTRATE, bash, environment, started
from tests.markdown import Block, blocks_of, compiled
from tests.simulation.bugs import BUGS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCS, ids=name)
def test_its_code_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert len(blocks) == text.count("```python\n")
    module = ModuleType(f"docs_{path.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where pydantic looks for the module of a generic class
    context = copy_context()  # what the code sets ends with it
    for block in blocks:
        line = text.count("\n", 0, block.start(1)) + 1
        context.run(exec, compiled(str(path), line, block[1]), vars(module))


@pytest.mark.parametrize("path", [*DOCS, CONTRIBUTING], ids=name)
def test_the_files_that_it_names_are_there(path: Path) -> None:
    folders = r"tests|gorchestrate|cloud_adapter|workflow_core|docs|functions|benchmarks|deploy|\.ci"
    named = set(re.findall(rf"`((?:{folders})/[\w./]*)`", path.read_text()))
    assert named or path != CONTRIBUTING
    for name in named - {"deploy/settings.env"}:  # the user writes it
        assert (ROOT / name).exists(), name


OPERATING = ROOT / "docs" / "guides" / "operating.md"


def test_the_commands_of_the_guide_do_what_is_said(tmp_path: Path) -> None:
    blocks = blocks_of(OPERATING)
    assert {block.kind for block in blocks} == {"bash server", "bash curl", "json"}
    (server,) = [block for block in blocks if block.kind == "bash server"]
    (command,) = server.text.strip().splitlines()
    assert "--port 8080" in command
    binary, *arguments = command.replace("--port 8080", "--port 0").split()
    assert binary == "gorchestrate"
    with started([*GORCHESTRATE, *arguments], tmp_path, GORCHESTRATE_DB=str(tmp_path / "docs.db")) as process:
        url = process.wait_for("Serving ").split(" on ")[1].split(",")[0]
        for block, following in zip(blocks, [*blocks[1:], Block("", 0, "")], strict=True):
            if block.kind == "bash curl":
                assert "http://127.0.0.1:8080/" in block.text
                printed = bash(block.text.replace("http://127.0.0.1:8080", url))
                if following.kind == "json":
                    assert json.loads(printed) == json.loads(following.text), f"line {following.line}"
                else:
                    assert printed and "urn:gorchestrate:problem" not in printed, "it is refused"


def test_continuous_integration_runs_the_demo() -> None:
    (block,) = [block for block in blocks_of(ROOT / "docs" / "start" / "install.md") if block.kind == "bash fresh"]
    assert block.text.strip().endswith(" && .venv/bin/gorchestrate demo")
    assert block.text.strip() in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.usefixtures("firestore_emulator_programs")
def test_the_demo_on_the_emulators() -> None:
    (block,) = [b for b in blocks_of(ROOT / "docs" / "guides" / "emulators.md") if b.kind == "bash emulators"]
    command = block.text.strip().replace("gorchestrate", " ".join(GORCHESTRATE), 1)
    result = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=180, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"status": "completed"' in result.stdout


def test_the_two_forms_of_an_order_have_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "guides" / "explicit-form.md"
    module = ModuleType("forms")
    monkeypatch.setitem(sys.modules, "forms", module)
    for block in [block for block in blocks_of(page) if block.kind == "python"][:2]:
        exec(compiled(str(page), block.line, block.text), vars(module))
    plain, explicit = vars(module)["PizzaOrder"].__program__, vars(module)["ExplicitOrder"].__program__
    assert list(plain.rests) == list(explicit.rests)
    assert plain.entries.keys() == explicit.entries.keys()


def test_continuous_integration_runs_the_commands_of_the_loop() -> None:
    loop = CONTRIBUTING.read_text().partition("## The loop")[2]
    match = re.search(r"^```bash\n(.*?)^```", loop, re.DOTALL | re.MULTILINE)
    assert match is not None
    run = (ROOT / ".ci" / "run").read_text()
    for command in match[1].splitlines():
        # CI checks the format and changes nothing.
        checked = command.replace("ruff format", "ruff format --check")
        assert re.search(rf"{re.escape(checked)}$", run, re.MULTILINE), command


def test_the_deliberate_bugs_that_are_named_are_there() -> None:
    pages = (ROOT / "docs" / "explanation" / name for name in ("reliability.md", "engine.md"))
    text = " ".join(" ".join(page.read_text() for page in pages).split())
    named = {
        bug
        for listing in re.findall(r"Deliberate bugs[^:]*:([^.]*)\.", text)
        for bug in re.findall(r"\*([^*]+)\*", listing)
    }
    assert len(named) > 30
    assert named <= BUGS.keys()
