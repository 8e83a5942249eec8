"""Encrypts the secrets of instances before they are stored, and decrypts them after a load.

Theory of operation. Secrets leave the memory of a process in four places: the fields of an instance, the inputs that
its waits and its buffer keep, the entries of its inbox, and the records of its idempotency keys. In fields and inputs,
only the parts that contain secrets are encrypted, each with a context that names the instance and the part, so that an
encrypted text is of no use elsewhere. Entries and records are encrypted as a whole, if the workflow handles secrets.

An instance is sealed just before its size is measured, which is before its tasks are created, and opened just after it
is loaded. In between, everything works with the values themselves. Each commit encrypts anew, with the first key. What
was stored without encryption is read as it is, and encrypted by its next commit.

What breaks this: a new place where values are stored that does not pass through this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from pydantic_core import from_json, to_json

from cloud_adapter.document import Instance, KeyRecord
from cloud_adapter.document_size import ENCRYPTED
from cloud_adapter.errors import DamagedDocument, SecretsUnreadable
from cloud_adapter.ports import Codec
from cloud_adapter.variables import KMS_KEY_VARIABLE, SECRET_KEYS_VARIABLE
from workflow_core import Workflow
from workflow_core.machine.secrets import handles_secrets, secret_inputs, with_inputs
from workflow_core.secret_values import MASK, plain_fields

_MARK = "encrypted:"
"""What encrypted entries and records begin with. It is not the beginning of a JSON text or a fingerprint."""


class Secrets:
    """Seals and opens the instances of the given workflows.

    Args:
        codec: None: secrets are stored as they are.
        workflows: the served workflows, by name.
    """

    def __init__(self, codec: Codec | None, workflows: Mapping[str, type[Workflow]]) -> None:
        self._codec = codec
        served = workflows.items() if codec is not None else ()
        self._handling = frozenset(name for name, cls in served if handles_secrets(cls))
        self._plain = {
            name: plain_fields(cls.__pydantic_core_schema__) for name, cls in served if cls.__form__.has_secrets
        }

    def handles(self, workflow: str) -> bool:
        """Whether secrets of the workflow are encrypted before they are stored."""
        return workflow in self._handling

    # --- documents -----------------------------------------------------------------------

    async def sealed(self, instance: Instance) -> Instance:
        """Returns the instance as it is stored: with encrypted secrets, if it has any.

        Raises:
            Unavailable: try again.
        """
        if self._codec is None:
            return instance
        inputs = secret_inputs(instance.execution)
        plain = self._plain.get(instance.workflow)
        if not inputs and plain is None:
            return instance
        place = instance.workflow, instance.id
        texts = {part: await self._encrypted(to_json(value), *place, *part) for part, value in inputs.items()}
        execution = with_inputs(instance.execution, texts) if inputs else instance.execution
        fields = instance.fields
        if plain is not None:
            data = from_json(fields)
            secret = {name: value for name, value in data.items() if name not in plain}
            sealed = {name: await self._encrypted(to_json(value), *place, name) for name, value in secret.items()}
            fields = to_json(data | dict.fromkeys(secret, MASK) | {ENCRYPTED: sealed}).decode()
        return replace(instance, execution=execution, fields=fields, is_sealed=True)

    async def opened(self, instance: Instance) -> Instance:
        """The inverse of ``sealed``. An instance that is not sealed is returned as it is.

        Raises:
            SecretsUnreadable: its secrets cannot be decrypted.
            DamagedDocument, Unavailable
        """
        if not instance.is_sealed:
            return instance
        place = instance.workflow, instance.id
        try:
            inputs = {
                part: from_json(await self._decrypted(text, *place, *part))
                for part, text in secret_inputs(instance.execution).items()
            }
            data = from_json(instance.fields)
            sealed = data.pop(ENCRYPTED, {})
            data |= {name: from_json(await self._decrypted(text, *place, name)) for name, text in sealed.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise DamagedDocument(f"the document of {place[0]!r} {place[1]!r} cannot be read: {error}") from error
        execution = with_inputs(instance.execution, inputs) if inputs else instance.execution
        fields = to_json(data).decode() if sealed else instance.fields
        return replace(instance, execution=execution, fields=fields, is_sealed=False)

    # --- entries and records -------------------------------------------------------------

    async def sealed_text(self, text: str, workflow: str, id: str, *part: str, is_secret: bool = False) -> str:
        """Returns a text as it is stored: encrypted, if its instance handles secrets or ``is_secret`` is true.

        Raises:
            Unavailable: try again.
        """
        if self._codec is None or not (is_secret or workflow in self._handling):
            return text
        return _MARK + await self._encrypted(text.encode(), workflow, id, *part)

    async def opened_text(self, text: str, workflow: str, id: str, *part: str) -> str:
        """The inverse of ``sealed_text``. A text that is not encrypted is returned as it is.

        Raises:
            SecretsUnreadable, Unavailable
        """
        if not text.startswith(_MARK):
            return text
        return (await self._decrypted(text.removeprefix(_MARK), workflow, id, *part)).decode()

    async def sealed_record(self, record: KeyRecord, workflow: str, id: str) -> KeyRecord:
        """Returns the record of a request as it is stored. Its fingerprint is a hash of the input, with which
        secrets that are easy to guess could be found by trying.

        Raises:
            Unavailable: try again.
        """
        if workflow not in self._handling:
            return record
        fingerprint = await self.sealed_text(record.fingerprint, workflow, id, "key", record.key, "fingerprint")
        response = await self.sealed_text(record.response, workflow, id, "key", record.key, "response")
        return replace(record, fingerprint=fingerprint, response=response)

    async def opened_record(self, record: KeyRecord, workflow: str, id: str) -> KeyRecord:
        """The inverse of ``sealed_record``.

        Raises:
            SecretsUnreadable, Unavailable
        """
        fingerprint = await self.opened_text(record.fingerprint, workflow, id, "key", record.key, "fingerprint")
        response = await self.opened_text(record.response, workflow, id, "key", record.key, "response")
        return replace(record, fingerprint=fingerprint, response=response)

    # --- the codec -----------------------------------------------------------------------

    async def _encrypted(self, text: bytes, *place: str) -> str:
        assert self._codec is not None
        return await self._codec.encrypt(text, _context(place))

    async def _decrypted(self, text: str, *place: str) -> bytes:
        workflow, id, *part = place
        where = f"{' '.join(part)!r} of {workflow!r} {id!r}"
        if self._codec is None:
            raise SecretsUnreadable(
                f"{where} is encrypted, but this process has no key: set {SECRET_KEYS_VARIABLE} or "
                f"{KMS_KEY_VARIABLE} as it was when it was stored"
            )
        try:
            return await self._codec.decrypt(text, _context(place))
        except SecretsUnreadable as error:
            raise SecretsUnreadable(f"{where} cannot be decrypted: {error}") from None


def _context(place: tuple[str, ...]) -> str:
    return json.dumps(place)
