"""The writes of one commit, as messages of Firestore's API.

Google's client makes the same messages, but builds each one from several objects, which takes more CPU time than the
rest of a commit. Makes no calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from google.cloud.firestore import ArrayUnion, AsyncDocumentReference
from google.cloud.firestore_v1 import types

from cloud_adapter.document import Document

_CommitRequest: Final[Any] = types.CommitRequest.pb()

_NANOSECONDS: Final = 10**9


class Writes:
    """Writes that Firestore applies all or not at all.

    Args:
        database: its full name.

    Attributes:
        request: the message with all writes.
    """

    def __init__(self, database: str) -> None:
        self.request = _CommitRequest(database=database)
        self._documents = f"{database}/documents/"

    def create(self, reference: AsyncDocumentReference, document: Document) -> None:
        """Adds the creation of a document. The commit fails if it exists.

        Raises:
            TypeError, ValueError: Firestore has no such values.
        """
        write = self._written(reference, document)
        write.current_document.exists = False

    def update(self, reference: AsyncDocumentReference, fields: Document, version: int | None) -> None:
        """Adds an update, which replaces these fields and appends the elements of each ``ArrayUnion`` to a field. The
        commit fails if the document is no longer at that version, see ``documents.version_of``; None: if there is no
        document.

        Raises:
            TypeError, ValueError: Firestore has no such values.
        """
        appended = {name: value for name, value in fields.items() if isinstance(value, ArrayUnion)}
        replaced = {name: value for name, value in fields.items() if name not in appended}
        write = self._written(reference, replaced)
        write.update_mask.field_paths.extend(replaced)
        for name, value in appended.items():
            transform = write.update_transforms.add(field_path=name)
            for element in value.values:
                _fill(transform.append_missing_elements.values.add(), element)
        if version is None:
            write.current_document.exists = True
            return
        seconds, nanos = divmod(version, _NANOSECONDS)
        write.current_document.update_time.seconds = seconds
        write.current_document.update_time.nanos = nanos

    def delete(self, reference: AsyncDocumentReference) -> None:
        """Adds the deletion of a document, which need not exist."""
        self.request.writes.add().delete = self._documents + reference.path

    def _written(self, reference: AsyncDocumentReference, fields: Document) -> Any:
        write = self.request.writes.add()
        write.update.name = self._documents + reference.path
        for name, value in fields.items():
            _fill(write.update.fields[name], value)
        return write


def _fill(message: Any, value: Any) -> None:
    """Sets a ``Value`` of the API."""
    match value:
        case str():
            message.string_value = value
        case None:
            message.null_value = 0
        case bool():
            message.boolean_value = value
        case int():
            message.integer_value = value
        case float():
            message.double_value = value
        case datetime():
            message.timestamp_value.FromDatetime(value)
        case Mapping():
            message.map_value.SetInParent()  # also if it is empty
            for name, inner in value.items():
                _fill(message.map_value.fields[name], inner)
        case list() | tuple():
            message.array_value.SetInParent()
            for inner in value:
                _fill(message.array_value.values.add(), inner)
        case _:
            raise TypeError(f"Cannot convert a value of the type {type(value).__name__} to a Firestore Value")
