"""All times that clients see have one format: RFC 3339 in UTC, with ``Z``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tests.http.helpers import deployed
from workflow_core import Go, On, S, Select, Sleep, Step, Timeout, Workflow
from workflow_core.times import rfc3339

TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?([^\"<&]*)")
"""A time in JSON or in a page, and what follows its seconds."""


class Timed(Workflow, name="timed"):
    since: datetime = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def answer(self, text: str) -> None: ...

    def work(self) -> None: ...

    definition = S(
        Go("aside", Sleep("rest", timedelta(days=1))),
        Select(
            "wait",
            On("answer", answer, buffered=True),
            Timeout("late", datetime(2041, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
        ),
        Step("work", work),
        Select("end", On("never", work)),
    )


def test_each_time_has_the_same_format(tmp_path: Path) -> None:
    with deployed(tmp_path / "times.db", Timed, ui=True) as http:
        http.create("/wf/timed/a")
        http.send("/wf/timed/a/answer", "x")
        for url, seen in {
            "/wf/timed/a": 5,
            "/wf/timed": 3,
            "/definition/timed": 1,
            "/wf/timed/a/graph?format=json": 2,
            "/ui/timed": 2,
            "/ui/timed/instances/a": 2,
        }.items():
            found = TIMES.findall(http.request("GET", url).text)
            assert set(found) == {"Z"} and len(found) >= seen, (url, found)
        assert "2041-01-01T00:00:00Z" in http.request("GET", "/definition/timed").text


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 1, 31, 12, tzinfo=UTC),
        datetime(2026, 1, 31, 12, 0, 0, 120, tzinfo=UTC),
        datetime(2026, 1, 31, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    ],
)
def test_the_format_is_that_of_the_fields(at: datetime) -> None:
    assert f'"{rfc3339(at)}"' == TypeAdapter(datetime).dump_json(at.astimezone(UTC)).decode()
