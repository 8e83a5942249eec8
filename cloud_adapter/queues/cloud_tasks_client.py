"""Calls Cloud Tasks, and translates its errors. No other module calls it.

Slow to import (200 ms), so ``cloud_tasks.py`` imports it lazily.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
from google.api_core import exceptions as google_errors
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from cloud_adapter.errors import InvalidRequest, TooLarge, Unavailable
from cloud_adapter.google_rpc import Rpc

if TYPE_CHECKING:
    from cloud_adapter.queues.cloud_task import CloudTask

CALL_SECONDS_MAX: Final = 5.0
RETRY_SECONDS_MAX: Final = 5.0
"""How long a call is retried."""

_SERVICE: Final = "/google.cloud.tasks.v2.CloudTasks/"
_TRANSIENT: Final = (
    google_errors.ServiceUnavailable,
    google_errors.DeadlineExceeded,
    google_errors.InternalServerError,
    google_errors.Unknown,
    google_errors.Aborted,
    google_errors.ResourceExhausted,
)
_CreateTaskRequest: Final[Any] = tasks_v2.CreateTaskRequest.pb()
_DeleteTaskRequest: Final[Any] = tasks_v2.DeleteTaskRequest.pb()
_POST: Final = int(tasks_v2.HttpMethod.POST)

RETRY: Final = AsyncRetry(
    predicate=if_exception_type(*_TRANSIENT), initial=0.1, maximum=2.0, multiplier=2.0, timeout=RETRY_SECONDS_MAX
)

CREATE_RETRY: Final = RETRY.with_predicate(if_exception_type(*_TRANSIENT, google_errors.NotFound))
"""A queue that was idle for 30 days may answer ``NotFound`` for some minutes. What this does not outlast is tried again
by the caller, who gets ``Unavailable``, or by recovery."""


class CloudTasksClient:
    """The calls that a queue needs. Create it in the event loop where it is used.

    Args:
        emulator: host and port of an emulator; None: the real service.
        credentials: Google credentials for the real service; by default, the application default credentials.

    Raises:
        Unavailable: no credentials were found.
    """

    def __init__(self, emulator: str | None, credentials: Credentials | None = None) -> None:
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()
        try:
            self._channel = grpc.aio.insecure_channel(emulator) if emulator else _channel(credentials)
        except GoogleAuthError as error:
            raise Unavailable(f"no access to Cloud Tasks: {error}") from error
        # The responses are not parsed, because nothing in them is used.
        version = tasks_v2.__version__
        self._create = Rpc(self._channel, f"{_SERVICE}CreateTask", _CreateTaskRequest, None, version)
        self._delete = Rpc(self._channel, f"{_SERVICE}DeleteTask", _DeleteTaskRequest, None, version)

    def connect(self) -> None:
        """Begins to connect, and does not wait for it."""
        self._channel.get_state(try_to_connect=True)

    async def create(self, queue: str, task: CloudTask) -> None:
        """Creates a task. An existing or recent task of that name is not an error. Cloud Tasks names unnamed tasks.

        Raises:
            InvalidRequest, TooLarge, Unavailable: see ``CloudTasksQueue.create``.
        """
        request = _CreateTaskRequest(parent=queue)
        message, http = request.task, request.task.http_request
        message.name = task.name
        http.url, http.body, http.http_method = task.url, task.body, _POST
        http.headers["Content-Type"] = "application/json"
        if task.service_account is not None:
            http.oidc_token.service_account_email = task.service_account
            http.oidc_token.audience = task.audience or ""
        if task.at is not None:
            message.schedule_time.FromDatetime(task.at)
        message.dispatch_deadline.FromTimedelta(task.deadline)
        try:
            await self._call(self._create, request, ("parent", queue), task.name or task.url, CREATE_RETRY)
        except google_errors.AlreadyExists:
            return
        except google_errors.NotFound as error:
            raise Unavailable(
                f"the queue {queue} does not exist, was created within the last minute, or was idle for 30 days and is "
                "not ready yet"
            ) from error

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error.

        Raises:
            Unavailable: see ``CloudTasksQueue.delete``.
        """
        try:
            await self._call(self._delete, _DeleteTaskRequest(name=name), ("name", name), name, RETRY)
        except google_errors.NotFound:
            return

    async def close(self) -> None:
        """Closes the connection after all running calls have ended, because closing would cancel them."""
        await self._idle.wait()
        await self._channel.close()

    async def _call(
        self,
        method: Rpc,
        request: Any,
        route: tuple[str, str],
        name: str,
        retry: AsyncRetry,
    ) -> None:
        """Makes a call, and repeats it after transient errors.

        Args:
            route: the field by which Google finds the queue, and its value.
            name: the name of the task in errors.
        """

        async def once() -> None:
            await method(request, route, CALL_SECONDS_MAX)

        with self._calling():
            await _translated(retry(once)(), name)

    @contextmanager
    def _calling(self) -> Iterator[None]:
        self._calls += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()


def _channel(credentials: Credentials | None) -> grpc.aio.Channel:
    """Returns a channel with the endpoint and the credentials of Google's client, but without its interceptors."""
    channels: list[grpc.aio.Channel] = []

    def create(*args: Any, **kwargs: Any) -> grpc.aio.Channel:
        channels.extend(CloudTasksGrpcAsyncIOTransport.create_channel(*args, **kwargs) for _ in range(2))
        return channels[0]

    transport = partial(CloudTasksGrpcAsyncIOTransport, channel=create)
    tasks_v2.CloudTasksAsyncClient(credentials=credentials, transport=transport)
    return channels[1]


async def _translated(call: Awaitable[None], name: str) -> None:
    """Waits for a call. Translates Google's errors, except the two that a caller may treat as success."""
    try:
        await call
    except (google_errors.AlreadyExists, google_errors.NotFound):
        raise
    except google_errors.InvalidArgument as error:
        if "too large" in error.message:
            raise TooLarge(f"Cloud Tasks rejected task {name}: {error.message}; send a reference instead") from error
        raise InvalidRequest(f"Cloud Tasks rejected task {name}: {error.message}") from error
    except google_errors.RetryError as error:
        if isinstance(error.cause, google_errors.NotFound):
            raise error.cause from error
        raise Unavailable(f"Cloud Tasks did not answer: {error.cause}") from error
    except (google_errors.GoogleAPIError, GoogleAuthError, grpc.RpcError, grpc.aio.BaseError) as error:
        raise Unavailable(f"Cloud Tasks rejected the call or did not answer: {error}") from error
