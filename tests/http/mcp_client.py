"""Clients of the official SDK that use the tools under ``/mcp`` over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult


@asynccontextmanager
async def connected(url: str, key: str, mode: str = "auto", **options: Any) -> AsyncIterator[Client]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, **options) as client,
    ):
        yield client


def using(url: str, key: str, use: Callable[[Client], Awaitable[Any]], mode: str = "auto", **options: Any) -> Any:
    async def run() -> Any:
        async with connected(url, key, mode, **options) as client:
            return await use(client)

    try:
        return asyncio.run(run())
    except BaseExceptionGroup as group:  # the client wraps errors of the body
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
        raise error from None


def call(url: str, key: str, tool: str, mode: str = "auto", **arguments: Any) -> CallToolResult:
    result: CallToolResult = using(url, key, lambda client: client.call_tool(tool, arguments), mode)
    return result


def ok(url: str, key: str, tool: str, mode: str = "auto", **arguments: Any) -> Any:
    result = call(url, key, tool, mode, **arguments)
    assert not result.is_error, result
    assert json.loads(result.content[0].text) == result.structured_content  # type: ignore[union-attr]
    return result.structured_content


def refused(url: str, key: str, tool: str, **arguments: Any) -> tuple[int, str]:
    result = call(url, key, tool, **arguments)
    assert result.is_error
    return result.structured_content["status"], result.structured_content["detail"]


async def tools(client: Client) -> dict[str, Any]:
    return {tool.name: tool for tool in (await client.list_tools()).tools}
