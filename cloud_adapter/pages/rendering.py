"""Renders the templates of pages, and serves the files that pages load. Knows no page in particular.

A page extends ``base.html`` and is the answer of ``page``; it loads nothing but what ``static/`` holds.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every page."""

# Without what would break a page's outline, or load something from elsewhere.
_markdown = MarkdownIt("commonmark", {"html": False}).disable(["heading", "lheading", "image"])


def page(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A template as the answer to a request; all values are escaped.

    Beside ``values`` it has ``root``, which in front of a path makes it a link that holds behind any proxy, and
    ``static(name)``, the link of a file in ``static/``.
    """
    root = _root(request)
    html = _templates().get_template(template).render(root=root, static=lambda name: root + _link(name), **values)
    return HTMLResponse(html, status, HEADERS)


async def static(request: Request) -> Response:
    """A file of ``static/``. Under the link that pages use it never changes, so browsers keep it."""
    name = request.path_params["file"]
    found = _static().get(name)
    if found is None:
        raise HTTPException(404)
    content, version = found
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == version else "no-cache"
    headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
    return Response(content, 200, headers, mimetypes.guess_type(name)[0])


STATIC_ROUTE = Route("/static/{file}", static, methods=["GET"])


def markdown(text: str) -> Markup:
    """Markdown as HTML; HTML in it is text."""
    return Markup(_markdown.render(text))


def markdown_line(text: str) -> Markup:
    """The same for a text within a line."""
    return Markup(_markdown.renderInline(text))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("cloud_adapter.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markdown": markdown, "markdown_line": markdown_line}
    return environment


@cache
def _static() -> dict[str, tuple[bytes, str]]:
    """Each file of ``static/`` with a version that its content gives."""
    contents = {file.name: file.read_bytes() for file in files("cloud_adapter.pages").joinpath("static").iterdir()}
    return {name: (content, hashlib.sha256(content).hexdigest()[:12]) for name, content in contents.items()}


def _link(name: str) -> str:
    return f"static/{name}?v={_static()[name][1]}"


def _root(request: Request) -> str:
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return "../" * (path.split(b"?")[0].count(b"/") - 1) or "./"
