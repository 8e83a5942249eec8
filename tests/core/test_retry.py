"""Policies: after which failures there is another attempt, and when; who keeps to which policy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, Unlucky, do, failing, play, start, unlucky
from workflow_core import (
    ChildFailed,
    DefinitionError,
    Execution,
    Failure,
    Retry,
    S,
    Step,
    TerminalError,
    TimedOut,
    Try,
    aresume,
    resume,
)

SECOND = timedelta(seconds=1)


def delays(policy: Retry, error: BaseException | None = None, upto: int = 6) -> list[float | None]:
    """The delays after each of so many failures, in seconds."""
    found = (policy.delay(failures, error or OSError()) for failures in range(1, upto + 1))
    return [None if delay is None else delay.total_seconds() for delay in found]


# --- delays ----------------------------------------------------------------------------------


def test_delays_grow_up_to_the_longest_and_attempts_end() -> None:
    assert delays(Retry()) == [1, 2, 4, 8, 16, 32]
    assert delays(Retry(), upto=11)[8:] == [256, None, None]
    assert delays(Retry(max_attempts=4, initial=3 * SECOND, factor=10, max_delay=100 * SECOND)) == [
        *(3, 30, 100, None, None, None)
    ]
    assert delays(Retry(factor=1, initial=SECOND / 2), upto=3) == [0.5, 0.5, 0.5]
    assert delays(Retry(max_attempts=1), upto=1) == [None]
    assert delays(Retry(initial=10 * SECOND, max_delay=SECOND), upto=2) == [1, 1]


def test_without_a_number_it_is_tried_for_ever_and_no_delay_overflows() -> None:
    policy = Retry(max_attempts=None)
    for failures in (9, 100, 10_000, 10**9):
        assert policy.delay(failures, OSError()) == timedelta(seconds=300 if failures > 9 else 256)
    at_once = Retry(max_attempts=None, initial=timedelta())
    assert {at_once.delay(failures, OSError()) for failures in (1, 2, 10_000)} == {timedelta()}


def test_jitter_lengthens_a_delay_by_up_to_its_part() -> None:
    policy = Retry(jitter=0.5, max_delay=4 * SECOND)
    assert [policy.delay(1, OSError(), chance) for chance in (0, 0.5, 1)] == [SECOND, 1.25 * SECOND, 1.5 * SECOND]
    assert policy.delay(9, OSError(), 1) == 6 * SECOND
    assert Retry().delay(1, OSError(), 1) == SECOND


# --- errors ----------------------------------------------------------------------------------

WORTH_IT: list[tuple[Retry, type[Exception], bool]] = [
    (Retry(), OSError, True),
    (Retry(retry_on=OSError), ConnectionError, True),
    (Retry(retry_on=OSError), ValueError, False),
    (Retry(retry_on=(ValueError, OSError)), ValueError, True),
    (Retry(retry_on=()), ValueError, False),
    (Retry(give_up_on=OSError), ConnectionError, False),
    (Retry(give_up_on=(OSError, KeyError)), KeyError, False),
    (Retry(give_up_on=OSError), ValueError, True),
    (Retry(retry_on=OSError, give_up_on=ConnectionError), ConnectionError, False),
    (Retry(retry_on=OSError, give_up_on=ConnectionError), FileNotFoundError, True),
    (Retry(), TerminalError, False),
    (Retry(retry_on=TerminalError), TerminalError, False),
    (Retry(max_attempts=None), Failure, False),
    (Retry(), ChildFailed, False),
    (Retry(), TimedOut, True),
]


@pytest.mark.parametrize(("policy", "error", "is_tried_again"), WORTH_IT)
def test_errors_are_worth_another_attempt_or_not(policy: Retry, error: type[Exception], is_tried_again: bool) -> None:
    assert (policy.delay(1, error("why")) is not None) is is_tried_again


BAD: list[tuple[Callable[[], Any], str]] = [
    (lambda: Retry(max_attempts=0), "max_attempts is 0"),
    (lambda: Retry(max_attempts=-1), "max_attempts is -1"),
    (lambda: Retry(max_attempts=1.5), "max_attempts is 1.5"),  # type: ignore[arg-type]
    (lambda: Retry(max_attempts="3"), "max_attempts is '3'"),  # type: ignore[arg-type]
    (lambda: Retry(initial=-SECOND), "initial is"),
    (lambda: Retry(initial=3), "initial is 3"),  # type: ignore[arg-type]
    (lambda: Retry(max_delay=-SECOND), "max_delay is"),
    (lambda: Retry(max_delay=None), "max_delay is None"),  # type: ignore[arg-type]
    (lambda: Retry(factor=0.5), "factor is 0.5"),
    (lambda: Retry(factor=float("nan")), "factor is nan"),
    (lambda: Retry(factor=float("inf")), "factor is inf"),
    (lambda: Retry(factor="2"), "factor is '2'"),  # type: ignore[arg-type]
    (lambda: Retry(jitter=-0.1), "jitter is -0.1"),
    (lambda: Retry(jitter=1.1), "jitter is 1.1"),
    (lambda: Retry(jitter=float("nan")), "jitter is nan"),
    (lambda: Retry(retry_on=ValueError("x")), "is not an error class"),  # type: ignore[arg-type]
    (lambda: Retry(retry_on=int), "is not an error class"),  # type: ignore[arg-type]
    (lambda: Retry(give_up_on=[ValueError]), "is not an error class"),  # type: ignore[arg-type]
    (lambda: Retry(give_up_on=(ValueError, "KeyError")), "'KeyError' is not an error class"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("build", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_what_cannot_be_right_is_refused(build: Callable[[], Any], reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        build()
    assert caught.value.statement == "Retry"
    assert reason in caught.value.reason
    assert caught.value.fix


# --- steps -----------------------------------------------------------------------------------


def flow(*statements: Any, default: Retry | None = None) -> type[Logged]:
    class Flow(Logged):
        default_retry = default
        definition = S(*statements)

    return Flow


def caught(step: Step, default: Retry | None = None) -> list[str]:
    """Returns the log of a step in a ``Try`` that catches everything. Resumes as long as that raises an error."""
    return play(flow(Try("try", step).except_(Exception, do("caught")), default=default))[0].log


def test_a_step_is_caught_when_no_attempt_is_left() -> None:
    assert caught(unlucky("step", 2, retry=Retry(max_attempts=3))) == ["step"]
    assert caught(unlucky("step", 3, retry=Retry(max_attempts=3))) == ["caught"]
    assert caught(unlucky("step", 1, retry=Retry(max_attempts=1))) == ["caught"]
    assert caught(unlucky("step", 1, retry=Retry(retry_on=OSError))) == ["caught"]
    assert caught(unlucky("step", 1, retry=Retry(give_up_on=Unlucky))) == ["caught"]
    assert caught(failing("step", TerminalError("no"), retry=Retry())) == ["caught"]


def test_the_workflow_has_a_policy_for_steps_without_one() -> None:
    twice = Retry(max_attempts=2)
    assert caught(unlucky("step", 1), twice) == ["step"]
    assert caught(unlucky("step", 2), twice) == ["caught"]
    assert caught(unlucky("step", 2, retry=Retry(max_attempts=3)), twice) == ["step"]


def test_without_any_policy_the_first_failure_is_caught() -> None:
    assert caught(unlucky("step", 1)) == ["caught"]


def test_outside_of_a_try_the_caller_decides() -> None:
    assert play(flow(unlucky("step", 5, retry=Retry(max_attempts=2))))[0].log == ["step"]
    with pytest.raises(TerminalError):
        start(flow(failing("step", TerminalError("no"))))


@pytest.mark.parametrize("awaits", [False, True])
def test_a_failure_that_is_tried_again_is_raised_and_noted(awaits: bool) -> None:
    Flow = flow(Try("try", unlucky("step", 2, retry=Retry(max_attempts=3))).except_(Exception))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    for attempt in (1, 2):
        with pytest.raises(Unlucky):
            asyncio.run(aresume(order, execution)) if awaits else resume(order, execution)
        thread = execution.threads[0]
        assert (thread.step, thread.attempt, thread.status) == ("step", attempt, "executing")
        assert thread.error is not None
        assert thread.error.message == f"step, attempt {attempt}"
