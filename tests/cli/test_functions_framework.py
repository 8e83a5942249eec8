"""``functions/main.py`` under functions-framework, as it is deployed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_adapter.sockets import free_ports
from tests.cli.processes import Server, started
from tests.http.helpers import own_address, until

pytestmark = pytest.mark.slow

BINARY = str(Path(sys.executable).with_name("functions-framework"))


@contextmanager
def function(target: str, db: Path, host: str = "127.0.0.1", **variables: Any) -> Iterator[Server]:
    (port,) = free_ports(1)
    command = [BINARY, "--source", "functions/main.py", "--target", target, "--host", host, "--port", str(port)]
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
    db = tmp_path_factory.mktemp("api") / "api.db"
    with function("api", db, host="0.0.0.0", GORCHESTRATE_MAX_BODY_BYTES="2000") as api:  # as without --host
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


def test_it_is_served_to_nobody_else(api: Server) -> None:
    api.post("/wf/pizza/mine")
    before = api.get("/wf/pizza/mine")
    port = api.client.base_url.port
    attacks: list[tuple[str, dict[str, str]]] = [
        ("127.0.0.1", {"Sec-Fetch-Site": "cross-site"}),
        ("127.0.0.1", {"Origin": "https://elsewhere.example"}),
        ("127.0.0.1", {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"}),
        ("127.0.0.1", {"X-Forwarded-For": "203.0.113.7"}),
        (own_address(), {"Host": "localhost"}),
        (own_address(), {"Host": "localhost", "X-Forwarded-For": "127.0.0.1"}),
    ]
    for host, headers in attacks:
        for path in ("/cancel", "/SubmitCart"):
            response = httpx.post(f"http://{host}:{port}/wf/pizza/mine{path}", headers=headers)
            assert response.status_code == 403, (host, headers)
    text = httpx.post(f"http://127.0.0.1:{port}/wf/pizza/mine/SubmitCart", headers={"Content-Type": "text/plain"})
    assert text.status_code == 415
    assert api.get("/wf/pizza/mine") == before


def test_an_embedded_worker_takes_no_tasks(tmp_path: Path) -> None:
    db = tmp_path / "worker.db"
    with function("worker", db) as worker:
        for path in ("/resume", "/timeout", "/activity", "/collect", "/recover", "/"):
            response = worker.client.post(path, json={"workflow": "pizza", "id": "a", "pc": 1})
            assert response.status_code == 404 and "GORCHESTRATE_BACKEND=cloud" in response.json()["detail"]
    assert not db.exists()
