"""Idempotency keys: on what they depend, and on what they do not."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from tests.core.helpers import Logged, do, flow, migrate
from workflow_core import (
    Activity,
    ActivityContext,
    ErrorInfo,
    EventRequest,
    Execution,
    On,
    S,
    Select,
    Step,
    StepContext,
    WaitFor,
    handle_event,
    resume,
)


class Order(Logged, name="order"):
    definition = S(do("a"))


class Return(Logged, name="return"):
    definition = S(do("a"))


STEP = StepContext("order", "id-1", "main", "charge", 12, 1)
ACTIVITY = ActivityContext("order", "id-1", "main", "charge", "main@12", 1)
REQUEST = EventRequest(Order(), "id-1", "main", "main@12", "Paid", None, "setup")


def key(context: Any, **changes: Any) -> str:
    return str(replace(context, **changes).idempotency_key)


@pytest.mark.parametrize(
    ("context", "changes"),
    [
        (STEP, {"workflow": "return"}),
        (STEP, {"workflow_id": "id-2"}),
        (STEP, {"thread_id": "side"}),
        (STEP, {"pc": 13}),
        (STEP, {"workflow": "orderi", "workflow_id": "d-1"}),
        (STEP, {"thread_id": "main1", "pc": 2}),
        (ACTIVITY, {"workflow": "return"}),
        (ACTIVITY, {"workflow_id": "id-2"}),
        (ACTIVITY, {"wait_id": "main@13"}),
        (ACTIVITY, {"wait_id": "side@12"}),
        (ACTIVITY, {"activity": "refund"}),
        (ACTIVITY, {"known_as": "refund"}),
        (ACTIVITY, {"wait_id": "main@12c", "activity": "harge"}),
        (REQUEST, {"workflow": Return()}),
        (REQUEST, {"workflow_id": "id-2"}),
        (REQUEST, {"wait_id": "main@13"}),
        (REQUEST, {"wait_id": "side@12"}),
        (REQUEST, {"event": "Refused"}),
        (REQUEST, {"known_as": "Refused"}),
        (REQUEST, {"action": "teardown"}),
    ],
)
def test_the_key_is_another_one_for_other_work(context: Any, changes: dict[str, Any]) -> None:
    assert key(context, **changes) != key(context)


@pytest.mark.parametrize(
    ("context", "changes"),
    [
        (STEP, {"attempt": 2}),
        (STEP, {"item": "book", "index": 1, "error": ErrorInfo("ValueError", "bad")}),
        (STEP, {"step": "charge the card"}),
        (ACTIVITY, {"attempt": 2}),
        (ACTIVITY, {"activity": "charge the card", "known_as": "charge"}),
        (REQUEST, {"workflow": Order(n=7), "setup_data": {"registered": 1}}),
        (REQUEST, {"event": "PaymentReceived", "known_as": "Paid"}),
    ],
)
def test_the_key_is_the_same_for_the_same_work(context: Any, changes: dict[str, Any]) -> None:
    assert key(context, **changes) == key(context)


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (STEP, "1ee8c8e54fd502e43f07aa2d49775cb9"),
        (ACTIVITY, "4e97cf6e74bf58a5a704ae14c73fda89"),
        (REQUEST, "d4f02aabb5d0620460f38ab8a142be9a"),
    ],
)
def test_the_key_is_the_same_in_every_release(context: Any, expected: str) -> None:
    """An attempt that an earlier release has begun may be followed by another one of this release."""
    assert key(context) == expected


class Unreachable:
    """Raises in each call, and records the key; a setup only if it is ``at`` that."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.keys: list[str] = []

    def step(self, w: Logged, step: StepContext) -> None:
        self.note(step)

    def activity(self, input: None, context: ActivityContext) -> None:
        self.note(context)

    def setup(self, request: EventRequest) -> None:
        if self.at == "setup":
            self.note(request)

    def handle(self, request: EventRequest, input: None) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None:
        self.note(request)

    def note(self, context: StepContext | ActivityContext | EventRequest) -> None:
        self.keys.append(context.idempotency_key)
        raise ConnectionError


@pytest.mark.parametrize("kind", ["step", "activity", "setup", "teardown"])
def test_what_is_tried_again_keeps_its_key_however_often_it_is_renamed(kind: str) -> None:
    outside = Unreachable(kind)

    def version(name: str, *former: str) -> type[Logged]:
        if kind == "step":
            return flow(Step(name, outside.step, renamed_from=former))
        if kind == "activity":
            return flow(Activity(name, outside.activity, renamed_from=former))
        on = On(name, outside, renamed_from=former)
        return flow(Select("s", on), WaitFor("never", lambda w: False))

    def attempt() -> None:
        with suppress(ConnectionError):
            resume(order, execution)

    old = version("a")
    order, execution = old(), Execution.start("id-1", old)
    attempt()
    if kind == "teardown":
        handle_event(order, execution, "a")
        attempt()
    for names in ("ba", "cba", "dcba"):
        order, execution = migrate(order, execution, version(*names))
        attempt()
    assert len(outside.keys) == 4
    assert len(set(outside.keys)) == 1
