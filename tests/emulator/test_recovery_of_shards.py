"""Recovery of each shard by a task of its own, on the emulators: the scheduler's one call moves everything."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from cloud_adapter.clock import SystemClock
from cloud_adapter.engine.engine import Engine
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.worker import create_worker
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.stores.firestore.shards import Shards
from cloud_adapter.stores.firestore.store import FirestoreStore
from cloud_adapter.tasks_emulator import serve
from cloud_adapter.variables import TASKS_EMULATOR_VARIABLE
from tests.emulator.harness import QUEUE, until
from tests.engine.harness import ManualQueue
from tests.http_target import asgi_server
from workflow_core import S, Step, Workflow

pytestmark = pytest.mark.slow

ACCOUNT = "tasks@p.iam.gserviceaccount.com"
COUNT = 40


class Stalled(Workflow, name="stalled"):
    definition = S(Step("move", lambda w: None))


def test_one_call_moves_the_instances_of_all_shards(firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recovered: list[str] = []

    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/recover":
                recovered.append(scope["path"])
            await worker(scope, receive, send)

        async with asgi_server(app) as url, serve(queues=[QUEUE], grace_seconds=0) as emulator:
            monkeypatch.setenv(TASKS_EMULATOR_VARIABLE, emulator.address)
            store = FirestoreStore(shards=Shards(4, True))
            lost = Engine([Stalled], store, ManualQueue(), clock=SystemClock())
            for number in range(COUNT):
                await lost.create("stalled", f"order-{number}")
            queue = CloudTasksQueue("p", "l", "q", TaskTarget(url, ACCOUNT), SystemClock())
            engine = Engine([Stalled], store, queue, clock=SystemClock())
            verifier = OidcVerifier(issuer=emulator.issuer_url, audience=url, email=ACCOUNT)
            worker = create_worker(engine, verifier)

            async def everyone(request: object) -> None:
                """The scheduler's call needs no token here."""

            scheduler = httpx.ASGITransport(create_worker(engine, everyone))
            async with httpx.AsyncClient(transport=scheduler, base_url="http://worker") as client:
                response = await client.post("/recover")
            assert response.status_code == 200, response.text
            assert 0 < response.json()["scheduled"] < COUNT

            async def all_have_moved() -> bool:
                return len((await store.list("stalled", status="finished", limit=100)).instances) == COUNT

            await until(all_have_moved, poll_seconds=0.2)
            assert len(recovered) == 3, "a task for each of the other shards"
            await queue.close()
            await store.close()

    asyncio.run(main())
