"""``functions/main.py`` under functions-framework, as it is deployed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_adapter.sockets import free_ports
from tests.cli.processes import Server, started
from tests.http.helpers import until

pytestmark = pytest.mark.slow

BINARY = str(Path(sys.executable).with_name("functions-framework"))


@contextmanager
def function(target: str, db: Path, **variables: Any) -> Iterator[Server]:
    (port,) = free_ports(1)
    command = [BINARY, "--source", "functions/main.py", "--target", target, "--host", "127.0.0.1", "--port", str(port)]
    with (
        started(command, db.parent, GORCHESTRATE_DB=str(db), **variables) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):

        def up() -> bool:
            assert process.process.poll() is None, process.output() + process.errors()
            try:
                return client.get("/nonsense").status_code > 0
            except httpx.ConnectError:
                return False

        until(up)
        yield Server(process, client)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with function("api", tmp_path_factory.mktemp("api") / "api.db", GORCHESTRATE_MAX_BODY_BYTES="2000") as api:
        yield api


def test_an_order_comes_to_the_kitchen(api: Server) -> None:
    response = api.client.post("/wf/pizza/order-1", json={"cart": [{"name": "napoli"}]})
    assert (response.status_code, response.headers["location"]) == (201, "/wf/pizza/order-1")
    api.post("/wf/pizza/order-1/AddToCart", {"name": "margherita", "qty": 2}, headers={"Idempotency-Key": "1"})
    api.post("/wf/pizza/order-1/AddToCart", {"name": "margherita", "qty": 2}, headers={"Idempotency-Key": "1"})
    api.post("/wf/pizza/order-1/SubmitCart")
    api.post("/wf/pizza/order-1/ConfirmOrder", {"manager": "Ada", "amount": 31.5})
    # The ticket is printed by a step, which the queue of this process runs.
    state = api.at("/wf/pizza/order-1", "cook starts")["state"]
    assert state["ticket"].startswith("T-")
    assert [pizza["name"] for pizza in state["cart"]] == ["napoli", "margherita"]
    assert api.get("/wf/pizza")["instances"][0]["id"] == "order-1"


def test_its_errors_are_problem_documents(api: Server) -> None:
    large = api.client.post("/wf/pizza/order-2", content=b" " * 2_001)
    assert (large.status_code, large.headers["content-type"]) == (413, "application/problem+json")
    assert large.json()["detail"] == "the request body exceeds the limit of 2,000 bytes: send less data"
    for method, path, status in [
        ("GET", "/", 200),
        ("GET", "/wf/pizza/order-2", 404),
        ("GET", "/nonsense", 404),
        ("POST", "/wf/pizza/order-3/", 404),
        ("DELETE", "/wf/pizza/order-2", 405),
        ("POST", "/resume", 404),
        ("POST", "/wf/pizza/__reserved__", 400),
        ("GET", "/graph/pizza", 200),
        ("GET", "/reference/pizza", 200),
        ("GET", "/static/style.css", 200),
        ("HEAD", "/graph/pizza", 200),
    ]:
        response = api.client.request(method, path)
        assert response.status_code == status, (method, path)
        if status >= 400:
            assert response.json()["status"] == status


def test_its_logs_are_json_lines(api: Server) -> None:
    api.post("/wf/pizza/logged")

    def logged() -> bool:
        lines = [line for line in api.process.errors().splitlines() if line.startswith("{")]
        return any(json.loads(line).get("id") == "logged" for line in lines)

    until(logged)
    assert "Traceback" not in api.process.errors()


def test_the_worker_does_what_the_queue_asks(tmp_path: Path) -> None:
    db = tmp_path / "worker.db"
    with function("worker", db) as worker:
        body = {"workflow": "pizza", "id": "a", "pc": 1, "created_at": datetime.now(UTC).isoformat()}
        assert worker.client.post("/resume", json=body).status_code == 425
        assert worker.client.post("/resume", json={}).status_code == 400
        assert worker.client.get("/resume").status_code == 405
        assert worker.client.get("/wf/pizza/a").status_code == 404
        assert worker.post("/recover") == {"scheduled": 0}
        with function("api", db) as api:
            api.post("/wf/pizza/a")
        assert worker.post("/resume", body) == {"outcome": "done"}
