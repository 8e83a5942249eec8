"""Reads the bodies of requests, up to a limit."""

from __future__ import annotations

from starlette.requests import Request

from cloud_adapter.errors import TooLarge


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body of a request.

    Raises:
        TooLarge: the body has more than ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the request body exceeds the limit of {limit:,} bytes: send less data")
    return bytes(body)
