"""The TaskQueue port on Google Cloud Tasks.

Converts tasks for Google's client, which the first call loads (``cloud_tasks_client``), so that this module is cheap to
import. It does not depend on what a task means, and leaves retries of deliveries to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from zlib import crc32

from cloud_adapter.errors import InvalidRequest, SettingsError, Unavailable
from cloud_adapter.ports import LONG, Clock, Task
from cloud_adapter.queues.bodies import encoded_body
from cloud_adapter.queues.cloud_task import CloudTask
from cloud_adapter.queues.rules import DEADLINE_MAX, DEADLINE_MIN, SCHEDULE_AHEAD_MAX, TASK_NAME
from cloud_adapter.variables import TASKS_EMULATOR_VARIABLE
from workflow_core.records import record

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from cloud_adapter.queues.cloud_tasks_client import CloudTasksClient

_logger = logging.getLogger("gorchestrate.queue")

DISPATCH_DEADLINE: Final = timedelta(minutes=10)
CALLS_MAX: Final = 20
"""The best number of concurrent calls: each is a round trip of about 10 ms, and a queue accepts 500 a second."""
AHEAD_MARGIN: Final = timedelta(minutes=1)
"""The accepted difference between this clock and Google's when a task is limited to the horizon."""


@record(frozen=True, slots=True)
class TaskTarget:
    """The worker to which Cloud Tasks sends the tasks.

    Attributes:
        url: the worker's root; a task's path is appended to it.
        service_account: the email of the account in the OIDC token with which Cloud Tasks calls the worker; None: no
            token is sent, for a worker on this machine.
        audience: the audience of the token; by default ``url``.
    """

    url: str
    service_account: str | None = None
    audience: str | None = None


def queue_names(queue: str, count: int) -> list[str]:
    """Returns the names of several queues: ``orders``, ``orders-2``, ``orders-3``."""
    return [queue, *(f"{queue}-{number}" for number in range(2, count + 1))]


class CloudTasksQueue:
    """One or several queues of Google Cloud Tasks, or of an emulator if ``CLOUD_TASKS_EMULATOR_HOST`` names one (host
    and port).

    A queue dispatches 500 tasks a second at most. With several queues, a hash of a task's name decides which one it is
    in, so a deletion finds it without asking. If the number of queues changes, the tasks in all queues are still
    delivered. A deletion may then miss its task, which finds nothing to do when it is delivered.

    The first call creates Google's client, in its event loop. Cloud Tasks has no groups, so the ``group`` of a task is
    ignored.

    Args:
        target: the worker.
        clock: used to find tasks beyond the 30 days that Cloud Tasks schedules ahead. A task that is due later is sent
            after 30 days. The receiver must notice that it is too early.
        credentials: Google credentials; by default, the application default credentials.
        queues: how many queues there are: ``queue``, ``queue-2`` and so on.
        long_queue: the queue of the tasks whose names end with ``ports.LONG``; empty: the same as for others.
        dispatch_deadline: how long the worker may take for a delivery, 15 s to 30 min. Then the task is sent again.

    Attributes:
        paths: the full names of the queues, without the one of long tasks.

    Raises:
        SettingsError: an argument is invalid.
    """

    calls_max: Final = CALLS_MAX

    def __init__(
        self,
        project: str,
        location: str,
        queue: str,
        target: TaskTarget,
        clock: Clock,
        credentials: Credentials | None = None,
        *,
        queues: int = 1,
        long_queue: str = "",
        dispatch_deadline: timedelta = DISPATCH_DEADLINE,
    ) -> None:
        names = [project, location, queue, long_queue or queue]
        for value, what in zip(names, ("project", "location", "queue", "queue"), strict=True):
            if not value or "/" in value:
                raise SettingsError(
                    f"the {what} of the task queue is {value!r}: it must be the id shown in the console"
                )
        if not target.url.startswith(("http://", "https://")):
            raise SettingsError(f"the worker's URL is {target.url!r}: it must start with https:// (locally, http://)")
        if not DEADLINE_MIN <= dispatch_deadline <= DEADLINE_MAX:
            raise SettingsError(f"the dispatch deadline is {dispatch_deadline}: it must be 15 seconds to 30 minutes")
        self.paths = [f"projects/{project}/locations/{location}/queues/{name}" for name in queue_names(queue, queues)]
        self._long_path = f"projects/{project}/locations/{location}/queues/{long_queue}" if long_queue else ""
        self._target = target
        self._clock = clock
        self._credentials = credentials
        self._deadline = dispatch_deadline
        self._client: CloudTasksClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def connect(self) -> None:
        """Begins to connect, so that the first call need not. If it cannot, the first call gets the error."""
        try:
            self._connected().connect()
        except Unavailable as error:
            _logger.info("not connected before the first call: %s", error)

    async def create(self, task: Task) -> None:
        """Adds a task, and retries transient errors, which the name makes safe. If the queue has or recently had a task
        of that name, nothing changes and it is not an error.

        Cloud Tasks names a task that has no name. If the response to its creation is lost, the retry creates a second
        task. This is harmless: only immediate resumes have no name, and a second one finds nothing to do.

        Raises:
            InvalidRequest: the name is invalid, the body is not JSON, or Cloud Tasks rejects the task.
            TooLarge: the body exceeds ``TASK_BYTES_MAX``.
            Unavailable: Cloud Tasks did not answer, rejected this caller, or does not have the queue.
        """
        path = self._path(task.name, task.group)
        await self._connected().create(path, self._translate(task))

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error.

        Raises:
            InvalidRequest: the name is invalid.
            Unavailable: Cloud Tasks did not answer, or rejected this caller.
        """
        await self._connected().delete(self._full_name(name))

    async def close(self) -> None:
        """Closes the connection after all running calls have ended. May be called again."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    def _connected(self) -> CloudTasksClient:
        if self._closed:
            raise Unavailable("the queue is closed: the process is stopping, and recovery will schedule the task again")
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # Imported lazily: Google's client takes 200 ms, and not every cold start needs it.
            from cloud_adapter.queues.cloud_tasks_client import CloudTasksClient

            emulator = os.environ.get(TASKS_EMULATOR_VARIABLE)
            self._client, self._loop = CloudTasksClient(emulator, self._credentials), loop
        return self._client

    def _translate(self, task: Task) -> CloudTask:
        body = encoded_body(task)
        account = self._target.service_account
        return CloudTask(
            name=self._full_name(task.name) if task.name else "",
            url=self._target.url.rstrip("/") + task.path,
            body=body,
            at=self._within_horizon(task),
            deadline=self._deadline if task.deadline is None else max(DEADLINE_MIN, min(task.deadline, DEADLINE_MAX)),
            service_account=account,
            audience=(self._target.audience or self._target.url.rstrip("/")) if account else None,
        )

    def _full_name(self, name: str) -> str:
        if TASK_NAME.fullmatch(name) is None:
            raise InvalidRequest(f"invalid task name {name[:100]!r}: it must be 1 to 500 of the characters A-Za-z0-9_-")
        return f"{self._path(name)}/tasks/{name}"

    def _path(self, name: str, group: str = "") -> str:
        """Returns the path of a task's queue. A task without a name is never deleted, so its group decides."""
        if self._long_path and name.endswith(LONG):
            return self._long_path
        return self.paths[crc32((name or group).encode()) % len(self.paths)]

    def _within_horizon(self, task: Task) -> datetime | None:
        if task.at is None:
            return None
        if task.at.tzinfo is None:
            raise InvalidRequest(
                f"task {task.name or task.path} is due at {task.at}, without a time zone: pass an aware datetime"
            )
        return min(task.at.astimezone(UTC), self._clock.now() + SCHEDULE_AHEAD_MAX - AHEAD_MARGIN)
