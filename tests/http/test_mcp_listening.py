"""The tools under ``/mcp``: who may list them, how large a call may be, and clients that listen to changes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress

import pytest
from mcp import Client, MCPError

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.mcp import endpoint
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.mcp_client import connected, ok, refused, tools, using
from workflow_core import ANYONE, Access, Action, Go, On, Principal, S, Select, WebhookRequest, Workflow

CLERK, MANAGER = new_key(), new_key()
BODY_MAX = 3_000


class Order(Workflow, name="order"):
    """An order that only managers may read once it is closed."""

    access = Access(create={"clerk"}, read={"clerk", "manager"}, send={"clerk"})
    note: str = ""
    is_closed: bool = False

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return not self.is_closed or "manager" in principal.roles

    def attach(self, note: str) -> int:
        self.note = note
        return len(note)

    def close(self) -> None:
        self.is_closed = True

    def is_signed(self, request: WebhookRequest) -> bool:
        return True

    definition = S(
        Select("unpaid", On("Pay", lambda w: None), On("Cancel", close)),
        Select("paid", On("Close", close), On("Attach", attach, max_bytes=100_000)),
        Select("closed", On("Cancel", close, verify=is_signed)),
    )


class Talk(Workflow, name="small_talk"):  # without a docstring
    access = Access(create={"clerk"}, read={"clerk"}, send={"clerk"})

    def say(self, text: str) -> None: ...

    def wait(self, seconds: int = 1) -> None: ...

    definition = S(
        Go("side", Select("aside", On("Say", say), On("Hear", say), On("Wait", wait))),
        Select("listening", On("Say", lambda w: None), On("Hear", say, role="manager")),
    )


class Tip(Workflow, name="tip"):
    """A tip that anyone may give."""

    access = Access(create={ANYONE})
    definition = S(Select("given", On("Thank", lambda w: None)))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = Settings(db=tmp_path_factory.mktemp("mcp") / "mcp.db", max_body_bytes=BODY_MAX)
    keys = ApiKey(StoredKey("clerk", key_hash(CLERK), ["clerk"]), StoredKey("manager", key_hash(MANAGER), ["manager"]))
    with running(
        (Order, Talk, Tip), settings, listen("127.0.0.1", 0), authentication=Authentication((keys,)), mcp=True
    ) as url:
        yield url


@pytest.fixture
def order(url: str, id: str) -> str:
    """The endpoint of a new instance."""
    ok(f"{url}/mcp", CLERK, "start_order", id=id)
    return f"{url}/mcp/order/{id}"


def test_those_without_credentials_get_the_tools_that_anyone_may_use(url: str) -> None:
    assert using(f"{url}/mcp", "", tools).keys() == {"start_tip"}


def test_an_event_that_is_signed_in_another_state_is_no_tool(order: str) -> None:
    assert using(order, CLERK, tools).keys() == {"get", "Pay"}
    assert refused(order, CLERK, "Cancel")[0] == 400


def test_an_input_is_required_if_each_wait_needs_one(url: str, id: str) -> None:
    ok(f"{url}/mcp", CLERK, "start_small_talk", id=id)
    found = using(f"{url}/mcp/small_talk/{id}", CLERK, tools)
    assert {name: tool.input_schema.get("required") for name, tool in found.items()} == {
        "get": None,
        "Say": None,
        "Hear": ["input"],
        "Wait": None,
    }


def test_the_service_shows_the_events_that_a_principal_may_send_in_some_state(url: str) -> None:
    found = using(f"{url}/mcp", CLERK, tools)
    assert found["send_small_talk"].input_schema["properties"]["event"]["enum"] == ["Say", "Hear", "Wait"]
    assert found["start_small_talk"].description == "Starts an instance of small_talk under an id that you choose."


def test_a_call_may_be_as_large_as_its_event_allows(order: str) -> None:
    ok(order, CLERK, "Pay")
    assert ok(order, CLERK, "Attach", input="x" * 90_000) == {"output": 90_000}
    assert refused(order, CLERK, "Attach", input="x" * 100_001)[0] == 413


def test_what_a_principal_is_told_is_for_no_other(order: str) -> None:
    async def use(client: Client) -> None:
        listed = await client.list_tools()
        assert (listed.ttl_ms, listed.cache_scope) == (0, "private")

    using(order, CLERK, use)


def test_a_tool_without_arguments_is_called_without_any(order: str) -> None:
    async def use(client: Client) -> None:
        assert (await client.call_tool("get")).structured_content["state"]["note"] == ""

    using(order, CLERK, use)


def test_newer_clients_listen_to_changes(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.05)

    async def use(client: Client) -> None:
        async with client.listen(tools_list_changed=True) as events:
            async with connected(order, CLERK) as other:
                await other.call_tool("Pay", {})
            async for event in events:
                assert type(event).__name__ == "ToolsListChanged"
                break
        assert (await tools(client)).keys() == {"get", "Close", "Attach"}

    using(order, CLERK, use)


def test_the_tools_of_the_service_do_not_change(url: str) -> None:
    async def use(client: Client) -> None:
        with pytest.raises(MCPError, match="Method not found"):
            await listening(client, AsyncExitStack())

    using(f"{url}/mcp", CLERK, use)


def test_a_client_listens_for_some_time_only(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LISTEN_SECONDS", 0.2)

    async def use(client: Client) -> None:
        async with client.listen(tools_list_changed=True) as events:
            assert [event async for event in events] == []

    using(order, CLERK, use)


async def listening(client: Client, streams: AsyncExitStack) -> None:
    await streams.enter_async_context(client.listen(tools_list_changed=True))


def test_few_requests_of_a_principal_may_listen(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "LISTENERS_OF_PRINCIPAL", 3)
    monkeypatch.setattr(endpoint, "LISTENERS_MAX", 4)

    async def use(client: Client) -> None:
        async with AsyncExitStack() as streams:
            for _ in range(3):
                await listening(client, streams)
            with pytest.raises(MCPError, match="a principal may listen with 3 requests") as refused:
                await listening(client, streams)
            assert refused.value.error.data["status"] == 429
            async with connected(order, MANAGER) as other, AsyncExitStack() as others:
                await listening(other, others)
                with pytest.raises(MCPError, match="4 requests may listen at the same time"):
                    await listening(other, others)
            assert (await client.call_tool("get", {})).structured_content["state"]["note"] == ""
        async with AsyncExitStack() as streams:
            for _ in range(3):
                await eventually(lambda: listening(client, streams))

    async def eventually(start: Callable[[], Awaitable[None]]) -> None:
        """The server notices a little later that a client has closed its connection."""
        for _ in range(100):
            with suppress(MCPError):
                return await start()
            await asyncio.sleep(0.05)
        raise AssertionError("a closed request still counts")

    using(order, CLERK, use)


def test_a_change_is_told_once(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.02)

    async def use(client: Client) -> None:
        async with client.listen(tools_list_changed=True) as events:
            async with connected(order, CLERK) as other:
                await other.call_tool("Pay", {})
            await anext(events)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):  # several polls
                    await anext(events)

    using(order, CLERK, use)


def test_a_client_stops_to_listen_when_it_may_no_longer_read(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "POLL_SECONDS", 0.02)
    ok(order, CLERK, "Pay")

    async def use(client: Client) -> None:
        async with client.listen(tools_list_changed=True) as events:
            async with connected(order, CLERK) as other:
                with suppress(MCPError):  # the client of the SDK then lists the tools
                    await other.call_tool("Close", {})
            async with asyncio.timeout(10):
                assert [event async for event in events] == []

    using(order, CLERK, use)


def test_principals_that_no_longer_listen_are_forgotten() -> None:
    listeners = endpoint._Listeners()
    for number in range(3):
        with listeners.one_more(f"principal {number}"), listeners.one_more("another"):
            assert len(listeners.open) == 2
    assert not listeners.open
