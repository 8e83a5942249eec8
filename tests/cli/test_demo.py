"""``gorchestrate demo``: what a visitor sees first."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import pytest

from tests.cli.processes import GORCHESTRATE, run, started

pytestmark = pytest.mark.slow


def test_plays_the_order_to_its_end() -> None:
    result = run("demo")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    text = result.stdout
    assert "409 as expected  event 'StartCooking' is not accepted now: the instance is waiting, it accepts:" in text
    assert "422 as expected  invalid input for event 'AddToCart': qty: Input should be a valid integer" in text
    for role in ("customer", "manager", "cook", "delivery"):
        assert f"{role:>8}  POST /wf/pizza/order-1" in text
    assert "customer pays while the order cooks is at customer pays, accepts Pay" in text
    assert "The order is completed, the workflow finished; its fields:" in text
    assert '"status": "completed"' in text and '"courier": "Grace"' in text
    assert "403 as expected  sending 'ConfirmOrder' is not permitted: it needs the role 'manager'" in text
    assert text.rstrip().endswith("404 as expected  there is no instance 'order-1' of 'pizza'")
    assert "expected 2" not in text and "expected 4" not in text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_keep_leaves_the_server_up_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    with started([*GORCHESTRATE, "demo", "--keep"], tmp_path) as demo:
        url = demo.wait_for("The server keeps running").split()[4]
        assert httpx.get(url).json()["state"]["status"] == "completed"
        page = httpx.get(demo.wait_for("The page of the order").split()[-1])
        assert page.status_code == 200 and "<title>order-1: finished" in page.text
        assert httpx.get(httpx.URL(url).join("/graph/pizza")).text.startswith("flowchart")
        assert demo.end(number) == 0
        assert demo.errors() == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(url)


def test_a_workflow_that_does_something_else_is_told_from_the_demo(tmp_path: Path) -> None:
    source = tmp_path / "other.py"
    source.write_text(
        "from workflow_core import S, Step, Workflow\n"
        "class Other(Workflow, name='other'):\n"
        "    definition = S(Step('step', lambda w: None))\n"
    )
    result = run("demo", str(source))
    assert result.returncode == 1
    assert "404 expected 201" in result.stdout
    assert "The demo is for the sample workflow 'pizza'. Served here: other" in result.stdout
    assert "Traceback" not in result.stderr
