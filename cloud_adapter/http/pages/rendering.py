"""Renders the templates of all pages, and serves the files that pages load.

A page extends ``base.html``, and ``page`` returns it as a response. It loads only files from ``static/``.
"""

from __future__ import annotations

import hashlib
import mimetypes
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from cloud_adapter.http.pages.times import moment, relative
from cloud_adapter.http.prefixes import path_in_app, root_of
from cloud_adapter.http.queries import with_query
from cloud_adapter.http.sign_in import visitor_of
from workflow_core.times import rfc3339

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""The headers of every page."""

_SCRIPT_HEADERS = HEADERS | {
    "Content-Security-Policy": f"{HEADERS['Content-Security-Policy']}; script-src 'self'; connect-src 'self'"
}


def page(request: Request, template: str, *, status: int = 200, scripts: bool = False, **values: Any) -> Response:
    """Returns a rendered template as the response to a request. All values are escaped.

    In addition to ``values``, the template has ``root``, a prefix that makes a path a link that works behind any proxy,
    and ``static(name)``, the link of a file in ``static/``. ``visitor`` is who uses the page, and ``here`` where it is.

    Args:
        scripts: whether the page may load scripts from ``static/``, which may call this service.
    """
    html = fragment(request, template, visitor=visitor_of(request), here=here(request), **values)
    return HTMLResponse(html, status, _SCRIPT_HEADERS if scripts else HEADERS)


def fragment(request: Request, template: str, **values: Any) -> Markup:
    """Returns a rendered template as a part of a page. For its values, see ``page``."""
    root = root_of(request)
    link = {"root": root, "static": lambda name: root + _link(name)}
    return Markup(templates().get_template(template).render(**link, **values))  # nosec B704 # the template escapes


async def static(request: Request) -> Response:
    """Returns a file of ``static/``. The link in pages contains a version, so browsers may cache the file forever."""
    name = request.path_params["file"]
    found = _static().get(name)
    if found is None:
        raise HTTPException(404)
    content, version = found
    kept = "public, max-age=31536000, immutable" if request.query_params.get("v") == version else "no-cache"
    headers = {"Cache-Control": kept, "X-Content-Type-Options": "nosniff"}
    return Response(content, 200, headers, mimetypes.guess_type(name)[0])


STATIC_ROUTE = Route("/static/{file}", with_query(static, "v"), methods=["GET"])


def markdown(text: str) -> Markup:
    """Converts Markdown to HTML. HTML in the Markdown is escaped."""
    return Markup(_markdown().render(text))  # nosec B704 # escapes HTML


def markdown_line(text: str) -> Markup:
    """Converts inline Markdown to HTML. HTML in the Markdown is escaped."""
    return Markup(_markdown().renderInline(text))  # nosec B704 # escapes HTML


@cache
def _markdown() -> MarkdownIt:
    """Without headings, which would break a page's outline, and images, which would load from other sites."""
    from markdown_it import MarkdownIt  # lazily: only pages need it

    return MarkdownIt("commonmark", {"html": False}).disable(["heading", "lheading", "image"])


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
        "rfc3339": rfc3339,
        "relative": relative,
    }
    environment.filters |= {"segment": lambda text: quote(text, safe="")}
    return environment


@cache
def _static() -> dict[str, tuple[bytes, str]]:
    """Each file of ``static/`` and the style sheet of diagrams, with a version that is a hash of the content."""
    from workflow_core.diagrams.svg import STYLE  # lazily: the API alone does not need it

    contents = {file.name: file.read_bytes() for file in files("cloud_adapter.http.pages").joinpath("static").iterdir()}
    contents["diagram.css"] = STYLE.encode()
    return {name: (content, hashlib.sha256(content).hexdigest()[:12]) for name, content in contents.items()}


def here(request: Request) -> str:
    """Returns the path and the query of a request, below the root of the application."""
    query = request.url.query
    return quote(path_in_app(request)) + (f"?{query}" if query else "")


def _link(name: str) -> str:
    return f"static/{name}?v={_static()[name][1]}"
