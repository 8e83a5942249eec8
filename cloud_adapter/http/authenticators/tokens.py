"""Verifies signed tokens (JWT): the one mechanism behind ``Oidc``, ``Iap`` and the worker.

A client sends the same token with many requests, and to verify a signature takes longer than most of them. A token that
was verified is therefore remembered by its hash, with the key that signed it and its payload. It is accepted again
while the issuer still has this key, and before the time in ``exp``. All other checks would have the same result.
"""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import jwt

from cloud_adapter.errors import InvalidCredential
from cloud_adapter.http.authenticators.keys import IssuerKeys, SigningKey
from workflow_core.printable import is_printable
from workflow_core.records import record

if TYPE_CHECKING:
    from jwt.types import Options

REMOVED_SIGNATURE: Final = "SIGNATURE_REMOVED_BY_GOOGLE"
"""What Cloud Run writes instead of a signature: https://cloud.google.com/run/docs/troubleshooting#signature-removed"""

CLOUD_RUN_HEADER: Final = "X-Serverless-Authorization"
"""If a request has this header, Cloud Run checks its token instead of the one in ``Authorization``."""

LEEWAY_S = 30
"""The accepted difference between the issuer's clock and this one when the times in a token are checked."""

VERIFIED_MAX: Final = 1_000
"""The number of verified tokens that are remembered."""

SUBJECT_MAX: Final = 255
"""The maximum length of a subject, as in OpenID Connect."""

ACCESS_TYPES: Final = frozenset({"at+jwt"})
"""The types of access tokens (RFC 9068)."""
UNTYPED: Final = frozenset({"jwt", ""})
"""The types of ID tokens, and of access tokens from issuers older than RFC 9068."""

# Without the signature, PyJWT checks only the claims that are named.
_WITHOUT_SIGNATURE: Options = {
    "verify_signature": False,
    "verify_aud": True,
    "verify_exp": True,
    "verify_iat": True,
    "verify_iss": True,
    "verify_nbf": True,
}

# What hostile tokens can make the parser raise, besides its own errors.
_PARSING_ERRORS = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)


@record(frozen=True, slots=True)
class _Verified:
    """A verified token: the id of its key, the key, when it expires (seconds since 1970), and its payload, from which
    each caller gets claims of its own."""

    key_id: str
    key: SigningKey
    expires_at: int
    payload: bytes


class TokenVerifier:
    """Verifies tokens of one issuer for one audience: signature, type, issuer, audience and times.

    Args:
        issuers: the accepted values of the claim ``iss``.
        audience: the accepted value of the claim ``aud``, or several.
        required: the claims that a token must have.
        types: the accepted types in the token's header, in lower case, without ``application/``; empty: no type.
        what: what the token is called in errors.
    """

    def __init__(
        self,
        keys: IssuerKeys,
        *,
        issuers: Collection[str],
        audience: str | Collection[str],
        required: Collection[str] = ("exp", "iat", "iss", "aud", "sub"),
        types: Collection[str] = ACCESS_TYPES | UNTYPED,
        what: str = "token",
    ) -> None:
        self.keys = keys
        self.issuers = list(issuers)
        self.audience = audience
        self.types = types
        self.what = what
        self._required = list(required)
        self._verified: OrderedDict[bytes, _Verified] = OrderedDict()

    async def claims(self, token: str) -> dict[str, Any]:
        """Returns the claims of a valid token.

        Raises:
            InvalidCredential: the token is not valid.
            Unavailable: the issuer's keys could not be fetched.
        """
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        verified = self._verified.get(digest)
        is_known = verified is not None and time.time() < verified.expires_at
        if verified is not None and is_known and verified.key == await self.keys.find(verified.key_id):
            payload = verified.payload
            return self._read(lambda: json.loads(payload), "cannot be read")
        header = self._read(lambda: jwt.get_unverified_header(token), "cannot be read")
        self._check_type(header)
        key_id = str(header.get("kid", ""))
        key = await self.keys.find(key_id)
        if key is None:
            raise InvalidCredential(f"the {self.what} was not signed by {self.issuers[0]}: its key id is unknown there")
        claims = self._checked(lambda: self._decode(token, key))
        payload = jwt.utils.base64url_decode(token.split(".")[1])
        self._verified[digest] = _Verified(key_id, key, int(claims.get("exp", 0)), payload)
        while len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return claims

    def claims_without_signature(self, token: str) -> dict[str, Any]:
        """Returns the claims of a token whose signature somebody else has verified. Checks everything else.

        Raises:
            InvalidCredential: the token is not valid.
        """
        header = self._read(lambda: jwt.get_unverified_header(token), "cannot be read")
        self._check_type(header)
        return self._checked(lambda: self._decode(token, None))

    def _checked(self, decode: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        claims = self._read(decode, "is not valid")
        # Logout tokens and other security events (RFC 8417) may look like ID tokens. They are not credentials.
        if "events" in claims:
            raise InvalidCredential(f"the {self.what} is not valid: it is a security event")
        return claims

    def _check_type(self, header: Mapping[str, Any]) -> None:
        type = header.get("typ", "")
        if not isinstance(type, str) or type.lower().removeprefix("application/") not in self.types:
            raise InvalidCredential(f"the {self.what} is not valid: tokens of its type are not accepted here")

    def _decode(self, token: str, key: SigningKey | None) -> dict[str, Any]:
        options: Options = {"require": self._required}
        if key is None:
            options = {**_WITHOUT_SIGNATURE, **options}
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key if key else "",
            algorithms=list(key.algorithms) if key else None,
            audience=self.audience,
            issuer=self.issuers,
            leeway=LEEWAY_S,
            options=options,
        )
        return claims

    def _read(self, read: Callable[[], dict[str, Any]], fault: str) -> dict[str, Any]:
        try:
            return read()
        except _PARSING_ERRORS as error:
            why = str(error) if isinstance(error, jwt.PyJWTError) else "it is malformed"
            raise InvalidCredential(f"the {self.what} {fault}: {why}") from error


def has_no_signature(token: str) -> bool:
    """Whether Cloud Run has removed the signature of a token, or its sender says so."""
    return token.endswith(f".{REMOVED_SIGNATURE}")


def claimed_issuer(token: str) -> str | None:
    """Returns the issuer that a token names; None if it is not a token that can be read. Verifies nothing."""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except _PARSING_ERRORS:
        return None
    return issuer if isinstance(issuer, str) else None


def subject_of(claims: Mapping[str, Any], what: str) -> str:
    """Returns the subject of a verified token.

    Raises:
        InvalidCredential: it cannot be part of an id.
    """
    subject = claims["sub"]
    if not isinstance(subject, str) or len(subject) > SUBJECT_MAX or not is_printable(subject):
        raise InvalidCredential(f"the {what} is not valid: 'sub' must be 1 to {SUBJECT_MAX} printable characters")
    return subject
