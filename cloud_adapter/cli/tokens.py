"""Where commands get their token from: an option, the output of another command, or a login that is stored in a file.

The file belongs to the user alone (0600). It has a token for each API, and no token is sent to any other.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import typer
from pydantic import BaseModel, ValidationError

from cloud_adapter.cli.device_flow import OAuthClient, Tokens
from cloud_adapter.errors import InvalidRequest, SettingsError
from cloud_adapter.settings import TOKEN_COMMAND_VARIABLE

COMMAND_SECONDS_MAX = 60
REFRESH_SECONDS = 60
"""A token that expires in less than this is replaced."""

_FILE = "logins.json"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class StoredLogin(BaseModel):
    """A stored login.

    Attributes:
        sends: which of the tokens is sent to the API.
    """

    client: OAuthClient
    tokens: Tokens
    sends: Literal["access_token", "id_token"] = "access_token"

    @property
    def token(self) -> str:
        """The token for the API."""
        return self.tokens.id_token if self.sends == "id_token" else self.tokens.access_token


class Logins:
    """The stored logins, by the URL of the API.

    Args:
        folder: where the file is. Defaults to the configuration folder of the user.
    """

    def __init__(self, folder: Path | None = None, now: Callable[[], float] = time.time) -> None:
        self.file = (folder or Path(typer.get_app_dir("gorchestrate"))) / _FILE
        self._now = now

    def token(self, url: str) -> str:
        """Returns the token for an API, renewed if necessary; empty if there is no login.

        Raises:
            InvalidRequest: the login has expired.
            SettingsError: the file cannot be used.
        """
        login = self._read().get(_key(url))
        if login is None:
            return ""
        if login.tokens.expires_at - self._now() > REFRESH_SECONDS:
            return login.token
        if not login.tokens.refresh_token:
            raise InvalidRequest(f"the login for {url} has expired: run gorchestrate login again")
        login.tokens = login.client.refreshed(login.tokens, self._now)
        self.store(url, login)
        return login.token

    def store(self, url: str, login: StoredLogin) -> None:
        """Stores a login for an API, instead of the former one."""
        self._write(self._read() | {_key(url): login})

    def remove(self, url: str) -> bool:
        """Removes the login for an API. Returns whether there was one."""
        logins = self._read()
        found = logins.pop(_key(url), None)
        if found is not None:
            self._write(logins)
        return found is not None

    def _read(self) -> dict[str, StoredLogin]:
        try:
            if os.name == "posix" and self.file.stat().st_mode & _OTHERS:
                raise SettingsError(f"others may read {self.file}, which contains tokens: run chmod 600 {self.file}")
            stored = json.loads(self.file.read_bytes())
            return {url: StoredLogin.model_validate(login) for url, login in stored.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError, ValidationError) as error:
            raise SettingsError(f"{self.file} cannot be read: delete it, and run gorchestrate login again") from error
        except OSError as error:
            raise SettingsError(f"{self.file} cannot be read: {error}") from error

    def _write(self, logins: dict[str, StoredLogin]) -> None:
        text = json.dumps({url: login.model_dump() for url, login in logins.items()}, indent=2)
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Created with mode 0600, and complete before it has the name.
            handle, name = tempfile.mkstemp(dir=self.file.parent, prefix=f".{_FILE}-")
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(name, self.file)
        except OSError as error:
            raise SettingsError(f"{self.file} cannot be written: {error}") from error


def token_for(url: str, token: str, command: str) -> str:
    """Returns the token for requests to an API: the given one, else the output of a command, else that of a login.

    Raises:
        InvalidRequest, SettingsError: there should be one, but it could not be determined.
    """
    if token:
        return token
    return printed_token(command) if command.strip() else Logins().token(url)


def printed_token(command: str) -> str:
    """Runs a command, without a shell, and returns the token that it prints.

    Raises:
        SettingsError: the command fails, or does not print one token.
    """
    where = f"the token command {command!r} (--token-command or {TOKEN_COMMAND_VARIABLE})"
    try:
        words = shlex.split(command)
        result = subprocess.run(  # nosec B603 # the user's own command, without a shell
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS_MAX, check=False
        )
    except ValueError as error:
        raise SettingsError(f"{where} cannot be parsed: {error}") from error
    except OSError as error:
        raise SettingsError(f"{where} cannot be run: {error.strerror or error}") from error
    except subprocess.TimeoutExpired as error:
        raise SettingsError(f"{where} did not end in {COMMAND_SECONDS_MAX} s") from error
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").strip().splitlines()
        raise SettingsError(f"{where} failed with exit code {result.returncode}: {lines[-1] if lines else 'no reason'}")
    printed = result.stdout.decode(errors="replace").split()
    if len(printed) != 1:
        raise SettingsError(f"{where} must print one token and nothing else: it printed {len(printed)} words")
    return printed[0]


def _key(url: str) -> str:
    return url.rstrip("/")
