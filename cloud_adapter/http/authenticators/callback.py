"""Callbacks: outside systems whose credential is the URL to which they send. See ``cloud_adapter.callbacks``."""

from __future__ import annotations

from starlette.requests import Request

from cloud_adapter.callbacks import INVALID, PARAMETER, Callbacks
from cloud_adapter.errors import InvalidCredential
from cloud_adapter.http.prefixes import is_utf8, path_in_app
from workflow_core import Principal

TOKEN_CHARS_MAX = 500


def callback_principal(request: Request, callbacks: Callbacks | None) -> Principal | None:
    """Returns the principal of a request to a callback URL; None: the request has no token for callbacks.

    Raises:
        InvalidCredential: the token is not valid for this request.
    """
    if not request.scope.get("query_string"):
        return None
    query = request.query_params
    tokens = query.getlist(PARAMETER)
    # A query that is repeated, unknown or not UTF-8 is rejected later for every sender: see check_query.
    if len(tokens) != 1 or request.method != "POST" or not is_utf8(request.scope.get("query_string", b"")):
        return None
    path = path_in_app(request).split("/", 4)[1:]
    if callbacks is None or len(tokens[0]) > TOKEN_CHARS_MAX or len(path) < 4 or path[0] != "wf":
        raise InvalidCredential(INVALID)
    _, workflow, id, event = path
    callback = callbacks.read(tokens[0], workflow, id, event, query.get("thread"), query.get("wait_id"))
    target = callback.wait_id or callback.thread_id
    return Principal(f"callback|{workflow}/{id}/{target}", f"callback {event}", "callback", callback=callback)
