"""``Login``: lets people log in to the pages at an OpenID Connect issuer. The client's side of that protocol.

Authorization code flow with PKCE (RFC 7636), ``state`` and ``nonce``. This module sends the requests and checks the ID
token. Cookies and redirects are in ``cloud_adapter.http.pages.login``.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from cloud_adapter.errors import InvalidCredential, SettingsError, Unavailable
from cloud_adapter.http.authenticators.claims import ReadRoles, no_roles
from cloud_adapter.http.authenticators.keys import DISCOVERY_PATH
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.callers import is_secure
from workflow_core import Principal
from workflow_core.records import record

TIMEOUT_SECONDS = 10
ENDPOINTS_LIFESPAN_S = 3600


@record(frozen=True, slots=True)
class Attempt:
    """The secrets of one login: what its answer is compared with."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        """Returns new random secrets."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))


@record(frozen=True, slots=True)
class _Endpoints:
    authorization: str
    token: str
    fetched_at: float


class Login:
    """Lets people log in to the pages under ``/ui/`` at an OpenID Connect issuer.

    The principal is the one that ``Oidc`` finds in ID tokens of the issuer, so a person has the same id on the pages
    and in the API. It needs ``GORCHESTRATE_PUBLIC_URL`` and ``GORCHESTRATE_SESSION_KEYS``. Register this URL followed
    by ``/ui/login/callback`` at the issuer.

    Args:
        issuer: the issuer as its tokens name it: ``https://login.example.com``.
        client_id: the id of this service at the issuer.
        client_secret: its secret there; empty for a public client.
        roles: reads the roles from the claims of the ID token: ``claim("groups")``.
        scope: the scopes to ask for, separated by spaces.

    Raises:
        SettingsError: an argument is wrong.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str = "",
        *,
        roles: ReadRoles = no_roles,
        scope: str = "openid profile email",
    ) -> None:
        if "openid" not in scope.split():
            raise SettingsError(f"Login: scope is {scope!r}: it must contain openid, so that there is an ID token")
        self.issuer = issuer
        self.client_id = client_id
        self.scope = scope
        self._secret = client_secret
        self._tokens = Oidc(issuer, client_id, roles, tokens="id")
        self._endpoints: _Endpoints | None = None

    async def url(self, attempt: Attempt, redirect_uri: str) -> str:
        """Returns the page of the issuer at which a person logs in.

        Raises:
            Unavailable: the issuer does not answer.
        """
        digest = hashlib.sha256(attempt.verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": redirect_uri,
            "scope": self.scope,
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        page = (await self._found()).authorization
        return f"{page}{'&' if '?' in page else '?'}{urlencode(query)}"

    async def principal(self, answer: Mapping[str, str], attempt: Attempt, redirect_uri: str) -> Principal:
        """Returns the principal of a person who comes back from the issuer.

        Args:
            answer: the query parameters with which the issuer has sent them back.

        Raises:
            InvalidCredential: they did not log in, or the answer does not belong to this attempt.
            Unavailable: the issuer does not answer.
        """
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise InvalidCredential("the answer of the issuer belongs to another login")
        if answer.get("iss", self.issuer) != self.issuer:  # RFC 9207
            raise InvalidCredential("the answer is from another issuer")
        if "error" in answer or not answer.get("code"):
            raise InvalidCredential(f"the issuer denied the login: {answer.get('error', 'no code')[:100]}")
        principal = await self._tokens.principal(await self._id_token(answer["code"], attempt, redirect_uri))
        claims = principal.claims
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not secrets.compare_digest(nonce.encode(), attempt.nonce.encode()):
            raise InvalidCredential("the ID token belongs to another login")
        if claims.get("azp", self.client_id) != self.client_id:
            raise InvalidCredential("the ID token was issued to another client")
        return principal

    async def _id_token(self, code: str, attempt: Attempt, redirect_uri: str) -> str:
        data = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": attempt.verifier,
        }
        auth: tuple[str, str] | None = None
        if self._secret:
            auth = quote(self.client_id, safe=""), quote(self._secret, safe="")
        else:
            data["client_id"] = self.client_id
        answer = await self._ask("POST", (await self._found()).token, data=data, auth=auth)
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise InvalidCredential(f"the issuer denied the login: {str(answer.get('error', 'no ID token'))[:100]}")
        return token

    async def _found(self) -> _Endpoints:
        now = time.monotonic()
        if self._endpoints is None or now - self._endpoints.fetched_at > ENDPOINTS_LIFESPAN_S:
            document = await self._ask("GET", f"{self.issuer.rstrip('/')}{DISCOVERY_PATH}")
            urls = [document.get(f"{name}_endpoint") for name in ("authorization", "token")]
            if document.get("issuer") != self.issuer or not all(
                isinstance(url, str) and is_secure(url) for url in urls
            ):
                raise Unavailable(f"the discovery document of {self.issuer} is of another issuer, or not complete")
            self._endpoints = _Endpoints(str(urls[0]), str(urls[1]), now)
        return self._endpoints

    async def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        import httpx  # lazily: it takes 60 ms, and only a login needs it

        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers={"Accept": "application/json"}) as client:
                response = await client.request(method, url, **options)
                answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"{self.issuer} does not answer: {error!r}") from error
        if not isinstance(answer, dict) or response.is_redirect or response.status_code >= 500:
            raise Unavailable(f"{self.issuer} does not answer: status {response.status_code}")
        return answer
