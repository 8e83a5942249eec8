"""A client that a public generator makes from the served OpenAPI document orders a whole pizza, in types."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.http.helpers import Http, until

pytestmark = pytest.mark.slow

PACKAGE = "generated_pizza_client"
BIN = Path(sys.executable).parent


class Generated:
    """The generated package, and its client of the server."""

    def __init__(self, client: Any) -> None:
        self.models: Any = importlib.import_module(f"{PACKAGE}.models")
        self.client = client

    def call(self, tag: str, operation: str, *arguments: Any, **options: Any) -> Any:
        """Calls the function of an operation; gives what the server answered, in types."""
        module = importlib.import_module(f"{PACKAGE}.api.{tag}.{operation}")
        return module.sync(*arguments, client=self.client, **options)


@pytest.fixture(scope="module")
def generated(http: Http, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generated]:
    url = str(http.client.base_url).rstrip("/")
    folder = tmp_path_factory.mktemp("generated")
    command = [str(BIN / "openapi-python-client"), "generate", "--url", f"{url}/swagger/pizza"]
    command += ["--meta", "none", "--output-path", str(folder / PACKAGE), "--fail-on-warning"]
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"  # the generator formats its code with ruff
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | {"PATH": path})
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        with importlib.import_module(PACKAGE).Client(base_url=url) as client:
            yield Generated(client)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def test_it_orders_a_whole_pizza(generated: Generated, id: str) -> None:
    call, models = generated.call, generated.models
    created = call("instances", "create_instance", id, body=models.NewPizzaOrder(cart=[models.Pizza("napoli")]))
    assert isinstance(created, models.Instance)
    assert created.meta.status is models.Status.WAITING
    assert (datetime.now(UTC) - created.meta.created_at).total_seconds() < 60
    assert [event.name for event in created.events] == ["AddToCart", "EmptyCart", "SubmitCart"]
    assert [thread.step for thread in created.meta.threads] == ["customer fills the cart"]

    pizza = models.Pizza(name="margherita", qty=2)
    for _ in range(2):  # under the same key it happens once
        order = call("customer", "send_add_to_cart", id, body=pizza, idempotency_key=f"{id}-add")
        assert isinstance(order, models.PizzaOrder)
        assert order.cart == [models.Pizza("napoli", 1), pizza]
    assert call("customer", "send_submit_cart", id) is None
    order = call("manager", "send_confirm_order", id, body=models.Confirmation(manager="Ada", amount=31.5))
    assert (order.manager, order.amount, order.status) == ("Ada", 31.5, models.PizzaOrderStatus.CONFIRMED)
    assert call("customer", "send_pay", id, body=models.Payment(20)) == 11.5
    call("cook", "send_start_cooking", id)
    call("cook", "send_finish_cooking", id)
    call("delivery", "send_take_delivery", id, body=models.Delivery(courier="Grace"))
    call("delivery", "send_deliver", id)
    assert call("customer", "send_pay", id, body=models.Payment(11.5)) == 0

    def finished() -> Any:
        shown = call("instances", "get_instance", id)
        return shown if shown.meta.status is models.Status.FINISHED else None

    shown = until(finished)
    assert (shown.state.status, shown.state.courier) == (models.PizzaOrderStatus.COMPLETED, "Grace")
    assert [entry.statement for entry in shown.history if entry.kind == "event"][-1] == "Pay"


def test_it_has_the_errors_in_types(generated: Generated, id: str) -> None:
    call, models = generated.call, generated.models
    problem = call("instances", "get_instance", id)
    assert isinstance(problem, models.Problem)
    assert (problem.status, problem.type_) == (404, "urn:gorchestrate:problem:instance-not-found")
    call("instances", "create_instance", id)
    problem = call("cook", "send_start_cooking", id)
    assert (problem.status, problem.accepted) == (409, ["AddToCart", "EmptyCart", "SubmitCart"])
    assert problem.instance_status is models.Status.WAITING
    problem = call("customer", "send_add_to_cart", id, body=models.Pizza(name="", qty=0))
    assert [(error.field, error.type_) for error in problem.errors] == [
        ("name", "string_too_short"),
        ("qty", "greater_than_equal"),
    ]
    paused = call("instances", "pause_instance", id)
    assert paused.meta.status is models.Status.PAUSED


def test_it_goes_through_the_pages_of_the_list(generated: Generated, id: str) -> None:
    call, models = generated.call, generated.models
    for number in range(3):
        call("instances", "create_instance", f"{id}-{number}")
    found: list[str] = []
    options: dict[str, Any] = {}
    while True:
        page = call("instances", "list_instances", status=models.Status.WAITING, limit=2, **options)
        assert 0 < len(page.instances) <= 2
        found += [one.id for one in page.instances]
        if page.cursor is None:
            break
        options = {"cursor": page.cursor}
    assert {f"{id}-{number}" for number in range(3)} <= set(found)
    assert len(set(found)) == len(found)
