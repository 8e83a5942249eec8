"""The URLs of databases. They contain passwords, which messages must not show, even if a URL is wrong."""

from __future__ import annotations

import re
from typing import Final

POSTGRESQL_SCHEMES: Final = ("postgresql", "postgres")

# Compiled when they are needed, because most processes start without a URL.
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^][:@]*)(?::\d{0,5})?"
_URL = (
    r"(?P<scheme>[^:/?#]+)://(?:(?P<user>[^/?#@[\]]*)@)?"
    r"(?P<hosts>[^/?#@]*)(?P<path>(?:/[^?#]*)?)(?:\?(?P<query>[^#]*))?"
)


def url_scheme(url: str) -> str:
    """Returns the scheme of a URL; empty: the text is no URL."""
    scheme, separator, _ = url.partition("://")
    return scheme.lower() if separator else ""


def shown_url(url: str) -> str:
    """Returns a URL without user, password and parameters. If it cannot be read, or has another ``@``, only its scheme,
    because any part may belong to the password."""
    try:
        hosts, path = hosts_and_path(url)
    except ValueError:
        path = "@"
    return f"{url_scheme(url)}://..." if "@" in path else f"{url_scheme(url)}://{hosts}{path}"


def hosts_and_path(url: str) -> tuple[str, str]:
    """Returns the hosts in a URL, with their ports and separated by commas, and its path.

    Raises:
        ValueError: the URL cannot be read. The message gives the fix and contains nothing of the URL.
    """
    parts = re.fullmatch(_URL, url)
    if (
        parts is None
        or (parts["user"] is None and "@" in parts["path"])
        or not all(re.fullmatch(_HOST, host) for host in parts["hosts"].split(","))
        or any("@" in parameter.partition("=")[0] for parameter in (parts["query"] or "").split("&"))
    ):
        raise ValueError(
            "it cannot be read. Write special characters in the user, the password and the name of the database as "
            "their codes: %40 for '@', %2F for '/', %3F for '?', %23 for '#', %5B for '[', %5D for ']'. A port is a "
            "number"
        )
    return parts["hosts"], parts["path"]
