"""Workflows of whose instances documents are stored; see ``stored_scenarios``."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from workflow_core import (
    Activity,
    Break,
    Case,
    Child,
    Continue,
    Default,
    EventRequest,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Retry,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    While,
    Workflow,
)

ITEMS = 10
"""Enough branches for what they share to be stored once."""


def do(name: str) -> Step:
    """A step that logs its name, its item and the error that was caught."""

    def act(w: Any, step: StepContext) -> None:
        item = "" if step.item is None else f" {step.item}"
        w.log.append(f"{name}{item}{'' if step.error is None else f' after {step.error.text}'}")

    return Step(name, act)


def log(text: str) -> Callable[[Any], None]:
    """A function of the workflow that logs."""
    return lambda w: w.log.append(text)


class Stored(Workflow):
    """The fields of all workflows here."""

    log: list[str] = []
    n: int = 0
    flag: bool = False


class Outside:
    """A handler for an outside system that logs its requests."""

    def setup(self, request: EventRequest) -> Any:
        return {"link": request.wait_id, "n": [1, None]}

    def handle(self, request: EventRequest, input: int) -> None:
        request.workflow.log.append(f"{request.event} {input} {request.setup_data} {request.idempotency_key}")

    def teardown(self, request: EventRequest, handled: bool) -> None:
        pass


def take(w: Any, value: int) -> None:
    w.log.append(f"took {value}")


def take_item(w: Any, value: int, *, item: Any) -> None:
    w.log.append(f"took {value} of {item}")


def fetch(url: str) -> int:
    return len(url)


class Statements(Stored, name="statements"):
    """A way through all that rests nowhere, or on a step."""

    definition = S(
        do("first"),
        If("is it big", lambda w: w.n > 5, do("big")).else_(do("small")),
        Switch("which", Case("one", lambda w: w.n == 1, do("case one")), Default(do("no case"))),
        While("again", lambda w: w.n < 2, Step("count", lambda w: setattr(w, "n", w.n + 1))),
        ForEach(
            "each",
            lambda w: ["a", "b", "c"],
            do("item"),
            If("skip b", lambda w, item: item == "b", Continue()),
            If("stop at c", lambda w, item: item == "c", Break()),
            do("end of item"),
        ),
        Try(
            "attempt",
            do("inside"),
            Fail("on purpose", lambda w: f"n is {w.n}"),
        )
        .except_(Exception, do("sorry"), name="caught", then=lambda w, error: w.log.append(error.message))
        .finally_(do("clean up")),
        Go("aside", do("beside")),
        Try("leave", Return()).finally_(do("before the end")),
    )


class Waits(Stored, name="waits"):
    """Each kind of wait of a select, and what stands alone."""

    definition = S(
        Select(
            "answer",
            On("Yes", take, S(do("yes"))),
            On("Kept", take, S(do("kept")), buffered=True),
            Timeout("late", timedelta(hours=1), do("too late")),
        ),
        Sleep("nap", timedelta(minutes=5)),
        WaitFor("until", lambda w: w.flag),
        do("last"),
    )


class Flagged(Stored, name="flagged"):
    """A condition that another thread makes true."""

    definition = S(
        Go("sets", Select("wait", On("Set", lambda w: setattr(w, "flag", True)))),
        WaitFor("until", lambda w: w.flag),
        do("last"),
    )


class Handlers(Stored, name="handlers"):
    """Events that are registered with an outside system."""

    definition = S(
        Select(
            "pay",
            On("Paid", Outside(), S(do("paid"))),
            On("Refused", Outside(), S(do("refused"))),
            On("Plain", take),
            Timeout("late", timedelta(hours=1)),
        ),
        do("last"),
    )


class Activities(Stored, name="activities"):
    """An activity, with a retry and its error caught."""

    definition = S(
        Try(
            "try",
            Activity("fetch", fetch, input=lambda w: "x" * 3, then=take, retry=Retry(max_attempts=3)),
        ).except_(OSError, do("sorry"), name="caught"),
        do("last"),
    )


class Children(Stored, name="children"):
    """A child that is waited for, and one that is not."""

    definition = S(
        Child("forget", "elsewhere", id="d-1", input=lambda w: {"n": 1}, detached=True),
        Try(
            "try",
            Child("deliver", "elsewhere", id="c-1", input=lambda w: {"street": "Elm", "n": w.n}, then=take),
        ).finally_(do("clean up")),
        do("last"),
    )


class Branches(Stored, name="branches"):
    """Parallel sections: one waits, and one fails on request."""

    definition = S(
        Parallel(
            "both",
            S(Select("left", On("Left", take)), Try("l", Sleep("nap", timedelta(minutes=5))).finally_(do("tidy"))),
            S(Select("right", On("Right", take)), Fail("wrong", "told to")),
            S(Try("t", Select("third", On("Third", take))).finally_(Select("third tidy", On("Tidy", take)))),
        ),
        do("last"),
    )


class Covered(Stored, name="covered"):
    """A thread that a ``Try`` covers, and that fails on request."""

    definition = S(
        Try(
            "try",
            Go("side", Select("right", On("Right", take)), Fail("wrong", "told to")),
            Try("inner", Select("left", On("Left", take))).finally_(Select("tidy", On("Tidy", take))),
        ).finally_(do("clean up")),
        do("last"),
    )


def many(name: str, *statements: Any) -> type[Stored]:
    """As many branches as are folded."""
    each = ForEach("each", lambda w: [f"u{n}" for n in range(ITEMS)], *statements, parallel=True, limit=ITEMS)

    class Many(Stored, name=name):
        definition = S(each, do("last"))

    return Many


ManyActivities = many("many-activities", Activity("fetch", fetch, then=take_item))
ManyEvents = many(
    "many-events", Select("ask", On("Answer", take_item), Timeout("late", timedelta(hours=1), do("too late")))
)
ManyHandlers = many("many-handlers", Select("pay", On("Paid", Outside()), On("Plain", take_item)))
ManyChildren = many("many-children", Child("deliver", "elsewhere", input=lambda w, item: {"of": item}))
ManySteps = many("many-steps", do("item"), Select("wait", On("Answer", take_item)))

WORKFLOWS: dict[str, type[Stored]] = {
    cls.__workflow_name__: cls
    for cls in (
        *(Statements, Waits, Flagged, Handlers, Activities, Children, Branches, Covered),
        *(ManyActivities, ManyEvents, ManyHandlers, ManyChildren, ManySteps),
    )
}
