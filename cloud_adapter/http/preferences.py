"""The ``Prefer`` header of requests (RFC 7240)."""

from __future__ import annotations

import re

from starlette.requests import Request

PREFER = "Prefer"
APPLIED = "Preference-Applied"
RESPOND_ASYNC = "respond-async"

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = rf'(?:\s*=\s*(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))?'
_PREFERENCE = re.compile(rf"[\s,]*({_TOKEN})({_VALUE})(?:\s*;\s*(?:{_TOKEN}{_VALUE})?)*\s*(?:,|\Z)")


def prefers_async(request: Request) -> bool:
    """Whether the client accepts an answer later (``respond-async``). What is not a valid preference is ignored, and so
    is everything after it, because preferences may be ignored."""
    return any(RESPOND_ASYNC in _preferences(text) for text in request.headers.getlist(PREFER))


def _preferences(text: str) -> set[str]:
    """Returns the names of the preferences that have no value. An empty value counts as none."""
    found: set[str] = set()
    position = 0
    while (match := _PREFERENCE.match(text, position)) is not None and match.end() > position:
        name, value = match[1].lower(), match[2].partition("=")[2].strip()
        if value in ("", '""'):
            found.add(name)
        position = match.end()
    return found
