"""``Iap``: users behind Google's Identity-Aware Proxy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection

from cloud_adapter.errors import SettingsError
from cloud_adapter.http.authenticators.claims import is_service, name_of
from cloud_adapter.http.authenticators.keys import IssuerKeys
from cloud_adapter.http.authenticators.port import header_of
from cloud_adapter.http.authenticators.tokens import UNTYPED, TokenVerifier, subject_of
from workflow_core.principal import Principal

IAP_HEADER: Final = "X-Goog-IAP-JWT-Assertion"
IAP_ISSUER: Final = "https://cloud.google.com/iap"
IAP_KEYS_URL: Final = "https://www.gstatic.com/iap/verify/public_key-jwk"

_WHAT = "IAP assertion"
_GOOGLE_ACCOUNT = "accounts.google.com:"


class Iap:
    """Accepts the signed header of Identity-Aware Proxy, ``X-Goog-IAP-JWT-Assertion``.

    The headers ``X-Goog-Authenticated-User-Email`` and ``-Id`` are ignored: they are not signed, so everyone who can
    reach the service without passing through the proxy can send them.

    The principal's id is ``https://cloud.google.com/iap|subject``. It has no roles: see the ``roles`` of ``Service``.

    Args:
        audience: the audience of the assertions. Behind a load balancer, it is
            ``/projects/NUMBER/global/backendServices/ID``; on Cloud Run, it is
            ``/projects/NUMBER/locations/REGION/services/NAME``.
        keys_url: the URL of IAP's keys; tests have their own.
        monotonic: a clock in seconds, for the age of the keys.

    Raises:
        SettingsError: the audience is missing.
    """

    scheme: Mapping[str, Any] = {
        "type": "apiKey",
        "in": "header",
        "name": IAP_HEADER,
        "description": "Identity-Aware Proxy adds this header to the requests of those who have signed in.",
    }

    def __init__(
        self, audience: str, *, keys_url: str = IAP_KEYS_URL, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        if not audience.startswith("/projects/"):
            raise SettingsError(
                f"Iap: the audience is {audience!r}: it must be /projects/NUMBER/..., as the page of IAP shows it"
            )
        self.keys = IssuerKeys(IAP_ISSUER, keys_url, monotonic)
        self._verifier = TokenVerifier(self.keys, issuers=[IAP_ISSUER], audience=audience, types=UNTYPED, what=_WHAT)

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal of an assertion. See ``Authenticator``."""
        token = header_of(connection, IAP_HEADER)
        if token is None:
            return None
        claims = await self._verifier.claims(token)
        subject = subject_of(claims, _WHAT)
        if subject.startswith(_GOOGLE_ACCOUNT):
            # IAP says nothing about it, because it lets only verified addresses of Google accounts pass.
            claims |= {"email_verified": True}
        return Principal(
            id=f"{IAP_ISSUER}|{subject}",
            name=name_of(claims),
            kind="service" if is_service(claims) else "user",
            claims=claims,
        )
