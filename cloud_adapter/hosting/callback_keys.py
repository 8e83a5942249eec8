"""The keys for callbacks: those of the settings, or one that the embedded runtime keeps beside the database file."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cloud_adapter.callbacks import Callbacks, KeyRing, Keys
from cloud_adapter.errors import SettingsError
from cloud_adapter.ports import Clock
from cloud_adapter.settings import KEY_BYTES_MIN, Settings, key_of


class KeyFile:
    """A file with one key, which only its owner can read. It is made when the first URL is signed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signing(self) -> bytes:
        """Returns the key. See ``KeyRing``.

        Raises:
            SettingsError: the file cannot be read or written.
        """
        return self._read() or self._make()

    def all(self) -> Sequence[bytes]:
        """Returns the key, if there is one. See ``KeyRing``."""
        key = self._read()
        return () if key is None else (key,)

    def _make(self) -> bytes:
        # It gets its name when it is complete, because another process may read it at any time.
        new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        try:
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(KEY_BYTES_MIN))
            try:
                with contextlib.suppress(FileExistsError):  # another process was first
                    os.link(new, self.path)
            finally:
                new.unlink()
            return key_of(self.path.read_text())
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def _read(self) -> bytes | None:
        try:
            return key_of(self.path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> SettingsError:
        return SettingsError(
            f"the key file {self.path} is not usable: {error}. Remove it, or set GORCHESTRATE_CALLBACK_KEYS"
        )


def callbacks(settings: Settings, clock: Clock) -> Callbacks:
    """Returns what makes and checks the URLs of callbacks."""
    ring = settings.callback_ring
    keys: KeyRing = Keys(ring)
    if settings.backend == "embedded" and not settings.database_url and not ring:
        keys = KeyFile(settings.db.with_name(f"{settings.db.name}.callback-key"))
    return Callbacks(keys, settings.public_url, clock)
