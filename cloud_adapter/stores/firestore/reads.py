"""Documents that were read, as messages of Firestore's API.

Google's client makes the same results, but it takes several times as long. Makes no calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any, Final

from google.cloud.firestore import AsyncDocumentReference
from google.cloud.firestore_v1 import types

from cloud_adapter.document import Document

_GetDocumentRequest: Final[Any] = types.GetDocumentRequest.pb()


def read_request(name: str, paths: Sequence[str] | None) -> Any:
    """Returns the request for a document.

    Args:
        name: its full name.
        paths: the fields to read; None: all.
    """
    request = _GetDocumentRequest(name=name)
    if paths is not None:
        request.mask.field_paths.extend(paths)
    return request


class ReadDocument:
    """The result of a read. Its attributes are those of a snapshot of Google's client.

    Args:
        message: the document; None: it does not exist.
    """

    __slots__ = ("_message", "reference")

    def __init__(self, reference: AsyncDocumentReference, message: Any) -> None:
        self.reference = reference
        self._message = message

    @property
    def exists(self) -> bool:
        """Whether the document exists."""
        return self._message is not None

    @property
    def update_time(self) -> Any:
        """When it was last written, as a timestamp of protobuf; None if it does not exist."""
        return None if self._message is None else self._message.update_time

    def to_dict(self) -> Document | None:
        """Returns the fields that were read; None if it does not exist."""
        if self._message is None:
            return None
        return {name: _value(value) for name, value in self._message.fields.items()}


def _value(message: Any) -> Any:
    """Returns a ``Value`` of the API. A kind that is never written here is returned as the message."""
    kind = message.WhichOneof("value_type")
    match kind:
        case "string_value" | "integer_value" | "boolean_value" | "double_value":
            return getattr(message, kind)
        case "null_value":
            return None
        case "timestamp_value":
            return message.timestamp_value.ToDatetime(UTC)
        case "map_value":
            return {name: _value(value) for name, value in message.map_value.fields.items()}
        case "array_value":
            return [_value(value) for value in message.array_value.values]
        case _:
            return message
