"""What is read from the claims of verified tokens: roles, names, e-mail addresses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import ascii_lowercase, ascii_uppercase
from typing import Any, Final

from workflow_core.printable import is_printable

NAME_MAX: Final = 200
ROLES_MAX: Final = 1_000

ReadRoles = Callable[[Mapping[str, Any]], frozenset[str]]
"""Returns the roles in the claims of a token."""

_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)

_SPACED = ("scope", "scp")
"""Claims that are one text, with a space between two values."""


def claim(*path: str) -> ReadRoles:
    """Reads roles from a claim: a list of texts, or one text.

    Args:
        path: the name of the claim; more names if the value is inside of others: ``claim("realm_access", "roles")``.
    """
    if not path or not all(isinstance(name, str) and name for name in path):
        raise ValueError('claim() needs the name of a claim: claim("groups")')

    def read(claims: Mapping[str, Any]) -> frozenset[str]:
        value: Any = claims
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            value = value.split(" ") if path[-1] in _SPACED else [value]
        if not isinstance(value, list):
            return frozenset()
        return frozenset(role for role in value[:ROLES_MAX] if isinstance(role, str) and role)

    return read


def no_roles(_: Mapping[str, Any]) -> frozenset[str]:
    """Reads no roles."""
    return frozenset()


def name_of(claims: Mapping[str, Any]) -> str:
    """Returns the name to show. It identifies nobody: people may choose it."""
    for name in ("name", "preferred_username", "email"):
        text = claims.get(name)
        if isinstance(text, str) and is_printable(text):
            return text[:NAME_MAX]
    return ""


def verified_email(claims: Mapping[str, Any]) -> str | None:
    """Returns the e-mail address in lower case, if the issuer has verified it."""
    email = claims.get("email")
    return ascii_lower(email) if isinstance(email, str) and claims.get("email_verified") is True else None


def ascii_lower(text: str) -> str:
    """Returns a text with its ASCII letters in lower case. The others stay: the lower case of the Kelvin sign, with
    which somebody else's address may begin, is ``k``."""
    return text.translate(_LOWER)


def is_service(claims: Mapping[str, Any]) -> bool:
    """Whether the token belongs to a program instead of a person, as issuers express it."""
    return (
        claims["sub"] in (claims.get("client_id"), claims.get("azp"))  # client credentials in RFC 9068, Google accounts
        or claims.get("gty") == "client-credentials"  # Auth0
        or claims.get("idtyp") == "app"  # Microsoft
        or (verified_email(claims) or "").endswith(".gserviceaccount.com")
    )
