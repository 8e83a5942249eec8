"""The users of ``gorchestrate demo``: their tokens, and how the server recognizes them."""

from __future__ import annotations

import time
from typing import Final

from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.claims import claim
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.token_issuer import TokenIssuer

CUSTOMER: Final = "ann"
OTHER_CUSTOMER: Final = "ben"
MANAGER: Final = "ada"

USERS: Final = {
    CUSTOMER: ("customer",),
    OTHER_CUSTOMER: ("customer",),
    "joe": ("cook",),
    "grace": ("delivery",),
    MANAGER: ("manager", "cook", "delivery", "customer"),
}
"""The roles of each user. The manager has all of them, and so may see everything."""

SENDERS: Final = {"customer": CUSTOMER, "cook": "joe", "delivery": "grace", "manager": MANAGER}
"""The user who sends the events of a role."""

FORGER: Final = "forger"
"""Has a token with the claims of the customer and the signature of the other customer's token."""

_AUDIENCE = "pizza-shop"
_ROLES = "roles"


def authentication(issuer: TokenIssuer) -> Authentication:
    """Returns what accepts the tokens of an issuer, as a ``Service`` with ``Oidc`` does."""
    return Authentication((Oidc(issuer.url, _AUDIENCE, claim(_ROLES), tokens="access"),))


def tokens(issuer: TokenIssuer) -> dict[str, str]:
    """Returns a token for each user, and one for the forger."""
    now = int(time.time())
    issued = {
        name: issuer.sign({"aud": _AUDIENCE, "sub": name, "name": name, _ROLES: roles}, now, type="at+jwt")
        for name, roles in USERS.items()
    }
    claims, signature = issued[CUSTOMER].rpartition(".")[0], issued[OTHER_CUSTOMER].rpartition(".")[2]
    return issued | {FORGER: f"{claims}.{signature}"}
