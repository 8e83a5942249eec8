"""Responses that are too large to be kept under an idempotency key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_adapter.engine.idempotency import RESPONSE_BYTES_MAX
from tests.http.helpers import Http, deployed
from tests.http.pages import form
from workflow_core import On, S, Select, While, Workflow

LONGEST = RESPONSE_BYTES_MAX - len('""')
KEY = {"Idempotency-Key": "k"}


class Report(Workflow, name="report"):
    written: int = 0

    def write(self, length: int) -> str:
        self.written += 1
        return "x" * length

    def write_bytes(self, length: int) -> str:
        return "é" * length

    definition = S(
        While("always", lambda r: True, Select("wait", On("Write", write), On("WriteBytes", write_bytes))),
    )


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with deployed(tmp_path / "reports.db", Report, ui=True) as served:
        served.create("/wf/report/1")
        yield served


def test_a_key_is_refused_if_the_response_is_too_large(http: Http) -> None:
    before = http.get("/wf/report/1")
    for event, length in (("Write", LONGEST + 1), ("WriteBytes", LONGEST // 2 + 1)):
        refused = http.problem("POST", f"/wf/report/1/{event}", json=length, headers=KEY)
        assert (refused["status"], refused["title"]) == (422, "Response too large")
        assert "only 32,000 are kept under an idempotency key. Nothing was changed" in refused["detail"]
        assert http.get("/wf/report/1") == before
    assert len(http.send("/wf/report/1/Write", LONGEST + 1)) == LONGEST + 1, "without a key"
    for _ in range(2):
        assert len(http.send("/wf/report/1/Write", LONGEST, headers=KEY)) == LONGEST, "the refusal did not use the key"
    assert http.get("/wf/report/1")["state"]["written"] == 2


def test_a_form_is_sent_without_a_key_then(http: Http) -> None:
    url = "/ui/report/instances/1"
    posted = form(http.request("GET", url).text, "Send Write").posted(v=str(LONGEST + 1))
    response = http.client.post(url, data=posted, follow_redirects=True)
    assert response.status_code == 200 and "<strong>Write</strong> was handled." in response.text
    again = http.client.post(url, data=posted)
    assert again.status_code == 409
    assert http.get("/wf/report/1")["state"]["written"] == 1
