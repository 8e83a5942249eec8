"""Which workflows handle secrets, wherever their types have them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from workflow_core import Activity, Child, On, S, Select, Step, Workflow
from workflow_core.machine.secrets import handles_secrets


class Login(BaseModel):
    token: SecretStr = SecretStr("")


def takes(login: Login) -> None: ...
def gives() -> Login: ...  # type: ignore[empty-body]
def neither(text: str) -> str: ...  # type: ignore[empty-body]
def any_value() -> Any: ...
def receives(workflow: Any, login: Login) -> None: ...
def answers(workflow: Any) -> Login: ...  # type: ignore[empty-body]


class Vault(Workflow, name="vault"):
    login: Login = Login()
    definition = S(Step("s", lambda w: None))


class Result(Workflow, name="result"):
    def result(self) -> Login: ...  # type: ignore[empty-body]

    definition = S(Step("s", lambda w: None))


def of(statement: Any) -> type[Workflow]:
    class Made(Workflow, name="made"):
        definition = S(statement)

    return Made


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (Vault, True),
        (Result, True),
        (of(Activity("a", takes, input=lambda w: Login())), True),
        (of(Activity("a", gives)), True),
        (of(Activity("a", any_value, then=receives)), True),
        (of(Select("s", On("E", receives))), True),
        (of(Select("s", On("E", answers))), True),
        (of(Child("c", Vault)), True),
        (of(Child("c", "vault")), False),
        (of(Child("c", "vault", then=receives)), True),
        (of(Activity("a", neither, input=lambda w: "")), False),
        (of(Select("s", On("E", lambda w: None))), False),
    ],
)
def test_a_workflow_handles_secrets_if_one_of_its_types_has_them(cls: type[Workflow], expected: bool) -> None:
    assert handles_secrets(cls) is expected
