"""``gorchestrate tasks-emulator``, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.emulator.harness import LOCATION, QUEUE, a_client

pytestmark = pytest.mark.slow

COMMAND = (sys.executable, "-m", "cloud_adapter.cli", "tasks-emulator", "--port", "0", "--issuer-port", "0")
SECONDS_MAX = 60.0


@contextlib.asynccontextmanager
async def a_process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal(number: signal.Signals) -> None:
    async def main() -> None:
        async with a_process("--queue", QUEUE, "--queue", f"{LOCATION}/queues/other") as process:
            assert process.stdout is not None
            lines = [(await process.stdout.readline()).decode().strip() for _ in range(4)]
            variable, address = lines[0].split("=")
            assert variable == "export CLOUD_TASKS_EMULATOR_HOST"
            issuer = lines[1].removeprefix("Tokens are issued by ")
            assert lines[2:] == [QUEUE, f"{LOCATION}/queues/other"]
            async with a_client(address) as client, httpx.AsyncClient() as http:
                assert (await client.get_queue(name=QUEUE)).name == QUEUE
                response = await http.get(f"{issuer}/.well-known/openid-configuration")
                assert response.json()["issuer"] == issuer
            process.send_signal(number)
            assert await process.wait() == 0

    asyncio.run(main())


def test_a_wrong_queue_is_one_line_and_exit_code_2() -> None:
    async def main() -> None:
        async with a_process("--queue", "q") as process:
            assert process.stderr is not None
            error = (await process.stderr.read()).decode()
            assert error.startswith("gorchestrate: queue 'q': Queue name must be formatted")
            assert error.count("\n") == 1
            assert await process.wait() == 2

    asyncio.run(main())
