"""Calls Google's client of Cloud Tasks, and translates its errors. No other module calls it.

Slow to import (200 ms), so ``cloud_tasks.py`` imports it lazily.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc
import grpc.aio
from google.api_core import exceptions as google_errors
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport

from cloud_adapter.errors import InvalidRequest, TooLarge, Unavailable

if TYPE_CHECKING:
    from cloud_adapter.queues.cloud_task import CloudTask

T = TypeVar("T")

CALL_SECONDS_MAX: Final = 5.0
RETRY_SECONDS_MAX: Final = 5.0
"""How long a call is retried. Google's client does not retry the creation of a task by itself."""

_TRANSIENT: Final = (
    google_errors.ServiceUnavailable,
    google_errors.DeadlineExceeded,
    google_errors.InternalServerError,
    google_errors.Unknown,
    google_errors.Aborted,
    google_errors.ResourceExhausted,
)
_CreateTaskRequest: Final[Any] = tasks_v2.CreateTaskRequest.pb()

RETRY: Final = AsyncRetry(
    predicate=if_exception_type(*_TRANSIENT), initial=0.1, maximum=2.0, multiplier=2.0, timeout=RETRY_SECONDS_MAX
)


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
            if emulator:
                channel = grpc.aio.insecure_channel(emulator)
                transport = CloudTasksGrpcAsyncIOTransport(channel=channel)
                self._client = tasks_v2.CloudTasksAsyncClient(transport=transport)
            else:
                self._client = tasks_v2.CloudTasksAsyncClient(credentials=credentials)
        except GoogleAuthError as error:
            raise Unavailable(f"no access to Cloud Tasks: {error}") from error

    def connect(self) -> None:
        """Begins to connect, and does not wait for it."""
        transport: Any = self._client.transport  # its channel has no annotation
        transport.grpc_channel.get_state(try_to_connect=True)

    async def create(self, queue: str, task: CloudTask) -> None:
        """Creates a task. An existing or recent task of that name is not an error. Cloud Tasks names unnamed tasks.

        Raises:
            InvalidRequest, TooLarge, Unavailable: see ``CloudTasksQueue.create``.
        """
        # The protocol buffers are filled directly: Google's wrappers would take a quarter of the call's CPU time.
        request = _CreateTaskRequest(parent=queue)
        message, http = request.task, request.task.http_request
        message.name = task.name
        http.url, http.body, http.http_method = task.url, task.body, tasks_v2.HttpMethod.POST
        http.headers["Content-Type"] = "application/json"
        if task.service_account is not None:
            http.oidc_token.service_account_email = task.service_account
            http.oidc_token.audience = task.audience or ""
        if task.at is not None:
            message.schedule_time.FromDatetime(task.at)
        message.dispatch_deadline.FromTimedelta(task.deadline)
        wrapped = tasks_v2.CreateTaskRequest.wrap(request)
        call = self._client.create_task(wrapped, retry=RETRY, timeout=CALL_SECONDS_MAX)
        try:
            with self._calling():
                await _translated(call, task.name or task.url)
        except google_errors.AlreadyExists:
            return
        except google_errors.NotFound as error:
            raise Unavailable(f"the queue {queue} does not exist, or was created within the last minute") from error

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error.

        Raises:
            Unavailable: see ``CloudTasksQueue.delete``.
        """
        try:
            with self._calling():
                await _translated(self._client.delete_task(name=name, retry=RETRY, timeout=CALL_SECONDS_MAX), name)
        except google_errors.NotFound:
            return

    async def close(self) -> None:
        """Closes the connection after all running calls have ended, because closing would cancel them."""
        await self._idle.wait()
        transport: Any = self._client.transport  # its method has no annotation
        await transport.close()

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


async def _translated(call: Awaitable[T], name: str) -> T:
    """The result of a call. Translates Google's errors, except the two that a caller may treat as success."""
    try:
        return await call
    except (google_errors.AlreadyExists, google_errors.NotFound):
        raise
    except google_errors.InvalidArgument as error:
        if "too large" in error.message:
            raise TooLarge(f"Cloud Tasks rejected task {name}: {error.message}; send a reference instead") from error
        raise InvalidRequest(f"Cloud Tasks rejected task {name}: {error.message}") from error
    except google_errors.RetryError as error:
        raise Unavailable(f"Cloud Tasks did not answer: {error.cause}") from error
    except (google_errors.GoogleAPIError, GoogleAuthError, grpc.RpcError, grpc.aio.BaseError) as error:
        raise Unavailable(f"Cloud Tasks rejected the call or did not answer: {error}") from error
