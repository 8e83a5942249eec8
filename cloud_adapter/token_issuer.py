"""An OpenID Connect issuer for one machine: signs tokens, and serves the key with which they are verified.

The Cloud Tasks emulator and ``gorchestrate demo`` start one each. Nothing in a deployment does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import sha256
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TOKEN_LIFE: Final = timedelta(hours=1)
TOKENS_MAX: Final = 100
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
JWKS_PATH: Final = "/jwks"
ALGORITHM: Final = "RS256"


class TokenIssuer:
    """Issues tokens that are signed with a key that is new in every process.

    Args:
        url: the issuer in the tokens, at which ``app`` must be reachable; without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._of_account = lru_cache(TOKENS_MAX)(self._of_account)  # type: ignore[method-assign]

    def token(self, email: str, audience: str, now: datetime) -> str:
        """Returns a token as Google issues it for a service account. Calls within a second get the same token."""
        return self._of_account(email, audience, int(now.timestamp()))

    def _of_account(self, email: str, audience: str, issued_at: int) -> str:
        claims = {"aud": audience, "azp": email, "sub": email, "email": email, "email_verified": True}
        return self.sign(claims, issued_at)

    def sign(self, claims: Mapping[str, Any], issued_at: int, *, type: str = "JWT") -> str:
        """Returns a token that is valid for an hour.

        Args:
            claims: what the token says, besides its issuer and its times.
            issued_at: the seconds since 1970.
            type: the type in its header: ``at+jwt`` for access tokens (RFC 9068).
        """
        expires_at = issued_at + int(TOKEN_LIFE.total_seconds())
        claims = {"iss": self.url, **claims, "iat": issued_at, "exp": expires_at}
        return jwt.encode(claims, self._key, ALGORITHM, {"kid": self._key_id, "typ": type})

    def app(self) -> Starlette:
        """The application that serves the discovery document and the public key."""

        async def discovery(_: Request) -> JSONResponse:
            return JSONResponse(
                {
                    "issuer": self.url,
                    "jwks_uri": self.url + JWKS_PATH,
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": [ALGORITHM],
                    "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
                }
            )

        async def keys(_: Request) -> JSONResponse:
            return JSONResponse({"keys": [{**self._public, "kid": self._key_id, "alg": ALGORITHM, "use": "sig"}]})

        return Starlette(routes=[Route(DISCOVERY_PATH, discovery), Route(JWKS_PATH, keys)])

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _public(self) -> dict[str, str]:
        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {name: key[name] for name in ("kty", "n", "e")}

    @cached_property
    def _key_id(self) -> str:
        return sha256(self._public["n"].encode()).hexdigest()[:40]
