"""``gorchestrate check``: what it prints, how it exits, and what it refuses to look at."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any, NoReturn

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli import check as check_command
from cloud_adapter.cli.definition_warnings import advise
from cloud_adapter.cli.main import app
from cloud_adapter.cli.stores import open_store
from cloud_adapter.document import Instance
from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.ports import Store
from cloud_adapter.store_settings import SecretSettings
from cloud_adapter.stores.firestore import calls
from cloud_adapter.stores.firestore.store import FirestoreStore
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.cli.processes import ROOT, run
from tests.postgresql import Server
from workflow_core import Execution, On, S, Select, Step, Workflow, resume

pytestmark = pytest.mark.slow

SOURCE = """
from workflow_core import On, S, Select, Workflow

class Door(Workflow, name="door"):
    opened: int = 0
    definition = S(Select("{name}", On("Open", lambda w: None){renamed}))
"""


class Door(Workflow, name="door"):
    opened: int = 0
    definition = S(Select("closed", On("Open", lambda w: None)))


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """The source of the doors that ``fill`` puts into a store."""
    return write(tmp_path / "good.py", "closed")


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    return write(tmp_path / "renamed.py", "shut", ', renamed_from="closed"')


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """The same after somebody has changed a name."""
    return write(tmp_path / "bad.py", "shut")


def write(path: Path, name: str, renamed: str = "") -> Path:
    path.write_text(SOURCE.format(name=name, renamed=renamed))
    return path


async def fill(store: Store, count: int = 2) -> None:
    try:
        for number in range(count):
            door, execution = Door(), Execution.start(f"door-{number}", Door)
            resume(door, execution)
            await store.create(Instance("door", execution.id, execution, door.dump_fields()))
    finally:
        await store.close()


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A database with two closed doors."""
    path = tmp_path / "doors.db"
    asyncio.run(fill(SqliteStore(path)))
    return path


GONE = "it is at 'closed', which the definition no longer contains"


def test_a_source_that_can_be_deployed(good: Path, renamed: Path, db: Path) -> None:
    for source in (good, renamed):
        ended = run("check", str(source), "--against", str(db))
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.splitlines() == [
            f"{source} compiles: door",
            f"Live instances in {db}: door 2",
            "✓ All of them can continue.",
        ]


def test_a_source_that_would_leave_instances_behind(bad: Path, db: Path) -> None:
    before = db.read_bytes()
    ended = run("check", str(bad), "--against", str(db))
    assert (ended.returncode, ended.stderr) == (1, "")
    lines = ended.stdout.splitlines()
    assert lines[3] == f"✗ door: {GONE}"
    assert lines[4] == "  2 instances: door-0 (main), door-1 (main)"
    assert lines[5].startswith("  Fix: add renamed_from='closed' to its replacement, ")
    assert len(lines) == 6
    assert db.read_bytes() == before


def test_json(good: Path, bad: Path, db: Path) -> None:
    ended = run("check", str(bad), "--against", str(db), "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    (problem,) = found["problems"]
    assert found == {"ok": False, "checked": {"door": 2}, "problems": [problem], "warnings": []}
    assert (problem["workflow"], problem["problem"]) == ("door", GONE)
    assert problem["instances"] == [{"id": f"door-{number}", "thread": "main"} for number in range(2)]
    ended = run("check", str(good), "--against", str(db), "--json")
    found = {"ok": True, "checked": {"door": 2}, "problems": [], "warnings": []}
    assert (ended.returncode, json.loads(ended.stdout)) == (0, found)


def test_many_instances_are_cut_off_but_in_json(bad: Path, tmp_path: Path) -> None:
    db = tmp_path / "many.db"
    asyncio.run(fill(SqliteStore(db), 25))
    text = CliRunner().invoke(app, ["check", str(bad), "--against", str(db)]).output
    assert text.count("(main)") == check_command.SHOWN_MAX
    assert "25 instances: " in text
    assert "and 5 more" in text
    found = json.loads(CliRunner().invoke(app, ["check", str(bad), "--against", str(db), "--json"]).output)
    assert len(found["problems"][0]["instances"]) == 25


def test_text_that_looks_like_markup_is_shown_as_it_is(bad: Path, tmp_path: Path) -> None:
    db = tmp_path / "[red]doors.db"

    async def fill_one() -> None:
        store = SqliteStore(db)
        door, execution = Door(), Execution.start("[bold]a[/bold]", Door)
        resume(door, execution)
        await store.create(Instance("door", execution.id, execution, door.dump_fields()))
        await store.close()

    asyncio.run(fill_one())
    text = CliRunner().invoke(app, ["check", str(bad), "--against", str(db)]).output
    assert f"Live instances in {db}: door 1" in text
    assert "1 instance: [bold]a[/bold] (main)" in text


def test_without_a_store_the_source_must_compile(good: Path, tmp_path: Path) -> None:
    ended = run("check", str(good))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{good} compiles: door\n", "")
    wrong = write(tmp_path / "wrong.py", "closed", ', renamed_from="closed"')
    ended = run("check", str(wrong))
    assert ended.returncode == 1
    assert (
        "The definition has a mistake. Select 'closed': its former name 'closed' is the name of a Select"
        in ended.stdout
    )
    ended = run("check", str(wrong), "--json")
    assert ended.returncode == 1
    found = json.loads(ended.stdout)
    assert found["ok"] is False
    assert found["definition_error"].startswith("Select 'closed'")


IN_VAIN = """
from workflow_core import Parallel, S, Step, Workflow

class House(Workflow, name="house"):
    definition = S(Parallel("[b]clean", S(Step("hall", lambda w: None)), S(Step("attic", lambda w: None))))
"""


def test_steps_that_cannot_overlap_are_a_warning_and_no_failure(tmp_path: Path) -> None:
    source = tmp_path / "house.py"
    source.write_text(IN_VAIN)
    ended = run("check", str(source))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        f"{source} compiles: house",
        "! Parallel '[b]clean' of workflow 'house': its branches are steps, and steps of one instance never overlap: "
        "they run one after another. Use activities or children instead.",
    ]
    ended = run("check", str(source), "--json")
    found = json.loads(ended.stdout)
    assert (ended.returncode, found["ok"], found["problems"]) == (0, True, [])
    (warning,) = found["warnings"]
    assert (warning["workflow"], warning["statement"]) == ("house", "Parallel '[b]clean'")
    assert warning["fix"] == "Use activities or children instead"


CHILDREN = """
from workflow_core import Child, On, S, Select, Workflow

class Parcel(Workflow, name="parcel"):
    address: str
    definition = S(Select("on its way", On("Sign", lambda w: None)))

class Order(Workflow, name="order"):
    number: int
    customer: str
    note: str = ""
    create_fields = ("number",)
    definition = S(Child("deliver", Parcel, input=lambda w: {"address": w.customer}))
"""


def test_a_required_field_that_no_client_can_set_is_a_warning(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text(CHILDREN)
    ended = run("check", str(source))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[1:] == [  # a child gets its fields from its parent
        "! field 'customer' of workflow 'order': no default and not in create_fields, so only code can create an "
        "instance. If clients shall create some, write create_fields = ('number', 'customer'), or a default.",
    ]


class Both(Workflow, name="both"):
    async def run(self) -> None: ...

    definition = S(Step("work", lambda w: None))


class Called(Workflow, name="called"):
    async def run(self) -> None: ...

    definition = S(Step("run", run))


def test_a_run_that_its_definition_does_not_call_is_a_warning() -> None:
    assert list(map(str, advise([Both, Called], SecretSettings()))) == [
        "method 'run' of workflow 'both': the class also has a definition, which does not call it. Remove one of them, "
        "or give the method another name."
    ]


def test_an_event_that_no_engine_would_serve(tmp_path: Path) -> None:
    source = tmp_path / "doors.py"
    source.write_text(SOURCE.format(name="closed", renamed="").replace("Open", "cancel"))
    ended = run("check", str(source))
    assert ended.returncode == 1
    assert "The definition has a mistake. workflow 'door': its event 'cancel'" in ended.stdout


def test_the_default_source(tmp_path: Path) -> None:
    ended = run("check")
    assert (ended.returncode, ended.stdout) == (0, "functions/main.py compiles: pizza\n")
    for command in ("check", "dev", "cost", "explain"):
        ended = run(command, cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "neither main.py nor functions/main.py is here: pass the Python file of your workflows" in ended.stderr
    (tmp_path / "main.py").write_text(SOURCE.format(name="closed", renamed=""))
    ended = run("check", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert (ended.returncode, ended.stdout) == (0, "main.py compiles: door\n")


def test_what_is_no_store(good: Path, tmp_path: Path) -> None:
    ended = run("check", str(good), "--against", "nothing.db", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "unknown store nothing.db: it is neither a file nor a Firestore project" in ended.stderr
    assert "PROJECT/DATABASE" in ended.stderr
    assert not (tmp_path / "nothing.db").exists()


@pytest.mark.parametrize("against", ["./nothing", "Project", "orders/db", "a-project/x", "", "a-project/"])
def test_what_names_no_store(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, against: str) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["check", str(good), "--against", against])
    assert isinstance(result.exception, SettingsError)
    assert f"unknown store {against}: it is neither a file nor a Firestore project" in str(result.exception)
    assert {path.name for path in tmp_path.iterdir()} <= {good.name, "__pycache__"}


def test_a_file_that_is_no_database(good: Path) -> None:
    ended = run("check", str(good), "--against", str(good))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "is not a SQLite database" in ended.stderr


def test_a_database_without_tables(good: Path, tmp_path: Path, postgresql_server: Server, postgresql_url: str) -> None:
    empty = tmp_path / "empty.db"
    empty.touch()
    for against in (str(empty), postgresql_url):
        ended = run("check", str(good), "--against", against)
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "has no tables of gorchestrate, so it has no instances: check the name of the database" in ended.stderr
    assert empty.read_bytes() == b""
    assert not postgresql_server.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'gorchestrate'")


def test_a_source_that_is_not_there() -> None:
    assert run("check", "nowhere.py").returncode == 2


@pytest.mark.parametrize("argument", ["--against", "--jason"])
def test_wrong_usage(argument: str) -> None:
    assert CliRunner().invoke(app, ["check", argument]).exit_code == 2


@pytest.mark.parametrize("name", ["my-project", "my-project/(default)", "my-project/orders", "example.com:my-project"])
def test_names_of_firestore(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOOGLE_ACCESS_TOKEN", "a-token")
    made: list[dict[str, Any]] = []

    def make_client(**options: Any) -> NoReturn:
        made.append(options)
        raise OSError("for a test")

    monkeypatch.setattr(calls, "AsyncClient", make_client)
    store = open_store(name)
    assert isinstance(store, FirestoreStore)
    with pytest.raises(Unavailable, match="for a test"):
        asyncio.run(store.ping())
    (options,) = made
    project, _, database = name.partition("/")
    assert (options["project"], options["database"]) == (project, database or "(default)")
    assert options["credentials"].token == "a-token"


def test_firestore(good: Path, bad: Path, firestore_project: str) -> None:
    asyncio.run(fill(FirestoreStore()))
    runner = CliRunner()
    result = runner.invoke(app, ["check", str(good), "--against", firestore_project])
    assert (result.exit_code, result.exception) == (0, None)
    assert f"Live instances in {firestore_project}: door 2" in result.output
    result = runner.invoke(app, ["check", str(bad), "--against", f"{firestore_project}/(default)"])
    assert result.exit_code == 1
    assert re.search(GONE, result.output)


def test_firestore_with_shards(good: Path, bad: Path, firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fill(FirestoreStore()))
    runner = CliRunner()
    monkeypatch.setenv("GORCHESTRATE_INDEX_SHARDS", "4")
    for added in (2, 0):
        result = runner.invoke(app, ["add-shards", firestore_project])
        assert (result.exit_code, result.exception) == (0, None)
        assert f"door: all 2 instances have a shard, {added} got it now" in result.output
    monkeypatch.setenv("GORCHESTRATE_SHARDED_INDEXES", "only")
    assert (
        f"Live instances in {firestore_project}: door 2"
        in runner.invoke(app, ["check", str(good), "--against", firestore_project]).output
    )
    result = runner.invoke(app, ["check", str(bad), "--against", firestore_project])
    assert result.exit_code == 1
    assert re.search(GONE, result.output)


def test_other_databases_have_no_shards(tmp_path: Path) -> None:
    file = tmp_path / "orders.db"
    sqlite3.connect(file).close()
    for arguments in (["--shards", "4"], []):
        ended = run("add-shards", str(file), *arguments)
        assert ended.returncode == 2
        expected = "orders.db is not Firestore. Other databases need no shards" if arguments else "Missing option"
        assert expected in ended.stderr


def test_shards_that_are_read_must_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_SHARDED_INDEXES", "read")
    with pytest.raises(SettingsError, match="SHARDED_INDEXES is read: set GORCHESTRATE_INDEX_SHARDS to 2 to 30"):
        open_store("my-project")


def test_a_database_that_does_not_answer(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:9")
    result = CliRunner().invoke(app, ["check", str(good), "--against", "my-project"])
    assert isinstance(result.exception, Unavailable)


def test_a_deployment_needs_its_entry_points() -> None:
    source = ROOT / "functions" / "pizza.py"
    assert run("check", str(source)).returncode == 0
    ended = run("check", str(source), "--deployable")
    assert ended.returncode == 2
    assert "pizza.py has no function 'api', which a deployment needs as entry point" in ended.stderr
    assert run("check", str(ROOT / "functions" / "main.py"), "--deployable").returncode == 0
