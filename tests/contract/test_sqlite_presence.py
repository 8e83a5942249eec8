"""Files of an open database that are deleted or replaced: every call notices it, and nothing is acknowledged."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.errors import Unavailable
from cloud_adapter.stores.sqlite import connections, opening, presence
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.contract.store_contract import NOW, a_key, an_entry, an_instance, changed
from tests.contract.test_sqlite_errors import created, use
from tests.open_files import nothing_stays_open

SUFFIXES = ("", "-wal", "-shm")
"""Of the three files of an open database."""


@pytest.fixture(params=["recent", "settled"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, in a folder that counts as changed just now, or long ago."""
    if request.param == "settled":
        monkeypatch.setattr(presence, "SETTLED_SECONDS", -1.0)
    return tmp_path / "store.db"


def lose(path: Path, suffixes: Sequence[str], *, replace: bool) -> None:
    """Deletes files of a database, or puts copies in their places."""
    time.sleep(0.02)  # the clock of the file system ticks
    for suffix in suffixes:
        file, copy = path.with_name(path.name + suffix), path.with_name("copy")
        copy.write_bytes(file.read_bytes())  # before the file is deleted, so that it gets another number
        file.unlink()
        if replace:
            copy.rename(file)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("suffixes", [SUFFIXES, [""], ["-wal"]])
def test_files_that_are_deleted_or_replaced_while_they_are_open_are_noticed(
    path: Path, suffixes: Sequence[str], replace: bool
) -> None:
    async def work(store: SqliteStore) -> None:
        (instance,) = await created(store, 1)
        lose(path, suffixes, replace=replace)
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.load("pizza", "order-0"),
            lambda: store.load_key("pizza", "order-0", "key-1", NOW),
            lambda: store.list("pizza"),
            lambda: store.due(NOW),
            lambda: store.create(an_instance("order-1"), a_key()),
            lambda: store.commit(changed(instance)),
            lambda: store.post(an_entry()),
            lambda: store.ping(),
        ]
        how = "replaced" if replace else "deleted"
        for call in calls:
            with pytest.raises(Unavailable, match=f"{how} while the database was in use: stop the process"):
                await call()

    use(path, work)


@pytest.mark.parametrize("size", [1, connections.LARGE_BYTES])
def test_a_write_during_which_the_file_is_deleted_is_unavailable(path: Path, size: int) -> None:
    async def work(store: SqliteStore) -> None:
        def delete(connection: sqlite3.Connection) -> None:
            connection.execute("CREATE TABLE another (id)")
            path.unlink()

        with pytest.raises(Unavailable, match="deleted while the database was in use"):
            await store.connections.write(delete, size=size)

    use(path, work)


def test_a_file_that_is_deleted_while_it_is_opened_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_both = opening.open_both

    def delete(*arguments: Any) -> Any:
        opened = open_both(*arguments)
        path.unlink()
        return opened

    monkeypatch.setattr("cloud_adapter.stores.sqlite.connections.open_both", delete)
    with nothing_stays_open(), pytest.raises(Unavailable, match="deleted while"):
        SqliteStore(path)


def test_a_link_to_the_file_is_followed(tmp_path: Path, path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    link, file = tmp_path / "link.db", folder / "store.db"
    link.symlink_to(file)

    async def work(store: SqliteStore) -> None:
        (instance,) = await created(store, 1)
        await store.commit(changed(instance))
        lose(file, ["-wal"], replace=True)
        with pytest.raises(Unavailable, match="-wal was replaced"):
            await store.load("pizza", "order-0")

    use(link, work)


def test_files_are_looked_at_only_if_their_folder_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looked, stat = tmp_path / "store.db", [], os.stat

    def counted(name: Any) -> os.stat_result:
        looked.append(Path(name).name)
        return stat(name)

    async def work(store: SqliteStore) -> None:
        async def looks() -> Sequence[str]:
            looked.clear()
            await store.load("pizza", "order-0")
            return [name for name in looked if name != tmp_path.name]

        files = [path.name, f"{path.name}-wal"]
        await created(store, 1)
        seconds = os.stat(tmp_path).st_mtime
        monkeypatch.setattr(time, "time", lambda: seconds)
        monkeypatch.setattr(os, "stat", counted)
        assert await looks() == files  # the folder is new: a change in the same tick of its clock could not be seen
        assert await looks() == files
        seconds += 3_600
        assert await looks() == files
        assert await looks() == []
        (tmp_path / "another").touch()
        assert await looks() == files
        assert await looks() == []

    use(path, work)


def test_a_file_that_is_deleted_while_the_process_is_stopped_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is stopped just after it has looked at the files, which are deleted in the same tick of the folder's clock."""
    path, later = tmp_path / "store.db", [0.0]
    stat, now = presence.OpenFiles._stat, time.time

    async def work(store: SqliteStore) -> None:
        await created(store, 1)
        folder = os.stat(tmp_path)

        def stopping(files: presence.OpenFiles, name: str) -> os.stat_result:
            found = folder if name == str(tmp_path) else stat(files, name)
            if name.endswith("-wal"):
                later[0] = 2 * presence.SETTLED_SECONDS
            return found

        monkeypatch.setattr(time, "time", lambda: now() + later[0])
        monkeypatch.setattr(presence.OpenFiles, "_stat", stopping)
        await store.load("pizza", "order-0")
        path.unlink()
        with pytest.raises(Unavailable, match="deleted while the database was in use"):
            await store.load("pizza", "order-0")

    use(path, work)


def test_the_files_of_a_folder_without_a_time_are_always_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = presence.OpenFiles._stat

    def without_time(files: presence.OpenFiles, name: str) -> os.stat_result:
        found = stat(files, name)
        return found if name != str(path.parent) else os.stat_result((*found[:7], 0, 0, 0))

    async def work(store: SqliteStore) -> None:
        await created(store, 1)
        lose(path, [""], replace=False)
        with pytest.raises(Unavailable, match="deleted while the database was in use"):
            await store.load("pizza", "order-0")

    monkeypatch.setattr(presence.OpenFiles, "_stat", without_time)
    use(path, work)
