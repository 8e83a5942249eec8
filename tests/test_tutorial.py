"""The tutorial, command by command, in an empty folder. Its deployment is a dry run."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from cloud_adapter.sockets import free_ports
from tests.cli.processes import GORCHESTRATE, ROOT, bash, started
from tests.markdown import blocks_of

BLOCKS = blocks_of(ROOT / "docs" / "start" / "tutorial.md")
TEMPLATE = ROOT / "gorchestrate" / "templates" / "approval" / "approval.py.txt"


def variables_of(folder: Path) -> dict[str, str]:
    """The variables with which the commands of the tutorial are those of this environment."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in (("gorchestrate", " ".join(GORCHESTRATE)), ("pytest", f"{sys.executable} -m pytest")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        program.chmod(0o755)
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    return {"PATH": path, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}


def test_it_quotes_the_template() -> None:
    quoted = next(block.text for block in BLOCKS if block.kind == "text")
    indented = "".join(f"    {line}" for line in quoted.splitlines(keepends=True))
    assert indented in TEMPLATE.read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_its_commands_do_what_is_said(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    variables = variables_of(tmp_path) | {"GORCHESTRATE_URL": url}
    folder, printed = tmp_path, ""
    with ExitStack() as server:
        for block in BLOCKS:
            text = block.text.replace("http://127.0.0.1:8080", url)
            if block.kind == "bash server":
                server.close()  # Ctrl-C
                command = ["bash", "-c", f"exec {text.strip()} --port {port}"]
                process = server.enter_context(started(command, tmp_path, cwd=folder, **variables))
                process.wait_for("Serving ")
            elif block.kind == "bash refused":
                printed = bash(f"! {text}", folder, **variables)
            elif block.kind == "bash":
                printed = bash(text, folder, **variables)
                folder = tmp_path / "shop"
                assert "urn:gorchestrate:problem" not in printed
            elif block.kind == "python":
                (folder / "approval.py").write_text(block.text)
            elif printed.startswith("main.py compiles"):
                assert printed == block.text
        state = httpx.get(f"{url}/wf/approval/laptop").json()["state"]
    assert state["status"] == "withdrawn"
    assert "gcloud functions deploy gorchestrate-api" in printed
    assert "Nothing was changed. To do this, run the command again with --yes." in printed
    assert not list(folder.glob("*.old"))
