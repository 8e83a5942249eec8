"""Fields that an operator sets."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import flow
from workflow_core import NewerVersion, RepairRefused, S, Sleep, Workflow
from workflow_core.machine.operations import set_fields

WAIT = Sleep("wait", timedelta(days=1))


def test_fields_are_set_and_typed() -> None:
    Flow = flow(WAIT)  # noqa: N806
    before = Flow(n=1, log=["a"]).dump_fields()
    after = Flow.load_fields(set_fields(Flow, before, 1, {"n": 5, "log": ["x"]}))
    assert (after.n, after.log) == (5, ["x"])
    for changes, message in (
        ({"n": "many"}, "n: "),
        ({"m": 5}, "has no field 'm'. Available: log"),
        ({"log": 5}, "log: "),
    ):
        with pytest.raises(RepairRefused, match=message):
            set_fields(Flow, before, 1, changes)


def test_what_does_not_fit_any_more_is_mended() -> None:
    Flow = flow(WAIT)  # noqa: N806
    with pytest.raises(RepairRefused, match="n: "):
        set_fields(Flow, '{"n": "many", "log": []}', 1, {"log": ["x"]})
    assert Flow.load_fields(set_fields(Flow, '{"n": "many", "log": []}', 1, {"n": 2})).n == 2


def test_fields_of_an_older_version_are_migrated_before_they_are_set() -> None:
    class Invoice(Workflow, name="invoice", version=2):
        cents: int = 0
        note: str = ""

        @classmethod
        def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
            return fields | {"cents": round(fields["amount"] * 100)}

        definition = S(WAIT)

    assert json.loads(set_fields(Invoice, '{"amount": 9.5}', 1, {"note": "x"})) == {"cents": 950, "note": "x"}
    assert json.loads(set_fields(Invoice, '{"amount": 9.5}', 1, {"cents": 7})) == {"cents": 7, "note": ""}
    with pytest.raises(RepairRefused, match="that version 1 stored cannot be migrated: KeyError"):
        set_fields(Invoice, "{}", 1, {"note": "x"})
    with pytest.raises(NewerVersion):
        set_fields(Invoice, "{}", 3, {"note": "x"})
