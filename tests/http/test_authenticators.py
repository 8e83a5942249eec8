"""The authenticators: the contract of all, and what is special about each."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud_adapter.errors import InvalidCredential, SettingsError, Unavailable
from cloud_adapter.http.authenticators import keys
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.authenticators.claims import claim
from cloud_adapter.http.authenticators.dev import Dev
from cloud_adapter.http.authenticators.iap import IAP_HEADER, IAP_ISSUER, Iap
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.authenticators.port import Authenticator
from tests.http.authenticator_contract import AuthenticatorContract, connection, found
from tests.http.issuer import KEY, Issuer
from tests.http.test_auth import unsigned
from workflow_core.principal import Principal

AUDIENCE = "shop"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
IAP_AUDIENCE = "/projects/1/global/backendServices/2"
API_KEY = new_key()


def claims(issuer: Issuer, **changed: Any) -> dict[str, Any]:
    return issuer.claims(**{"aud": AUDIENCE, "sub": "u1", "groups": ["cook"]} | changed)


def bearer(issuer: Issuer, *, key: Any = KEY, alg: str = "RS256", header: Any = None, **changed: Any) -> str:
    token = jwt.encode(claims(issuer, **changed), key, alg, {"kid": "1"} | (header or {}))
    return f"Bearer {token}"


def asked(oidc: Authenticator, authorization: str) -> Principal:
    principal = found(oidc, ("Authorization", authorization))
    assert principal is not None
    return principal


def publish(issuer: Issuer, key: Any, **more: Any) -> None:
    """Adds the public key of a private key."""
    algorithm = jwt.get_algorithm_by_name("EdDSA" if isinstance(key, ed25519.Ed25519PrivateKey) else "ES256")
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = jwt.get_algorithm_by_name("RS256")
    issuer.more.append(json.loads(algorithm.to_jwk(key.public_key())) | more)


def wrong_tokens(issuer: Issuer) -> list[str]:
    now = datetime.now(UTC)
    secret = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def with_secret(content: bytes) -> bytes:
        return hmac.digest(secret, content, hashlib.sha256)

    return [
        bearer(issuer, aud="other"),
        bearer(issuer, aud=None),
        bearer(issuer, exp=now - timedelta(minutes=2)),
        bearer(issuer, exp=None),
        bearer(issuer, iat=None),
        bearer(issuer, iat=now + timedelta(hours=1)),
        bearer(issuer, nbf=now + timedelta(hours=1)),
        bearer(issuer, sub=None),
        bearer(issuer, sub=""),
        bearer(issuer, sub="a\0b"),
        bearer(issuer, sub="x" * 256),
        bearer(issuer, events={"http://schemas.openid.net/event/backchannel-logout": {}}),
        bearer(issuer, key=rsa.generate_private_key(public_exponent=65537, key_size=2048)),
        bearer(issuer, header={"kid": "unknown"}),
        *(bearer(issuer, header={"typ": typ}) for typ in ("logout+jwt", "dpop+jwt", "secevent+jwt", "application/x")),
        *(f"Bearer {unsigned({'alg': alg, 'kid': '1'}, claims(issuer))}" for alg in ("none", "NONE", "")),
        f"Bearer {unsigned({'alg': 'HS256', 'kid': '1'}, claims(issuer), with_secret)}",
        f"Bearer {unsigned({'alg': 'RS256', 'kid': ['1']}, claims(issuer))}",
        f"Bearer {unsigned({'alg': 'RS256', 'kid': '1', 'typ': 1}, claims(issuer))}",
        f"Bearer {unsigned({'alg': 'RS256', 'kid': '1', 'crit': ['exp']}, claims(issuer))}",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer",
        "bearer  ",
        "BEARER ..",
    ]


class TestOidc(AuthenticatorContract):
    header = "Authorization"
    id = "{url}|u1"

    @pytest.fixture
    def authenticator(self, issuer: Issuer) -> Authenticator:
        return Oidc(issuer.url, AUDIENCE, roles=claim("groups"))

    def right(self, issuer: Issuer) -> str:
        return bearer(issuer, email="ann@shop.example")

    def wrong(self, issuer: Issuer) -> Sequence[str]:
        return wrong_tokens(issuer)


class TestIap(AuthenticatorContract):
    header = IAP_HEADER
    id = f"{IAP_ISSUER}|accounts.google.com:1"

    @pytest.fixture
    def authenticator(self, issuer: Issuer) -> Authenticator:
        publish(issuer, EC_KEY, kid="iap", use="sig", alg="ES256")
        return Iap(IAP_AUDIENCE, keys_url=f"{issuer.url}/jwks")

    def right(self, issuer: Issuer, *, key: Any = EC_KEY, alg: str = "ES256", kid: str = "iap", **changed: Any) -> str:
        said = {"iss": IAP_ISSUER, "aud": IAP_AUDIENCE, "sub": "accounts.google.com:1", "email": "Ann@shop.example"}
        return jwt.encode(claims(issuer, **(said | changed)), key, alg, {"kid": kid})

    def wrong(self, issuer: Issuer) -> Sequence[str]:
        return [
            self.right(issuer, aud=AUDIENCE),
            self.right(issuer, iss=issuer.url),
            self.right(issuer, sub=None),
            self.right(issuer, key=ec.generate_private_key(ec.SECP256R1())),
            unsigned({"alg": "none", "kid": "iap"}, {"iss": IAP_ISSUER, "aud": IAP_AUDIENCE, "sub": "1"}),
            "accounts.google.com:ann@shop.example",
            "",
        ]

    def test_the_address_of_a_google_account_is_verified(self, authenticator: Authenticator, issuer: Issuer) -> None:
        external = self.right(issuer, sub="securetoken.google.com/p:1", email_verified=None)
        for token, is_verified in ((self.right(issuer, email_verified=None), True), (external, None)):
            principal = found(authenticator, (IAP_HEADER, token))
            assert principal is not None
            assert principal.claims.get("email_verified") is is_verified


class TestApiKey(AuthenticatorContract):
    header = "Authorization"
    kind = "service"
    id = "api-key|till"

    @pytest.fixture
    def authenticator(self) -> Authenticator:
        old, other = StoredKey("till", key_hash(new_key())), StoredKey("other", key_hash(new_key()))
        return ApiKey(old, StoredKey("till", key_hash(API_KEY), ["cook"]), other)

    def right(self, issuer: Issuer) -> str:
        return f"Bearer {API_KEY}"

    def wrong(self, issuer: Issuer) -> Sequence[str]:
        return [f"Bearer {key}" for key in ("gok_", API_KEY[:-1], API_KEY + "x", new_key(), "gok_\0", "gok_ÿ")]

    def test_a_token_is_for_another(self, authenticator: Authenticator, issuer: Issuer) -> None:
        assert found(authenticator, ("Authorization", bearer(issuer))) is None
        assert asked(authenticator, f"bearer {API_KEY}").roles == {"cook"}

    @pytest.mark.parametrize(
        "made",
        [
            lambda: ApiKey(),
            lambda: StoredKey("till", API_KEY),
            lambda: StoredKey("", key_hash("x")),
            lambda: StoredKey("till", key_hash("x"), ["*"]),
            lambda: StoredKey("till", key_hash("x"), "cook"),
        ],
    )
    def test_a_mistake_is_said_without_the_key(self, made: Any) -> None:
        with pytest.raises(SettingsError) as refused:
            made()
        assert API_KEY not in str(refused.value)


class TestDev(AuthenticatorContract):
    header = "X-Dev-User"
    id = "dev|ann"

    @pytest.fixture
    def authenticator(self) -> Authenticator:
        return Dev()

    def right(self, issuer: Issuer) -> str:
        return "ann; roles=manager, cook"

    def wrong(self, issuer: Issuer) -> Sequence[str]:
        return ["", ";", "; roles=manager", "ann; admin", "ann; rolls=manager", "a\0b"]

    def test_it_may_name_the_users_of_another_issuer(self) -> None:
        principal = found(Dev(issuer="https://login.example"), ("X-Dev-User", "ann; roles=cook"))
        assert principal is not None
        assert principal.id == "https://login.example|ann" and principal.roles == {"cook"}

    @pytest.mark.parametrize("client", [("192.0.2.7", 5000), ("::ffff:192.0.2.7", 1), ("testclient", 1), ("", 0), None])
    def test_other_machines_are_refused(self, authenticator: Authenticator, client: tuple[str, int] | None) -> None:
        with pytest.raises(InvalidCredential, match="same machine"):
            asyncio.run(authenticator(connection([("X-Dev-User", "ann")], client)))

    @pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"])
    def test_a_proxy_on_this_machine_is_refused(self, authenticator: Authenticator, header: str) -> None:
        with pytest.raises(InvalidCredential, match="without a proxy"):
            found(authenticator, ("X-Dev-User", "ann"), (header, "127.0.0.1"))

    @pytest.mark.parametrize(("variable", "value"), [("GORCHESTRATE_BACKEND", "cloud"), ("K_SERVICE", "api")])
    def test_it_is_not_for_the_cloud(self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
        monkeypatch.setenv(variable, value)
        with pytest.raises(SettingsError, match="not for the cloud"):
            Dev()


# --- Oidc ----------------------------------------------------------------------------------


@pytest.fixture
def oidc(issuer: Issuer) -> Oidc:
    return Oidc(issuer.url, [AUDIENCE, "app"], roles=claim("groups"))


def test_a_token_of_another_issuer_is_for_another(oidc: Oidc, issuer: Issuer) -> None:
    for iss in ("https://other.example", f"{issuer.url}/", issuer.url.upper()):
        assert found(oidc, ("Authorization", bearer(issuer, iss=iss))) is None
    assert found(oidc, ("Authorization", f"Bearer {API_KEY}")) is None
    assert issuer.asked == []


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR", "Bearer  "])
def test_the_scheme_is_case_insensitive(oidc: Oidc, issuer: Issuer, scheme: str) -> None:
    assert asked(oidc, bearer(issuer).replace("Bearer", scheme)).roles == {"cook"}


@pytest.mark.parametrize(
    ("key", "alg"),
    [
        (KEY, "PS384"),
        (KEY, "RS512"),
        (EC_KEY, "ES256"),
        (ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_algorithms_of_each_kind_of_key(oidc: Oidc, issuer: Issuer, key: Any, alg: str) -> None:
    publish(issuer, key, kid="2")
    assert asked(oidc, bearer(issuer, key=key, alg=alg, header={"kid": "2"})).id == f"{issuer.url}|u1"
    for other, other_alg in ((KEY, "RS256"), (EC_KEY, "ES256")):
        if type(other) is not type(key):
            with pytest.raises(InvalidCredential, match="alg"):
                asked(oidc, bearer(issuer, key=other, alg=other_alg, header={"kid": "2"}))


def test_a_key_is_used_only_as_its_issuer_says(oidc: Oidc, issuer: Issuer) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    publish(issuer, KEY, kid="pinned", alg="PS256")
    publish(issuer, KEY, kid="secret", use="enc")
    publish(issuer, KEY, kid="signs", key_ops=["sign"])
    publish(issuer, weak, kid="weak")
    issuer.more += [{"kty": "oct", "k": "c2VjcmV0", "kid": "oct"}, {"kty": "RSA", "kid": "broken"}, {"kid": "none"}]
    with pytest.raises(InvalidCredential, match="alg"):
        asked(oidc, bearer(issuer, header={"kid": "pinned"}))
    assert asked(oidc, bearer(issuer, alg="PS256", header={"kid": "pinned"})).name
    for kid in ("secret", "signs", "oct", "broken", "none"):
        with pytest.raises(InvalidCredential, match="unknown"):
            asked(oidc, bearer(issuer, header={"kid": kid}))
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        token = bearer(issuer, key=weak, header={"kid": "weak"})
    with pytest.raises(InvalidCredential, match="unknown"):
        asked(oidc, token)


@pytest.mark.parametrize(
    ("tokens", "types"),
    [("access", ["at+jwt", "application/at+jwt", "AT+JWT"]), ("id", ["JWT", None]), ("both", ["at+jwt", "JWT"])],
)
def test_the_types_of_tokens(issuer: Issuer, tokens: Any, types: list[str | None]) -> None:
    oidc = Oidc(issuer.url, AUDIENCE, tokens=tokens)
    for type in types:
        assert asked(oidc, bearer(issuer, header={"typ": type})).id
    for type in {"at+jwt", "JWT", "logout+jwt"} - set(types):
        with pytest.raises(InvalidCredential, match="type"):
            asked(oidc, bearer(issuer, header={"typ": type}))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ({}, "user"),
        ({"azp": "app"}, "user"),
        ({"client_id": "u1"}, "service"),
        ({"azp": "u1"}, "service"),
        ({"gty": "client-credentials"}, "service"),
        ({"idtyp": "app"}, "service"),
        ({"email": "x@p.iam.gserviceaccount.com"}, "service"),
        ({"email": "x@p.iam.gserviceaccount.com", "email_verified": False}, "user"),
    ],
    ids=str,
)
def test_services_are_told_from_users(oidc: Oidc, issuer: Issuer, said: dict[str, Any], kind: str) -> None:
    assert asked(oidc, bearer(issuer, **({"email": "ann@shop.example"} | said))).kind == kind


def test_a_name_is_only_shown(oidc: Oidc, issuer: Issuer) -> None:
    assert asked(oidc, bearer(issuer, name="Ann")).name == "Ann"
    assert asked(oidc, bearer(issuer, name="A\u202enn", email="ann@shop.example")).name == "ann@shop.example"
    assert asked(oidc, bearer(issuer, name=["Ann"], email=None)).name == ""


@pytest.mark.parametrize(
    ("path", "said", "roles"),
    [
        (["groups"], {"groups": ["a", 1, "", "b"]}, {"a", "b"}),
        (["role"], {"role": "shop manager"}, {"shop manager"}),
        (["scope"], {"scope": "read write"}, {"read", "write"}),
        (["realm", "roles"], {"realm": {"roles": ["a"]}}, {"a"}),
        (["realm", "roles"], {"realm": ["roles"]}, set()),
        (["groups"], {}, set()),
        (["groups"], {"groups": {"a": 1}}, set()),
    ],
)
def test_roles_in_claims(path: list[str], said: dict[str, Any], roles: set[str]) -> None:
    assert claim(*path)(said) == roles


@pytest.mark.parametrize(
    "arguments",
    [
        ("http://login.example", AUDIENCE),
        ("file:///etc/passwd", AUDIENCE),
        ("", AUDIENCE),
        ("https://login.example", ""),
        ("https://login.example", []),
        ("https://login.example", ["shop", ""]),
    ],
)
def test_settings_that_are_not_safe(arguments: Any) -> None:
    with pytest.raises(SettingsError):
        Oidc(*arguments)
    with pytest.raises(SettingsError):
        Iap("shop")


def test_a_discovery_document_of_another_issuer(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = issuer.answer
    monkeypatch.setattr(issuer, "answer", lambda path: answer(path) | {"issuer": "https://other.example"})
    with pytest.raises(Unavailable, match="names the issuer"):
        asked(Oidc(issuer.url, AUDIENCE), bearer(issuer))
    monkeypatch.setattr(issuer, "answer", lambda path: answer(path) | {"jwks_uri": "file:///etc/passwd"})
    with pytest.raises(Unavailable, match="not https"):
        asked(Oidc(issuer.url, AUDIENCE), bearer(issuer))


def test_a_flood_of_unknown_key_ids_asks_once(oidc: Oidc, issuer: Issuer) -> None:
    async def flood() -> list[Any]:
        tokens = [bearer(issuer, header={"kid": f"unknown-{number}"}) for number in range(50)]
        asking = (oidc(connection([("Authorization", token)])) for token in tokens)
        return await asyncio.gather(*asking, return_exceptions=True)

    assert {type(error) for error in asyncio.run(flood())} == {InvalidCredential}
    assert issuer.asked.count("/jwks") == 1
    assert asked(oidc, bearer(issuer)).id, "the others are still served"


def test_nested_and_huge_values_in_a_token(oidc: Oidc, issuer: Issuer) -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for said in ({"groups": deep}, {"groups": ["x"] * 300}, {"exp": 1e308}):
        assert asked(oidc, bearer(issuer, **said)).id
    for header in ('{"alg":"RS256","kid":' + "[" * 3_000, '{"alg":"RS256","kid":' + "1" * 5_000 + "}"):
        text = jwt.utils.base64url_encode(header.encode()).decode()
        with pytest.raises(InvalidCredential):
            asked(oidc, f"Bearer {text}.e30.eA")


def test_rotated_keys(issuer: Issuer) -> None:
    passed = [1.0]
    oidc = Oidc(issuer.url, AUDIENCE, monotonic=lambda: passed[0])
    old = bearer(issuer)
    assert asked(oidc, old).id
    issuer.kid = "2"
    new = bearer(issuer, header={"kid": "2"})
    with pytest.raises(InvalidCredential):
        asked(oidc, new)  # too early to ask again
    passed[0] += keys.KEYS_REFRESH_S_MIN + 1
    assert asked(oidc, new).id
    with pytest.raises(InvalidCredential):
        asked(oidc, old)
    assert issuer.asked.count("/jwks") == 2
