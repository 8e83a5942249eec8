"""Reads forms that browsers post to the pages, and rejects forms posted from other sites."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.requests import Request

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.bodies import read_body
from cloud_adapter.http.other_sites import refuse_other_sites

FORM_TYPE = "application/x-www-form-urlencoded"
CONTROLS_MAX = 20_000


async def read_form(request: Request, limit: int) -> dict[str, str]:
    """Returns the controls of a posted form.

    Raises:
        Forbidden: another site posted the form.
        InvalidRequest: the request is not a form.
        TooLarge: the form has more than ``limit`` bytes.
    """
    refuse_other_sites(request, same_origin=True)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != FORM_TYPE:
        raise InvalidRequest(f"the content type is {content_type!r}: it must be {FORM_TYPE}")
    body = await read_body(request, limit)
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=CONTROLS_MAX))
    except ValueError as error:
        raise InvalidRequest(f"the form cannot be read: {error}") from None
