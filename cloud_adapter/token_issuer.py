"""OIDC tokens: signs tokens, and serves the key with which they are verified."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

TOKEN_LIFE: Final = timedelta(hours=1)
TOKENS_MAX: Final = 100
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
JWKS_PATH: Final = "/jwks"


class TokenIssuer:
    """Issues tokens as Google does for a service account, signed with a key that is new in every process.

    Args:
        url: the issuer in the tokens, at which ``app`` must be reachable; without a trailing slash.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._sign = lru_cache(TOKENS_MAX)(self._sign)  # type: ignore[method-assign]

    def token(self, email: str, audience: str, now: datetime) -> str:
        """Returns a JWT, signed with RS256, that is valid for an hour. Calls within a second get the same token."""
        return self._sign(email, audience, int(now.timestamp()))

    def _sign(self, email: str, audience: str, issued_at: int) -> str:
        claims = {
            "iss": self.url,
            "aud": audience,
            "azp": email,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": issued_at,
            "exp": issued_at + int(TOKEN_LIFE.total_seconds()),
        }
        signed = b".".join(_base64(json.dumps(part).encode()) for part in ({**self._header, "typ": "JWT"}, claims))
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return (signed + b"." + _base64(signature)).decode()

    def app(self) -> Starlette:
        """The application that serves the discovery document and the public key."""

        async def discovery(_: Request) -> JSONResponse:
            return JSONResponse(
                {
                    "issuer": self.url,
                    "jwks_uri": self.url + JWKS_PATH,
                    "response_types_supported": ["id_token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "claims_supported": ["aud", "azp", "email", "email_verified", "exp", "iat", "iss", "sub"],
                }
            )

        async def keys(_: Request) -> JSONResponse:
            return JSONResponse({"keys": [self._public_key]})

        return Starlette(routes=[Route(DISCOVERY_PATH, discovery), Route(JWKS_PATH, keys)])

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @cached_property
    def _key_id(self) -> str:
        digest = hashes.Hash(hashes.SHA256())
        digest.update(_number(self._key.public_key().public_numbers().n))
        return digest.finalize().hex()[:40]

    @property
    def _header(self) -> dict[str, str]:
        return {"alg": "RS256", "kid": self._key_id}

    @property
    def _public_key(self) -> dict[str, Any]:
        numbers = self._key.public_key().public_numbers()
        n, e = (_base64(_number(number)).decode() for number in (numbers.n, numbers.e))
        return {**self._header, "kty": "RSA", "use": "sig", "n": n, "e": e}


def _number(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
