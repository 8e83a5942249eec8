"""Google's ``Task`` message: validates what a client sends, adds the defaults, and returns the state of a task."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from google.cloud.tasks_v2 import types
from google.protobuf.timestamp_pb2 import Timestamp

from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import DEADLINE_MAX, DEADLINE_MIN, SCHEDULE_AHEAD_MAX, Attempt, Entry
from cloud_adapter.tasks_emulator.queue_messages import Message, check_retry_config, fill_retry_config, retry_config
from cloud_adapter.tasks_emulator.refusal import invalid, unsupported

TaskMessage: Final = types.Task.pb()

STORED_BYTES_MAX: Final = 1_048_569
"""The maximum size of a stored task, in bytes. The limit of the real service is known from experiments."""
URL_CHARACTERS_MAX: Final = 2_083
HEADERS_BYTES_MAX: Final = 80 * 1024
DEADLINE_DEFAULT: Final = timedelta(minutes=10)
USER_AGENT: Final = "Google-Cloud-Tasks"

BASIC: Final = int(types.Task.View.BASIC)
FULL: Final = int(types.Task.View.FULL)

METHODS: Final[dict[int, str]] = {
    int(getattr(types.HttpMethod, name)): name for name in ("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
}
_METHODS_WITH_BODY: Final = {"POST", "PUT", "PATCH"}


@dataclass(slots=True)
class Job:
    """The data that the emulator stores for a task in addition to the rules' entry.

    Attributes:
        message: the task as the client created it, with defaults. Do not change it.
        responses: the number of attempts that got a response, without 5xx responses.
        previous: the HTTP status of the last attempt that ended; None if it got no response.
        status: the result of the last attempt that ended: a google.rpc code and a text.
    """

    message: Message
    responses: int = 0
    previous: int | None = None
    status: tuple[int, str] = (0, "")

    @property
    def deadline(self) -> timedelta:
        """How long an attempt may take."""
        deadline: timedelta = self.message.dispatch_deadline.ToTimedelta()
        return deadline

    @property
    def retry(self) -> RetryConfig | None:
        """The task's own retry configuration, if it has one."""
        return retry_config(self.message.retry_config) if self.message.HasField("retry_config") else None


def new_task(given: Message, name: str, now: datetime) -> tuple[Message, datetime | None]:
    """Returns the task that a client requests, with defaults, and when it is due.

    Raises:
        Refused: a value is invalid or not emulated.
    """
    task = TaskMessage(name=name)
    if given.HasField("app_engine_http_request"):
        raise unsupported("App Engine tasks")
    if not given.HasField("http_request"):
        raise invalid("Task.httpRequest is required.")
    task.http_request.CopyFrom(given.http_request)
    _check_request(task.http_request)
    if given.HasField("retry_config"):
        task.retry_config.CopyFrom(given.retry_config)
        fill_retry_config(task.retry_config)
        check_retry_config(task.retry_config)
    _set_deadline(task, given)
    at = _schedule_time(given, now)
    task.create_time.CopyFrom(_timestamp(now.replace(microsecond=0)))
    task.schedule_time.CopyFrom(_timestamp(max(at or now, now)))
    if task.ByteSize() > STORED_BYTES_MAX:
        raise invalid("Task size too large")
    return task, at


def resource(entry: Entry[Job], view: int) -> Message:
    """Returns the task as clients see it. Only the full view has the body."""
    job, task = entry.payload, TaskMessage()
    task.CopyFrom(job.message)
    task.schedule_time.CopyFrom(_timestamp(entry.schedule_time))
    task.dispatch_count = entry.dispatch_count
    task.response_count = entry.response_count
    if entry.first_dispatch_time is not None:
        task.first_attempt.dispatch_time.CopyFrom(_timestamp(entry.first_dispatch_time))
    if entry.last_attempt is not None:
        _fill_attempt(task.last_attempt, entry.last_attempt)
        if not entry.running:
            task.last_attempt.response_status.code, task.last_attempt.response_status.message = job.status
    if view != FULL:
        task.http_request.ClearField("body")
    task.view = view
    return task


def response_view(given: int) -> int:
    """Returns the requested view, by default the basic one.

    Raises:
        Refused: the view is unknown.
    """
    if given not in (0, BASIC, FULL):
        raise invalid(f"Unknown response view {given}.")
    return given or BASIC


def _check_request(request: Message) -> None:
    if not request.url:
        raise invalid("HttpRequest.url is required.")
    if not request.url.startswith(("http://", "https://")):
        raise invalid("HttpTarget.url must start with 'http://' or 'https://'.")
    if len(request.url) > URL_CHARACTERS_MAX:
        raise invalid(f"HttpRequest.url must have at most {URL_CHARACTERS_MAX} characters.")
    request.http_method = request.http_method or types.HttpMethod.POST
    method = METHODS.get(request.http_method)
    if method is None:
        raise invalid(f"Unknown HTTP method {request.http_method}.")
    if request.body and method not in _METHODS_WITH_BODY:
        raise invalid(f"HttpRequest.body is not allowed with the method {method}.")
    if sum(len(name.encode()) + len(value.encode()) for name, value in request.headers.items()) >= HEADERS_BYTES_MAX:
        raise invalid("HttpRequest.headers must be smaller than 80KB.")
    for name in [name for name in request.headers if name.lower() == "user-agent"]:
        del request.headers[name]
    request.headers["User-Agent"] = USER_AGENT
    if request.HasField("oauth_token"):
        raise unsupported("OAuth tokens; use an OIDC token")
    if request.HasField("oidc_token") and not request.oidc_token.service_account_email:
        raise invalid("HttpRequest.oidcToken.serviceAccountEmail is required.")


def _set_deadline(task: Message, given: Message) -> None:
    task.dispatch_deadline.FromTimedelta(DEADLINE_DEFAULT)
    if given.HasField("dispatch_deadline"):
        seconds = given.dispatch_deadline.seconds + given.dispatch_deadline.nanos / 1e9
        if not DEADLINE_MIN.total_seconds() <= seconds <= DEADLINE_MAX.total_seconds():
            raise invalid("Task.dispatchDeadline must be between [15s, 30m].")
        task.dispatch_deadline.CopyFrom(given.dispatch_deadline)


def _schedule_time(given: Message, now: datetime) -> datetime | None:
    if not given.HasField("schedule_time"):
        return None
    try:
        at: datetime = given.schedule_time.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise invalid(f"Task.scheduleTime is not a valid time: {error}") from error
    if at - now > SCHEDULE_AHEAD_MAX:
        raise invalid(
            f"The Task.scheduleTime, {at.isoformat()}, is too far in the future. Schedule time must be no more than "
            f"{SCHEDULE_AHEAD_MAX // timedelta(hours=1)}h in the future."
        )
    return at


def _fill_attempt(message: Message, attempt: Attempt) -> None:
    message.schedule_time.CopyFrom(_timestamp(attempt.schedule_time))
    message.dispatch_time.CopyFrom(_timestamp(attempt.dispatch_time))
    if attempt.response_time is not None:
        message.response_time.CopyFrom(_timestamp(attempt.response_time))


def _timestamp(at: datetime) -> Message:
    timestamp = Timestamp()
    timestamp.FromDatetime(at)
    return timestamp
