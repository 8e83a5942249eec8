"""The path prefix under which clients reach an application: in another application, behind a proxy, or on the server.

An application that is mounted, or whose server has a root path, gets the prefix with each request (``root_path`` in
ASGI). A proxy that removes a prefix tells nobody, so ``PublicUrl`` adds it again, from the setting. All links and URLs
in responses are made with the functions of this module.
"""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import InvalidRequest

HEALTH_PATHS = ("/healthz", "/health")


class PublicUrl:
    """Middleware that serves an application under the path of its public URL, which a proxy has removed."""

    def __init__(self, app: ASGIApp, url: str) -> None:
        self.app = app
        self.prefix = urlsplit(url).path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            known = scope.get("root_path", "")
            inside = scope["path"].removeprefix(known)
            scope = dict(scope) | {"root_path": self.prefix, "path": self.prefix + inside}
            if scope.get("raw_path") is not None:
                # Encoded, so it is cut by segments: an encoded slash separates nothing.
                segments = scope["raw_path"].split(b"/")[1 + known.count("/") :]
                scope["raw_path"] = b"/".join([self.prefix.encode(), *segments])
        await self.app(scope, receive, send)


def check_path(request: Request) -> None:
    """Checks that no slash is encoded in the first parts of the path, which name a workflow and an instance. Servers
    decode the path before it is routed, so a request for the id ``a/cancel`` would cancel the instance ``a``. They also
    replace bytes that are not UTF-8, so all ids with such bytes would be one.

    Raises:
        InvalidRequest: there is an encoded slash, or a byte that is not UTF-8.
    """
    path: bytes = request.scope.get("raw_path") or b""
    if not is_utf8(path):
        raise InvalidRequest("the path contains bytes that are not UTF-8: encode its texts as UTF-8")
    first = 1 + _prefix_in_path(request).count("/")
    if any(b"%2f" in part.lower() for part in path.split(b"?")[0].split(b"/")[first : first + 3]):
        raise InvalidRequest(
            "the path contains '/' (%2F) in the name of a workflow or in an id: they cannot contain it"
        )


def is_utf8(encoded: bytes) -> bool:
    """Whether a part of a URL is text in UTF-8."""
    if b"%" not in encoded and encoded.isascii():
        return True
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        return False
    return True


def prefix_of(request: Request) -> str:
    """Returns the prefix as it stands in a URL, without a slash at its end."""
    return quote(_root_path(request), safe="/%")  # some servers have it encoded already


def base_url(request: Request) -> str:
    """Returns the URL at which clients reach the application, without a slash at its end."""
    url = request.base_url.replace(path=prefix_of(request))
    if request.headers.get("x-forwarded-proto") == "https":  # Cloud Run uses HTTP to the container
        url = url.replace(scheme="https")
    return str(url).rstrip("/")


def root_of(request: Request) -> str:
    """Returns the relative path from the URL of a request to the root of the application. Unlike ``prefix_of``, it is
    also right behind a proxy that removes a prefix which this application does not know."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    levels = path.split(b"?")[0].count(b"/") - 1 - _prefix_in_path(request).count("/")
    return "../" * levels or "./"


def path_in_app(request: HTTPConnection) -> str:
    """Returns the path of a request below the prefix."""
    path: str = request.scope["path"]
    return path.removeprefix(_root_path(request))


def is_page(request: HTTPConnection) -> bool:
    """Whether a request is for a page under ``/ui/``."""
    path = path_in_app(request)
    return path == "/ui" or path.startswith("/ui/")


def _prefix_in_path(request: Request) -> str:
    """Returns the prefix if the path of the request contains it. Some servers leave it out."""
    prefix = _root_path(request)
    return prefix if request.scope["path"].startswith(prefix) else ""


def _root_path(request: HTTPConnection) -> str:
    path: str = request.scope.get("root_path", "")
    return path.rstrip("/")
