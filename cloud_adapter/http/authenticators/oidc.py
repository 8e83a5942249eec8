"""``Oidc``: access tokens and ID tokens of any OpenID Connect issuer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

from starlette.requests import HTTPConnection

from cloud_adapter.errors import InvalidCredential, SettingsError
from cloud_adapter.http.authenticators.api_key import is_api_key
from cloud_adapter.http.authenticators.claims import ReadRoles, is_service, name_of, no_roles
from cloud_adapter.http.authenticators.keys import IssuerKeys
from cloud_adapter.http.authenticators.port import BEARER, bearer_token
from cloud_adapter.http.authenticators.tokens import (
    ACCESS_TYPES,
    CLOUD_RUN_HEADER,
    UNTYPED,
    TokenVerifier,
    claimed_issuer,
    has_no_signature,
    subject_of,
)
from cloud_adapter.http.callers import is_secure
from cloud_adapter.settings import GOOGLE_ISSUER
from workflow_core.principal import Principal

GOOGLE_KEYS_URL: Final = "https://www.googleapis.com/oauth2/v3/certs"
"""Known, which saves the discovery request in a cold start."""

_TYPES = {"access": ACCESS_TYPES, "id": UNTYPED, "both": ACCESS_TYPES | UNTYPED}

_WHAT = "token"

REMOVED_HINT: Final = (
    "Cloud Run removes the signature of the token that it checks itself, as it does on private services: let clients "
    f"send the token for Cloud Run in the header {CLOUD_RUN_HEADER} and the one for this API in Authorization, or make "
    "the service public with PUBLIC=true in the settings of deploy.sh, so that only this API checks tokens"
)
"""For the operator, because a caller need not know how the service was deployed."""


class Oidc:
    """Accepts the tokens of an OpenID Connect issuer in the header ``Authorization: Bearer``.

    The principal's id is ``issuer|subject``. Its claims are those of the token.

    Args:
        issuer: the issuer as its tokens name it: ``https://login.example.com``.
        audience: the name of this API at the issuer, or several. Tokens for other audiences are rejected.
        roles: reads the roles from the claims: ``claim("groups")``. By default there are none; see also the ``roles``
            of ``Service``.
        tokens: ``access``: only access tokens with the type ``at+jwt`` (RFC 9068). ``id``: only tokens without it, such
            as Google's ID tokens. ``both``: also access tokens of issuers that do not set the type. Tokens of other
            types, for example for a logout, are always rejected.
        keys_url: the URL of the issuer's keys (a JWKS), if its discovery document should not be used.
        monotonic: a clock in seconds, for the age of the keys.

    Raises:
        SettingsError: an argument is wrong.
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Sequence[str],
        roles: ReadRoles = no_roles,
        *,
        tokens: Literal["access", "id", "both"] = "both",
        keys_url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        for url in filter(None, (issuer, keys_url)):
            if not is_secure(url):
                raise SettingsError(f"Oidc: {url!r} must begin with https://, because keys are fetched from there")
        audiences = [audience] if isinstance(audience, str) else list(audience)
        if not issuer or not audiences or not all(audiences):
            raise SettingsError("Oidc: issuer and audience are required: without an audience, tokens for others count")
        if tokens not in _TYPES:
            raise SettingsError(f"Oidc: tokens is {tokens!r}. Available: {', '.join(_TYPES)}")
        self.issuer = issuer
        self.scheme: Mapping[str, Any] = dict(BEARER) | {
            "bearerFormat": "JWT",
            "description": f"A token of {issuer} for the audience {' or '.join(f'`{name}`' for name in audiences)}.",
        }
        # Google's tokens name the issuer with or without the scheme.
        issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        keys = IssuerKeys(issuer, keys_url or (GOOGLE_KEYS_URL if issuer == GOOGLE_ISSUER else None), monotonic)
        self._verifier = TokenVerifier(keys, issuers=issuers, audience=audiences, types=_TYPES[tokens], what=_WHAT)
        self._roles = roles

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal of a token of this issuer. See ``Authenticator``."""
        token = bearer_token(connection)
        if token is None or is_api_key(token):
            return None
        named = claimed_issuer(token)
        if named is None:
            raise InvalidCredential("the token cannot be read: it is not a JWT")
        if named not in self._verifier.issuers:
            return None  # another authenticator may know its issuer
        return await self.principal(token)

    async def principal(self, token: str) -> Principal:
        """Returns the principal of a token.

        Raises:
            InvalidCredential: the token is not valid.
            Unavailable: the issuer's keys could not be fetched.
        """
        if has_no_signature(token):
            raise InvalidCredential(f"the {_WHAT} is not valid: its signature was removed", hint=REMOVED_HINT)
        claims = await self._verifier.claims(token)
        return Principal(
            # The setting, because Google's tokens name the issuer in two ways.
            id=f"{self.issuer}|{subject_of(claims, _WHAT)}",
            name=name_of(claims),
            kind="service" if is_service(claims) else "user",
            roles=self._roles(claims),
            claims=claims,
        )
