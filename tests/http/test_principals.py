"""The middleware that finds principals, for any application, and the roles of members."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import SettingsError
from cloud_adapter.http.authentication import Authenticated, Authentication
from cloud_adapter.http.authenticators.dev import Dev
from cloud_adapter.http.authenticators.iap import Iap
from cloud_adapter.http.authenticators.memberships import Memberships
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.openapi import DocumentAccess, document
from cloud_adapter.http.problems import on_workflow_error
from tests.http.helpers import deployed
from tests.http.issuer import Issuer
from tests.http.test_authentication import PARCEL, Parcel, Suggestion, ann, authentication, manager
from workflow_core import EVERYONE, Principal

# --- the middleware ------------------------------------------------------------------------


async def _whoami(request: Request) -> JSONResponse:
    return JSONResponse([request.user.id, sorted(request.auth.scopes)])


@requires("manager")
async def _managers(request: Request) -> JSONResponse:
    return JSONResponse("welcome")


def ask(app: ASGIApp, path: str, **headers: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(send())


def guarded(authentication: Authentication) -> Starlette:
    routes = [Route("/who", _whoami), Route("/managers", _managers)]
    return Starlette(routes=routes, middleware=[Middleware(Authenticated, authentication, on_workflow_error)])


def test_starlette_finds_the_principal(issuer: Issuer) -> None:
    app = guarded(authentication(issuer))
    roles = ["anyone", "authenticated", "manager", "managers@shop.example"]
    assert ask(app, "/who", **manager(issuer)).json() == [f"{issuer.url}|mia", roles]
    assert ask(app, "/who").json() == ["", ["anyone"]]
    assert [ask(app, "/managers", **who).status_code for who in (manager(issuer), ann(issuer))] == [200, 403]


class _Broken:
    scheme: Mapping[str, Any] = {"type": "http", "scheme": "bearer"}

    def __init__(self, answer: Callable[[], Principal | None]) -> None:
        self.answer = answer

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        return self.answer()


@pytest.mark.parametrize(
    "answer",
    [lambda: 1 / 0, lambda: Principal(""), lambda: Principal("x", kind="system"), lambda: EVERYONE],
)
def test_an_authenticator_that_is_wrong_lets_nobody_in(tmp_path: Path, answer: Any) -> None:
    broken = Authentication((_Broken(answer), Dev()))
    with deployed(tmp_path / "a.db", Suggestion, authentication=broken) as http:
        assert http.request("POST", "/wf/suggestion/1").status_code == 500


def test_a_user_of_an_outer_application_is_not_ours(tmp_path: Path, issuer: Issuer) -> None:
    def outer(app: ASGIApp) -> ASGIApp:
        async def with_user(scope: Scope, receive: Receive, send: Send) -> None:
            await app(dict(scope) | {"user": EVERYONE, "auth": None}, receive, send)

        return with_user

    with deployed(tmp_path / "a.db", Parcel, authentication=authentication(issuer), around=outer) as http:
        assert http.problem("GET", PARCEL)["status"] == 401


# --- roles of members ----------------------------------------------------------------------

MIA = {"email": "Mia@Shop.example", "email_verified": True, "hd": "shop.example"}


@pytest.mark.parametrize(
    ("member", "claims", "is_member"),
    [
        ("group:g", {}, True),
        ("group:G", {}, False),
        ("id:iss|mia", {}, True),
        ("id:other|mia", {}, False),
        ("user:mia@shop.example", MIA, True),
        ("user:MIA@shop.example", MIA, True),
        ("user:mia@shop.example", MIA | {"email_verified": False}, False),
        ("user:mia@shop.example", MIA | {"email_verified": "true"}, False),
        ("user:mia@shop.example", {"email": "mia@shop.example"}, False),
        ("user:kim@shop.example", MIA | {"email": "\N{KELVIN SIGN}im@shop.example"}, False),
        ("user:\N{KELVIN SIGN}im@shop.example", MIA | {"email": "kim@shop.example"}, False),
        ("domain:shop.example", MIA, True),
        ("domain:kim.example", MIA | {"hd": "\N{KELVIN SIGN}im.example"}, False),
        ("domain:shop.example", {"email": "mia@shop.example", "email_verified": True}, False),
        ("domain:shop.example", {"hd": ["shop.example"]}, False),
    ],
)
def test_members(member: str, claims: dict[str, Any], is_member: bool) -> None:
    principal = Principal("iss|mia", roles=frozenset({"g", "*"}), claims=claims)
    roles = Memberships({"manager": [member]}).grant(principal).roles
    assert roles == ({"g", "manager"} if is_member else {"g"})


@pytest.mark.parametrize(
    "roles",
    [{"*": ["group:g"]}, {"": ["group:g"]}, {"m": "group:g"}, {"m": ["g"]}, {"m": ["group:"]}, {"m": ["grp:g"]}],
)
def test_members_that_are_wrong(roles: Any) -> None:
    with pytest.raises(SettingsError, match="roles: "):
        Memberships(roles)


def test_iap_and_keys_are_other_credentials(issuer: Issuer) -> None:
    names = Authentication((Iap("/projects/1/x"), Oidc(issuer.url, "a"), Oidc("https://b.example", "b"))).schemes
    assert list(names) == ["Iap", "Oidc", "Oidc2"]


@pytest.mark.parametrize("public", [True, False])
def test_documents_name_every_credential(issuer: Issuer, public: bool) -> None:
    schemes = authentication(issuer).schemes
    made = document(Parcel, "http://h", DocumentAccess(EVERYONE, schemes, public), max_body_bytes=1_000)
    assert len(made["security"]) == 2
    assert all(len(each) == (1 if public else 2) for each in made["security"])
    assert {name for each in made["security"] for name in each} == made["components"]["securitySchemes"].keys()
    assert document(Parcel, "http://h", max_body_bytes=1_000)["security"] == []
