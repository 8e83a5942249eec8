"""A PostgreSQL server for tests: started once in a process of tests, emptied for each test."""

from __future__ import annotations

import asyncio
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from cloud_adapter.sockets import free_ports
from tests.firestore_emulator import missing

SERVER_VARIABLE = "TEST_POSTGRESQL_SERVER"
"""The environment variable with the port and the folder of a server that runs, which is used instead of a new one."""

_GET_IT = "install the PostgreSQL server (apt-get install postgresql)"


@dataclass
class Server:
    """A server in a folder of its own, on a port of 127.0.0.1."""

    programs: Path
    folder: Path
    port: int
    durable: bool

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-p {self.port} -k '' -c listen_addresses=127.0.0.1 -c max_connections=200 -c shared_buffers=32MB"
        if not self.durable:
            options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        self._run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-o", options, "-l", str(self.log))

    def stop(self, mode: str = "fast") -> None:
        """Stops it. In the mode ``immediate`` it ends as in a crash."""
        self._run("pg_ctl", "stop", "-w", "-m", mode, "-D", str(self.folder / "data"))

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def initialize(self) -> None:
        options = ("-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions")
        self._run("initdb", "-D", str(self.folder / "data"), *options)

    def execute(self, statement: str, database: str = "postgres") -> Sequence[asyncpg.Record]:
        """What a person does with psql."""

        async def run() -> Sequence[asyncpg.Record]:
            connection = await asyncpg.connect(self.url(database))
            try:
                rows: Sequence[asyncpg.Record] = await connection.fetch(statement)
                return rows
            finally:
                await connection.close()

        return asyncio.run(run())

    def empty(self) -> str:
        """Removes what an earlier test has left, and returns the URL of the database. A new one takes much longer."""
        others = "usename = 'postgres' AND pid <> pg_backend_pid()"
        self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        self.execute("DROP SCHEMA IF EXISTS gorchestrate CASCADE")
        return self.url()

    def _run(self, program: str, *options: str) -> None:
        command = [str(self.programs / program), *options]
        if getpass.getuser() == "root":  # the server refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        # Not to a pipe, which the server would keep open.
        with (self.folder / "output").open("a+") as output:
            done = subprocess.run(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/", check=False)
            output.seek(0)
            assert done.returncode == 0, f"{program}: {output.read()[-2000:]}"


def programs() -> Path:
    """The folder of the server's programs. Debian does not link them into the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    if not folders:
        missing(f"tests of PostgreSQL need its server: {_GET_IT}")
    return folders[-1]


@contextmanager
def running(*, durable: bool = False) -> Iterator[Server]:
    """Starts a server, and ends it at the end.

    Args:
        durable: whether it waits for the disk.
    """
    folder = Path(tempfile.mkdtemp(prefix="gorchestrate-postgresql-"))
    (port,) = free_ports(1)
    server = Server(programs(), folder, port, durable)
    if getpass.getuser() == "root":
        shutil.chown(folder, "postgres")
    try:
        server.initialize()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgresql_programs() -> None:
    """Skips the test unless a server can be started here."""
    programs()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """A server that does not wait for the disk: the one that the environment names, or one of the run's own."""
    if name := os.environ.get(SERVER_VARIABLE):
        port, _, folder = name.partition(":")
        yield Server(programs(), Path(folder), int(port), durable=False)
        return
    with running() as server:
        yield server


@pytest.fixture
def postgresql_url(postgresql_server: Server) -> str:
    """The URL of an empty database."""
    return postgresql_server.empty()
