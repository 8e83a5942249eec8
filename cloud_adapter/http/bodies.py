"""Reads the body of a request, up to a limit."""

from __future__ import annotations

from starlette.requests import Request

from cloud_adapter.errors import TooLarge


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the body of the request is over the limit of {limit:,} bytes: send less")
    return bytes(body)
