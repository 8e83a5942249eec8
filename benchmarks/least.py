"""The least that an event and a step cost in Python: a bound for what the embedded runtime can reach.

``Least`` reads the input, calls the method, encodes the state and the history, and commits both, in the tables of the
store. It does nothing else that the engine is for: no checks, timers, leases, keys, inboxes, conflicts, limits,
contexts, logs or metrics, and it knows how the state changes. Nobody should use it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import code_under_test  # noqa: F401  before the imports of what is measured
from pydantic import TypeAdapter

from cloud_adapter.history import entry_texts, read_texts
from workflow_core import Execution

_AMOUNT = TypeAdapter(int)
_UPDATE = (
    "UPDATE instances SET revision = ?, execution = ?, fields = ?, pc = ?, updated_at = ? "
    "WHERE workflow = ? AND id = ? AND revision = ?"
)


class Least:
    """Sends events to one instance, or performs steps of it.

    Args:
        path: a new database.
        source: the database of a store, which has the instance.
        cls: a workflow whose instance waits for an event in one thread. Its ``add`` takes a number.
    """

    def __init__(self, path: Path, source: Path, cls: Any, id: str) -> None:
        original = sqlite3.connect(source)
        original.execute("VACUUM INTO ?", (str(path),))
        original.close()
        self._sql = sqlite3.connect(path, isolation_level=None)
        self._sql.execute("PRAGMA journal_mode = WAL")
        self._sql.execute("PRAGMA synchronous = FULL")
        self._key = cls.__program__.workflow, id
        self._revision, execution, fields = self._sql.execute(
            "SELECT revision, execution, fields FROM instances WHERE workflow = ? AND id = ?", self._key
        ).fetchone()
        self._count, entry = self._sql.execute(
            "SELECT number, entry FROM history_entries WHERE workflow = ? AND id = ? ORDER BY number DESC", self._key
        ).fetchone()
        (self._entry,) = read_texts([f"{self._count} {entry}"])
        self._execution, self._workflow = Execution.from_json(execution), cls.load_fields(fields)
        self._waiting: list[tuple[asyncio.Future[Any], Callable[[], Awaitable[Any]]]] = []
        self._drainer: asyncio.Task[None] | None = None
        self._pool = ThreadPoolExecutor(1)

    async def events(self, count: int) -> None:
        """Sends events, one after another."""
        for _ in range(count):
            await self._decide(self._handle)

    async def steps(self, count: int) -> None:
        """Performs steps in a thread."""
        for _ in range(count):
            await self._decide(lambda: asyncio.get_running_loop().run_in_executor(self._pool, self._workflow.add, 1))

    async def async_steps(self, count: int) -> None:
        """Performs asynchronous steps."""
        for _ in range(count):
            await self._decide(self._add)

    def close(self) -> None:
        self._pool.shutdown()
        self._sql.close()

    async def _handle(self) -> Any:
        return self._workflow.add(_AMOUNT.validator.validate_json(b"1"))

    async def _add(self) -> Any:
        return self._workflow.add(1)

    async def _decide(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Waits until another task has done and committed the work: decisions about one instance come one by one."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((answer, work))
        if self._drainer is None:
            self._drainer = asyncio.create_task(self._drain())
        return await answer

    async def _drain(self) -> None:
        while self._waiting:
            answer, work = self._waiting.pop(0)
            result = await work()
            self._commit()
            answer.set_result(result)
        self._drainer = None

    def _commit(self) -> None:
        now, execution = datetime.now(UTC), self._execution
        (thread,) = execution.threads
        thread.pc = execution.pc = execution.pc + 1
        thread.waits[0].id = f"{thread.id}@{thread.pc}"
        execution.updated_at = now
        state = execution.to_json(), self._workflow.dump_fields(), execution.pc, int(now.timestamp() * 1_000_000)
        entry = entry_texts([self._entry], self._count + 1)[0].partition(" ")[2]
        self._sql.execute("BEGIN IMMEDIATE")
        self._sql.execute(_UPDATE, (self._revision + 1, *state, *self._key, self._revision))
        self._sql.execute("INSERT INTO history_entries VALUES (?, ?, ?, ?)", (*self._key, self._count + 1, entry))
        self._sql.execute("COMMIT")
        self._revision, self._count = self._revision + 1, self._count + 1
