"""How often work has failed, and when it is retried.

The rule: the delay is one second after the first failure and doubles with each further failure, up to five minutes.
Work is given up after the number of attempts that the engine's options allow. This applies to all work here, because
no generated definition has its own policy. Only the notification of a parent is never given up, because the parent
waits for it.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from workflow_core.errors import UnusableResult

Work = tuple[Any, ...]
"""A piece of work: ``step``, ``setup``, ``teardown``, ``activity`` or ``tell``, and of which thread or wait."""

TERMINAL = (UnusableResult,)
"""Of the errors that code leads to here, those that are not tried again."""

DELAY_SECONDS_MAX = 300


class Attempts:
    """Failures by work.

    Attributes:
        failures: how often each has failed, and not succeeded since.
        retry_at: when it is tried again.
        given_up: what is not tried again.
    """

    def __init__(self, attempts_max: int) -> None:
        self.attempts_max = attempts_max
        self.failures: Counter[Work] = Counter()
        self.retry_at: dict[Work, datetime] = {}
        self.given_up: set[Work] = set()

    def failed(self, work: Work, at: datetime, error: Exception | None = None) -> bool:
        """Counts a failure; gives whether it was the last one. An error that another attempt would meet is."""
        self.failures[work] += 1
        count = self.failures[work]
        if (count >= self.attempts_max or isinstance(error, TERMINAL)) and work[0] != "tell":
            self.given_up.add(work)
            return True
        seconds = DELAY_SECONDS_MAX if count >= self.attempts_max else min(2 ** (count - 1), DELAY_SECONDS_MAX)
        self.retry_at[work] = at + timedelta(seconds=seconds)
        return False

    def forget(self, work: Work) -> None:
        """Counts the attempts from the start."""
        self.succeeded(work)
        self.given_up.discard(work)

    def try_again(self, work: Work) -> None:
        """Lets what was given up be due once more; it has failed as often as before."""
        if work in self.given_up:
            self.given_up.remove(work)
            self.retry_at.pop(work, None)

    def succeeded(self, work: Work) -> None:
        self.failures.pop(work, None)
        self.retry_at.pop(work, None)
