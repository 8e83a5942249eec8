"""``gorchestrate cancel``, ``pause`` and ``unpause`` against a running application."""

from __future__ import annotations

from pathlib import Path

import pytest
from pizza import PizzaOrder
from typer.testing import CliRunner

from cloud_adapter.cli import app
from cloud_adapter.errors import InvalidRequest
from tests.http.helpers import serving


def test_an_instance_is_paused_goes_on_and_is_canceled(tmp_path: Path) -> None:
    runner = CliRunner()
    with serving(tmp_path / "operate.db", PizzaOrder) as http:
        http.create("/wf/pizza/a%20b")
        url = str(http.client.base_url)
        for action, status in (("pause", "paused"), ("unpause", "waiting"), ("cancel", "canceled")):
            result = runner.invoke(app, [action, "pizza", "a b", "--url", url])
            assert (result.exit_code, result.output) == (0, f"a b is {status}\n")
        result = runner.invoke(app, ["pause", "pizza", "a b", "--url", url])
        assert isinstance(result.exception, InvalidRequest)
        assert str(result.exception) == "'a b' is canceled: it can no longer be paused"


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense"])
def test_an_address_where_nobody_answers(url: str) -> None:
    result = CliRunner().invoke(app, ["cancel", "pizza", "1", "--url", url])
    assert isinstance(result.exception, InvalidRequest)
    assert "give its root with --url" in str(result.exception)
