"""Which failures are tried again and caught: values that do not fit, and groups of errors."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.core.helpers import Logged, do
from workflow_core import (
    Activity,
    ErrorInfo,
    Execution,
    InvalidInput,
    Retry,
    S,
    Step,
    TerminalError,
    Try,
    UnusableResult,
    aresume,
    resume,
)
from workflow_core.error_texts import error_info
from workflow_core.errors import InvalidOutput

ALWAYS = Retry(max_attempts=None)


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


@pytest.mark.parametrize(
    ("policy", "error", "retried"),
    [
        (ALWAYS, group(ValueError()), True),
        (ALWAYS, group(ValueError(), KeyError()), True),
        (ALWAYS, group(TerminalError()), False),
        (ALWAYS, group(ValueError(), group(TerminalError("no"))), False),
        (Retry(retry_on=OSError), group(OSError(), TimeoutError()), True),
        (Retry(retry_on=OSError), group(OSError(), ValueError()), False),
        (Retry(give_up_on=ValueError), group(OSError(), ValueError()), False),
        (Retry(give_up_on=(ValueError, KeyError)), group(OSError(), OSError()), True),
        (ALWAYS, group(ValueError(), asyncio.CancelledError()), False),
        (ALWAYS, InvalidInput("x", []), False),
        (ALWAYS, InvalidOutput("x"), False),
        (ALWAYS, UnusableResult("x"), False),
    ],
)
def test_what_is_tried_again(policy: Retry, error: BaseException, retried: bool) -> None:
    assert (policy.delay(1, error) is not None) == retried


@pytest.mark.parametrize(
    ("types", "errors", "caught"),
    [
        (ValueError, [ValueError("a")], True),
        (LookupError, [KeyError("a"), IndexError("b")], True),
        ((ValueError, KeyError), [KeyError("a"), ValueError("b")], True),
        (ValueError, [ValueError("a"), KeyError("b")], False),
        (ExceptionGroup, [ValueError("a"), KeyError("b")], True),
        (Exception, [ValueError("a"), KeyError("b")], True),
        ((ValueError, OSError), [ValueError("a"), ExceptionGroup("in", [OSError("b")])], True),
        (ValueError, [ValueError("a"), ExceptionGroup("in", [OSError("b")])], False),
        (TerminalError, [TerminalError("a"), TerminalError("b")], True),
        (TerminalError, [TerminalError("a"), ValueError("b")], False),
        ((TerminalError, ValueError), [TerminalError("a"), ValueError("b")], True),
        (Exception, [TerminalError("a"), ValueError("b")], True),
    ],
)
def test_which_except_catches_a_group(types: Any, errors: list[Exception], caught: bool) -> None:
    async def several(w: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            for error in errors:
                tasks.create_task(raising(error))

    async def raising(error: Exception) -> None:
        raise error

    class Flow(Logged, name="flow"):
        def note(self, error: ErrorInfo) -> None:
            self.log.append(error.text)

        definition = S(Try("try", Step("several", several)).except_(types, do("caught"), then=note))

    order, execution = Flow(), Execution.start("a", Flow)
    if caught:
        asyncio.run(aresume(order, execution))
        assert order.log[-1] == "caught"
        assert all(str(error.args[0]) in order.log[0] for error in errors if not isinstance(error, ExceptionGroup))
    else:
        with pytest.raises(ExceptionGroup):
            asyncio.run(aresume(order, execution))
        assert order.log == []
    restored = Execution.from_json(execution.to_json())
    assert restored.to_json() == execution.to_json()


def test_a_group_of_one_is_told_as_that_one() -> None:
    info = error_info(group(group(ValueError("no stock"))), "order")
    assert info == ErrorInfo("ValueError", "no stock", "order", ["builtins.ValueError"])
    assert error_info(group(ValueError("a"), KeyError("b")), "").message == (
        "several (2 sub-exceptions): ValueError: a; KeyError: 'b'"
    )


def test_a_caught_group_survives_a_load() -> None:
    info = error_info(group(ValueError("a"), KeyError("b")), "order")
    assert info.leaves == [["builtins.ValueError"], ["builtins.KeyError", "builtins.LookupError"]]


def test_a_result_that_does_not_fit_is_computed_once() -> None:
    calls: list[str] = []

    def rate() -> int:
        calls.append("rate")
        return "five"  # type: ignore[return-value]

    class Flow(Logged, name="flow"):
        default_retry = ALWAYS

        def rated(self, rating: int) -> None: ...

        definition = S(Activity("rate", rate, then=rated))

    with pytest.raises(InvalidOutput):
        resume(Flow(), Execution.start("a", Flow))
    assert calls == ["rate"]
