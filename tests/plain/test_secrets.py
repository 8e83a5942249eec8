"""Secrets in plain definitions: code may use one, but no thread stores one. A refusal says what to do."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from workflow_core import (
    DefinitionError,
    Execution,
    Workflow,
    aresume,
    event,
    gather,
    handle_event,
    parallel,
    race,
    select,
    step,
)

HEAD = """
from datetime import timedelta
from pydantic import SecretStr
from workflow_core import *

class Flow(Workflow, name="flow"):
    token: SecretStr = SecretStr("")
    tokens: list[SecretStr] = []

    @step
    def work(self) -> SecretStr:
        return self.token

    @step
    def send(self, to: SecretStr) -> None: ...

    @activity
    async def fetch(self) -> SecretStr:
        return SecretStr("fetched")

    async def deliver(self, to: SecretStr) -> None:
        await self.work()
        print(to)

    @event
    def login(self, password: SecretStr) -> None: ...

    async def run(self) -> None:
"""

FIELD = "Keep the secret in a field, and what else you need of it in another local."
REFUSED = {
    "a result": ("got = await select(self.login)\nawait self.work()\nprint(got.timed_out)", "the local 'got'", FIELD),
    "a branch": (
        "got, _ = await race(self.fetch(), select(self.login))",
        "a result of 'race fetch, login'",
        "Await the call that returns it alone, and assign its result to a field.",
    ),
    "an argument": (
        "await self.send(self.token)",
        "the argument 'to' of 'send'",
        "Do not pass it: read the secret from a field in 'send'.",
    ),
    "items": (
        "for token in [self.token]:\n    await self.work()",
        "the items of 'for token'",
        "Loop over a field that has them.",
    ),
    "a part of an expression": (
        "print(await self.fetch(), await self.work())",
        "a value in a statement with an await",
        "Assign it to a field before the next await.",
    ),
    "a parameter": ("await self.deliver(self.token)", "the local 'deliver/to'", FIELD),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_secret_that_would_be_stored_is_refused(tmp_path: Path, what: str) -> None:
    body, subject, fix = REFUSED[what]
    path = tmp_path / "flow.py"
    path.write_text(HEAD + "".join(f"        {line}\n" for line in body.splitlines()))
    spec = importlib.util.spec_from_file_location("flow_with_secret", path)
    assert spec is not None and spec.loader is not None
    sys.modules["flow_with_secret"] = module = importlib.util.module_from_spec(spec)
    with pytest.raises(DefinitionError) as caught:
        spec.loader.exec_module(module)
    text = str(caught.value)
    assert text.startswith(f"{subject} in {path}, line ")
    assert text.endswith(f"it has a secret, and would be stored without encryption while the instance sleeps. {fix}")


class Row(BaseModel):
    at: date = date(2026, 1, 31)


class Vault(Workflow, name="vault-of-plain-code"):
    token: SecretStr = SecretStr("")
    known: bool = False

    @event
    def login(self, password: SecretStr) -> None: ...

    @event
    def logout(self) -> None: ...

    @step
    def work(self) -> SecretStr:
        return SecretStr("hunter3")

    @step
    def look(self) -> Row:
        return Row()

    async def run(self) -> None:
        await select(self.login).named("unused")
        got = await select(self.login, self.logout, timeout=timedelta(days=1))
        if got.timed_out:
            return
        if got.happened(self.login):
            self.token = got.input
        await self.work()
        self.known = await self.work().named("again") == SecretStr("hunter3")
        async with parallel() as branch:
            branch.start(self.look())
            branch.start(self.work().named("beside"))
        await gather(self.look().named("first"), self.work().named("second"))
        await race(self.look().named("third"), self.work().named("fourth"))
        await self.look().named("last")


def test_code_uses_secrets_between_awaits_and_none_is_stored() -> None:
    workflow, execution = Vault(), Execution.start("x", Vault, now=datetime(2026, 1, 1, tzinfo=UTC))
    texts: list[str] = []

    def save(*_: object) -> None:
        texts.append(execution.to_json())

    asyncio.run(aresume(workflow, execution, checkpoint=save))
    handle_event(workflow, execution, "login", "hunter1")
    asyncio.run(aresume(workflow, execution, checkpoint=save))
    handle_event(workflow, execution, "login", "hunter2")
    asyncio.run(aresume(workflow, execution, checkpoint=save))
    assert (execution.status, workflow.token.get_secret_value(), workflow.known) == ("finished", "hunter2", True)
    assert len(texts) > 8
    assert [text for text in texts if "hunter" in text or "***" in text] == []
