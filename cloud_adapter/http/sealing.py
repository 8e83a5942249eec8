"""Cookies that only this service can write and read: JSON that is encrypted, signed, and valid for a limited time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic_core import from_json, to_json


class Sealer:
    """Seals values with the first key of a ring, and opens what any of the keys has sealed.

    Args:
        keys: 32 random bytes each, in URL-safe base64. A new key is put in front; an old one is removed when what it
            has sealed has expired.
        now: a clock in seconds since 1970.
    """

    def __init__(self, keys: Sequence[str], now: Callable[[], float] = time.time) -> None:
        self._ring = MultiFernet([Fernet(key) for key in keys])
        self._now = now

    def seal(self, purpose: str, value: Any, seconds: float) -> str:
        """Returns a sealed value that is valid for some seconds, for one purpose."""
        return self._ring.encrypt(to_json([purpose, self._now() + seconds, value])).decode()

    def open(self, purpose: str, sealed: str) -> Any:
        """Returns a value that was sealed for a purpose; None if it was changed, has expired, or is for another one."""
        try:
            found, until, value = from_json(self._ring.decrypt(sealed.encode()))
        except (InvalidToken, ValueError, TypeError):
            return None
        return value if found == purpose and self._now() < until else None
