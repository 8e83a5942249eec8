"""What a test sends: secrets, and fields that are named like arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretBytes, SecretStr

from gorchestrate.testing import Environment
from workflow_core import Access, Workflow, event, select


class Login(BaseModel):
    user: str
    password: SecretStr = Field(alias="pass")


@dataclass
class Card:
    pin: SecretStr


class Vault(Workflow, name="vault"):
    token: SecretStr = SecretStr("")
    key: SecretBytes = SecretBytes(b"")
    login: Login | None = None
    cards: list[Card] = []
    seen: list[str] = []

    @event
    def enter(self, login: Login) -> None:
        self.login = login
        self.seen.append(login.password.get_secret_value())

    @event
    def unlock(self, password: SecretStr) -> None:
        self.seen.append(password.get_secret_value())

    @event
    def take(self, cards: list[Card]) -> None:
        self.cards = cards
        self.seen.append(cards[0].pin.get_secret_value())

    async def run(self) -> None:
        while len(self.seen) < 3:
            await select(self.enter, self.unlock, self.take)


def test_secrets_arrive() -> None:
    with Environment(Vault) as environment:
        vault = environment.create(Vault, token=SecretStr("t"), key=SecretBytes(b"k"))
        vault.send("unlock", SecretStr("one"))
        vault.send("enter", Login(user="ann", **{"pass": "two"}))
        vault.send("take", [Card(SecretStr("three"))])
        fields = vault.fields
        assert vault.is_finished
    assert fields.seen == ["one", "two", "three"]
    assert fields.token.get_secret_value() == "t"
    assert fields.key.get_secret_value() == b"k"
    assert fields.login is not None
    assert fields.login.password.get_secret_value() == "two"
    assert fields.cards[0].pin.get_secret_value() == "three"


class Account(Workflow, name="account"):
    access = Access(create={"clerk"}, read={"clerk"})
    create_fields = ("id", "roles", "principal", "fields", "owner")
    id: str = ""
    roles: list[str] = []
    principal: str = ""
    fields: int = 0
    owner: str = ""

    @event
    def close(self) -> None: ...

    async def run(self) -> None:
        await select(self.close)


def test_fields_that_are_named_like_arguments() -> None:
    given: dict[str, Any] = {"id": "x", "roles": ["a"], "principal": "p", "fields": 3}
    with Environment(Account) as environment:
        account = environment.create(Account, "account-1", roles={"clerk"}, fields=given, owner="ann")
        stored = account.fields
        assert account.id == "account-1"
    assert (stored.id, stored.roles, stored.principal, stored.fields, stored.owner) == ("x", ["a"], "p", 3, "ann")


def test_a_value_that_json_cannot_represent_is_named() -> None:
    with Environment(Vault) as environment:
        with pytest.raises(ValueError, match=r"the value of 'key' cannot be sent as JSON: .*utf-8.*such as base64"):
            environment.create(Vault, fields={"token": SecretStr("a"), "key": SecretBytes(b"\xff")})
        assert environment.instances(Vault) == []
        assert environment.create(Vault, key=SecretBytes(b"abc")).fields.key.get_secret_value() == b"abc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"roles": ["clerk"]}, r"has a field 'roles', but create\(Account, roles=\.\.\.\) says who creates"),
        ({"principal": "x"}, r"write create\(Account, fields=\{'principal': \.\.\.\}\)"),
        ({"fields": 3}, r"fields is 3, not a mapping.*fields=\{'fields': \.\.\.\}"),
        ({"fields": {"owner": "ann"}, "owner": "bob"}, r"the field 'owner' is given twice"),
    ],
)
def test_what_is_not_clear_is_refused(arguments: dict[str, Any], message: str) -> None:
    with Environment(Account) as environment:
        with pytest.raises(TypeError, match=message):
            environment.create(Account, **arguments)
        assert environment.instances(Account) == []
        environment.create(Account, roles={"clerk"}, fields={})
