"""Connects commands to instances: through the API over HTTP, or through the same application in this process, directly
on the database."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from starlette.applications import Starlette

from cloud_adapter.cli.inputs import written
from cloud_adapter.cli.stores import check_tables
from cloud_adapter.errors import InvalidRequest, SettingsError
from cloud_adapter.hosting.runtimes import runtime_for
from cloud_adapter.hosting.source import load_workflows
from cloud_adapter.http.api import create_api
from cloud_adapter.http.authentication import TRUSTED
from cloud_adapter.settings import Settings

T = TypeVar("T")
Json = dict[str, Any]

TIMEOUT_SECONDS = 60


class Connection:
    """The API for one command. Use it in a ``with`` block.

    Args:
        url: the root of a running API.
        token: an identity token, if the API requires one.
        source: the file of the workflows. If given, the database of the settings is used directly, and no API has to
            run. Repairs are possible only this way, or under ``gorchestrate dev``.
        db: the database file or its URL, instead of the one in the settings; only with ``source``.
        new: whether to create a missing database file.

    Attributes:
        delivers: whether tasks are delivered; False for a database file, unless a server uses it.

    Raises:
        SettingsError: a setting is wrong, or the database file does not exist, or has no tables.
    """

    def __init__(
        self, url: str, token: str = "", source: Path | None = None, db: str | None = None, *, new: bool = False
    ) -> None:
        if source is None and db is not None:
            raise SettingsError(f"--db requires --source. Without --source, the command calls the API at {url}")
        if not (token.isascii() and token.isprintable()):
            raise SettingsError("the token must have only printable ASCII characters: check --token")
        self.delivers = True
        with ExitStack() as stack:
            self._runner = stack.enter_context(asyncio.Runner())
            if source is None:
                self.where = url.rstrip("/")
                headers = {"Authorization": f"Bearer {token}"} if token else {}
                self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, headers=headers)
            else:
                self.where = "http://database"
                transport = httpx.ASGITransport(self._application(stack, source, db, new=new))
                self._client = httpx.AsyncClient(transport=transport, timeout=TIMEOUT_SECONDS)
            stack.callback(lambda: self._run(self._client.aclose()))
            self._opened = stack.pop_all()

    def _application(self, stack: ExitStack, source: Path, db: str | None, *, new: bool) -> Starlette:
        """Returns the API on the database. The stack closes everything that it opens."""
        settings = Settings.load(db=db)
        if settings.backend == "embedded":
            self.delivers = False
            if not (new or settings.database_url or settings.db.exists()):
                raise SettingsError(f"database {settings.db} not found: set the file with --db or GORCHESTRATE_DB")
            if not new:
                self._run(check_tables(settings.database_url or str(settings.db), upgrade=True))
        runtime = runtime_for(settings)(load_workflows(source), settings)  # not started: it delivers no tasks
        stack.callback(lambda: self._run(runtime.close()))
        return create_api(runtime.engine, max_body_bytes=settings.max_body_bytes, repair=True, authentication=TRUSTED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.close()

    def get(self, path: str, **query: Any) -> Json:
        """Sends a GET request and returns the JSON response.

        Raises:
            InvalidRequest: the request was rejected, or no API answers there.
        """
        params = {name: value for name, value in query.items() if value is not None}
        answer: Json = self._json(self._request("GET", path, params=params))
        return answer

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Sends a POST request and returns the JSON response.

        Raises:
            InvalidRequest: the request was rejected, or no API answers there.
        """
        return self._json(self._post(path, body, headers))

    def send(self, path: str, body: Any = None, **headers: str) -> tuple[bool, Any]:
        """Sends an event. Returns whether it was handled (otherwise it is buffered), and the output of its handler.

        Raises:
            InvalidRequest: the event was rejected, or no API answers there.
        """
        response = self._post(path, body, headers)
        return (False, None) if response.status_code == 202 else (True, self._json(response))

    def _post(self, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
        content = None if body is None else written(body).encode()
        typed = {} if body is None else {"Content-Type": "application/json"}
        return self._request("POST", path, headers=headers | typed, content=content)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._run(self._client.request(method, f"{self.where}{path}", **options))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._no_api(error) from error
        if response.is_error:
            answer = self._json(response)
            raise InvalidRequest(answer.get("detail", response.text) if isinstance(answer, dict) else response.text)
        return response

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise self._no_api(f"status {response.status_code}, not JSON") from error

    def _no_api(self, why: object) -> InvalidRequest:
        start = "start it with gorchestrate dev, or " if self.where.startswith("http://127.0.0.1:") else ""
        return InvalidRequest(f"no gorchestrate API at {self.where} ({why}): {start}pass its root URL with --url")

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)
