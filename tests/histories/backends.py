"""The processes that clients use, on each backend. A backend is one class with ``running``; ``BACKENDS`` lists them."""

from __future__ import annotations

import asyncio
import mmap
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import httpx

from cloud_adapter.sockets import free_ports
from tests import postgresql
from tests.deployment import Slot, deployed
from tests.histories.process import set_clock

SOURCE = Path(__file__).with_name("source.py")
RUNS = "runs"
"""The file in the folder of a site to which its steps write."""
LEASE_SECONDS = 1
SETTINGS = {
    "GORCHESTRATE_LEASE_SECONDS": str(LEASE_SECONDS),
    "GORCHESTRATE_RECOVER_SECONDS": "0.5",
    "GORCHESTRATE_MAX_WAIT_SECONDS": "2",
    "GORCHESTRATE_LOG_LEVEL": "WARNING",
}
PROCESSES = 3
DISK_BYTES = 64_000_000
FILE_BYTES_MAX = 65_536


class Disk(Protocol):
    """Where a database is; for a while, it takes no more."""

    def fill(self) -> None: ...

    def free(self) -> None: ...


@dataclass
class Site:
    """Processes that serve, on a database.

    Attributes:
        apis: those that clients ask.
        slots: all.
        folder: has the file of each process's clock and of the runs of steps.
    """

    apis: Sequence[Slot]
    slots: Sequence[Slot]
    folder: Path
    disks: Sequence[Disk] = ()

    def set_clock(self, slot: Slot, seconds: float) -> None:
        set_clock(_clock(self.folder, slot.name), seconds)


class Backend(Protocol):
    """Starts processes on a database.

    Attributes:
        rounds: how many rounds use the same processes, since to start them takes long or the database grows.
    """

    rounds: int

    def running(self, folder: Path) -> AbstractAsyncContextManager[Site]: ...


class Sqlite:
    """Several processes of ``gorchestrate dev`` on one file."""

    rounds = 3

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Site]:
        async with AsyncExitStack() as stack:
            disk_folder = folder / "disk"
            disk_folder.mkdir()
            is_mounted = _mounted(disk_folder)
            if is_mounted:
                stack.callback(subprocess.run, ["umount", "--lazy", str(disk_folder)], check=True)
            slots = await _started(stack, folder, str(disk_folder / "register.db"))
            disks: list[Disk] = [_LimitedFiles(slots), *([_SmallDisk(disk_folder)] if is_mounted else [])]
            yield Site(slots, slots, folder, disks)


class Postgresql:
    """Several processes of ``gorchestrate dev`` on one PostgreSQL server."""

    rounds = 10

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Site]:
        async with AsyncExitStack() as stack:
            server = await asyncio.to_thread(stack.enter_context, postgresql.running(durable=True))
            slots = await _started(stack, folder, server.url())
            yield Site(slots, slots, folder)


async def _started(stack: AsyncExitStack, folder: Path, database: str) -> Sequence[Slot]:
    """Starts several processes of ``gorchestrate dev``, until the end of the stack."""
    slots = []
    for number, port in enumerate(free_ports(PROCESSES)):
        name = f"dev-{number}"
        options = ["dev", str(SOURCE), "--port", str(port), "--db", database]
        command = [sys.executable, *_runner(folder, name), "cloud_adapter.cli", *options]
        slot = Slot(name, port, command, folder, SETTINGS | {"STEP_RUNS": str(folder / RUNS)})
        slots.append(slot)
        stack.push_async_callback(slot.kill)
        slot.start()
    http = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
    for slot in slots:
        assert await slot.serves(http), f"{slot.name} has ended: {slot.process and slot.process.errors()}"
    return slots


class Firestore:
    """The functions of a deployment, several processes of each, on the emulators."""

    rounds = 20

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[Site]:
        variables = SETTINGS | {"STEP_RUNS": str(folder / RUNS)}
        deployment = deployed(
            SOURCE, folder, recover_seconds=1, variables=variables, runner=lambda name: _runner(folder, name)
        )
        async with deployment as running:
            yield Site(running.of("api"), running.slots, folder)


BACKENDS: dict[str, Backend] = {"sqlite": Sqlite(), "postgresql": Postgresql(), "firestore": Firestore()}


def _runner(folder: Path, name: str) -> Sequence[str]:
    set_clock(_clock(folder, name), 0)
    return "-m", "tests.histories.process", str(_clock(folder, name))


def _clock(folder: Path, name: str) -> Path:
    return folder / f"{name}.clock"


# --- full disks --------------------------------------------------------------------------


def _mounted(folder: Path) -> bool:
    """Mounts a small file system, if this user may."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    with suppress(OSError):
        return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    return False


class _SmallDisk:
    """A file system that another file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ballast = folder / "ballast"

    def fill(self) -> None:
        with self.ballast.open("wb") as ballast:
            size, part = 0, DISK_BYTES
            while part >= mmap.PAGESIZE:  # the processes write meanwhile
                try:
                    os.posix_fallocate(ballast.fileno(), size, part)
                    size += part
                except OSError:
                    part //= 2

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)


class _LimitedFiles:
    """Files that may not grow beyond some bytes: this fails at once, where SQLite still has room in a file that it uses
    again. Every user may do it; not every user may mount a file system."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.slots = slots

    def fill(self) -> None:
        self._limit(FILE_BYTES_MAX)

    def free(self) -> None:
        self._limit(resource.RLIM_INFINITY)

    def _limit(self, size: int) -> None:
        for slot in self.slots:
            if slot.process is not None:
                with suppress(ProcessLookupError):
                    resource.prlimit(slot.process.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def signal_to(slot: Slot, number: signal.Signals) -> None:
    """Sends a signal to a process with all that it has started."""
    assert slot.process is not None
    with suppress(ProcessLookupError):
        os.killpg(slot.process.process.pid, number)
