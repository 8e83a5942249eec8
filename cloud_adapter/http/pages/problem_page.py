"""The page of an error. Who has no credentials is sent to the login instead, if there is one."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from cloud_adapter.http import problems
from cloud_adapter.http.pages.rendering import HEADERS, here, page
from cloud_adapter.http.prefixes import root_of
from cloud_adapter.http.sign_in import login_path_of

_UNAUTHENTICATED = f"{problems.TYPE_PREFIX}unauthenticated"


def problem_page(request: Request, problem: dict[str, Any]) -> Response:
    """Returns a problem document as a page, or to a script as JSON."""
    headers = problems.headers_of(problem)
    login = login_path_of(request)
    if login and problem["type"] == _UNAUTHENTICATED and request.method == "GET" and not in_background(request):
        location = f"{root_of(request)}{login}?{urlencode({'next': here(request)})}"
        return Response(status_code=303, headers=HEADERS | {"Location": location})
    if in_background(request):
        return JSONResponse(problem, problem["status"], headers, problems.MEDIA_TYPE)
    response = page(request, "problem.html", status=problem["status"], problem=problem)
    response.headers.update(headers)
    return response


def in_background(request: Request) -> bool:
    """Whether a script of a page sends the request."""
    return request.headers.get("accept") == "application/json"
