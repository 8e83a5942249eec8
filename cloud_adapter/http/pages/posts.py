"""Reads forms that browsers post to the pages."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.bodies import media_type, read_body

FORM_TYPE = "application/x-www-form-urlencoded"
CONTROLS_MAX = 20_000


async def read_form(request: Request, limit: int) -> dict[str, str]:
    """Returns the controls of a posted form.

    Raises:
        InvalidRequest: the request is not a form.
        TooLarge: the form has more than ``limit`` bytes.
    """
    content_type = media_type(request.headers.get("content-type", ""))
    if content_type != FORM_TYPE:
        raise InvalidRequest(f"the content type is {content_type[:100]!r}: it must be {FORM_TYPE}")
    body = await read_body(request, limit)
    try:
        text = body.decode()
        return dict(parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=CONTROLS_MAX))
    except ValueError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from None
