"""A secret on its way through an instance: it is stored and reaches the code, and no view and no log names it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from cloud_adapter.engine.operations import SetFields
from cloud_adapter.engine.view import View
from cloud_adapter.http.views import view_data
from tests.engine.harness import ID, World, in_world
from workflow_core import Activity, Child, EventRequest, On, RepairRefused, S, Select, Status, Step, Workflow
from workflow_core.secret_values import MASK

SECRET = "hunter2"
SEEN: list[tuple[str, str]] = []


class Login(BaseModel):
    user: str = "ada"
    token: SecretStr = SecretStr("")


def see(where: str, login: Login) -> Login:
    SEEN.append((where, login.token.get_secret_value()))
    return login


def renew(login: Login) -> Login:
    return see("activity", login)


class Vault(Workflow, name="vault"):
    login: Login = Login()
    key: SecretStr = SecretStr("")

    def check(self) -> None:
        see("child", self.login)

    def result(self) -> Login:
        return self.login

    definition = S(Step("check", check))


class Account(Workflow, name="account"):
    login: Login = Login()
    note: str = ""

    def log_in(self, login: Login) -> Login:
        self.login = see("event", login)
        return login

    def later(self, login: Login) -> None:
        self.login = see("buffer", login)

    def take(self, login: Login) -> None:
        self.login = see("result", login)

    def look(self) -> None:
        see("step", self.login)

    definition = S(
        Select("first", On("LogIn", log_in)),
        Step("look", look),
        Activity("renew", renew, input=lambda w: w.login, then=take),
        Child("vault", Vault, input=lambda w: {"login": w.login}, then=take),
        Select("second", On("Later", later, buffered=True)),
        Select("third", On("End", lambda w: None)),
    )


LOGIN = {"user": "ada", "token": SECRET}


def shown(view: View) -> dict[str, Any]:
    data = view_data(view, "")
    assert SECRET not in json.dumps(data)
    return data


@in_world(Account, Vault)
async def test_it_reaches_the_code_and_no_view(world: World, caplog: pytest.LogCaptureFixture) -> None:
    SEEN.clear()
    engine = world.process.engine
    with caplog.at_level(logging.DEBUG):
        await world.started()
        assert await world.send("LogIn", LOGIN, key="k") == {"user": "ada", "token": MASK}
        assert await world.send("LogIn", LOGIN, key="k") == {"user": "ada", "token": MASK}, "as it was answered"
        data = shown(await engine.get("account", ID))
        assert data["state"] == {"login": {"user": "ada", "token": MASK}, "note": ""}
        assert (await world.fields()).login.token.get_secret_value() == SECRET
        (step,) = world.queue.tasks.values()
        await world.process.deliver(step)
        data = shown(await engine.get("account", ID))
        (wait,) = data["meta"]["threads"][0]["waits"]
        assert wait["kind"] == "activity"
        assert wait["input"] == {"user": "ada", "token": MASK}
        assert await world.finish(world.process.post("Later", json.dumps(LOGIN).encode())) == b""
        data = shown(await engine.get("account", ID))
        assert json.loads(data["meta"]["buffer"][0]["input"]) == {"user": "ada", "token": MASK}
        assert data["meta"]["buffer"][0].keys() == {"event", "input", "at"}
        await world.process.deliver(next(iter(world.queue.tasks.values())))
        data = shown(await engine.get("account", ID))
        (wait,) = data["meta"]["threads"][0]["waits"]
        assert wait["kind"] == "child"
        assert wait["input"]["fields"] == {"login": {"user": "ada", "token": MASK}}
        await world.deliver()
    shown(await engine.get("account", ID))
    assert [(where, SECRET) for where in ("event", "step", "activity", "result", "child", "result", "buffer")] == SEEN
    assert SECRET not in caplog.text
    await world.send("End")
    assert (await world.instance()).execution.status is Status.FINISHED


@in_world(Account, Vault)
async def test_an_operator_sets_a_new_one_and_the_history_does_not_name_it(world: World) -> None:
    await world.started(login=LOGIN)
    engine = world.process.engine
    order = SetFields(fields={"login": LOGIN | {"token": "new hunter2"}, "note": "x"}, by="me")
    data = shown(await world.finish(engine.operate("account", ID, order)))
    assert json.loads(data["history"][-1]["detail"]) == {"login": {"user": "ada", "token": MASK}, "note": "x"}
    assert (await world.fields()).login.token.get_secret_value() == "new hunter2"
    with pytest.raises(RepairRefused, match=r"login\.token: '\*+' is what a secret is shown as"):
        await world.finish(engine.operate("account", ID, SetFields(fields=data["state"])))
    assert (await world.fields()).login.token.get_secret_value() == "new hunter2"


class Registers:
    def setup(self, request: EventRequest) -> Any:
        return {"token": request.workflow.login.token}

    def handle(self, request: EventRequest, input: Any) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


class Registered(Workflow, name="registered"):
    login: Login = Login()
    definition = S(Select("wait", On("E", Registers())))


@in_world(Registered)
async def test_the_result_of_a_setup_cannot_be_secret(world: World) -> None:
    await world.started(login=LOGIN)
    instance = await world.instance()
    assert "the result of the setup of 'E' contains a secret, which would be shown" in instance.history[-1].error
    assert SECRET not in instance.execution.to_json()


class Untyped(Workflow, name="untyped"):
    got: Any = None

    def take(self, result: Any) -> None:
        self.got = result

    definition = S(Child("vault", Vault, input=lambda w: {"login": Login(token=SecretStr(SECRET))}, then=take))


@in_world(Untyped, Vault)
async def test_a_result_with_secrets_does_not_become_a_plain_text(world: World) -> None:
    await world.started()
    instance = await world.instance()
    assert instance.execution.status is Status.FAILED
    assert "annotate the parameter of 'then' with a type that has them too" in str(instance.execution.error)
    assert SECRET not in instance.fields
