"""The TaskQueue port on Google Cloud Tasks.

It turns tasks into what Google's client takes, and is light to import: the client itself (``cloud_tasks_client``) is
loaded with the first call. It must never know what a task asks for, and leaves retries of deliveries to the queue.
"""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cloud_adapter.emulators import TASKS_EMULATOR_VARIABLE
from cloud_adapter.errors import InvalidRequest, SettingsError, TooLarge, Unavailable
from cloud_adapter.ports import TASK_BYTES_MAX, Clock, Task
from cloud_adapter.queues.cloud_task import CloudTask
from cloud_adapter.queues.rules import DEADLINE_MAX, DEADLINE_MIN, SCHEDULE_AHEAD_MAX, TASK_NAME

if TYPE_CHECKING:
    from cloud_adapter.queues.cloud_tasks_client import CloudTasksClient

DISPATCH_DEADLINE: Final = timedelta(minutes=10)
CALLS_MAX: Final = 20
"""How many calls are best made at the same time: each is a round trip of some 10 ms, and a queue takes 500 a second."""
AHEAD_MARGIN: Final = timedelta(minutes=1)
"""By how much this clock may differ from Google's when a task is cut to the horizon."""


@dataclass(frozen=True, slots=True)
class TaskTarget:
    """Where Cloud Tasks sends the tasks.

    Attributes:
        url: the worker's root; a task's path is appended to it.
        service_account: the email of the account that Cloud Tasks identifies itself as, by an OIDC token; None: no
            token is sent, as for a worker on this machine.
        audience: whom the token is for; by default ``url``.
    """

    url: str
    service_account: str | None = None
    audience: str | None = None


class CloudTasksQueue:
    """A queue of Google Cloud Tasks, or of an emulator if ``CLOUD_TASKS_EMULATOR_HOST`` names one (host and port).

    Google's client is made by the first call, in the event loop in which that runs. Cloud Tasks knows no groups: the
    ``group`` of a task is ignored.

    Args:
        target: the worker.
        clock: tells what lies beyond the 30 days that Cloud Tasks schedules ahead. A task that is due later is sent
            after 30 days, to whoever then has to see that it is too early.
        dispatch_deadline: how long the worker may take for a delivery, 15 s to 30 min; then the task is sent again.

    Raises:
        SettingsError: an argument cannot be right.
    """

    calls_max: Final = CALLS_MAX

    def __init__(
        self,
        project: str,
        location: str,
        queue: str,
        target: TaskTarget,
        clock: Clock,
        *,
        dispatch_deadline: timedelta = DISPATCH_DEADLINE,
    ) -> None:
        for value, what in ((project, "project"), (location, "location"), (queue, "queue")):
            if not value or "/" in value:
                raise SettingsError(f"the {what} of the task queue is {value!r}: give its id, as in the console")
        if not target.url.startswith(("http://", "https://")):
            raise SettingsError(f"the worker's URL is {target.url!r}: it begins with https:// (or, locally, http://)")
        if not DEADLINE_MIN <= dispatch_deadline <= DEADLINE_MAX:
            raise SettingsError(f"the dispatch deadline is {dispatch_deadline}: give 15 seconds to 30 minutes")
        self.path = f"projects/{project}/locations/{location}/queues/{queue}"
        self._target = target
        self._clock = clock
        self._deadline = dispatch_deadline
        self._client: CloudTasksClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def create(self, task: Task) -> None:
        """Adds a task, and tries again on errors that may pass: the name makes that safe. A name that the queue has, or
        had lately, changes nothing and is no error.

        Cloud Tasks names a task that has no name. If the reply to its creation is lost, trying again makes a second
        task. That is harmless: only immediate resumes have no name, and a second one finds nothing to do.

        Raises:
            InvalidRequest: the name is not one, the body is not JSON, or Cloud Tasks finds another fault.
            TooLarge: the body has more than ``TASK_BYTES_MAX``.
            Unavailable: Cloud Tasks did not answer, refused this caller, or has no such queue.
        """
        await self._connected().create(self.path, self._translate(task))

    async def delete(self, name: str) -> None:
        """Takes a task out; one that is not there (any more) is no error.

        Raises:
            InvalidRequest: the name is not one.
            Unavailable: Cloud Tasks did not answer, or refused this caller.
        """
        await self._connected().delete(self._full_name(name))

    async def close(self) -> None:
        """Closes the connection, once the calls that were made have ended. May be called again."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    def _connected(self) -> CloudTasksClient:
        if self._closed:
            raise Unavailable("the queue is closed: the process is about to end, and recovery will bring the task back")
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            # The one lazy import: Google's client takes 200 ms, which not every cold start needs.
            from cloud_adapter.queues.cloud_tasks_client import CloudTasksClient

            self._client, self._loop = CloudTasksClient(os.environ.get(TASKS_EMULATOR_VARIABLE)), loop
        return self._client

    def _translate(self, task: Task) -> CloudTask:
        try:
            # Without escapes, which make a text of other scripts up to three times as long.
            body = json.dumps(task.body, allow_nan=False, ensure_ascii=False).encode(errors="surrogatepass")
        except (ValueError, TypeError) as error:
            raise InvalidRequest(f"the body of task {task.name[:100] or task.path} is not JSON: {error}") from error
        if len(body) > TASK_BYTES_MAX:
            raise TooLarge(
                f"task {task.name or task.path} has {len(body)} bytes, {TASK_BYTES_MAX} is the limit: send a reference"
            )
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
            raise InvalidRequest(f"{name[:100]!r} cannot be a task's name: give 1 to 500 of the characters A-Za-z0-9_-")
        return f"{self.path}/tasks/{name}"

    def _within_horizon(self, task: Task) -> datetime | None:
        if task.at is None:
            return None
        if task.at.tzinfo is None:
            raise InvalidRequest(
                f"task {task.name or task.path} is due at {task.at}, without a time zone: give an aware datetime"
            )
        return min(task.at.astimezone(UTC), self._clock.now() + SCHEDULE_AHEAD_MAX - AHEAD_MARGIN)
