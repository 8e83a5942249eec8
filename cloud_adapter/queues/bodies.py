"""The body of a task as JSON, as every queue stores or sends it."""

from __future__ import annotations

import json

from cloud_adapter.errors import InvalidRequest, TooLarge
from cloud_adapter.ports import TASK_BYTES_MAX, Task


def encoded_body(task: Task, with_bytes: int = 0) -> bytes:
    """Returns the body of a task. It may contain what is no Unicode.

    Args:
        with_bytes: the size of what counts towards the limit with it.

    Raises:
        InvalidRequest: the body is not JSON.
        TooLarge: it exceeds ``TASK_BYTES_MAX``.
    """
    try:
        # Without escapes, which make text in non-Latin scripts up to three times as long.
        body = json.dumps(task.body, allow_nan=False, ensure_ascii=False).encode(errors="surrogatepass")
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"the body of task {task.name[:100] or task.path} is not JSON: {error}") from error
    if (size := len(body) + with_bytes) > TASK_BYTES_MAX:
        raise TooLarge(
            f"task {task.name or task.path} has {size} bytes, the limit is {TASK_BYTES_MAX}: send a reference"
        )
    return body
