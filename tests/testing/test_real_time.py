"""Steps and activities that wait for something real."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from datetime import timedelta

import pytest

from gorchestrate import Status, Workflow, activity, event, select, step
from gorchestrate.testing import Environment
from gorchestrate.testing.clock import START


class Waiting(Workflow, name="waiting"):
    n: int = 0

    @event
    def add(self, n: int) -> None:
        self.n += n

    @step(timeout=timedelta(minutes=5))
    async def work(self) -> None:
        await asyncio.sleep(0.02)
        self.n += 1

    @activity
    async def ask(self) -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", PORTS[0])
        writer.write(b"100")
        answer = await reader.read()
        writer.close()
        return int(answer)

    async def run(self) -> None:
        await select(self.add)
        await self.work()
        self.n += await self.ask()


PORTS: list[int] = []


def test_the_time_stands_while_a_step_really_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        PORTS[:] = [server.getsockname()[1]]
        thread = threading.Thread(target=_answer_later, args=[server])
        thread.start()
        with Environment(Waiting, start=START) as environment:
            instance = environment.create(Waiting)
            instance.send("add", 10)
            assert (instance.fields.n, instance.status) == (111, Status.FINISHED)
            assert environment.now == START
            assert environment.store.saves <= 6
        thread.join()


def _answer_later(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        asked = connection.recv(10)
        time.sleep(0.05)
        connection.sendall(asked)


def test_a_step_that_waits_for_too_long_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gorchestrate.testing.real_time.REAL_SECONDS_MAX", 0.1)

    async def never(self: Waiting) -> None:
        await asyncio.Event().wait()

    with Environment(Waiting, start=START) as environment:
        environment.fake(Waiting, "work", never)
        instance = environment.create(Waiting, "one")
        with pytest.raises(RuntimeError, match=r"step 'work' of waiting 'one' still waits .* replace it with env"):
            instance.send("add", 10)
        assert environment.now == START
