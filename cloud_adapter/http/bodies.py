"""Reads the bodies of requests: up to a limit, uncompressed, as UTF-8, and for the API only JSON."""

from __future__ import annotations

import codecs

from starlette.requests import Request

from cloud_adapter.errors import TooLarge, UnsupportedEncoding, UnsupportedMediaType
from workflow_core.inputs import values_in

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # that of UTF-32 LE begins as UTF-16 LE
JSON_TYPE = "application/json"
VALUES_MAX = 25_000
"""The most values in the JSON of a request."""
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


def check_json(request: Request) -> None:
    """Checks that a request claims to be JSON, or nothing.

    A page of another site can make a browser send a form or plain text without asking this server first, but not JSON.

    Raises:
        UnsupportedMediaType: the request has another content type.
    """
    for given in request.headers.getlist("content-type"):
        content_type = media_type(given)
        if given and content_type != JSON_TYPE:
            raise UnsupportedMediaType(
                f"the content type is {content_type[:100]!r}: send {JSON_TYPE}. With curl, pass "
                f"-H 'Content-Type: {JSON_TYPE}'"
            )


def media_type(header: str) -> str:
    """Returns the media type in a ``Content-Type``, without its parameters."""
    return header.partition(";")[0].strip().lower()


async def read_json(request: Request, limit: int) -> bytes:
    """Returns the body of a request that claims to be JSON. See ``check_json``, ``read_body`` and ``check_values``."""
    check_json(request)
    body = await read_body(request, limit)
    check_values(body)
    return body


def check_size(size: int, limit: int) -> None:
    """Raises ``TooLarge`` if a body has more bytes than the limit."""
    if size > limit:
        raise TooLarge(f"the request body exceeds the limit of {limit:,} bytes: send less data")


def check_values(body: bytes) -> None:
    """Checks how many values a JSON text has. They, not its bytes, decide how much time and memory it takes: with
    ``[{},{},...]``, several times a hundred bytes and ten microseconds for each three bytes.

    Raises:
        TooLarge: it has more than ``VALUES_MAX``.
    """
    if (count := values_in(body)) > VALUES_MAX:
        raise TooLarge(
            f"the request body has about {count:,} values (items, members, lists and objects), the limit is "
            f"{VALUES_MAX:,}: send fewer at a time, or send them as one text"
        )


async def read_body(request: Request, limit: int) -> bytes:
    """Returns the body of a request, without the byte order mark that some programs write before UTF-8 text.

    Raises:
        TooLarge: the body has more than ``limit`` bytes.
        UnsupportedEncoding: the body is compressed, or has another encoding than UTF-8.
    """
    _check_headers(request)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        check_size(len(body), limit)
    if body.startswith(_OTHER_MARKS):
        raise UnsupportedEncoding("the request body is UTF-16 or UTF-32 text: send UTF-8")
    return bytes(body).removeprefix(codecs.BOM_UTF8)


def _check_headers(request: Request) -> None:
    """Rejects a body whose headers say that its bytes are not UTF-8 text."""
    coding = ", ".join(request.headers.getlist("content-encoding")).strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedEncoding(f"the request body has the content encoding {coding[:100]!r}: send it uncompressed")
    for parameter in request.headers.get("content-type", "").split(";")[1:]:
        name, _, charset = parameter.partition("=")
        charset = charset.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in _UTF8:
            raise UnsupportedEncoding(f"the request body has the charset {charset[:100]!r}: send UTF-8")
