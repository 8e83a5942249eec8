"""OAuth for a program without a browser: the device authorization flow (RFC 8628), and refresh tokens.

The issuer's answers are not verified beyond their form: the API verifies the token that it gets.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pydantic import BaseModel

from cloud_adapter.errors import InvalidRequest, SettingsError, Unavailable
from cloud_adapter.http.authenticators.keys import DISCOVERY_PATH
from cloud_adapter.http.callers import is_secure

TIMEOUT_SECONDS = 30
INTERVAL_SECONDS = 5
"""Between two polls if the issuer does not say; also what ``slow_down`` adds (RFC 8628, section 3.5)."""
INTERVAL_SECONDS_MIN, INTERVAL_SECONDS_MAX = 1, 60
LIFESPAN_SECONDS = 3600
"""How long a token is used whose issuer does not say when it expires."""

GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"


class Tokens(BaseModel):
    """The tokens of a user. ``expires_at`` is in seconds since 1970."""

    access_token: str
    id_token: str = ""
    refresh_token: str = ""
    expires_at: float = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user has to do: open a page, and enter a code there unless its URL contains it."""

    url: str
    code: str
    url_with_code: str


class OAuthClient(BaseModel):
    """This program as a client of an issuer, which knows it under an id, without a secret.

    Attributes:
        token_url: the issuer's token endpoint.
        device_url: its device authorization endpoint.
    """

    client_id: str
    token_url: str
    device_url: str

    @classmethod
    def of(cls, issuer: str, client_id: str) -> OAuthClient:
        """Returns the client for the endpoints that an issuer publishes.

        Raises:
            SettingsError: it has no device flow, or an endpoint is not secure.
            Unavailable: it does not answer.
        """
        if not is_secure(issuer):
            raise SettingsError(f"--issuer: {issuer!r} must begin with https://")
        found = _json(_request("GET", f"{issuer.rstrip('/')}{DISCOVERY_PATH}"), issuer)
        if found.get("issuer") != issuer:
            raise SettingsError(f"--issuer: the issuer calls itself {found.get('issuer')!r}, not {issuer!r}")
        token_url, device_url = found.get("token_endpoint"), found.get("device_authorization_endpoint")
        if not device_url:
            raise SettingsError(f"{issuer} has no device flow: use --token-command or --token instead")
        for url in (token_url, device_url):
            if not (isinstance(url, str) and is_secure(url)):
                raise SettingsError(f"{issuer} has an endpoint that does not begin with https://: {url!r}")
        return cls(client_id=client_id, token_url=token_url, device_url=device_url)

    def log_in(
        self,
        show: Callable[[Prompt], None],
        *,
        scope: str,
        audience: str = "",
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> Tokens:
        """Asks for a code, lets the user confirm it in a browser, and returns the tokens.

        Args:
            show: tells the user what to do.
            scope: what is asked for, separated by spaces.
            audience: for which API. Some issuers need it.

        Raises:
            InvalidRequest: the issuer or the user denied it, or the code has expired.
            Unavailable: the issuer does not answer.
        """
        data = {"client_id": self.client_id, "scope": scope} | ({"audience": audience} if audience else {})
        response = _request("POST", self.device_url, data)
        answer = _json(response, self.device_url)
        if response.is_error:
            raise InvalidRequest(f"the issuer denied the login: {_reason(answer)}")
        device_code, prompt = _text(answer, "device_code"), _prompt(answer)
        interval = _number(answer, "interval", INTERVAL_SECONDS)
        interval = min(max(interval, INTERVAL_SECONDS_MIN), INTERVAL_SECONDS_MAX)
        until = now() + _number(answer, "expires_in", 0)
        show(prompt)
        while True:
            sleep(interval)
            if now() >= until:
                raise InvalidRequest("the code has expired before it was confirmed: run gorchestrate login again")
            found = self._poll(device_code, now)
            if isinstance(found, Tokens):
                return found
            interval = min(interval + found, INTERVAL_SECONDS_MAX)

    def refreshed(self, tokens: Tokens, now: Callable[[], float] = time.time) -> Tokens:
        """Returns new tokens for those that expire.

        Raises:
            InvalidRequest: the issuer does not renew them.
            Unavailable: it does not answer.
        """
        data = {"grant_type": "refresh_token", "client_id": self.client_id, "refresh_token": tokens.refresh_token}
        response = _request("POST", self.token_url, data)
        answer = _json(response, self.token_url)
        if response.is_error:
            raise InvalidRequest(f"the login has expired ({_reason(answer)}): run gorchestrate login again")
        new = _tokens(answer, now)
        kept = {name: getattr(tokens, name) for name in ("refresh_token", "id_token") if not getattr(new, name)}
        return new.model_copy(update=kept)

    def _poll(self, device_code: str, now: Callable[[], float]) -> Tokens | float:
        """Asks for the tokens once. Returns how many seconds longer to wait from now on if there are none yet."""
        data = {"grant_type": GRANT, "client_id": self.client_id, "device_code": device_code}
        try:
            response = _request("POST", self.token_url, data)
            answer = _json(response, self.token_url)
        except Unavailable:
            return INTERVAL_SECONDS  # RFC 8628: poll less often
        if not response.is_error:
            return _tokens(answer, now)
        error = answer.get("error")
        if error == "authorization_pending":
            return 0
        if error == "slow_down":
            return INTERVAL_SECONDS
        if error == "access_denied":
            raise InvalidRequest("the login was denied in the browser")
        if error == "expired_token":
            raise InvalidRequest("the code has expired before it was confirmed: run gorchestrate login again")
        raise InvalidRequest(f"the issuer denied the login: {_reason(answer)}")


def _request(method: str, url: str, data: dict[str, str] | None = None) -> httpx.Response:
    try:
        return httpx.request(method, url, data=data, timeout=TIMEOUT_SECONDS, headers={"Accept": "application/json"})
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(f"the issuer does not answer at {url}: {error}") from error


def _json(response: httpx.Response, url: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or response.is_redirect or response.status_code >= 500:
        raise Unavailable(f"the issuer does not answer at {url}: status {response.status_code}")
    return answer


def _tokens(answer: dict[str, Any], now: Callable[[], float]) -> Tokens:
    optional = {name: answer[name] for name in ("id_token", "refresh_token") if isinstance(answer.get(name), str)}
    expires_at = now() + _number(answer, "expires_in", LIFESPAN_SECONDS)
    return Tokens(access_token=_text(answer, "access_token"), expires_at=expires_at, **optional)


def _prompt(answer: dict[str, Any]) -> Prompt:
    url = answer.get("verification_uri") or answer.get("verification_url")  # as Google calls it
    with_code = answer.get("verification_uri_complete")
    for link in filter(None, (url, with_code)):
        if not (isinstance(link, str) and is_secure(link)):
            raise InvalidRequest(f"the issuer names a page that does not begin with https://: {link!r}")
    return Prompt(url or "", _text(answer, "user_code"), with_code or "")


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"the answer of the issuer has no {name!r}")
    return value


def _number(answer: dict[str, Any], name: str, default: float) -> float:
    value = answer.get(name, default)
    try:
        return max(float(value), 0)
    except (TypeError, ValueError):
        return default


def _reason(answer: dict[str, Any]) -> str:
    return (
        ": ".join(str(answer[name])[:300] for name in ("error", "error_description") if answer.get(name)) or "no reason"
    )
