"""A new operation is one class: it appears in the API, the OpenAPI document, the pages and the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import Field
from starlette.routing import Route

from cloud_adapter.engine.operations import ACTIONS, REPAIRS, Action, Repair, register
from cloud_adapter.engine.session import Session
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from tests.cli.processes import ROOT, environment
from tests.http.helpers import Http, serving
from tests.http.pages import form, forms
from workflow_core import On, S, Select, Workflow

TEXTS = ("name", "command", "title", "button", "confirmation", "result", "past")
PAGE = "/ui/letter/instances/1"
GORCHESTRATE = """
import contextlib, io, json, sys
from cloud_adapter.engine.operations import register
from tests.cli.test_new_operation import Nudge, Stamp

register(Nudge)
register(Stamp)

from cloud_adapter.cli.main import main

outputs = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["gorchestrate", *arguments]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise
    outputs.append(output.getvalue())
print(json.dumps(outputs))
"""
"""Runs several commands, because a process takes a second to start."""


class Letter(Workflow, name="letter"):
    """Waits for its answer."""

    definition = S(Select("sent", On("Answer", lambda w: None)))


class Nudge(Action):
    """Reminds whoever an instance waits for."""

    name = "nudge"
    command = "Nudges an instance: reminds whoever it waits for."
    title = "Nudge"
    button = "Nudge this instance"
    confirmation = "A nudge cannot be taken back."
    result = "Nudged."
    past = "nudged"

    times: int = Field(1, ge=1, description="How often they are reminded.")
    channel: str = Field(description="Where they are reminded.")

    def apply(self, session: Session, now: datetime) -> None:
        self.refuse_ended(session.execution)
        session.machine.tick()
        self.note(session, now, detail=f"{self.channel} {self.times}")


class Stamp(Repair):
    """Stamps an instance."""

    name = "stamp"
    command = "Repairs an instance: stamps it."

    def apply(self, session: Session, now: datetime) -> None:
        session.machine.tick()
        self.note(session, now)


@pytest.fixture
def registered() -> Iterator[None]:
    """Registers two more operations, for one test."""
    register(Nudge)
    register(Stamp)
    try:
        yield
    finally:
        del ACTIONS["nudge"], REPAIRS["stamp"]


@pytest.fixture
def http(tmp_path: Path, registered: None) -> Iterator[Http]:
    with serving(tmp_path / "letters.db", Letter) as http:
        http.create("/wf/letter/1")
        yield http


def gorchestrate(*commands: list[str]) -> list[str]:
    """Runs commands of ``gorchestrate`` in a process that registers both operations first; returns their outputs."""
    command = [sys.executable, "-c", GORCHESTRATE, json.dumps(commands)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    outputs: list[str] = json.loads(done.stdout)
    return outputs


def posts(repair: bool, db: Path) -> set[str]:
    """The paths of an API that take POST requests."""
    api = create_api(EmbeddedRuntime([Letter], Settings(db=db)).engine, max_body_bytes=1000, repair=repair)
    return {one.path for one in api.routes if isinstance(one, Route) and "POST" in (one.methods or ())}


@pytest.mark.parametrize("kind", ACTIONS.values())
def test_each_action_has_all_its_texts(kind: type[Action]) -> None:
    assert all(getattr(kind, text) for text in TEXTS)
    assert vars(kind)["__doc__"] and ACTIONS[kind.name] is kind


def test_it_has_a_route(tmp_path: Path, registered: None) -> None:
    assert "/wf/{name}/{id}/nudge" in posts(False, tmp_path / "a.db")
    assert {"/wf/{name}/{id}/nudge", "/wf/{name}/{id}/stamp"} <= posts(True, tmp_path / "b.db")


def test_without_registration_there_is_no_route(tmp_path: Path) -> None:
    assert not {"/wf/{name}/{id}/nudge", "/wf/{name}/{id}/stamp"} & posts(True, tmp_path / "a.db")


def test_it_is_served(http: Http) -> None:
    view = http.ok("POST", "/wf/letter/1/nudge", json={"channel": "phone", "by": "Ann"})
    last = view["history"][-1]
    assert (last["kind"], last["by"], last["detail"]) == ("nudge", "Ann", "phone 1")
    refused = http.problem("POST", "/wf/letter/1/nudge", json={"times": 0})
    assert {one["field"] for one in refused["errors"]} == {"channel", "times"}
    assert http.ok("POST", "/wf/letter/1/stamp")["history"][-1]["kind"] == "stamp"
    http.ok("POST", "/wf/letter/1/cancel")
    assert http.problem("POST", "/wf/letter/1/nudge", json={"channel": "phone"})["detail"] == (
        "'1' is canceled: it can no longer be nudged"
    )


def test_it_is_in_the_openapi_document(http: Http) -> None:
    document = http.get("/swagger/letter")
    operation = document["paths"]["/wf/letter/{id}/nudge"]["post"]
    assert (operation["operationId"], operation["summary"]) == ("nudge_instance", "Nudge an instance")
    assert operation["description"] == "Reminds whoever an instance waits for."
    assert operation["requestBody"]["required"]
    schema = document["components"]["schemas"]["Nudge"]
    assert schema["required"] == ["channel"]
    assert schema["properties"]["channel"]["description"] == "Where they are reminded."
    examples = operation["responses"]["409"]["content"]["application/problem+json"]["examples"]
    assert examples["instance-ended"]["value"]["detail"] == "'letter-1' is finished: it can no longer be nudged"
    assert "/wf/letter/{id}/stamp" not in document["paths"], "repairs are not documented"


def test_its_form_is_on_the_page(http: Http) -> None:
    html = http.request("GET", PAGE).text
    assert "A nudge cannot be taken back." in html
    assert [button for one in forms(html) for button in one.buttons][-3:] == [
        "Nudge this instance",
        "Pause this instance",
        "Cancel this instance",
    ]
    nudge = form(html, "Nudge this instance")
    assert [name for name, _ in nudge.data if name.startswith("v/")] == ["v/times", "v/channel", "v/by", "v/reason"]

    response = http.request("POST", PAGE, data=nudge.posted(v__times="0"))
    assert response.status_code == 422 and "greater than or equal to 1" in response.text
    response = http.request("POST", PAGE, data=nudge.posted(v__times="3", v__channel="door"))
    assert response.status_code == 303
    assert "Nudged." in http.request("GET", str(response.url.join(response.headers["location"]))).text
    assert http.get("/wf/letter/1")["history"][-1]["detail"] == "door 3"

    http.ok("POST", "/wf/letter/1/cancel")
    assert "Nudge this instance" not in http.request("GET", PAGE).text


def test_it_has_a_command(http: Http) -> None:
    url = str(http.client.base_url)
    help, options, nudged, _ = gorchestrate(
        ["--help"],
        ["nudge", "--help"],
        ["nudge", "letter", "1", "phone", "--times", "2", "--url", url],
        ["stamp", "letter", "1", "--dry-run", "--url", url],
    )
    assert "nudge" in help and "Nudges an instance: reminds whoever it waits for." in help
    assert "stamp" in help and "Repairs an instance: stamps it." in help
    assert "Where they are reminded. [required]" in options and "How often they are reminded. [default: 1]" in options
    assert "--dry-run" not in options
    assert nudged == "1 is waiting\n"
    last = http.get("/wf/letter/1")["history"][-1]
    assert (last["kind"], last["detail"]) == ("nudge", "phone 2"), "a dry run of a repair changes nothing"
