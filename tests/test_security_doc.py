"""docs/explanation/security.md: each threat names a test that is there, and each route has a row."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cloud_adapter.http.api import create_api
from cloud_adapter.http.worker import create_worker
from tests.http.helpers import everyone

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "explanation" / "security.md").read_text()
THREATS = [
    [cell.strip() for cell in row.strip("| ").split(" | ")]
    for table in re.findall(r"^\| threat \| defence \| test \|\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    for row in table.splitlines()
]


@cache
def functions_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@pytest.mark.parametrize("row", THREATS, ids=lambda row: row[0][:60])
def test_a_test_attacks_the_defence(row: list[str]) -> None:
    _, defence, named = row
    assert defence
    found = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", named)
    assert found and len(found) == named.count("`tests/")
    for file, test in found:
        assert (ROOT / file).is_file(), file
        assert test in functions_in(ROOT / file), f"{file}::{test}"


def test_every_threat_is_read() -> None:
    assert len(THREATS) == sum(line.count("`tests/") > 0 for line in TEXT.splitlines() if line.startswith("| ")) > 50


def test_each_route_has_a_row() -> None:
    section = TEXT.partition("## Who reaches what")[2].partition("\n## ")[0]
    cells = [row.split(" | ")[0] for row in section.splitlines() if row.startswith("| `")]
    named = set(re.findall(r"`(/[^`]*)`", " ".join(cells)))
    engine: Any = SimpleNamespace(callbacks=None)
    apps = (create_api(engine, max_body_bytes=1, ui=True), create_worker(engine, everyone))
    first = {str(route.path).partition("{")[0] for app in apps for route in app.routes}  # type: ignore[attr-defined]
    served = {path if path == "/" or not path.endswith("/") else f"{path}..." for path in first}
    assert served <= named
    assert {path for path in named if "NAME" not in path} == served
