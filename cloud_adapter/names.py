"""Which ids, idempotency keys and names of events may be given: they become part of URLs, documents and logs."""

from __future__ import annotations

import re

from cloud_adapter.errors import InvalidRequest

ID_BYTES_MAX = 400
KEY_CHARS_MAX = 255

_RESERVED = re.compile(r"__.*__")


def check_id(id: str) -> str:
    """An instance's id, if it is one: up to 400 bytes of printable text without ``/``, as Firestore takes it.

    Raises:
        InvalidRequest: it is not; the message says why.
    """
    reason = ""
    if not id:
        reason = "it is empty"
    elif not id.isprintable() or "/" in id or id != id.strip():
        reason = "it may hold printable characters other than '/', and no white space at the ends"
    elif "\ufffd" in id:
        reason = "it is not valid UTF-8"
    elif id in (".", "..") or _RESERVED.fullmatch(id):
        reason = "'.', '..' and '__...__' are reserved"
    elif len(id.encode("utf-8", "replace")) > ID_BYTES_MAX:
        reason = f"it is longer than {ID_BYTES_MAX} bytes"
    if reason:
        raise InvalidRequest(f"{id[:100]!r} cannot be the id of an instance: {reason}")
    return id


def check_key(key: str | None) -> str | None:
    """An idempotency key, if it is one: 1 to 255 printable ASCII characters.

    Raises:
        InvalidRequest: it is not.
    """
    if key is not None and not (0 < len(key) <= KEY_CHARS_MAX and key.isascii() and key.isprintable()):
        raise InvalidRequest(f"an idempotency key has 1 to {KEY_CHARS_MAX} printable ASCII characters")
    return key
