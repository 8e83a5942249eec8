"""What every authenticator must do. Holds no test itself: ``test_authenticators`` runs it on all of them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import pytest
from starlette.requests import HTTPConnection

from cloud_adapter.errors import InvalidCredential
from cloud_adapter.http.authenticators.port import CREDENTIAL_BYTES_MAX, RESERVED_ROLES, Authenticator
from tests.http.issuer import Issuer
from workflow_core.principal import Principal

Headers = Iterable[tuple[str, str]]


def connection(headers: Headers = (), client: tuple[str, int] | None = ("127.0.0.1", 5000)) -> HTTPConnection:
    """A request as a server hands it over: names in lower case, bytes."""
    encoded = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
    return HTTPConnection({"type": "http", "headers": encoded, "client": client, "path": "/"})


def found(authenticator: Authenticator, *headers: tuple[str, str]) -> Principal | None:
    """Whom an authenticator finds."""

    async def ask() -> Principal | None:
        return await authenticator(connection(headers))

    return asyncio.run(ask())


class AuthenticatorContract(ABC):
    """The contract. A subclass says how its kind is built, and what is right and wrong for it."""

    header: str
    kind: str = "user"
    id: str

    @pytest.fixture
    @abstractmethod
    def authenticator(self, issuer: Issuer) -> Authenticator: ...

    @abstractmethod
    def right(self, issuer: Issuer) -> str:
        """A valid value of the header."""

    @abstractmethod
    def wrong(self, issuer: Issuer) -> Sequence[str]:
        """Values of the header that are this kind of credential, but are not valid."""

    def test_it_finds_the_principal(self, authenticator: Authenticator, issuer: Issuer) -> None:
        principal = found(authenticator, (self.header, self.right(issuer)))
        assert principal is not None
        assert principal.id == self.id.format(url=issuer.url)
        assert principal.kind == self.kind
        assert "@" not in principal.id
        assert not principal.roles & RESERVED_ROLES
        assert self.right(issuer) not in repr(principal)

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("Accept", "*/*"),
            ("Authorization", "Basic dXNlcjpwYXNz"),
            ("Authorization", ""),
            ("Cookie", "session=1"),
            ("X-Goog-Authenticated-User-Email", "accounts.google.com:ann@shop.example"),
            ("X-Goog-Authenticated-User-Id", "accounts.google.com:1"),
            ("X-Forwarded-User", "ann"),
            ("X-Api-Key", "gok_1"),
            ("X-Remote-User", "ann"),
        ],
    )
    def test_other_credentials_are_for_others(self, authenticator: Authenticator, name: str, value: str) -> None:
        assert found(authenticator, (name, value)) is None
        assert found(authenticator) is None

    def test_a_wrong_credential_is_refused(self, authenticator: Authenticator, issuer: Issuer) -> None:
        for value in self.wrong(issuer):
            with pytest.raises(InvalidCredential) as refused:
                found(authenticator, (self.header, value))
            assert value.removeprefix("Bearer ") not in str(refused.value) or len(value) < 20

    def test_two_credentials_are_refused(self, authenticator: Authenticator, issuer: Issuer) -> None:
        right = (self.header, self.right(issuer))
        for second in (right, (self.header, "x"), (self.header.upper(), "")):
            with pytest.raises(InvalidCredential, match="repeated"):
                found(authenticator, right, second)

    def test_an_overlong_credential_is_refused_unread(self, authenticator: Authenticator, issuer: Issuer) -> None:
        with pytest.raises(InvalidCredential, match="longer than"):
            found(authenticator, (self.header, self.right(issuer) + "x" * CREDENTIAL_BYTES_MAX))
        assert issuer.asked == []

    @pytest.mark.parametrize("added", ["\0", "\x7f", "ÿ", "\r\nX: y", ".", " ", ","])
    def test_no_bytes_make_it_fail_or_find_another(
        self, authenticator: Authenticator, issuer: Issuer, added: str
    ) -> None:
        right = self.right(issuer)
        for at in (0, 8, len(right) // 2, len(right)):
            try:
                principal = found(authenticator, (self.header, right[:at] + added + right[at:]))
            except InvalidCredential:
                continue
            assert principal is None or principal.id.startswith(self.id.format(url=issuer.url).partition("|")[0])

    def test_its_scheme_is_one_of_openapi(self, authenticator: Authenticator) -> None:
        scheme = authenticator.scheme
        if scheme["type"] == "http":
            assert scheme["scheme"] == "bearer"
            assert self.header == "Authorization"
        else:
            assert (scheme["type"], scheme["in"], scheme["name"]) == ("apiKey", "header", self.header)
        assert scheme["description"]
