"""Reads the bodies of requests: up to a limit, uncompressed, as UTF-8."""

from __future__ import annotations

import codecs

from starlette.requests import Request

from cloud_adapter.errors import TooLarge, UnsupportedEncoding

_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)  # that of UTF-32 LE begins as UTF-16 LE
_UTF8 = ("utf-8", "utf8", "us-ascii", "ascii")


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
        if len(body) > limit:
            raise TooLarge(f"the request body exceeds the limit of {limit:,} bytes: send less data")
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
