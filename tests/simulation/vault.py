"""Encryption of secrets, as simulated processes do it with a service that holds the key.

A text can only be decrypted with the context that it was encrypted with, as the port demands. The model sees what is
stored without encryption.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.engine.secrets import Secrets
from cloud_adapter.errors import SecretsUnreadable
from tests.simulation.loop import run_alone
from workflow_core.events import stable_key

if TYPE_CHECKING:
    from tests.simulation.processes import Process


SHARE = 0.1
"""How long a call to the service takes, of what others take: an instance may have many secrets, and a real process asks
for most of them nobody, because it knows the data key."""


class SimulatedCodec:
    """The Codec port.

    Args:
        process: whose calls to the service may fail; None: none does.
    """

    def __init__(self, process: Process | None = None) -> None:
        self._process = process

    async def encrypt(self, text: bytes, context: str) -> str:
        if self._process is not None:
            await self._process.call("encrypt", lambda: None, share=SHARE)
        return f"{stable_key(context)}{text[::-1].hex()}"

    async def decrypt(self, text: str, context: str) -> bytes:
        if self._process is not None:
            await self._process.call("decrypt", lambda: None, share=SHARE)
        key = stable_key(context)
        if not text.startswith(key):
            raise SecretsUnreadable("it was encrypted for another context")
        return bytes.fromhex(text.removeprefix(key))[::-1]

    async def close(self) -> None: ...


class Vault:
    """What is stored, without encryption."""

    def __init__(self) -> None:
        self._secrets = Secrets(SimulatedCodec(), {})

    def instance(self, stored: Instance) -> Instance:
        opened: Instance = run_alone(self._secrets.opened(stored))
        return opened

    def record(self, stored: KeyRecord, workflow: str, id: str) -> KeyRecord:
        opened: KeyRecord = run_alone(self._secrets.opened_record(stored, workflow, id))
        return opened

    def entry(self, stored: InboxEntry) -> InboxEntry:
        place = stored.workflow, stored.id, "inbox", stored.name
        return replace(stored, body=run_alone(self._secrets.opened_text(stored.body, *place)))
