"""Rejects requests that a page of another site makes a browser send (cross-site request forgery)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from cloud_adapter.errors import Forbidden


def refuse_other_sites(request: Request, *, same_origin: bool) -> None:
    """Rejects requests from pages of other sites. Browsers always name the origin of a request. A request without an
    origin is not from a browser, so it does not act with the permissions of a browser's user.

    Args:
        same_origin: also reject other origins of the same site, for example other ports of this machine.

    Raises:
        Forbidden: a page of another site sent the request.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none") or (site == "same-site" and not same_origin)
    elif origin is None:
        ours = True
    elif same_origin:
        ours = urlsplit(origin).netloc == request.headers.get("host")
    else:
        ours = urlsplit(origin).hostname == request.url.hostname
    if not ours:
        raise Forbidden(
            "a page of another site sent this request. Nothing was changed: send it from a page of this site"
        )
