"""``Retry``: the policy for retries, as plain values. It does not count attempts or read a clock."""

from __future__ import annotations

import math
from datetime import timedelta

from workflow_core.error_texts import leaves
from workflow_core.errors import (
    DefinitionError,
    InvalidInput,
    InvalidOutput,
    TerminalError,
    UnusableResult,
)
from workflow_core.records import record

ErrorTypes = type[BaseException] | tuple[type[BaseException], ...]

_TERMINAL = (TerminalError, InvalidInput, InvalidOutput, UnusableResult)
"""Errors that another attempt would meet as well."""


@record(frozen=True, kw_only=True)
class Retry:
    """The policy for retries of a failed step, activity, setup or teardown.

    Args:
        max_attempts: the maximum number of attempts; None: until it succeeds.
        initial: the delay after the first failure. Each further delay is ``factor`` times as long.
        factor: 1 for constant delays.
        max_delay: the longest delay, without jitter.
        jitter: the maximum random extension of a delay, as a fraction (0.1 is a tenth), so that attempts that failed
            together are not retried together.
        retry_on: the errors that are retried. An ``ExceptionGroup`` is retried if each of its errors is.
        give_up_on: exceptions from ``retry_on`` that are not retried. A ``TerminalError`` is never retried, and neither
            is a value that does not fit its annotation.

    Raises:
        DefinitionError: a value is invalid.

    Example:
        >>> from datetime import timedelta
        >>> policy = Retry(max_attempts=3, initial=timedelta(seconds=2), give_up_on=ValueError)
        >>> policy.delay(1, TimeoutError()), policy.delay(2, TimeoutError()), policy.delay(3, TimeoutError())
        (datetime.timedelta(seconds=2), datetime.timedelta(seconds=4), None)
        >>> policy.delay(1, ValueError()) is None
        True
    """

    max_attempts: int | None = 10
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=5)
    jitter: float = 0.0
    retry_on: ErrorTypes = Exception
    give_up_on: ErrorTypes = ()

    def __post_init__(self) -> None:
        attempts = self.max_attempts
        if attempts is not None and not (isinstance(attempts, int) and attempts >= 1):
            raise DefinitionError("Retry", f"max_attempts is {attempts!r}", "Give 1 for a single attempt.")
        for what, delay in (("initial", self.initial), ("max_delay", self.max_delay)):
            if not isinstance(delay, timedelta) or delay < timedelta():
                raise DefinitionError("Retry", f"{what} is {delay!r}", f"Write {what}=timedelta(seconds=2).")
        if not (isinstance(self.factor, (int, float)) and 1 <= self.factor < math.inf):
            raise DefinitionError("Retry", f"factor is {self.factor!r}", "Give a number of 1 or more.")
        if not (isinstance(self.jitter, (int, float)) and 0 <= self.jitter <= 1):
            raise DefinitionError("Retry", f"jitter is {self.jitter!r}", "Give a number from 0 to 1.")
        for types in (self.retry_on, self.give_up_on):
            check_error_types("Retry", types)

    def delay(self, failures: int, error: BaseException, chance: float = 0.0) -> timedelta | None:
        """Returns the delay after that many failures, the last one with ``error``; None means no retry.

        Args:
            chance: a random number from 0 to 1, for the jitter.
        """
        if self.max_attempts is not None and failures >= self.max_attempts:
            return None
        if not all(self._retries(leaf) for leaf in leaves(error)):
            return None
        try:
            delay = min(self.max_delay, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            delay = self.max_delay if self.initial else self.initial
        return delay * (1 + self.jitter * chance)

    def _retries(self, error: BaseException) -> bool:
        return isinstance(error, self.retry_on) and not isinstance(error, (*_TERMINAL, self.give_up_on))


def check_error_types(where: str, types: object) -> tuple[type[BaseException], ...]:
    """Returns one error class, or a tuple of them, as a tuple.

    Raises:
        DefinitionError: the value is neither.
    """
    result = types if isinstance(types, tuple) else (types,)
    for cls in result:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise DefinitionError(where, f"{cls!r} is not an error class", "Use classes such as ValueError.")
    return result
