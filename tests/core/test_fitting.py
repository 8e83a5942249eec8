"""Types that are passed on from one function to another are checked at import, as far as they certainly do not fit."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, BeforeValidator, TypeAdapter

from tests.core.helpers import Logged, do, flow
from workflow_core import Activity, Child, DefinitionError, If, WaitFor, Workflow
from workflow_core.fitting import fits


class Scan(BaseModel):
    pages: int


class Parcel(Workflow, name="fitting-parcel"):
    address: str = ""

    definition = flow(do("it")).definition


CASES: list[tuple[Any, Any, bool]] = [
    (int, int, True),
    (int, float, True),
    (str, int, True),
    (int, str, False),
    (None, int, False),
    (int | None, int, True),
    (Scan, dict[str, int], True),
    (Scan, list[int], True),  # a list may stand for a named tuple
    (list[int], Scan, False),
    (str, Scan, False),
    (Scan, Scan | None, True),
    (int, date, True),
    (float, Decimal, True),
    (list[str], str, False),
    (Any, int, True),
    (int, Any, True),
    (bool, int, True),
    (int, Annotated[str, BeforeValidator(str)], True),
]


@pytest.mark.parametrize(("given", "taken", "expected"), CASES)
def test_what_fits(given: Any, taken: Any, expected: bool) -> None:
    schema = TypeAdapter(given).json_schema(mode="serialization")
    taker: TypeAdapter[Any] = TypeAdapter(taken)
    assert fits(schema, taker.json_schema(), taker.core_schema) is expected


def count(scan: Scan) -> int:
    return scan.pages


def a_number(w: Logged) -> int:
    return w.n


def a_scan(w: Logged) -> Scan:
    return Scan(pages=w.n)


def nothing(w: Logged) -> None: ...


def take_number(w: Logged, number: int) -> None: ...


def take_scan(w: Logged, scan: Scan) -> None: ...


class Misspelt(BaseModel):
    adress: str


class Numbered(BaseModel):
    address: Scan


class Fine(BaseModel):
    address: str
    adress: str = ""  # is not passed on unless it is set


class Counting(Workflow, name="fitting-counting"):
    definition = flow(do("it")).definition

    def result(self) -> int:
        return 1


def a_parcel_of_another(w: Logged) -> Misspelt:
    return Misspelt(adress="here")


def a_numbered(w: Logged) -> Numbered:
    return Numbered(address=Scan(pages=1))


def fine(w: Logged) -> Fine:
    return Fine(address="here")


def take_scan_number(w: Logged, number: int) -> None: ...


def test_fields_and_results_of_children_that_fit_are_accepted() -> None:
    flow(Child("deliver", Parcel, input=fine, then=take_scan))
    flow(Child("count", Counting, then=take_scan_number))
    flow(Child("named", "fitting-parcel", input=a_numbered, then=take_scan_number))  # not known at import


def test_what_fits_is_accepted() -> None:
    flow(Activity("count", count, input=a_scan, then=take_number))
    flow(Activity("count", count, input=lambda w: 1, then=lambda w: None))
    flow(Child("deliver", Parcel, input=lambda w: Parcel(), then=take_scan))


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            Activity("count", count, input=a_number),  # type: ignore[arg-type, misc]
            "Activity 'count': its input is a number, but its function takes an object as 'scan'",
        ),
        (
            Activity("count", count, input=nothing),  # type: ignore[arg-type, misc]
            "Activity 'count': its input is null, but its function takes an object as 'scan'",
        ),
        (
            Activity("count", count, input=a_scan, then=take_scan),  # type: ignore[arg-type]
            "Activity 'count': its result is a number, but 'then' takes an object as 'scan'",
        ),
        (
            Child("deliver", Parcel, input=a_number),  # type: ignore[arg-type]
            "Child 'deliver': its input returns a number, but the child needs fields",
        ),
        (
            Child("deliver", Parcel, input=a_parcel_of_another),
            "Child 'deliver': its input has 'adress', which is no field of the child. Available: 'address'",
        ),
        (
            Child("deliver", Parcel, input=a_numbered),
            "Child 'deliver': its input has an object as 'address', but the child needs a string",
        ),
        (
            Child("deliver", Parcel, then=take_scan_number),
            "Child 'deliver': its result is an object, but 'then' takes a number as 'number'",
        ),
        (
            Child("deliver", Counting, then=take_scan),
            "Child 'deliver': its result is a number, but 'then' takes an object as 'scan'",
        ),
        (If("big", nothing, do("a")), "If 'big': its condition returns None, which is never true. Return a bool."),
        (WaitFor("big", nothing), "WaitFor 'big': its condition returns None, which is never true. Return a bool."),
    ],
)
def test_what_certainly_does_not_fit_is_a_mistake(statement: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as raised:
        flow(statement)
    assert str(raised.value).startswith(message)
