"""The workflows that are attacked: their code has no bug, so that every error is the input's. Holds no test."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from workflow_core import Break, If, On, S, Select, Step, Timeout, WaitFor, While, Workflow


class Size(Enum):
    SMALL = "small"
    LARGE = "large"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=0, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    tricks: list[Annotated[str, Field(min_length=1, max_length=20)]] = []


class Person(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=40)]
    born: date | None = None
    friends: list[Person] = []
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []


class Box(BaseModel):
    size: Size = Size.SMALL
    weight: Annotated[float, Field(gt=0, lt=1000)]
    price: Annotated[Decimal, Field(max_digits=8, decimal_places=2)] = Decimal(1)
    tags: Annotated[list[str], Field(max_length=5)] = []
    id: UUID | None = None
    sent: datetime | None = None
    opens: time | None = None
    # Over a year pydantic writes such as P2Y43D, which JSON Schema's format "duration" does not know.
    lasts: Annotated[timedelta, Field(ge=timedelta(0), lt=timedelta(days=365))] | None = None
    address: IPv4Address | None = None
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}\d{3}$")] | None = None
    numbers: dict[str, int] = {}


class Store(Workflow, name="store"):
    """Takes values of every type, each in an event of its own, and keeps the last one."""

    search_fields = ("label",)

    label: Annotated[str, Field(max_length=100)] = ""
    kept: Any = None
    box: Box | None = None
    person: Person | None = None
    numbers: list[int] = []
    amount: float = 0
    closed: bool = False

    def keep(self, value: Any) -> Any:
        self.kept = value
        return value

    def keep_box(self, box: Box) -> Box:
        self.box = box
        return box

    def keep_person(self, person: Person) -> Person:
        self.person = person
        return person

    def keep_numbers(self, numbers: list[int]) -> list[int]:
        self.numbers = numbers
        return numbers

    def keep_amount(self, amount: float) -> float:
        self.amount = amount
        return amount

    def keep_label(self, label: Annotated[str, Field(max_length=100)]) -> str:
        self.label = label
        return label

    def keep_either(self, value: int | str | list[bool] | None) -> int | str | list[bool] | None:
        self.kept = value
        return value

    def count(self) -> int:
        return len(self.numbers)

    definition = S(
        While(
            "open",
            lambda w: not w.closed,
            Select(
                "counter",
                On("Keep", keep),
                On("KeepBox", keep_box),
                On("KeepPerson", keep_person),
                On("KeepNumbers", keep_numbers),
                On("KeepAmount", keep_amount),
                On("KeepLabel", keep_label),
                On("KeepEither", keep_either),
                On("Count", count),
                On("an event / with % a name?", count),
                Timeout("long after", timedelta(days=300)),
            ),
        )
    )


class Endless(Workflow, name="endless"):
    """Loops without a step or a wait: at its start, after an event, or after a step."""

    create_fields = ("when",)

    when: Literal["start", "event", "step", "never"] = "never"
    handled: int = 0
    worked: bool = False

    def handle(self) -> int:
        self.handled += 1
        return self.handled

    def work(self) -> None:
        self.worked = True

    definition = S(
        While("at its start", lambda w: w.when == "start", If("never 1", lambda w: False, Break())),
        Select("an event", On("Go", handle)),
        While("after the event", lambda w: w.when == "event", If("never 2", lambda w: False, Break())),
        Step("work", work),
        While("after the step", lambda w: w.when == "step", If("never 3", lambda w: False, Break())),
        WaitFor("for ever", lambda w: False),
    )


WORKFLOWS = (Store, Endless)
