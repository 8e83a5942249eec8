"""Middleware that decides by the address, the host and the origin of a request whether the API serves it at all.

It rejects three kinds of requests that need no credentials to do harm:

* A page of another site makes a browser send a request (cross-site request forgery). Browsers name the site or the
  origin of such a request. A request without an origin is not from a browser, so it does not act with the permissions
  of a browser's user.
* A page makes its own host name resolve to this machine, so that the browser takes this server for the page's own site
  (DNS rebinding). The host in the request is then a name that this server does not have.
* Another machine in the network sends a request to a server that is for its own machine only.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import Forbidden, InvalidRequest
from cloud_adapter.http.prefixes import HEALTH_PATHS, is_page, path_in_app
from cloud_adapter.settings import ON_CLOUD_RUN, Settings
from cloud_adapter.variables import PREFIX
from workflow_core import WorkflowError
from workflow_core.records import record

SERVE_OTHERS = (
    f"To serve clients on other machines, set {PREFIX}REMOTE_CLIENTS=true. They may do everything, unless the Service "
    "has authenticators"
)
"""What to do if an embedded server is for other machines, too."""

READING = ("GET", "HEAD", "OPTIONS")
"""The methods that change nothing."""

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s:/?#@\\\[\]]+)(:[0-9]*)?", re.IGNORECASE)


@record(frozen=True, slots=True)
class AllowedCallers:
    """Which requests are served.

    Attributes:
        hosts: the host names, without ports, under which clients may reach the API, besides those of this machine;
            None: every host.
        origins: other origins whose pages may call the API, but not send the forms of the pages under ``/ui/``.
        public_url: the URL at which clients reach the API, if it is not the URL of their requests as they arrive here.
        remote: whether clients on other machines are served.
    """

    hosts: frozenset[str] | None = None
    origins: tuple[str, ...] = ()
    public_url: str = ""
    remote: bool = True

    @classmethod
    def from_settings(cls, settings: Settings) -> AllowedCallers:
        """Returns what the settings allow."""
        hosts: frozenset[str] | None = None
        # Google routes requests to Cloud Run by their host, so each host that arrives is one of the service.
        if "*" not in settings.allowed_hosts and (settings.allowed_hosts or ON_CLOUD_RUN not in os.environ):
            hosts = frozenset(settings.allowed_hosts) | {urlsplit(settings.public_url).hostname or "localhost"}
        remote = settings.is_deployed or settings.remote_clients
        return cls(hosts, settings.cors_origins, settings.public_url, remote)

    def check_address(self, request: Request) -> None:
        """Checks the address of the client.

        Raises:
            Forbidden: the client is on another machine.
        """
        if not (self.remote or (request.client is not None and is_loopback(request.client.host))):
            raise Forbidden(
                f"this server serves only clients on its own machine, whatever their credentials. {SERVE_OTHERS}"
            )

    def check_host(self, request: Request) -> None:
        """Checks the ``Host`` of a request.

        Raises:
            InvalidRequest: it is not the name of a host.
            Forbidden: this server does not have that name.
        """
        given = request.headers.getlist("host")
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if found is None and (given or self.hosts is not None):
            raise InvalidRequest("the header Host must be the name of one host")
        if found is None or self.hosts is None:
            return
        host = found[1].lower().rstrip(".")
        if not (host in self.hosts or is_loopback(host)):
            raise Forbidden(
                f"this server is not known as {host[:100]!r}. If clients should reach it under that name, add it to "
                f"{PREFIX}ALLOWED_HOSTS"
            )

    def check_site(self, request: Request, *, other_origins: bool) -> None:
        """Checks which page sent a request that changes something.

        Args:
            other_origins: whether pages of ``origins`` may send it.

        Raises:
            InvalidRequest: it names several pages.
            Forbidden: a page of another site sent it.
        """
        sites, origins = request.headers.getlist("sec-fetch-site"), request.headers.getlist("origin")
        if len(sites) > 1 or len(origins) > 1:
            raise InvalidRequest("the headers Origin and Sec-Fetch-Site must not be repeated")
        site, origin = next(iter(sites), None), next(iter(origins), None)
        if other_origins and origin in self.origins:
            return
        if site is not None:
            ours = site in ("same-origin", "none")
        elif origin is None:
            ours = True
        else:
            ours = urlsplit(origin).netloc in (request.headers.get("host"), urlsplit(self.public_url).netloc or None)
        if not ours:
            raise Forbidden(
                f"a page of another site sent this request. Nothing was changed: send it from a page of this site. "
                f"Pages of other sites may call the API if their origin is in {PREFIX}CORS_ORIGINS"
            )


EVERYONE = AllowedCallers()
"""Serves every client, but no page of another site."""


@lru_cache(maxsize=100)
def is_loopback(host: str) -> bool:
    """Whether a host name or an address always means the machine itself."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def is_secure(url: str) -> bool:
    """Whether secrets may be sent to a URL, and keys fetched from it: HTTPS, or this machine."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
        )
    except ValueError:
        return False


class Gate:
    """Middleware that serves only allowed callers.

    Args:
        refused: returns the response for a request that is rejected.
    """

    def __init__(
        self, app: ASGIApp, callers: AllowedCallers, refused: Callable[[Request, Exception], Response]
    ) -> None:
        self.callers = callers
        self.refused = refused
        self.pages = app
        self.api = app
        if callers.origins:
            self.api = CORSMiddleware(
                app,
                allow_origins=callers.origins,
                allow_methods=("GET", "POST"),
                allow_headers=("Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Traceparent"),
                expose_headers=("Location", "Preference-Applied", "Retry-After"),
            )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.api(scope, receive, send)
            return
        request = Request(scope, receive)
        of_page = is_page(request)
        try:
            self.callers.check_address(request)
            if path_in_app(request) not in HEALTH_PATHS:  # probes use the address of the machine
                self.callers.check_host(request)
            if request.method not in READING:
                self.callers.check_site(request, other_origins=not of_page)
        except WorkflowError as error:
            await self.refused(request, error)(scope, receive, send)
            return
        await (self.pages if of_page else self.api)(scope, receive, send)
