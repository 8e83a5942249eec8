"""What is encrypted, stored, loaded and decrypted is the same as before, for values of all types of fields."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from pydantic import SecretStr
from pydantic_core import PydanticSerializationError

from cloud_adapter.codecs.fernet import FernetCodec, new_key
from cloud_adapter.document import Instance, decode, encode
from cloud_adapter.document_size import ENCRYPTED
from cloud_adapter.engine.secrets import Secrets
from tests.core.value_samples import typed_values
from workflow_core import DefinitionError, Execution, InvalidFields, S, Step, WaitStatus, Workflow
from workflow_core.execution import BufferedEvent, Thread
from workflow_core.machine.secrets import secret_inputs
from workflow_core.wait_types import ActivityWait, ChildTeardown, ChildWait, EventWait, HandlerTeardown

SECRET = "hunter2"
INPUT = {"token": SECRET, "more": [1, 2.5, None, {"a": SECRET}]}
SHOWN = {"token": "*"}
SET_UP = WaitStatus.SET_UP


def through_a_store(instance: Instance, *workflows: type[Workflow]) -> tuple[dict[str, Any], Instance]:
    """Returns the document, and the instance that is loaded from it."""
    secrets = Secrets(FernetCodec([new_key()]), {cls.__workflow_name__: cls for cls in workflows})

    async def main() -> tuple[dict[str, Any], Instance]:
        document = encode(await secrets.sealed(instance))
        loaded = decode(document, 1)
        assert loaded.is_sealed == (document["format"] == 3)
        return document, await secrets.opened(loaded)

    return asyncio.run(main())


@settings(max_examples=60)
@given(typed_values())
def test_fields_come_back_as_they_were(typed: tuple[Any, Any]) -> None:
    annotation, value = typed
    try:

        class Holder(Workflow, name="holder"):
            __annotations__ = {"first": SecretStr, "value": annotation, "last": SecretStr}
            definition = S(Step("a", lambda w: None))

        fields = Holder.model_construct(first=SecretStr(SECRET), value=value, last=SecretStr(SECRET)).dump_fields()
    except (DefinitionError, InvalidFields, PydanticSerializationError):
        assume(False)
    instance = Instance("holder", "1", Execution.start("1", Holder), fields)
    document, opened = through_a_store(instance, Holder)
    assert opened.fields == fields
    assert SECRET not in str(document)
    assert json.loads(document["fields"])[ENCRYPTED].keys() >= {"first", "last"}


class Public(Workflow, name="public"):
    definition = S(Step("a", lambda w: None))


def child(shown: Any = SHOWN, **more: Any) -> dict[str, Any]:
    start = {"workflow": "w", "id": "c", "fields": INPUT, "detached": False} | more
    return start if shown is None else start | {"shown": shown}


@pytest.mark.parametrize("threads", [1, 3, 40], ids=lambda threads: f"{threads} threads")
def test_inputs_come_back_as_they_were(threads: int) -> None:
    execution = Execution.start("1", Public)
    for number in range(threads):
        id = f"t{number}"
        activity = ActivityWait("renew", SET_UP, f"{id}@1", input=INPUT, shown=SHOWN)
        started = ChildWait("start", SET_UP, f"{id}@1", child=child())
        execution.threads.append(Thread(id, "go", waits=[activity, started, EventWait("E", SET_UP, f"{id}@1")]))
        execution.teardowns.append(ChildTeardown("start", "start", f"{id}@0", False, child()))
    execution.teardowns.append(HandlerTeardown("s", "E", "main@1", False))
    execution.teardowns.append(ChildTeardown("s", "known", "main@2", False, {"workflow": "w", "id": "c"}))
    execution.buffer = [BufferedEvent("E", json.dumps(INPUT), shown="{}"), BufferedEvent("F", '{"plain": 1}')]
    before = execution.to_json()
    document, opened = through_a_store(Instance("public", "1", execution, "{}"), Public)
    assert SECRET not in str(document)
    assert len(secret_inputs(opened.execution)) == 3 * threads + 1
    assert opened.execution == execution
    assert opened.execution.to_json() == execution.to_json() == before, "nor was it changed in memory"
    assert json.loads(opened.execution.buffer[1].input) == {"plain": 1}


def test_inputs_without_secrets_stay_readable() -> None:
    execution = Execution.start("1", Public)
    plain = ActivityWait("renew", SET_UP, "main@1", input=INPUT)
    execution.threads[0].waits = [plain, ChildWait("start", SET_UP, "main@1", child=child(None))]
    document, opened = through_a_store(Instance("public", "1", execution, "{}"), Public)
    assert document["format"] == 1
    assert document["execution"] == execution.to_json()
    assert opened.execution == execution
