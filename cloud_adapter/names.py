"""Validates ids and idempotency keys, which become part of URLs, documents and logs."""

from __future__ import annotations

import re

from cloud_adapter.errors import InvalidRequest
from workflow_core.printable import is_printable

ID_BYTES_MAX = 400
KEY_CHARS_MAX = 255

_RESERVED = re.compile(r"__.*__")


def check_id(id: str) -> str:
    """Returns the id of an instance if it is valid: up to 400 bytes of printable text without ``/``, as Firestore
    requires. Zero-width joiners, as in emoji and Persian words, are printable.

    Raises:
        InvalidRequest: the id is invalid; the message contains the reason.
    """
    reason = ""
    if not id:
        reason = "it is empty"
    elif not is_printable(id) or "/" in id or id != id.strip():
        reason = "it must contain only printable characters other than '/', without white space at the ends"
    elif "\ufffd" in id:
        reason = "it is not valid UTF-8"
    elif id in (".", "..") or (id.startswith("__") and _RESERVED.fullmatch(id)):
        reason = "'.', '..' and '__...__' are reserved"
    elif len(id.encode("utf-8", "replace")) > ID_BYTES_MAX:
        reason = f"it is longer than {ID_BYTES_MAX} bytes"
    if reason:
        raise InvalidRequest(f"invalid instance id {id[:100]!r}: {reason}")
    return id


def check_key(key: str | None) -> str | None:
    """Returns an idempotency key if it is valid: 1 to 255 printable ASCII characters.

    Raises:
        InvalidRequest: the key is invalid.
    """
    if key is not None and not (0 < len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"invalid idempotency key: it must have 1 to {KEY_CHARS_MAX} printable ASCII characters")
    return key
