"""Rarer forms of statements: functions of the item of a loop, activities without an input, children with typed fields.

``rare`` reads a definition with them from random bytes, and ``RareStatements`` builds it, beside those of
``tests.core.generate``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from tests.core.generate import Builder, Fields, FirstError, Spec, Tape, apply, note
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    ForEach,
    Go,
    If,
    On,
    S,
    Select,
    Sleep,
    Statement,
    Step,
    Timeout,
    Try,
    WaitFor,
)

NUMBER = 7
"""What an activity gets whose input has a default."""


class Given(BaseModel):
    """Fields of a child as a model of its own."""

    x: int = 0


class GivenWorkflow(Fields, name="given"):
    """Fields of a child as another workflow."""

    definition = S()


# --- as data ---------------------------------------------------------------------------------


def rare(data: bytes, *, calm: bool = False) -> list[Spec]:
    """Loops whose statements work on their items, between other rare statements."""
    tape = Tape(data, calm=calm, children=True)
    loops = [loop_of_items(tape, depth=1) for _ in range(1 + tape.below(2))]
    last = [("while", None, tape.select(0, in_loop=True), tape.block(0, in_loop=True))] if tape.below(2) else []
    return [*tape.many(0, 2, lambda: _other(tape)), *loops, *tape.many(0, 2, lambda: _other(tape)), *last]


def loop_of_items(tape: Tape, depth: int, forms: Sequence[str] = ("list", "list", "view", "iterator")) -> Spec:
    """A loop whose statements work on its items.

    Args:
        forms: those of the collection; the items of ``twice`` are not unique.
    """
    items = tape.of(forms)
    parallel = tape.below(3) == 0
    body = tape.many(1, 3, lambda: _of_item(tape, depth, in_loop=not parallel))
    return ("items", 1 + tape.below(3), items, parallel, [("step", tape.effect(), True), *body])


def _of_item(tape: Tape, depth: int, *, in_loop: bool) -> Spec:
    kinds = ["if", "wait for", "go", "sleep", "activity", "select", "step"]
    kind = tape.of([*kinds, *(["items"] if depth else [])])
    match kind:
        case "if":
            return ("if item", [tape.statement(0, in_loop=in_loop)], [tape.statement(0, in_loop=in_loop)])
        case "go":
            return ("go of item", [tape.statement(0, in_loop=False)])
        case "activity":
            return ("activity of item", not tape.calm and tape.below(3) == 0)
        case "select":
            return ("select of item", tape.effect(), tape.below(2))
        case "items":
            return ("inner items", [("step", tape.effect(), True), _of_item(tape, 0, in_loop=True)])
        case "step":
            return ("step", tape.effect(), True)
    return (f"{kind} item",)


def _other(tape: Tape) -> Spec:
    match tape.of(("truthy", "plain activity", "default activity", "given child", "bare try", "method")):
        case "truthy":
            return ("truthy", [tape.statement(0, in_loop=False)], [tape.statement(0, in_loop=False)])
        case "given child":
            return ("given child", tape.below(5))
        case "method":
            return ("method", tape.effect())
        case "bare try":
            body = [tape.of_kind("step" if tape.calm else "risky", 0), tape.statement(0, in_loop=False)]
            return ("bare try", body, [tape.statement(0, in_loop=False)])
        case kind:
            return (kind, not tape.calm and tape.below(3) == 0)


# --- built -----------------------------------------------------------------------------------


class RareStatements(Builder):
    """Builds them."""

    def plain_activity(self, function: Callable[[], int]) -> Callable[[], int]:
        """Hook: the synchronous function of an activity that gets nothing."""
        return function

    def default_activity(self, function: Callable[..., int]) -> Callable[..., Any]:
        """Hook: the function of an activity whose input has a default."""
        return function

    def method(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: a method of the class, which a step runs."""
        return action

    def statement(self, spec: Spec) -> Statement:
        match spec:
            case ("items", count, how, parallel, body):
                return self.items(count, how, parallel, body)
            case ("inner items", body):
                name = self.name("inner")
                items = self.collection(name, lambda w, item: [item, item + 1])
                return ForEach(name, items, *self.statements(body))
            case ("if item", body, other):
                name = self.name("if")
                holds = self.condition(name, lambda w, item: item % 2)
                return If(name, holds, *self.statements(body)).else_(*self.statements(other))
            case ("wait for item",):
                name = self.name("wait")
                holds = self.condition(name, lambda w, item: w.x >= item or len(w.log) > 3)
                return WaitFor(name, holds, note(name))
            case ("go of item", body):
                name = self.name("go")
                id = self.thread_id(name, lambda w, item: f"{name}-{item}-{len(w.log)}")
                return Go(name, *self.statements(body), id=id)
            case ("go of number", body):
                name = self.name("go")
                id = self.thread_id(name, lambda w, item: f"{name}-{item}")
                return Go(name, *self.statements(body), id=id)
            case ("sleep item",):
                return Sleep(self.name("sleep"), lambda w, item: timedelta(seconds=1 + item))
            case ("activity of item", risky):
                return self.activity_of_item(risky)
            case ("select of item", effect, timeout):
                return self.select_of_item(effect, timeout)
            case ("truthy", body, other):
                return If(self.name("if"), lambda w: w.log, *self.statements(body)).else_(*self.statements(other))
            case ("plain activity", risky):
                return self.without_input(risky)
            case ("default activity", risky):
                return self.with_default(risky)
            case ("given child", how):
                return self.given_child(how)
            case ("method", effect):
                name = self.name("method")
                return Step(name, self.method(name, lambda w: apply(w, effect)))
            case ("bare try", body, other):
                name = self.name("except")
                attempt = Try(self.name("try"), *self.statements(body))
                return attempt.except_(Exception, *self.statements(other), name=name)
        return super().statement(spec)

    def items(self, count: int, how: str, parallel: bool, body: list[Spec]) -> ForEach:
        name = self.name("each")
        numbers = dict.fromkeys(range(1, 1 + count))
        by_form: dict[str, Callable[[Fields], Any]] = {
            "list": lambda w: [*numbers],
            "view": lambda w: numbers.keys(),
            "iterator": lambda w: map(int, numbers),
            "twice": lambda w: [*numbers, *numbers],
        }
        items = self.collection(name, by_form[how])
        if parallel:
            return ForEach(name, items, *self.statements(body), parallel=True, limit=2)
        return ForEach(name, items, *self.statements(body))

    def activity_of_item(self, risky: bool) -> Activity:
        """Its input is the item, which ``then`` gets too."""
        name = self.name("activity")

        def plain(number: int, context: ActivityContext) -> int:
            if risky and number % 3 == 0:
                raise FirstError(f"{name} failed")
            return number + 1

        def then(w: Fields, number: int, *, item: int) -> None:
            w.x += number
            w.log.append(f"{name} of {item}: {number}")

        limit: dict[str, Any] = self.attempt_limit()
        return Activity(name, self.activity(plain, limit.get("heartbeat")), then=then, **limit)

    def without_input(self, risky: bool) -> Activity:
        name = self.name("activity")

        def plain() -> int:
            if risky:
                raise FirstError(f"{name} failed")
            return len(name)

        def then(w: Fields, number: int) -> None:
            w.log.append(name)

        return Activity(name, self.plain_activity(plain), then=self.taken(name, then))

    def with_default(self, risky: bool) -> Activity:
        name = self.name("activity")

        def plain(number: int = NUMBER, context: ActivityContext | None = None) -> int:
            if risky:
                raise FirstError(f"{name} failed")
            return number

        def then(w: Fields, number: int) -> None:
            w.y = number
            w.log.append(name)

        return Activity(name, self.default_activity(plain), then=self.taken(name, then))

    def select_of_item(self, effect: Spec, timeout: int) -> Select:
        label = self.name("on")

        def with_input(w: Fields, input: int, *, item: int) -> int:
            w.x += input
            w.log.append(f"{label}({input}) of {item}")
            return item

        def without_input(w: Fields, *, item: int) -> int:
            apply(w, effect)
            w.log.append(f"{label} of {item}")
            return item

        cases: list[On | Timeout] = [On("A", with_input), On("B", without_input)]
        cases += [Timeout(self.name("timeout"), self.delay())] if timeout else []
        return Select(self.name("select"), *cases)

    def given_child(self, how: int) -> Child:
        name = self.name("child")

        def then(w: Fields, number: int) -> None:
            w.x = number
            w.log.append(f"{name}: {number}")

        inputs: list[Callable[[Fields], Any] | None] = [
            None,
            lambda w: Given(x=w.x),
            lambda w: GivenWorkflow(x=w.x, y=w.y),
            lambda w: {"x": w.x},
            lambda w: {"x": w.x, "y": str(w.y)},
        ]
        return Child(name, self.child_class, input=inputs[how], then=self.taken(name, then))
