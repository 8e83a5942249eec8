"""Cancel, pause and unpause over HTTP, and events that come early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cloud_adapter.engine.operations import ACTIONS, REPAIRS
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from tests.http.helpers import BODY_BYTES_MAX, Http, expected, problem, serving, until
from workflow_core import Activity, Child, DefinitionError, On, S, Select, Step, TerminalError, Try, Workflow
from workflow_core.events import OPERATIONS


def double(number: int) -> int:
    return 2 * number


class Part(Workflow, name="part"):
    number: int = 0
    result: int = 0

    def keep(self, doubled: int) -> None:
        self.result = doubled

    definition = S(Activity("double", double, input=lambda w: w.number, then=keep))


class Job(Workflow, name="job"):
    paid: int = 0
    doubled: int = 0
    cleaned: bool = False

    def pay(self, amount: int) -> int:
        self.paid += amount
        return self.paid

    def keep(self, doubled: int) -> None:
        self.doubled = doubled

    def clean(self) -> None:
        self.cleaned = True

    definition = S(
        Try(
            "job",
            Select("start", On("Start", lambda w: None)),
            Child("part", Part, input=lambda w: {"number": 21}, then=keep),
            Select("till", On("Pay", pay, buffered=True)),
            Select("more", On("More", lambda w: None)),
        ).finally_(Step("clean", clean))
    )


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "jobs.db", Job, Part) as http:
        yield http


def test_an_early_event_a_child_and_its_activity(http: Http) -> None:
    http.create("/wf/job/1")
    early = http.request("POST", "/wf/job/1/Pay", json=5, headers={"Idempotency-Key": "k"})
    assert (early.status_code, early.content) == (202, b"")
    again = http.request("POST", "/wf/job/1/Pay", json=5, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.content) == (202, b"")
    http.send("/wf/job/1/Start")
    seen = until(lambda: (view := http.get("/wf/job/1"))["meta"]["threads"][0]["step"] == "more" and view)
    assert seen["state"] == {"paid": 5, "doubled": 42, "cleaned": False}
    assert [event["name"] for event in seen["events"]] == ["More"]


def test_cancel(http: Http) -> None:
    http.create("/wf/job/2")
    assert http.ok("POST", "/wf/job/2/cancel")["meta"]["status"] in ("running", "canceled")
    seen = until(lambda: (view := http.get("/wf/job/2"))["meta"]["status"] == "canceled" and view)
    assert seen["state"]["cleaned"]
    assert seen["events"] == []
    assert http.ok("POST", "/wf/job/2/cancel")["meta"] == seen["meta"], "twice is once"
    problem = http.problem("POST", "/wf/job/2/pause")
    assert problem == expected(409, "Instance ended", "'2' is canceled: it can no longer be paused")
    assert http.problem("POST", "/wf/job/nobody/cancel")["status"] == 404
    assert [one["id"] for one in http.get("/wf/job?status=canceled")["instances"]] == ["2"]


def test_pause(http: Http) -> None:
    http.create("/wf/job/3")
    paused = http.ok("POST", "/wf/job/3/pause")
    assert (paused["meta"]["status"], paused["events"]) == ("paused", [])
    problem = http.problem("POST", "/wf/job/3/Start")
    assert (problem["status"], problem["instance_status"], problem["accepted"]) == (409, "paused", [])
    assert http.ok("POST", "/wf/job/3/unpause")["meta"]["status"] == "waiting"
    http.send("/wf/job/3/Start")


BROKEN = {"outside": True}


class Wire(Workflow, name="wire"):
    number: int = 1
    told: int = 0

    def tell(self) -> None:
        if BROKEN["outside"]:
            raise TerminalError("the line is dead")
        self.told = self.number

    definition = S(Step("tell", tell), Select("done", On("Over", lambda w: None)))


def test_what_has_failed_is_mended_and_retried(tmp_path: Path) -> None:
    BROKEN["outside"] = True
    with serving(tmp_path / "wires.db", Wire) as http:
        http.create("/wf/wire/1")
        until(lambda: http.get("/wf/wire/1")["meta"]["status"] == "failed")
        BROKEN["outside"] = False
        why = {"by": "ann", "reason": "mended"}
        before = http.get("/wf/wire/1")
        would = http.ok("POST", "/wf/wire/1/set", json={"fields": {"number": 5}, "dry_run": True})
        assert would["state"]["number"] == 5
        assert http.get("/wf/wire/1") == before
        assert http.ok("POST", "/wf/wire/1/set", json={"fields": {"number": 5}} | why)["state"]["number"] == 5
        assert http.ok("POST", "/wf/wire/1/retry", json=why)["meta"]["error"] is None
        seen = until(lambda: (view := http.get("/wf/wire/1"))["meta"]["status"] == "waiting" and view)
        assert seen["state"]["told"] == 5
        said = [(one["kind"], one["by"], one["reason"], one["detail"]) for one in seen["history"] if one["by"]]
        assert said == [("set", "ann", "mended", '{"number": 5}'), ("retry", "ann", "mended", "")]
        http.ok("POST", "/wf/wire/1/set", json={"fields": {"number": 6}})
        assert http.ok("POST", "/wf/wire/1/goto", json={"statement": "tell"})["meta"]["threads"][0]["step"] == "tell"
        until(lambda: http.get("/wf/wire/1")["state"]["told"] == 6)

        refused = http.problem("POST", "/wf/wire/1/retry")
        assert refused["title"] == "Repair refused" and refused["status"] == 409
        refused = http.problem("POST", "/wf/wire/1/goto", json={"statement": "nowhere"})
        assert "has no such step or wait. Available: 'done', 'tell'" in refused["detail"]
        refused = http.problem("POST", "/wf/wire/1/goto", json={"to": "tell"})
        assert refused["status"] == 422 and {one["field"] for one in refused["errors"]} == {"statement", "to"}
        assert http.problem("POST", "/wf/wire/1/cancel", content=b"nonsense")["status"] == 422


def test_repairs_are_not_served_where_callers_may_not_write_to_the_database(tmp_path: Path) -> None:
    async def ask() -> tuple[httpx.Response, ...]:
        runtime = EmbeddedRuntime([Wire], Settings(db=tmp_path / "wires.db"))
        try:
            transport = httpx.ASGITransport(create_api(runtime.engine, max_body_bytes=BODY_BYTES_MAX))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                created = await client.post("/wf/wire/1")
                answers = [await client.post(f"/wf/wire/1/{name}", json={}) for name in REPAIRS]
                assert (await client.get("/wf/wire/1")).json() == created.json()
                assert problem(await client.post("/wf/other/1/goto", json={}))["status"] == 404
        finally:
            await runtime.close()
        return created, *answers

    created, *answers = asyncio.run(ask())
    assert created.status_code == 201
    for name, answer in zip(REPAIRS, answers, strict=True):
        document = problem(answer)
        assert (document["status"], document["title"]) == (403, "Forbidden")
        assert f"`gorchestrate {name} ... --source FILE`" in document["detail"]


def test_they_are_in_the_openapi_document(http: Http) -> None:
    document = http.get("/swagger/job")
    assert {"/wf/job/{id}/cancel", "/wf/job/{id}/pause", "/wf/job/{id}/unpause"} <= document["paths"].keys()
    assert "202" in document["paths"]["/wf/job/{id}/Pay"]["post"]["responses"]
    assert "buffered" in document["paths"]["/wf/job/{id}/Pay"]["post"]["responses"]["202"]["description"]
    assert "buffered" not in document["paths"]["/wf/job/{id}/Start"]["post"]["responses"]["202"]["description"]


def test_the_core_knows_the_names_of_the_operations() -> None:
    assert set(OPERATIONS) == {*ACTIONS, *REPAIRS}


def test_an_event_may_not_have_the_name_of_an_action(tmp_path: Path) -> None:
    class Wrong(Workflow, name="wrong"):
        definition = S(Select("wait", On("cancel", lambda w: None)))

    with pytest.raises(DefinitionError, match="Give the event another name"):
        EmbeddedRuntime([Wrong], Settings(db=tmp_path / "wrong.db"))
