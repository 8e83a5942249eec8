"""Makes the attempt of a task: one HTTP request. The rules of the queue decide whether to retry."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from cloud_adapter.ports import Clock
from cloud_adapter.queues.rules import Entry
from cloud_adapter.queues.runner import Reply
from cloud_adapter.tasks_emulator.http_client import HttpClient, NoResponse
from cloud_adapter.tasks_emulator.queue_messages import Message
from cloud_adapter.tasks_emulator.task_messages import METHODS, Job
from cloud_adapter.token_issuer import TokenIssuer

logger = logging.getLogger("gorchestrate.tasks_emulator")

_NOT_FORWARDED: Final = ("host", "content-length", "x-google-", "x-appengine-", "x-cloudtasks-")

# The google.rpc codes for the HTTP statuses of attempts.
_OK, _UNKNOWN, _DEADLINE_EXCEEDED, _UNAVAILABLE = 0, 2, 4, 14
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 501: 12, 503: 14, 504: 4}
_OTHER_CODES: Final = {2: _OK, 4: 9, 5: 13}


class Dispatcher:
    """Sends tasks to their URLs.

    Args:
        clock: the clock for deadlines and the times in tokens.
    """

    def __init__(self, clock: Clock, issuer: TokenIssuer) -> None:
        self._clock = clock
        self._issuer = issuer
        self._http = HttpClient()

    def close(self) -> None:
        """Closes the idle connections."""
        self._http.close()

    async def attempt(self, queue_id: str, entry: Entry[Job]) -> Reply:
        """Makes one attempt and records its result in the job. Only a 2xx response acknowledges a task."""
        job, status = entry.payload, None
        try:
            status = await self._send(queue_id, entry)
        except (NoResponse, ValueError) as error:
            job.status = (_UNAVAILABLE, f"No response: {error or type(error).__name__}")
        else:
            if status is None:
                job.status = (_DEADLINE_EXCEEDED, f"No response within {job.deadline.total_seconds():g} s.")
            else:
                job.status = (
                    _CODES.get(status, _OTHER_CODES.get(status // 100, _UNKNOWN)),
                    f"HTTP status code {status}",
                )
        job.previous = status
        if status is not None and status < 500:
            job.responses += 1
        level = logging.INFO if job.status[0] == _OK else logging.WARNING
        logger.log(level, "task %s, attempt %d: %s", entry.name, entry.dispatch_count, job.status[1])
        return Reply(acknowledged=job.status[0] == _OK, responded=status is not None)

    async def _send(self, queue_id: str, entry: Entry[Job]) -> int | None:
        """The status of the response; None if the deadline passed first."""
        message = entry.payload.message.http_request
        headers = [(name.encode(), value.encode()) for name, value in self._headers(queue_id, entry, message).items()]
        limit = asyncio.timeout(None)
        forget = self._clock.call_later(entry.payload.deadline.total_seconds(), lambda: limit.reschedule(0))
        try:
            async with limit:
                return await self._http.status(METHODS[message.http_method], message.url, headers, message.body)
        except TimeoutError:
            await asyncio.sleep(0)  # the event loop closes the transport of an aborted request in its next iteration
            return None
        finally:
            forget()

    def _headers(self, queue_id: str, entry: Entry[Job], message: Message) -> dict[str, str]:
        headers = {
            name: value for name, value in message.headers.items() if not name.lower().startswith(_NOT_FORWARDED)
        }
        headers |= self._own_headers(queue_id, entry)
        if token := self._token(message):
            headers = {name: value for name, value in headers.items() if name.lower() != "authorization"}
            headers["Authorization"] = f"Bearer {token}"
        return headers

    def _own_headers(self, queue_id: str, entry: Entry[Job]) -> dict[str, str]:
        job, retries = entry.payload, entry.dispatch_count - 1
        assert entry.last_attempt is not None
        headers = {
            "X-CloudTasks-QueueName": queue_id,
            "X-CloudTasks-TaskName": entry.name,
            "X-CloudTasks-TaskRetryCount": str(retries),
            "X-CloudTasks-TaskExecutionCount": str(job.responses),
            "X-CloudTasks-TaskETA": f"{entry.last_attempt.schedule_time.timestamp():.6f}",
        }
        if job.previous is not None:
            headers["X-CloudTasks-TaskPreviousResponse"] = str(job.previous)
            headers["X-CloudTasks-TaskRetryReason"] = ""  # the real service always sends it empty
        return headers

    def _token(self, message: Message) -> str | None:
        if not message.HasField("oidc_token"):
            return None
        audience = message.oidc_token.audience or message.url
        return self._issuer.token(message.oidc_token.service_account_email, audience, self._clock.now())
