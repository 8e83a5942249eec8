"""Google's ``Queue`` message: validates what a client sends, adds the defaults, and converts it for the rules."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from google.cloud.tasks_v2 import types
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import TASK_LIFE_MAX, RetryConfig
from cloud_adapter.tasks_emulator.refusal import invalid, unsupported

Message = Any
"""A protobuf message; the generated classes have no type annotations."""

QueueMessage: Final = types.Queue.pb()

RATE_MAX: Final = 500
CONCURRENT_MAX: Final = 5_000
_DOUBLINGS_MAX: Final = 64

_OUTPUT_ONLY: Final = {"name", "state", "purge_time", "rate_limits.max_burst_size"}
_UNSUPPORTED: Final = ("app_engine_routing_override", "http_target")


def new_queue(given: Message) -> Message:
    """Returns the queue that a client requests, with defaults for omitted fields and without its state.

    Raises:
        Refused: a value is invalid or not emulated.
    """
    queue = _with_defaults(given, explicit=())
    _check(queue)
    return queue


def updated_queue(queue: Message, given: Message, mask: Message) -> Message:
    """Returns the queue with the masked fields of the request. An empty mask selects all fields.

    Raises:
        Refused: a value or the mask is invalid or not emulated.
    """
    if not mask.paths:
        changed = _with_defaults(given, explicit=())
        changed.name = queue.name
    else:
        if not mask.IsValidForDescriptor(QueueMessage.DESCRIPTOR):
            raise invalid(f"The update mask names a field that a queue does not have: {', '.join(mask.paths)}.")
        paths = [path for path in mask.paths if path not in _OUTPUT_ONLY]
        changed = QueueMessage()
        changed.CopyFrom(queue)
        source = _with_defaults(given, explicit=paths)
        FieldMask(paths=paths).MergeMessage(source, changed, replace_message_field=True)
    _check(changed)
    return changed


def rate_limits(queue: Message) -> RateLimits:
    """Returns the queue's rate limits, for the rules."""
    limits = queue.rate_limits
    return RateLimits(limits.max_dispatches_per_second, limits.max_burst_size, limits.max_concurrent_dispatches)


def retry_config(config: Message) -> RetryConfig:
    """Returns a message's retry configuration, for the rules."""
    max_backoff = min(config.max_backoff.ToTimedelta(), TASK_LIFE_MAX)
    return RetryConfig(
        max_attempts=config.max_attempts,
        max_retry_duration=config.max_retry_duration.ToTimedelta(),
        min_backoff=min(config.min_backoff.ToTimedelta(), max_backoff),
        max_backoff=max_backoff,
        max_doublings=min(config.max_doublings, _DOUBLINGS_MAX),
    )


def fill_retry_config(config: Message, explicit: Collection[str] = ()) -> None:
    """Sets the defaults of a retry configuration in omitted fields.

    Args:
        explicit: the paths that an update names. A zero in these is a value, not an omitted field.
    """
    default = RetryConfig()
    if not config.max_attempts:
        config.max_attempts = default.max_attempts
    if not config.max_doublings and "retry_config.max_doublings" not in explicit:
        config.max_doublings = default.max_doublings
    for name in ("max_retry_duration", "min_backoff", "max_backoff"):
        if not config.HasField(name):
            getattr(config, name).CopyFrom(_duration(getattr(default, name)))


def check_retry_config(config: Message) -> None:
    """Checks the retry configuration of a queue or a task.

    Raises:
        Refused: a value is invalid.
    """
    if config.max_attempts < -1:
        raise invalid("RetryConfig.maxAttempts must be greater or equal to -1.")
    for value, name in (
        (config.max_doublings, "maxDoublings"),
        (_seconds(config.max_retry_duration), "maxRetryDuration"),
        (_seconds(config.min_backoff), "minBackoff"),
        (_seconds(config.max_backoff), "maxBackoff"),
    ):
        if value < 0:
            raise invalid(f"RetryConfig.{name} cannot be negative.")
    if _seconds(config.min_backoff) > _seconds(config.max_backoff):
        raise invalid("RetryConfig.minBackoff must be less than or equal to RetryConfig.maxBackoff.")
    try:
        retry_config(config)
    except (ValueError, OverflowError) as error:
        raise invalid(f"RetryConfig is invalid: {error}") from error


def _with_defaults(given: Message, explicit: Collection[str]) -> Message:
    for name in _UNSUPPORTED:
        if given.HasField(name):
            raise unsupported(f"Queue.{name}")
    queue = QueueMessage()
    queue.CopyFrom(given)
    for name in ("state", "purge_time"):
        queue.ClearField(name)
    default, limits = RateLimits(), queue.rate_limits
    limits.max_dispatches_per_second = limits.max_dispatches_per_second or default.max_dispatches_per_second
    limits.max_concurrent_dispatches = limits.max_concurrent_dispatches or default.max_concurrent_dispatches
    fill_retry_config(queue.retry_config, explicit)
    return queue


def _check(queue: Message) -> None:
    limits = queue.rate_limits
    for value, highest, name in (
        (limits.max_dispatches_per_second, RATE_MAX, "maxDispatchesPerSecond"),
        (limits.max_concurrent_dispatches, CONCURRENT_MAX, "maxConcurrentDispatches"),
    ):
        if value < 0:
            raise invalid(f"RateLimits.{name} cannot be negative.")
        if not value <= highest:
            raise invalid(f"RateLimits.{name} must be less than or equal to {highest}.")
    # The real service's choice is not documented. With the default rate it is 100, as here.
    limits.max_burst_size = max(10, min(100, math.ceil(limits.max_dispatches_per_second)))
    check_retry_config(queue.retry_config)
    try:
        rate_limits(queue)
    except (ValueError, OverflowError) as error:
        raise invalid(f"RateLimits is invalid: {error}") from error


def _duration(value: timedelta) -> Message:
    duration = Duration()
    duration.FromTimedelta(value)
    return duration


def _seconds(duration: Message) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
