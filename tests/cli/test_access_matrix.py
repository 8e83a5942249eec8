"""``gorchestrate check --access``: who may do what, and the events that nobody may send."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.cli import check
from cloud_adapter.cli.access_matrix import Matrix, unsendable
from workflow_core import ANYONE, Access, On, Principal, S, Select, Workflow


def nothing(w: Any) -> None: ...


class Shop(Workflow, name="shop"):
    access = Access(create={ANYONE}, read={"boss", "cook"}, operate={"boss"}, send={"boss"})
    definition = S(
        Select("first", On("Ask", nothing, role="customer"), On("Cook", nothing, role="cook")),
        Select("second", On("Ask", nothing, role="cook"), On("Close", nothing)),
    )


class Narrow(Shop, name="narrow"):
    access = Access(read={"cook"})

    def authorize(self, principal: Principal, action: Any, event: str | None) -> bool | None:
        return None


class Open(Workflow, name="open"):
    definition = S(Select("first", On("Ask", nothing)))


def test_the_matrix() -> None:
    matrix = Matrix.of(Shop)
    assert matrix.roles == ("anyone", "boss", "cook", "customer")
    assert {row.event or row.action.value: row.cells for row in matrix.rows} == {
        "create": ("yes", "yes", "yes", "yes"),
        "read": ("", "yes", "yes", ""),
        "list": ("", "", "", ""),
        "operate": ("", "yes", "", ""),
        "repair": ("", "", "", ""),
        "Ask (first)": ("", "", "", "needs read"),
        "Ask (second)": ("", "", "yes", ""),
        "Cook": ("", "", "yes", ""),
        "Close": ("", "yes", "", ""),
    }


class Signed(Workflow, name="signed"):
    access = Access(read={"boss"}, send={"boss"})
    definition = S(
        Select("first", On("Ask", nothing, verify=lambda w, request: True), On("Paid", nothing)),
        Select("second", On("Paid", nothing, verify=lambda w, request: True)),
    )


def test_no_role_sends_what_is_signed() -> None:
    rows = {row.event: row.cells for row in Matrix.of(Signed).rows if row.event}
    assert rows == {"Ask [verify]": ("",), "Paid (first)": ("yes",), "Paid (second) [verify]": ("",)}
    assert unsendable(Signed) == []


def test_events_that_nobody_may_send() -> None:
    assert [unsendable(workflow) for workflow in (Shop, Narrow, Open)] == [[], ["Close"], []]


SOURCE = """
from typing import Any
from workflow_core import Access, On, Principal, S, Select, Workflow

class Door(Workflow, name="door"):
    access = Access(read={"guard"})

    def authorize(self, principal: Principal, action: Any, event: str | None) -> bool | None:
        return None

    definition = S(Select("closed", On("Open", lambda w: None, role="guard"), On("Knock", lambda w: None)))
"""


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "doors.py"
    source.write_text(SOURCE)
    assert check.run(source, None, as_json=False, access=True)
    text = capsys.readouterr().out
    assert "! event 'Knock' of workflow 'door': no role may send" in text
    assert [line.split("│")[1:3] for line in text.splitlines() if "Open" in line] == [[" Open    ", " yes   "]]
    assert "For single instances, authorize of 'door' may deny more." in text
    assert check.run(source, None, as_json=True, access=True)
    (door,) = json.loads(capsys.readouterr().out)["access"]
    assert door["authorize_narrows"]
    assert {"action": "send", "event": "Open", "roles": ["guard"]} in door["rows"]
    assert {"action": "create", "event": None, "roles": []} in door["rows"]
