"""An explicit definition with all kinds of functions, which type checkers accept."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel

from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    ForEach,
    If,
    S,
    Select,
    Step,
    Timeout,
    WaitFor,
    When,
    While,
    Workflow,
)


class Row(BaseModel):
    number: int


async def check(row: Row) -> bool:
    return row.number > 0


def double(number: int) -> int:
    return number * 2


async def watched(number: int, context: ActivityContext) -> str:
    return f"{number} {context.attempt}"


async def none() -> int:
    return 1


class Parcel(Workflow, name="parcel"):
    weight: int = 1

    definition = S(Step("weigh", lambda w: None))


class Typed(Workflow, name="typed"):
    rows: list[Row] = []
    number: int = 0
    approved_by: str | None = None

    def first(self) -> Row:
        return self.rows[0]

    def keep(self, ok: bool) -> None:
        self.number += ok

    def keep_of(self, ok: bool, *, item: Row, now: datetime) -> None:
        self.number += ok

    def keep_number(self, number: float) -> None:
        self.number = int(number)

    def done(self) -> None:
        self.number += 1

    def parcel(self) -> dict[str, int]:
        return {"weight": self.number}

    def is_done(self) -> bool:
        return self.number > 3

    def is_large(self, item: Row) -> bool:
        return item.number > self.number

    def approval(self) -> str | None:
        return self.approved_by

    definition = S(
        Activity("check", check, input=first, then=keep),
        Activity("double", double, input=lambda w: w.number, then=keep_number),
        Activity("watched", watched, input=lambda w: 1, then=done),
        Activity("none", none, then=lambda w: None, timeout=timedelta(seconds=1)),
        Activity("from a mapping", check, input=lambda w: {"number": 1}),
        ForEach(
            "each",
            lambda w: w.rows,
            Activity("of item", check, then=keep_of),
            If("large", is_large, Step("note", done)),
        ),
        Child("parcel", Parcel, input=parcel),
        Child("made", Parcel, input=lambda w: Parcel(weight=3), then=lambda w: None),
        Child("named", "parcel", detached=True),
        While("not done", is_done, Step("work", done)),
        Select("wait", When("is approved", approval), Timeout("late", timedelta(days=1))),
        WaitFor("done", lambda w: w.number),
    )
