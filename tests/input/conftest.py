"""A running application for the attacks, and a look into its database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from pizza import PizzaOrder

from tests.http.helpers import Http, serving, until
from tests.input.workflows import WORKFLOWS

_ALL: dict[str, Any] = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}
settings.register_profile("input", max_examples=15, derandomize=True, **_ALL)
settings.register_profile("input-deep", max_examples=300, **_ALL)


def attack(times: int = 1) -> settings:
    """How long to attack: shortly and always in the same way, or with ``INPUT_ATTACK=deep`` for some minutes.

    Args:
        times: so many times as often as usual.
    """
    profile = settings.get_profile("input-deep" if os.environ.get("INPUT_ATTACK") == "deep" else "input")
    return settings(profile, max_examples=profile.max_examples * times)


class Attacked:
    """The application and its database."""

    def __init__(self, http: Http, db: Path) -> None:
        self.http = http
        self.db = db

    @property
    def url(self) -> str:
        return str(self.http.client.base_url).rstrip("/")

    def stored(self) -> list[tuple[object, ...]]:
        """All that is stored, once nothing is on its way."""
        until(lambda: not self.rows("SELECT id FROM instances WHERE status = 'running'"))
        instances = self.rows("SELECT * FROM instances ORDER BY 1, 2")
        keys = self.rows("SELECT * FROM idempotency_keys ORDER BY 1, 2, 3")
        return instances + keys + self.rows("SELECT * FROM inbox ORDER BY 1, 2, 3")

    def rows(self, query: str) -> list[tuple[object, ...]]:
        with closing(sqlite3.connect(self.db)) as connection:
            return list(connection.execute(query))


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    db = tmp_path_factory.mktemp("input") / "input.db"
    with serving(db, PizzaOrder, *WORKFLOWS, recover_seconds=1) as http:
        yield Attacked(http, db)
