"""The tools under ``/mcp``, used by the client of the official SDK over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import httpx
import jsonschema
import pytest
from mcp import Client, MCPError
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS
from pydantic import BaseModel

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.mcp.schemas import any_of, object_schema, tool_names
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.mcp_client import call, ok, refused, tools, using
from workflow_core import (
    Access,
    EventRejected,
    Go,
    On,
    S,
    Select,
    WebhookRequest,
    Workflow,
)

CLERK, MANAGER, STRANGER = new_key(), new_key(), new_key()
MODES = ["legacy", "auto"]
BODY_MAX = 3_000


class Item(BaseModel):
    name: str
    price: float = 1


class Claim(Workflow, name="claim"):
    """A claim for money."""

    create_fields = ("owner",)
    access = Access(create={"clerk"}, read={"clerk", "manager"})
    owner: str
    items: list[Item] = []
    verdict: str = ""

    def add(self, item: Item) -> int:
        """Adds an item."""
        if item.price < 0:
            raise EventRejected("the price is negative")
        self.items.append(item)
        return len(self.items)

    def decide(self, verdict: Literal["yes", "no"]) -> str:
        self.verdict = verdict
        return verdict

    def crash(self) -> None:
        raise RuntimeError("password: s3cret")

    def is_signed(self, request: WebhookRequest) -> bool:
        return True

    definition = S(
        Go("side", Select("aside", On("Add item!", add, role="clerk"))),
        Select("draft", On("Add item!", add, role="clerk"), On("crash", crash, role="clerk")),
        Select("decision", On("decide", decide, role="manager"), On("Signed", decide, verify=is_signed)),
    )


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(db=tmp_path_factory.mktemp("mcp") / "mcp.db", max_body_bytes=BODY_MAX)
    keys = [
        StoredKey("clerk", key_hash(CLERK), ["clerk"]),
        StoredKey("manager", key_hash(MANAGER), ["manager"]),
        StoredKey("stranger", key_hash(STRANGER), ["stranger"]),
    ]
    with running(
        (Claim,), settings, listen("127.0.0.1", 0), authentication=Authentication((ApiKey(*keys),)), mcp=True
    ) as url:
        yield url


def state(url: str, id: str) -> Any:
    response = httpx.get(f"{url}/wf/claim/{id}", headers={"Authorization": f"Bearer {MANAGER}"})
    return response.json()["state"]


@pytest.fixture
def claim(url: str, id: str) -> str:
    """The endpoint of a new instance."""
    ok(f"{url}/mcp", CLERK, "start_claim", id=id, fields={"owner": "ann"})
    return f"{url}/mcp/claim/{id}"


@pytest.mark.parametrize("mode", MODES)
def test_the_tools_are_the_events_that_are_accepted_now(url: str, id: str, claim: str, mode: str) -> None:
    async def draft(client: Client) -> None:
        found = await tools(client)
        assert found.keys() == {"get", "Add_item", "crash"}
        add = found["Add_item"]
        assert (add.title, add.description) == ("Add item!", "Adds an item.")
        assert add.input_schema["properties"]["thread"]["enum"] == ["main", "side"]
        jsonschema.validate({"input": {"name": "pen"}, "idempotency_key": "k"}, add.input_schema)
        wrong: dict[str, Any]
        for wrong in ({}, {"input": {}}, {"input": {"name": "pen"}, "more": 1}):
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(wrong, add.input_schema)
        assert found["get"].annotations.read_only_hint
        result = await client.call_tool("Add_item", {"input": {"name": "pen"}, "thread": "main"})
        assert result.structured_content == {"output": 1}
        assert (await tools(client)).keys() == {"get", "Add_item"}
        shown = await client.call_tool("get", {})
        assert shown.structured_content["state"]["items"] == [{"name": "pen", "price": 1.0}]

    async def decision(client: Client) -> None:
        found = await tools(client)
        assert found.keys() == {"get", "decide"}, "signed events are not for models"
        assert found["decide"].input_schema["properties"]["input"]["enum"] == ["yes", "no"]
        assert (await client.call_tool("decide", {"input": "yes"})).structured_content == {"output": "yes"}
        assert (await tools(client)).keys() == {"get"}

    using(claim, CLERK, draft, mode)
    using(claim, MANAGER, decision, mode)
    assert state(url, id)["verdict"] == "yes"


def test_a_wrong_token_is_refused_as_http_says(claim: str) -> None:
    headers = {"Accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    for token in ("", "Bearer gok_wrong"):
        response = httpx.post(claim, json=body, headers=headers | ({"Authorization": token} if token else {}))
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"].startswith('Bearer realm="gorchestrate"')
    service = claim.partition("/claim/")[0]
    assert httpx.post(service, json=body, headers=headers).status_code == 401
    stranger = headers | {"Authorization": f"Bearer {STRANGER}"}
    assert httpx.post(claim, json=body, headers=stranger).status_code == 404
    assert httpx.get(claim, headers=stranger).status_code == 405
    with pytest.raises(MCPError, match="error response"):
        using(claim, "gok_wrong", tools)


def test_a_caller_may_do_what_it_may_do_over_http(url: str, id: str, claim: str) -> None:
    status, detail = refused(claim, MANAGER, "Add_item", input={"name": "pen"})
    assert status == 403
    assert "clerk" in detail
    assert refused(claim, CLERK, "decide", input="yes")[0] == 403
    ok(claim, CLERK, "Add_item", input={"name": "pen"}, thread="main")
    assert refused(claim, CLERK, "decide", input="yes")[0] == 403
    assert state(url, id)["verdict"] == ""


def test_an_event_that_is_not_accepted_now(url: str, id: str, claim: str) -> None:
    result = call(claim, MANAGER, "decide", input="yes")
    assert result.is_error
    assert result.structured_content["type"] == "urn:gorchestrate:problem:event-not-accepted"
    assert "Add item!" not in result.structured_content["accepted"], "a manager may not send it"


def test_events_with_a_signature_are_refused(url: str, id: str, claim: str) -> None:
    ok(claim, CLERK, "Add_item", input={"name": "pen"}, thread="main")
    status, detail = refused(claim, MANAGER, "Signed", input="yes")
    assert (status, "the event 'Signed' cannot be sent with a tool" in detail) == (400, True)
    status, detail = refused(f"{url}/mcp", MANAGER, "send_claim", id=id, event="Signed", input="yes")
    assert (status, "POST /wf/claim/{id}/{event}" in detail) == (400, True)
    assert using(f"{url}/mcp", MANAGER, tools)["send_claim"].input_schema["properties"]["event"]["enum"] == ["decide"]
    with pytest.raises(MCPError) as raised:
        call(claim, MANAGER, "delete")
    assert raised.value.error.message == "unknown tool 'delete'. Available: get, Add_item, crash, decide"
    assert state(url, id)["verdict"] == ""
    body = {"content": b'"yes"', "headers": {"Authorization": f"Bearer {MANAGER}", "Content-Type": "application/json"}}
    assert httpx.post(f"{url}/wf/claim/{id}/Signed", **body).status_code == 200  # type: ignore[arg-type]


def test_mistakes_get_the_errors_of_the_api(url: str, id: str, claim: str) -> None:
    assert refused(claim, CLERK, "Add_item", input={"price": 1})[0] == 422
    assert refused(claim, CLERK, "Add_item", input={"name": "x", "price": -1}) == (409, "the price is negative")
    assert refused(claim, CLERK, "Add_item", input={"name": "x"}, more=1) == (
        400,
        "unknown argument 'more'. Available: input, thread, idempotency_key",
    )
    assert refused(claim, CLERK, "Add_item", input={"name": "x"}, thread=1) == (
        400,
        "the argument 'thread' must be a text",
    )
    assert refused(claim, CLERK, "Add_item", input={"name": "x" * BODY_MAX})[0] == 413
    assert refused(claim, CLERK, "Add_item", input={"name": "x"}, idempotency_key="\n")[0] == 400
    with pytest.raises(MCPError, match=r"unknown tool 'delete'\. Available: get, Add_item, crash, decide"):
        call(claim, CLERK, "delete")
    assert state(url, id)["items"] == []


def test_an_internal_error_does_not_reach_the_model(claim: str) -> None:
    status, detail = refused(claim, CLERK, "crash")
    assert status == 500
    assert "s3cret" not in detail


def test_an_unexpected_error_does_not_reach_the_model(claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Any, *_: Any) -> Any:
        raise RuntimeError("password: s3cret")

    monkeypatch.setattr("cloud_adapter.http.mcp.tools.Caller.get", fail)
    monkeypatch.setattr("cloud_adapter.http.mcp.tools.InstanceTools.available", fail)
    assert refused(claim, CLERK, "get") == (500, "RuntimeError: see the log of the server")
    with pytest.raises(MCPError, match="RuntimeError: see the log of the server") as raised:
        using(claim, CLERK, tools)
    assert raised.value.error.code == INTERNAL_ERROR
    assert "s3cret" not in repr(raised.value.error)


def test_an_unknown_instance(url: str) -> None:
    missing = f"{url}/mcp/claim/missing"
    assert refused(missing, CLERK, "get")[0] == 404
    with pytest.raises(MCPError, match="missing") as raised:
        using(missing, CLERK, tools)
    assert raised.value.error.code == INVALID_PARAMS
    headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {CLERK}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx.post(f"{url}/mcp/other/1", json=body, headers=headers).status_code == 404
    assert httpx.post(f"{url}/mcp/a%2fb/c", json=body, headers=headers).status_code == 404


def test_a_repeated_call_changes_nothing(url: str, id: str, claim: str) -> None:
    for _ in range(2):
        assert ok(claim, CLERK, "Add_item", input={"name": "pen"}, thread="side", idempotency_key="a") == {"output": 1}
    assert len(state(url, id)["items"]) == 1
    assert refused(claim, CLERK, "Add_item", input={"name": "ink"}, thread="side", idempotency_key="a")[0] == 422
    key: dict[str, Any] = {"id": f"{id}-2", "fields": {"owner": "bob"}, "idempotency_key": "b"}
    for _ in range(2):
        assert ok(f"{url}/mcp", CLERK, "start_claim", **key)["meta"]["id"] == f"{id}-2"
    key.pop("idempotency_key")
    assert refused(f"{url}/mcp", CLERK, "start_claim", **key)[0] == 409


def test_texts_are_sent_as_they_are(claim: str) -> None:
    ok(claim, CLERK, "Add_item", input={"name": "Füller"}, thread="main")
    assert '"name": "Füller"' in call(claim, CLERK, "get").content[0].text  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", MODES)
def test_the_tools_of_the_service(url: str, id: str, mode: str) -> None:
    async def use(client: Client) -> None:
        found = await tools(client)
        assert found.keys() == {"start_claim", "get_claim", "send_claim"}
        start = found["start_claim"].input_schema
        assert start["properties"]["fields"]["properties"].keys() == {"owner"}, "only what a creator may set"
        assert start["required"] == ["id", "fields"]
        assert found["send_claim"].input_schema["properties"]["event"]["enum"] == ["Add item!", "crash"]
        arguments = {"id": id, "fields": {"owner": "ann"}}
        assert not (await client.call_tool("start_claim", arguments)).is_error
        events = (await client.call_tool("get_claim", {"id": id})).structured_content["events"]
        assert {event["name"] for event in events} == {"Add item!", "crash"}
        sent = {"id": id, "event": "Add item!", "input": {"name": "pen"}, "thread": "main"}
        assert (await client.call_tool("send_claim", sent)).structured_content == {"output": 1}
        wrong = await client.call_tool("start_claim", {"id": f"{id}-x", "fields": {"verdict": "yes"}})
        assert wrong.structured_content["status"] == 422

    using(f"{url}/mcp", CLERK, use, mode)
    managers = using(f"{url}/mcp", MANAGER, tools)
    assert managers.keys() == {"get_claim", "send_claim"}
    assert using(f"{url}/mcp", STRANGER, tools) == {}
    with pytest.raises(MCPError, match=r"unknown tool 'start_claim'\. Available: none"):
        call(f"{url}/mcp", STRANGER, "start_claim", id=f"{id}-y")
    assert refused(f"{url}/mcp", MANAGER, "start_claim", id=f"{id}-y", fields={"owner": "x"})[0] == 403


def test_older_clients_are_told_that_the_tools_may_have_changed(claim: str) -> None:
    seen: list[str] = []

    async def handle(message: Any) -> None:
        seen.append(getattr(message, "method", ""))

    async def use(client: Client) -> None:
        assert client.server_capabilities.tools.list_changed  # type: ignore[union-attr]
        await client.call_tool("get", {})
        await client.call_tool("Add_item", {"input": {"name": "x", "price": -1}})
        assert seen == []
        await client.call_tool("Add_item", {"input": {"name": "x"}})
        assert seen == ["notifications/tools/list_changed"]

    using(claim, CLERK, use, "legacy", message_handler=handle)


def test_clients_learn_the_version(claim: str) -> None:
    async def use(client: Client) -> None:
        assert (info := client.server_info) is not None
        assert (info.name, info.version) == ("gorchestrate", version("gorchestrate"))

    for mode in MODES:
        using(claim, CLERK, use, mode)


def test_it_is_off_by_default(tmp_path: Path) -> None:
    with running((Claim,), Settings(db=tmp_path / "off.db"), listen("127.0.0.1", 0)) as url:
        assert httpx.post(f"{url}/mcp", json={}).status_code == 404
    assert not Service(Claim).mcp
    assert Service(Claim, mcp=True).mcp


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'gorchestrate\[mcp\]'"):
        Service(Claim, mcp=True)


def test_names_of_tools() -> None:
    names = tool_names(["Add item", "Add/item", "get", "é", "x" * 200, "x" * 201], reserved=["get"])
    assert list(names.values()) == ["Add_item", "Add_item_2", "get_2", "event", "x" * 128, f"{'x' * 126}_2"]


def test_schemas_of_several_waits() -> None:
    first, second = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "string"}}}, {"type": "integer"}
    assert any_of([first, first]) == first
    schema = object_schema({"input": any_of([first, second])}, ["input"])
    jsonschema.validate({"input": 1}, schema)
    jsonschema.validate({"input": "a"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"input": []}, schema)
