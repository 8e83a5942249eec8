"""Encrypted secrets on Firestore's emulator: nothing that is sent contains one, and all of them come back."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from cloud_adapter.codecs.fernet import FernetCodec, new_key
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.stores.firestore.documents import INBOX
from tests.emulator.firestore_engine import firestore_engine
from tests.engine.test_encrypted_secrets import LOGIN, SECRET, SEEN, Account, Vault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_nothing_that_is_sent_to_firestore_contains_it(firestore_project: str) -> None:
    async def main() -> None:
        SEEN.clear()
        codec = FernetCodec([new_key()])
        body = json.dumps(LOGIN).encode()
        async with firestore_engine(firestore_project, Account, Vault, codec=codec) as (engine, client):
            await engine.create("account", "1", json.dumps({"login": LOGIN}).encode(), key="created")
            await engine.handle_event("account", "1", "Later", body)
            engine.lanes.met_others(InstanceRef(Account, "1"))  # results go to the inbox
            await engine.handle_event("account", "1", "LogIn", body, key="k")
            while [event.case.event for event in (await engine.get("account", "1")).accepted] != ["End"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            workflow: Any = (await engine.get("account", "1")).workflow
            assert workflow.login.token.get_secret_value() == SECRET
            sent = str(client.requests)
        assert SECRET not in sent
        for encrypted in ('"encrypted:gAAAA', '\\"$encrypted\\":{\\"login\\":\\"gAAAA'):
            assert encrypted in sent
        assert INBOX in sent

    asyncio.run(main())
    assert [where for where, _ in SEEN] == ["event", "activity", "result", "child", "result", "buffer"]
    assert {secret for _, secret in SEEN} == {SECRET}
