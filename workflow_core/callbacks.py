"""What outside systems send: callbacks, for which the workflow has given them a URL, and requests that they sign.

Makes and checks no token: that needs keys, which the core does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import datetime, timedelta

from workflow_core.errors import ExecutionError
from workflow_core.records import record

CALLBACK_LIFESPAN = timedelta(days=7)
"""How long the URL of a callback is valid, if its author does not say it."""

CALLBACK_LIFESPAN_MAX = timedelta(days=366)
"""The longest lifespan. A key must be kept for as long as URLs that were signed with it are valid."""


@record(frozen=True, slots=True)
class Callback:
    """What the holder of a callback URL may do: send this event to this wait, once.

    Attributes:
        thread_id: the thread that must wait for the event; None: ``wait_id`` says it.
        wait_id: the wait; None: the first wait of the thread for this event. It was not known when the URL was made.
        nonce: identifies the callback. A second request with it gets the response to the first one.
        expires_at: when the URL expires; None: it was not made yet.
    """

    workflow: str
    workflow_id: str
    event: str
    thread_id: str | None
    wait_id: str | None
    nonce: str = field(repr=False)
    expires_at: datetime | None = None

    def is_for(self, workflow: str, id: str, event: str, thread_id: str | None, wait_id: str | None) -> bool:
        """Whether it is for exactly this request."""
        target = self.workflow, self.workflow_id, self.event, self.thread_id, self.wait_id
        return target == (workflow, id, event, thread_id, wait_id)


CallbackUrls = Callable[[Callback, timedelta], str]
"""Returns the URL of a callback with a lifespan. The runtime has one."""


def url_of(urls: CallbackUrls | None, callback: Callback, expires: timedelta) -> str:
    """Returns the URL of a callback.

    Raises:
        ExecutionError: there is no server, or the lifespan is wrong.
    """
    if not (isinstance(expires, timedelta) and timedelta(seconds=1) <= expires <= CALLBACK_LIFESPAN_MAX):
        raise ExecutionError(
            f"the lifespan of a callback URL is {expires!r}. Pass expires=timedelta(...) of one second to "
            f"{CALLBACK_LIFESPAN_MAX.days} days"
        )
    if urls is None:
        raise ExecutionError(
            "callback_url() needs a server that receives the callback, and this code is not run by one: serve the "
            "workflow, or pass another URL in tests"
        )
    return urls(callback, expires)


@record(frozen=True, slots=True)
class WebhookRequest:
    """A request as its sender has signed it, for ``On(..., verify=...)``.

    Attributes:
        headers: the headers, with names in lower case. The values of a repeated header are joined by a comma.
        body: the bytes of the body, as they were sent.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Verify = Callable[..., bool]
"""Decides from the fields and a ``WebhookRequest`` whether the sender of an event is who it should be."""
