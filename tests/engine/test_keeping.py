"""User code that gives a field a value that saving would change: nothing is committed, and the error says where."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel, field_validator

from cloud_adapter.engine.operations import Pause, SetFields
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    Activity,
    If,
    InvalidFields,
    On,
    RepairRefused,
    Retry,
    S,
    Select,
    Status,
    Step,
    Try,
    WaitFor,
    Workflow,
)

BERLIN = datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
CHANGED = r"saving would change a field of \w+: at is .*Europe/Berlin"


class Dated(Workflow):
    at: datetime | None = None
    log: list[str] = []

    def put(self) -> None:
        self.log.append("put")
        self.at = BERLIN

    def put_result(self, result: str) -> None:
        self.put()


def answer() -> str:
    return "done"


class Handles(Dated, name="handles"):
    definition = S(Select("wait", On("Put", Dated.put), On("Go", lambda w: None)))


@in_world(Handles)
async def test_an_event_is_refused_and_changes_nothing(world: World) -> None:
    await world.create()
    before = await world.instance()
    with pytest.raises(InvalidFields, match=CHANGED):
        await world.send("Put")
    assert await world.instance() == before
    await world.send("Go")
    assert (await world.instance()).execution.status is Status.FINISHED


class Steps(Dated, name="steps"):
    definition = S(
        Try("try", Step("put", Dated.put)).except_(InvalidFields, Step("note", lambda w: w.log.append("no")))
    )


@in_world(Steps, options=EngineOptions(retry=Retry(max_attempts=1)))
async def test_a_step_fails_and_can_be_caught(world: World) -> None:
    await world.create()
    await world.deliver()
    assert dict(await world.fields()) == {"at": None, "log": ["no"]}
    (failure,) = [entry for entry in (await world.instance()).history if entry.error]
    assert "saving would change a field of Steps: at is" in failure.error


class Takes(Dated, name="takes"):
    definition = S(Activity("answer", answer, then=Dated.put_result))


@in_world(Takes)
async def test_a_result_that_changes_a_field_so_fails_the_activity(world: World) -> None:
    await world.create()
    await world.deliver()
    instance = await world.instance()
    assert instance.execution.status is Status.FAILED
    assert "saving would change a field of Takes" in str(instance.execution.error)
    assert dict(await world.fields()) == {"at": None, "log": []}


class Waits(Dated, name="waits"):
    definition = S(WaitFor("put", lambda w: True, Dated.put))


@in_world(Waits)
async def test_the_handler_of_a_condition_too(world: World) -> None:
    with pytest.raises(InvalidFields, match=CHANGED):
        await world.create()


class User(BaseModel):
    password: str = ""

    @field_validator("password")
    @classmethod
    def hashed(cls, password: str) -> str:
        return f"hash({password})" if password else password


class Account(Workflow, name="account"):
    user: User = User()
    definition = S(Select("wait", On("Go", lambda w: None)), If("never", lambda w: False, Step("s", lambda w: None)))


@in_world(Account)
async def test_a_validator_that_is_not_idempotent_is_found_at_the_creation(world: World) -> None:
    with pytest.raises(
        InvalidFields, match=r"user\.password is 'hash\(a\)', but would be loaded as 'hash\(hash\(a\)\)'"
    ):
        await world.create(user={"password": "a"})
    await world.create(id="empty")


@in_world(Account)
async def test_an_operator_cannot_set_such_a_value(world: World) -> None:
    await world.create()
    engine = world.process.engine
    await world.finish(engine.operate("account", ID, Pause()))
    with pytest.raises(RepairRefused, match=r"user\.password"):
        await world.finish(engine.operate("account", ID, SetFields(fields={"user": {"password": "a"}})))
