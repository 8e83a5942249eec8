"""Refuses what a page of another site makes a browser send in its user's name (cross-site request forgery)."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import Request

from cloud_adapter.errors import Forbidden


def refuse_other_sites(request: Request, *, same_origin: bool) -> None:
    """Browsers say where a request comes from; what says nothing is no browser, so it acts in nobody's name.

    Args:
        same_origin: other origins of the same site, as other ports of this machine, are refused too.

    Raises:
        Forbidden: a page of another one has sent it.
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
        raise Forbidden("this was sent by a page of another site, so nothing was done: open the page here, and send it")
