"""``gorchestrate copy``: instances with all that belongs to them, between all stores."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from cloud_adapter.cli.store_copy import Progress
from cloud_adapter.document import Instance, Lease
from cloud_adapter.errors import (
    InstanceNotFound,
    SettingsError,
    Unavailable,
)
from cloud_adapter.history import HistoryEntry
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.postgresql import PostgresqlRuntime
from cloud_adapter.ports import CopyableStore
from cloud_adapter.postgresql import schema as postgresql_schema
from cloud_adapter.settings import Settings
from cloud_adapter.stores.sqlite import schema as sqlite_schema
from tests.cli.full_stores import LATER, copied, fill, opened, same, whole
from tests.contract.store_contract import (
    NOW,
    SECOND,
    a_key,
    an_instance,
    changed,
    some_entries,
)
from tests.emulator.harness import until
from tests.postgresql import Server
from workflow_core import On, S, Select, Sleep, Timeout, Workflow


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The names of empty stores that the test needs."""
    wanted = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    kinds = {wanted.get("source", "sqlite"), wanted.get("destination", "postgresql")}
    names = {"sqlite": str(tmp_path / "orders.db")}
    if "postgresql" in kinds:
        names["postgresql"] = request.getfixturevalue("postgresql_url")
    if "firestore" in kinds:
        names["firestore"] = request.getfixturevalue("firestore_project")
    return names


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("sqlite", "postgresql"),
        ("postgresql", "sqlite"),
        pytest.param("firestore", "postgresql", marks=pytest.mark.slow),
        pytest.param("postgresql", "firestore", marks=pytest.mark.slow),
    ],
)
def test_everything_is_copied_and_can_be_used(source: str, destination: str, stores: dict[str, str]) -> None:
    async def scenario() -> None:
        async with opened(stores[source], stores[destination]) as (here, there):
            await fill(here)
            report, _ = await copied(here, there)
            assert report.problems == []
            assert dict(report.copied) == {"pizza": 1, "pasta": 3}
            assert report.counts == {"pizza": (1, 1), "pasta": (3, 3)}
            await same(here, there)
            (plain, inbox, keys) = await whole(there, "pizza", "order-1")
            assert (len(plain.history), len(inbox), len(keys)) == (50, 3, 56)

            again, _ = await copied(here, there)
            assert again.problems == []
            assert dict(again.present) == {"pizza": 1, "pasta": 3}
            await same(here, there)

            loaded = await there.load("pizza", "order-1")
            committed = await there.commit(replace(changed(loaded), new_entries=some_entries(0, 60)), [a_key("mine")])
            assert await there.load("pizza", "order-1") == committed
            assert len((await there.load("pizza", "order-1", history=True)).history) == 50

    asyncio.run(scenario())


def test_a_dry_run_writes_nothing(stores: dict[str, str]) -> None:
    async def scenario() -> None:
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            await fill(here)
            report, _ = await copied(here, there, writes=False)
            assert dict(report.copied) == {"pizza": 1, "pasta": 3}
            assert await there.workflows() == []

    asyncio.run(scenario())


def test_a_leased_instance_is_left_and_copied_later(stores: dict[str, str]) -> None:
    async def scenario() -> None:
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            await fill(here)
            leased = replace(await here.load("pasta", "id 001 ☕"), lease=Lease("token", NOW + 9 * SECOND))
            await here.commit(leased)
            report, progress = await copied(here, there)
            ((workflow, id, reason),) = report.problems
            assert (workflow, id) == ("pasta", "id 001 ☕")
            assert "it is running until 00:00:08 UTC" in reason
            with pytest.raises(InstanceNotFound):
                await there.load("pasta", "id 001 ☕")
            assert progress.left == [("pasta", "id 001 ☕")]
            report, progress = await copied(here, there, now=NOW + 10 * SECOND, progress=progress)
            assert (report.problems, dict(report.copied), progress.left) == ([], {"pasta": 1}, [])
            await same(here, there)

    asyncio.run(scenario())


class Failing:
    """A store whose writes fail at some time, before or after they are applied."""

    def __init__(self, store: CopyableStore, calls: int, applied: bool) -> None:
        self._store = store
        self._left = calls
        self._applied = applied

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if name not in ("create", "commit", "post"):
            return method

        async def call(*arguments: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                if self._applied:
                    await method(*arguments)
                raise Unavailable("no answer")
            return await method(*arguments)

        return call


@pytest.mark.parametrize("applied", [False, True])
def test_a_copy_that_was_interrupted_continues(applied: bool, stores: dict[str, str]) -> None:
    async def scenario() -> None:
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            await fill(here, 120)
            progress, interrupted = Progress("a", "b"), 0
            for calls in (1, 60, 20, 1, 2, 3, 5, 1, 9999):
                failing: Any = Failing(there, calls, applied)
                try:
                    report, _ = await copied(here, failing, progress=progress)
                except Unavailable:
                    interrupted += 1
            assert interrupted >= 5
            assert report.problems == []
            await same(here, there)
            assert progress.done == ["pasta", "pizza"]
            # What is complete is not read again.
            assert sum(report.present.values()) < 100

    asyncio.run(scenario())


def test_an_instance_that_the_destination_has_in_another_state_is_not_changed(stores: dict[str, str]) -> None:
    async def scenario() -> None:
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            await fill(here)
            other = an_instance("id 001 ☕", workflow="pasta", wake_at=LATER, count=77)
            await there.create(other)
            before = await there.load("pasta", "id 001 ☕")
            for writes in (False, True):
                report, _ = await copied(here, there, writes=writes)
                ((_, id, reason),) = report.problems
                assert id == "id 001 ☕"
                assert "in another state (fields differ)" in reason
            assert await there.load("pasta", "id 001 ☕") == before

    asyncio.run(scenario())


def test_an_instance_that_changes_meanwhile_is_found(stores: dict[str, str]) -> None:
    class Changing(Failing):
        def __getattr__(self, name: str) -> Any:
            method = getattr(self._store, name)
            if name != "create":
                return method

            async def create(instance: Instance, *arguments: Any) -> None:
                await method(instance, *arguments)
                current = await changing.load(instance.workflow, instance.id)
                await changing.commit(changed(current, count=99))

            return create

    changing: Any = None

    async def scenario() -> None:
        nonlocal changing
        async with opened(stores["sqlite"], stores["postgresql"]) as (changing, there):
            await changing.create(an_instance(count=0))
            failing: Any = Changing(there, 0, False)
            report, _ = await copied(changing, failing)
            assert "it has changed while it was copied" in report.problems[0][2]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("source", "destination"), [("sqlite", "postgresql"), ("postgresql", "sqlite"), ("postgresql", "firestore")]
)
def test_a_postponed_instance_is_due_at_the_destination(
    source: str, destination: str, stores: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_adapter.cli.store_copy.POSTPONED_PAGE", 2)
    ids = [f"stuck-{number}" for number in range(5)]

    async def scenario() -> None:
        async with opened(stores[source], stores[destination]) as (here, there):
            for id in ids:
                await here.create(an_instance(id, wake_at=NOW))
            await here.create(an_instance("later", wake_at=LATER))
            await here.create(an_instance("overdue", wake_at=NOW - SECOND))
            for due in await here.due(NOW):
                if due.id in ids:
                    await here.postpone(due, LATER + timedelta(hours=int(due.id[-1])))
            assert [due.id for due in await here.postponed(NOW)] == ids
            report, _ = await copied(here, there)
            assert (report.problems, dict(report.copied)) == ([], {"pizza": 7})
            found = {due.id: due.wake_at for due in await there.due(LATER)}
            assert found == {**dict.fromkeys(ids, NOW + SECOND), "overdue": NOW - SECOND, "later": LATER}
            assert list(await there.postponed(NOW)) == []
            for now in (NOW + 2 * SECOND, LATER + timedelta(days=1)):  # then the postponement is over
                again, _ = await copied(here, there, now=now)
                assert (again.problems, dict(again.present)) == ([], {"pizza": 7})

    asyncio.run(scenario())


def test_a_damaged_document_is_named_and_the_others_are_copied(
    stores: dict[str, str], postgresql_server: Server
) -> None:
    async def scenario() -> None:
        async with opened(stores["postgresql"], stores["sqlite"]) as (here, there):
            await fill(here)
            await asyncio.to_thread(
                postgresql_server.execute, "UPDATE gorchestrate.instances SET execution = '{' WHERE id LIKE 'id 001%'"
            )
            report, _ = await copied(here, there)
            ((_, id, reason),) = report.problems
            assert (id, "cannot be read" in reason) == ("id 001 ☕", True)
            assert dict(report.copied) == {"pizza": 1, "pasta": 2}

    asyncio.run(scenario())


def test_an_old_history_is_copied(stores: dict[str, str]) -> None:
    old = (HistoryEntry(NOW, "created"), HistoryEntry(NOW, "event", "Größe"))

    async def scenario() -> None:
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            await here.create(an_instance())
            text = json.dumps(
                [{"at": NOW.isoformat(), "kind": entry.kind, "statement": entry.statement} for entry in old]
            )
            connections: Any = here
            await connections.connections.run(lambda c: c.execute("UPDATE instances SET history = ?", (text,)))
            assert (await copied(here, there))[0].problems == []
            assert (await there.load("pizza", "order-1", history=True)).history == old

    asyncio.run(scenario())


# --- the destination goes on -----------------------------------------------------------------


class Parcel(Workflow, name="parcel"):
    seen: list[str] = []

    def scan(self, place: str) -> None:
        self.seen.append(place)

    def late(self) -> None:
        self.seen.append("late")

    definition = S(
        Sleep("on its way", timedelta(seconds=0.1)),
        Select("scanned", On("Scan", scan), Timeout("late", timedelta(seconds=1))),
        Select("scanned again", On("Scan", scan)),
    )


def test_timers_go_on_at_the_destination(stores: dict[str, str], tmp_path: Path) -> None:
    async def scenario() -> None:
        runtime = EmbeddedRuntime([Parcel], Settings(db=Path(stores["sqlite"])))
        await runtime.engine.create("parcel", "p-1")  # not started: its timers are lost with it
        await runtime.close()
        async with opened(stores["sqlite"], stores["postgresql"]) as (here, there):
            report, _ = await copied(here, there, now=datetime.now(UTC))
            assert report.problems == []
        other = PostgresqlRuntime([Parcel], Settings.load(db=stores["postgresql"], recover_seconds=0.5))
        await other.start()

        async def has_moved() -> bool:
            return (await other.store.load("parcel", "p-1")).execution.threads[0].step == "scanned again"

        await until(has_moved, poll_seconds=0.05)
        assert await other.engine.handle_event("parcel", "p-1", "Scan", b'"Bern"') == b"null"
        await other.close()

    asyncio.run(scenario())


# --- the command -----------------------------------------------------------------------------


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["copy", *arguments])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, " ".join(result.output.split())


def test_the_command(stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def prepare() -> None:
        async with opened(stores["postgresql"]) as (here,):
            await fill(here)

    asyncio.run(prepare())
    pair = ("--from", stores["postgresql"], "--to", "sqlite:///new.db")
    code, text = invoke(*pair)
    assert code == 0
    assert "pasta: 3 to copy, 0 already there" in text
    assert "Nothing was written. To copy, stop what serves both stores" in text
    assert list(tmp_path.iterdir()) == []

    code, text = invoke(*pair, "--write")
    assert code == 0
    assert "pizza: 1 copied, 0 already there; the source has 1, the destination 1" in text
    assert "Each copy was read back and compared" in text
    assert [path.name for path in tmp_path.iterdir()] == ["new.db"]

    async def move_on() -> None:
        async with opened("new.db") as (there,):
            await there.commit(changed(await there.load("pizza", "order-1"), count=8))

    asyncio.run(move_on())
    code, text = invoke(*pair, "--write")
    assert code == 1
    assert "pizza order-1: the destination has it in another state" in text
    assert "pasta: 0 copied, 3 already there" in text

    with pytest.raises(SettingsError, match="has the progress of another copy, from postgresql://127"):
        invoke("--from", "new.db", "--to", stores["postgresql"], "--write")
    Path("gorchestrate-copy.json").write_text("{")
    with pytest.raises(SettingsError, match="cannot be read"):
        invoke(*pair, "--write")
    for same_file in ("new.db", "./new.db", str(tmp_path / "new.db"), "sqlite:///new.db"):
        with pytest.raises(SettingsError, match="are the same store"):
            invoke("--from", "new.db", "--to", same_file)
    with pytest.raises(SettingsError, match="cannot be written to nowhere/progress"):
        invoke("--from", "new.db", "--to", "other.db", "--write", "--progress", "nowhere/progress.json")
    assert not Path("other.db").exists()
    with pytest.raises(SettingsError, match="unknown store mysql://host/x"):
        invoke("--from", "mysql://ann:secret@host/x", "--to", "new.db")


def test_the_progress_has_no_password(tmp_path: Path, stores: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def prepare() -> None:
        async with opened(stores["sqlite"]) as (here,):
            await fill(here)
            await here.commit(
                replace(await here.load("pizza", "order-1"), lease=Lease("t", datetime.max.replace(tzinfo=UTC)))
            )

    asyncio.run(prepare())
    url = stores["postgresql"].replace("postgres@", "postgres:geheim@")
    assert invoke("--from", stores["sqlite"], "--to", url, "--write")[0] == 1
    progress = Path("gorchestrate-copy.json").read_text()
    assert "geheim" not in progress
    assert json.loads(progress)["left"] == [["pizza", "order-1"]]


def test_copies_get_shards_if_the_instances_that_are_there_have_them(
    tmp_path: Path, firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def prepare(name: str, id: str) -> None:
        async with opened(name) as (store,):
            await store.create(an_instance(id))

    for name, id in ((firestore_project, "zero"), ("one.db", "one"), ("two.db", "two")):
        asyncio.run(prepare(name, id))
    to_firestore = "--to", firestore_project
    assert invoke("--from", "one.db", *to_firestore, "--write")[0] == 0  # none has a shard
    assert CliRunner().invoke(app, ["add-shards", firestore_project, "--shards", "4"]).exit_code == 0
    for write in ([], ["--write"]):
        with pytest.raises(SettingsError, match="have shards, but the copies would get none: set GORCH"):
            invoke("--from", "two.db", *to_firestore, *write)
    assert invoke("--from", firestore_project, "--to", "three.db")[0] == 0
    monkeypatch.setenv("GORCHESTRATE_INDEX_SHARDS", "2")
    assert invoke("--from", "two.db", *to_firestore, "--write")[0] == 0


TABLES = "SELECT 1 FROM pg_namespace WHERE nspname = 'gorchestrate'"


@pytest.mark.parametrize("source", ["sqlite", "postgresql"])
def test_a_source_without_tables_is_an_error_and_gets_none(
    source: str, stores: dict[str, str], postgresql_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = Path(stores["sqlite"])
    empty.touch()
    for write in ([], ["--write"]):
        with pytest.raises(
            SettingsError, match=r"(orders\.db|5432|/postgres) has no tables of gorchestrate, so it has"
        ):
            invoke("--from", stores[source], "--to", "new.db", *write)
    assert (empty.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (b"", ["orders.db"])
    assert not postgresql_server.execute(TABLES)


def test_a_dry_run_creates_no_tables_at_the_destination(stores: dict[str, str], postgresql_server: Server) -> None:
    async def prepare() -> None:
        async with opened(stores["sqlite"]) as (here,):
            await fill(here)

    asyncio.run(prepare())
    empty = Path(stores["sqlite"]).with_name("empty.db")
    empty.touch()
    for destination in (stores["postgresql"], str(empty)):
        code, text = invoke("--from", stores["sqlite"], "--to", destination)
        assert (code, "pasta: 3 to copy, 0 already there" in text) == (0, True)
    assert empty.read_bytes() == b""
    assert not postgresql_server.execute(TABLES)


@pytest.mark.parametrize("old", ["sqlite", "postgresql"])
def test_a_dry_run_upgrades_no_tables(
    old: str, stores: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def prepare() -> None:
        async with opened(*stores.values()) as opened_stores:
            for store in opened_stores:
                await store.workflows()

    asyncio.run(prepare())
    schema = postgresql_schema if old == "postgresql" else sqlite_schema
    prefix = "gorchestrate." if old == "postgresql" else ""
    monkeypatch.setattr(schema, "SCHEMA_VERSION", schema.SCHEMA_VERSION + 1)
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS, (f"CREATE TABLE {prefix}more (number INTEGER)",)))
    other = stores["sqlite" if old == "postgresql" else "postgresql"]
    for pair in ((stores[old], other), (other, stores[old])):
        with pytest.raises(
            SettingsError, match="are not upgraded without --write: upgrade them with gorchestrate check"
        ):
            invoke("--from", pair[0], "--to", pair[1])
    assert invoke("--from", stores[old], "--to", other, "--write")[0] == 0
    assert invoke("--from", stores[old], "--to", other)[0] == 0
