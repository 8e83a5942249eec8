"""Who configures logging: the program, if it does; otherwise ``gorchestrate dev`` and the deployed entry points."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import ROOT, dev, environment
from tests.http.helpers import until

pytestmark = pytest.mark.slow

CONFIGURES = """
import logging, sys
from cloud_adapter.observability import logs
user, chatty = logging.getLogger("bakery"), logging.getLogger("httpx")
queue = logging.getLogger("gorchestrate.queue")
{program}
logs.configure("INFO", "p")
logs.configure("INFO", "p")
chatty.info("a request")
chatty.warning("a warning")
user.debug("too fine")
with logs.about("bakery", "b1", statement="bake"):
    user.info("into the oven")
    user.debug("too fine")
logs.transition("step", "bakery", "b1")
queue.info("ours")
"""


def logged(program: str = "") -> list[str]:
    """The lines that a program logs, on both streams."""
    done = subprocess.run(
        [sys.executable, "-c", CONFIGURES.format(program=program)],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.splitlines()


def messages(lines: list[str]) -> list[str]:
    return [json.loads(line)["message"].strip() for line in lines]


def test_a_program_without_logging_gets_json_lines_of_the_engine_and_of_workflows() -> None:
    lines = logged()
    assert messages(lines) == ["a warning", "into the oven", "step bakery/b1", "ours"]
    found = [json.loads(line) for line in lines]
    assert (found[1]["workflow"], found[1]["statement"]) == ("bakery", "bake")
    assert "workflow" not in found[0]


BASIC = 'logging.basicConfig(level=logging.{level}, format="MINE %(message)s", force={force})'


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (
            BASIC.format(level="INFO", force=False),
            ["MINE a request", "MINE a warning", "MINE into the oven", "MINE step bakery/b1", "MINE ours"],
        ),
        (BASIC.format(level="WARNING", force=False), ["MINE a warning"]),
        (
            'logs.logger.setLevel("ERROR")\n' + BASIC.format(level="INFO", force=False),
            ["MINE a request", "MINE a warning", "MINE into the oven"],
        ),
        (
            'own = logging.StreamHandler()\nown.setFormatter(logging.Formatter("OWN %(message)s"))\n'
            "logs.logger.addHandler(own)\nlogs.logger.setLevel(logging.INFO)",
            ["a warning", "OWN step bakery/b1", "OWN ours"],  # the first as Python shows it without any handler
        ),
        (
            'own = logging.StreamHandler()\nown.setFormatter(logging.Formatter("OWN %(message)s"))\n'
            "logs.logger.addHandler(own)\nlogs.logger.setLevel(logging.INFO)\n"
            + BASIC.format(level="WARNING", force=False),
            ["MINE a warning", "OWN step bakery/b1", "MINE step bakery/b1", "OWN ours", "MINE ours"],
        ),
    ],
)
def test_the_configuration_of_a_program_stays(program: str, expected: list[str]) -> None:
    assert [line.strip() for line in logged(program)] == expected


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ('logs.logger.setLevel("ERROR")', ["a warning", "into the oven"]),
        ('logging.getLogger().setLevel("ERROR")', []),
        (
            'queue.setLevel("DEBUG"); logging.getLogger("bakery").setLevel("ERROR")',
            ["a warning", "step bakery/b1", "ours"],
        ),
    ],
)
def test_levels_of_a_program_stay(program: str, expected: list[str]) -> None:
    assert messages(logged(program)) == expected


def test_the_handler_of_functions_framework_writes_json_lines_with_its_execution_id() -> None:
    lines = logged("""
import functions_framework.aio
from functions_framework import execution_id
functions_framework.aio._configure_app_execution_id_logging()
execution_id.execution_context_var.set(execution_id.ExecutionContext("e1", None))
""")
    assert messages(lines) == ["a warning", "into the oven", "step bakery/b1", "ours"]
    labels: Any = json.loads(lines[2])["logging.googleapis.com/labels"]
    assert labels == {"workflow": "bakery", "instance": "b1", "execution_id": "e1"}


SOURCE = """
import logging
from workflow_core import S, Step, Workflow
{program}
class Door(Workflow, name="door"):
    definition = S(Step("open", lambda w: logging.getLogger("doors").info("it creaks")))
"""


@pytest.mark.parametrize("program", ["", 'logging.basicConfig(level=logging.INFO, format="MINE %(message)s")'])
def test_dev_configures_logging_unless_its_source_does(tmp_path: Path, program: str) -> None:
    source = tmp_path / "doors.py"
    source.write_text(SOURCE.format(program=program))
    with dev(source, tmp_path / "doors.db") as server:
        server.post("/wf/door/1")
        errors = until(lambda: "step door/1 open" in (text := server.process.errors()) and text)
    ours = [line for line in errors.splitlines() if "door/1 open" in line or "it creaks" in line]
    if program:
        assert ours == ["MINE it creaks", "MINE step door/1 open"]
    else:
        assert messages(ours) == ["it creaks", "step door/1 open"]
