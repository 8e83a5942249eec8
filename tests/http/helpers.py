"""What the tests of HTTP share: a client that knows problem documents, and a server. Holds no test."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from workflow_core import Workflow

T = TypeVar("T")

BODY_BYTES_MAX = 10_000


def until(what: Callable[[], T | Literal[False] | None], seconds: float = 30) -> T:
    """Asks again and again until the answer is true; gives it."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.02)
    return answer


@contextmanager
def serving(db: Path, *workflows: type[Workflow], **settings: Any) -> Iterator[Http]:
    """A server for the workflows, and its client."""
    settings = {"max_body_bytes": BODY_BYTES_MAX} | settings
    with (
        running(workflows, Settings(db=db, **settings), listen("127.0.0.1", 0)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield Http(client)


class Http:
    """A client that asserts statuses."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self.client.request(method, url, **options)

    def ok(self, method: str, url: str, **options: Any) -> Any:
        """The JSON data of a response that is no error."""
        response = self.request(method, url, **options)
        assert response.is_success, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    def get(self, url: str) -> Any:
        return self.ok("GET", url)

    def create(self, url: str, **options: Any) -> Any:
        return self.ok("POST", url, **options)

    def send(self, url: str, input: Any = None, **options: Any) -> Any:
        return self.ok("POST", url, **({} if input is None else {"json": input}), **options)

    def problem(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """The problem document of a response that is an error; the document's status is the response's."""
        return problem(self.request(method, url, **options))


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document in a response."""
    assert response.is_error, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    return document


def expected(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """A whole problem document."""
    kind = title.lower().replace(" ", "-")
    return {"type": f"urn:gorchestrate:problem:{kind}", "title": title, "status": status, "detail": detail, **more}
