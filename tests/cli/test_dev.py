"""``gorchestrate dev``: what it serves, how it ends, and what it says when it cannot start."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main

from cloud_adapter.cli import main as cli
from cloud_adapter.settings import Settings
from tests.cli.processes import GORCHESTRATE, ROOT, dev, run, started

pytestmark = pytest.mark.slow

WORKFLOW = """
from workflow_core import On, S, Select, Workflow

class {cls}(Workflow, name="{name}"):
    opened: int = 0
    def open(self) -> int:
        self.opened += 1
        return self.opened
    definition = S(Select("closed", On("Open", open)))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file with a workflow of its own, and one that it imports from its folder."""
    (tmp_path / "gates.py").write_text(WORKFLOW.format(cls="Gate", name="gate"))
    source = tmp_path / "doors.py"
    source.write_text("from gates import Gate\n" + WORKFLOW.format(cls="Door", name="door"))
    return source


def test_serves_what_a_file_defines_and_imports(source: Path, tmp_path: Path) -> None:
    with dev(source, tmp_path / "doors.db") as server:
        assert server.get("/") == {"workflows": ["/definition/door", "/definition/gate"]}
        for name in ("door", "gate"):
            assert f"/wf/{name}/ID" in server.process.output()
            server.post(f"/wf/{name}/1")
            assert server.post(f"/wf/{name}/1/Open") == 1
        assert f"storing state in {tmp_path / 'doors.db'}" in server.process.output()
        assert server.process.end() in (0, -signal.SIGTERM)
        lines = [json.loads(line) for line in server.process.errors().splitlines()]
        assert [(line["kind"], line["workflow"], line["id"]) for line in lines if "kind" in line][:2] == [
            ("created", "door", "1"),
            ("event", "door", "1"),
        ]


def test_a_database_that_is_deleted_while_it_is_served_is_noticed(source: Path, tmp_path: Path) -> None:
    with dev(source, tmp_path / "doors.db") as server:
        server.post("/wf/door/1")
        for file in tmp_path.glob("doors.db*"):
            file.unlink()
        for method, path in [("POST", "/wf/door/2"), ("POST", "/wf/door/1/Open"), ("GET", "/wf/door/1")]:
            response = server.client.request(method, path)
            assert response.status_code == 503
            assert "doors.db was deleted while the database was in use" in response.json()["detail"]


def test_the_default_is_the_sample_and_the_database_of_the_settings(tmp_path: Path) -> None:
    command = [*GORCHESTRATE, "dev", "--port", "0"]
    with started(
        command, tmp_path, GORCHESTRATE_DB=str(tmp_path / "x.db"), GORCHESTRATE_LOG_LEVEL="WARNING"
    ) as process:
        assert "Serving functions/main.py" in process.wait_for("Serving")
        process.wait_for("/wf/pizza/ID")
        assert "Instances of pizza" in httpx.get(f"{process.wait_for('Pages').split()[-1]}pizza").text
        assert (tmp_path / "x.db").exists()


@dataclass(frozen=True)
class Result:
    returncode: int
    stdout: str
    stderr: str


Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Invoke]:
    """Runs ``gorchestrate`` in this process and in the test's folder: much faster, for what ends before it serves."""
    modules, path = set(sys.modules), sys.path[:]
    for name in os.environ:
        if name.startswith("GORCHESTRATE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["gorchestrate", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capfd.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    yield invoke
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
    sys.path[:] = path


def fails(result: Any, *words: str) -> None:
    """One line that says what is wrong, and exit code 2."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("gorchestrate: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("command", ["dev", "demo"])
def test_a_file_that_is_missing(invoke: Invoke, command: str) -> None:
    fails(invoke(command, "nothing.py"), "file nothing.py not found")


def test_a_folder_is_no_file(invoke: Invoke, tmp_path: Path) -> None:
    fails(invoke("dev", str(tmp_path)), f"file {tmp_path} not found")


SOURCES = {
    "nothing": ("x = 1", ["neither defines nor imports a Workflow with a definition"]),
    "abstract": (
        "from workflow_core import Workflow\nclass Base(Workflow):\n    x: int = 0",
        ["neither defines nor imports a Workflow"],
    ),
    "import": ("import there_is_none", ["cannot be imported: ModuleNotFoundError", "there_is_none"]),
    "syntax": ("def f(:", ["cannot be imported: SyntaxError"]),
    "raises": ("1 / 0", ["cannot be imported: ZeroDivisionError: division by zero", "wrong_source.py, line 1: 1 / 0"]),
    "definition": (
        "from workflow_core import S, Step, Workflow\nclass W(Workflow):\n"
        "    definition = S(Step('a', print), Step('a', print))",
        ["Step 'a': the name is taken by a Step. Rename one", "wrong_source.py, line 2: class W(Workflow):"],
    ),
    "service": (
        "from cloud_adapter.hosting.service import Service\n"
        + WORKFLOW.format(cls="A", name="a")
        + WORKFLOW.format(cls="B", name="b")
        + "service = Service(A)",
        ["does not pass workflow 'b' to its Service(...)", "add B"],
    ),
    "child": (
        "from workflow_core import Child, S, Workflow\n"
        "class W(Workflow):\n    definition = S(Child('bring it', 'delivery'))",
        ["Child 'bring it' of workflow 'W'", "'delivery' is not served here. Available: W"],
    ),
    "event": (
        "from workflow_core import On, S, Select, Workflow\n"
        "class W(Workflow):\n    definition = S(Select('s', On('pause', lambda w: None)))",
        ["its event 'pause'", "another name"],
    ),
    "twice": (
        WORKFLOW.format(cls="A", name="same") + WORKFLOW.format(cls="B", name="same"),
        ["has two workflows named 'same', wrong_source.A and wrong_source.B: rename one of them"],
    ),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_file_that_cannot_be_served(invoke: Invoke, tmp_path: Path, name: str) -> None:
    text, words = SOURCES[name]
    (tmp_path / "wrong_source.py").write_text(text)
    fails(invoke("dev", "wrong_source.py", "--port", "0"), *words)


@pytest.mark.parametrize("command", ["dev", "demo", "check"])
@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("signal", "Python"),
        ("colorsys", "Python"),  # not imported yet
        ("typer", "an installed package"),
        ("gunicorn", "an installed package"),  # not imported yet
        ("cloud_adapter", "an installed package"),
    ],
)
def test_a_file_that_is_named_like_another_module(
    invoke: Invoke, tmp_path: Path, command: str, name: str, owner: str
) -> None:
    before, path = sys.modules.get(name), sys.path[:]
    (tmp_path / f"{name}.py").write_text(WORKFLOW.format(cls="A", name="a"))
    fails(invoke(command, f"{name}.py"), f"{name}.py has the same name as the module '{name}' of {owner}", "rename the")
    assert sys.modules.get(name) is before
    assert sys.path == path


def test_sources_of_one_name_in_several_folders_are_loaded(tmp_path: Path, invoke: Invoke) -> None:
    for folder in ("a", "b"):
        source = tmp_path / folder / "orders.py"
        source.parent.mkdir()
        source.write_text(WORKFLOW.format(cls="A", name=folder))
        assert f"compiles: {folder}" in invoke("check", str(source)).stdout


def test_a_port_that_is_taken(invoke: Invoke, source: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        fails(invoke("dev", str(source), "--port", str(port)), f"127.0.0.1:{port}", "--port")
        fails(invoke("demo", str(ROOT / "functions/main.py"), "--port", str(port)), f"127.0.0.1:{port}", "--port")


def test_a_setting_that_only_the_service_of_the_file_needs(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GORCHESTRATE_BACKEND", "cloud")
    (tmp_path / "entry.py").write_text(
        "from pizza import PizzaOrder\nfrom cloud_adapter import Service\nService(PizzaOrder)"
    )
    fails(invoke("dev", "entry.py"), "gorchestrate: wrong setting: GORCHESTRATE_PROJECT is missing: the cloud backend")


def test_the_emulators_listen_and_keep_where_they_do(invoke: Invoke, source: Path) -> None:
    for arguments in (["--db", "x.db"], ["--host", "0.0.0.0"]):
        fails(invoke("dev", str(source), "--emulators", *arguments), "--emulators", arguments[0])


def test_a_deployment_has_entry_points(invoke: Invoke, source: Path) -> None:
    for command in ("dev", "demo"):
        fails(invoke(command, str(source), "--emulators"), "has no function 'api'")


def test_the_workflows_of_a_service_are_served(tmp_path: Path, invoke: Invoke) -> None:
    (tmp_path / "kitchen.py").write_text(WORKFLOW.format(cls="A", name="a"))
    (tmp_path / "entry.py").write_text(
        "import kitchen\nfrom cloud_adapter.hosting.service import Service\nservice = Service(kitchen.A)"
    )
    assert "entry.py compiles: a" in invoke("check", "entry.py").stdout


def test_a_host_that_is_none(invoke: Invoke, source: Path) -> None:
    fails(invoke("dev", str(source), "--host", "no.such.host.invalid"), "no.such.host.invalid", "--host")


@pytest.mark.parametrize("arguments", [["--port", "65536"], ["--port", "-1"], ["--port", "many"], ["--nonsense"]])
@pytest.mark.parametrize("command", ["dev", "demo"])
def test_an_option_that_is_wrong(invoke: Invoke, command: str, arguments: list[str]) -> None:
    result = invoke(command, *arguments)
    assert result.returncode == 2
    assert arguments[0] in result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("GORCHESTRATE_LOG_LEVEL", "LOUD", "'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("GORCHESTRATE_LEASE_SECONDS", "0", "greater than or equal to 1"),
        ("GORCHESTRATE_MAX_WAIT_SECONDS", "long", "valid number"),
        ("GORCHESTRATE_MAX_BODY_BYTES", "1.5", "valid integer"),
        ("GORCHESTRATE_LAZY_TIMER_SECONDS", "60", "at least 300"),
        ("GORCHESTRATE_RECOVER_SECONDS", "inf", "less than or equal to 3600"),
        ("GORCHESTRATE_NONSENSE", "1", "unknown setting GORCHESTRATE_NONSENSE. Available: GORCHESTRATE_ACCESS, "),
        (
            "GORCHESTRATE_LOG_LVEL",
            "INFO",
            "unknown setting GORCHESTRATE_LOG_LVEL. Did you mean GORCHESTRATE_LOG_LEVEL?",
        ),
    ],
)
@pytest.mark.parametrize("command", ["dev", "demo"])
def test_a_setting_that_is_wrong_is_named(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, source: Path, command: str, variable: str, value: str, word: str
) -> None:
    monkeypatch.setenv(variable, value)
    fails(invoke(command, str(source), "--port", "0"), variable, word)


def test_an_unknown_setting_is_answered_with_those_that_there_are() -> None:
    result = run("dev", GORCHESTRATE_DATABASE_FILE="x")
    fails(result, *(f"GORCHESTRATE_{name.upper()}" for name in Settings.model_fields))


def test_a_file_that_is_no_database(source: Path) -> None:
    before = source.read_text()
    fails(run("dev", str(source), "--port", "0", "--db", str(source)), "is not a SQLite database")
    assert source.read_text() == before


def test_a_database_of_another_program(source: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    fails(run("dev", str(source), "--port", "0", "--db", "other.db", cwd=tmp_path), "belongs to another program")


def test_a_database_in_no_folder(source: Path, tmp_path: Path) -> None:
    result = run("dev", str(source), "--port", "0", GORCHESTRATE_DB=str(tmp_path / "no" / "x.db"))
    fails(result, f"create the directory {tmp_path / 'no'} first")


def test_every_command_and_option_is_described(invoke: Invoke) -> None:
    group: Any = typer.main.get_command(cli.app)
    commands = group.commands
    assert set(commands) >= {"dev", "demo"}
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    overview = invoke("--help").stdout
    for name, command in commands.items():
        assert f"gorchestrate {name}" in page
        assert name in overview
        shown = invoke(name, "--help")
        assert shown.returncode == 0
        text = " ".join(shown.stdout.replace("│", " ").split())
        assert " ".join(command.help.split()) in text
        for parameter in command.params:
            if parameter.name != "help":
                assert parameter.help, f"{name}: {parameter.name} is not described"
                assert parameter.help in text


def test_without_a_command_it_shows_its_help(invoke: Invoke) -> None:
    result = invoke()
    assert "Usage:" in result.stdout + result.stderr
