"""Renders the templates of pages, and serves the files that pages load. Knows no page in particular.

A page extends ``base.html`` and is the answer of ``page``; it loads nothing but what ``static/`` holds.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from cloud_adapter.http.pages.times import moment, relative
from workflow_core.diagrams import svg

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every page."""

_SCRIPT_HEADERS = HEADERS | {
    "Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; script-src 'self'; connect-src 'self'"
}

# Without what would break a page's outline, or load something from elsewhere.
_markdown = MarkdownIt("commonmark", {"html": False}).disable(["heading", "lheading", "image"])


def page(request: Request, template: str, *, status: int = 200, scripts: bool = False, **values: Any) -> Response:
    """A template as the answer to a request; all values are escaped.

    Beside ``values`` it has ``root``, which in front of a path makes it a link that holds behind any proxy, and
    ``static(name)``, the link of a file in ``static/``.

    Args:
        scripts: whether it may load scripts from ``static/``, which may talk to this service.
    """
    html = fragment(request, template, **values)
    return HTMLResponse(html, status, _SCRIPT_HEADERS if scripts else HEADERS)


def fragment(request: Request, template: str, **values: Any) -> Markup:
    """A template as a piece of a page; for its values see ``page``."""
    root = root_of(request)
    link = {"root": root, "static": lambda name: root + _link(name)}
    return Markup(templates().get_template(template).render(**link, **values))


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
def templates() -> Environment:
    """The templates of the pages, with the filters that they use."""
    environment = Environment(
        loader=PackageLoader("cloud_adapter.http.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "markdown": markdown,
        "markdown_line": markdown_line,
        "moment": moment,
        "relative": relative,
    }
    environment.filters |= {"segment": lambda text: quote(text, safe="")}
    return environment


@cache
def _static() -> dict[str, tuple[bytes, str]]:
    """Each file of ``static/`` with a version that its content gives; also the style sheet of diagrams."""
    contents = {file.name: file.read_bytes() for file in files("cloud_adapter.http.pages").joinpath("static").iterdir()}
    contents["diagram.css"] = svg.STYLE.encode()
    return {name: (content, hashlib.sha256(content).hexdigest()[:12]) for name, content in contents.items()}


def _link(name: str) -> str:
    return f"static/{name}?v={_static()[name][1]}"


def root_of(request: Request) -> str:
    """What leads from the address of a request to the root of the service."""
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return "../" * (path.split(b"?")[0].count(b"/") - 1) or "./"
