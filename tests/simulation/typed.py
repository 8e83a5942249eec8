"""Fields of many types. The equal values of search fields have different texts, by each of which a listing finds them.

No statement changes them: a creation gives them their values, and an operator.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from inspect import iscoroutinefunction
from random import Random
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, RootModel, SecretStr

from tests.core.generate import Fields
from workflow_core import ActivityContext


def _picky(text: str) -> str:
    if text == "boom":
        raise RuntimeError("the validator has a bug")
    return text


class Label(RootModel[str]):
    """A text with a configuration of its own."""

    model_config = ConfigDict(str_max_length=10)


class Typed(Fields):
    """Fields of many types; abstract. Pages show no secret, and no number that JSON does not have."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    pin: SecretStr = SecretStr("0000")
    most: float = float("inf")
    ranges: list[dict[str, float]] = [{"least": float("-inf"), "most": 1.5}]
    price: Decimal = Decimal("1.10")
    at: datetime | None = None
    opens: time = time(8)
    share: float = 0.5
    flag: bool = False
    label: Label = Label("red")
    odd: Annotated[str, AfterValidator(_picky)] = "calm"
    code1: int | str = 5
    code2: int | str = 5
    code3: int | str = 5
    code4: int | str = 5
    code5: int | str = 5


class Sealed(BaseModel):
    """The input of an activity, with a secret."""

    number: int
    pin: SecretStr


def sealing(given: Callable[..., Any]) -> Callable[..., Any]:
    """A function that gives an input with the secret of the workflow."""
    return lambda w: Sealed(number=given(w), pin=w.pin)


def sealed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of an activity that gets such an input."""
    if iscoroutinefunction(function):

        async def in_time(given: Sealed, context: ActivityContext) -> int:
            output: int = await function(given.number, context)
            return output

        return in_time

    def at_once(given: Sealed, context: ActivityContext) -> int:
        output: int = function(given.number, context)
        return output

    return at_once


@dataclass(frozen=True)
class Sample:
    """A value.

    Attributes:
        given: as the fields have it.
        stored: as a search field.
        texts: what finds it.
    """

    given: Any
    stored: Any
    texts: tuple[str, ...]


_CODES = (Sample(5, 5, ("5",)), Sample("5", "5", ("5",)), Sample("é", "é", ("é",)), Sample('"5"', '"5"', ('"5"',)))

SAMPLES: dict[str, tuple[Sample, ...]] = {
    "price": (
        Sample("1.10", "1.1", ("1.1", "1.10", "11e-1")),
        Sample("250", "250", ("250", "2.5e2", "250.00")),
        Sample("0.000", "0", ("0", "0.0", "-0")),
    ),
    "at": (
        Sample(None, None, ("null",)),
        Sample("2030-06-01T12:00:00+02:00", "2030-06-01T10:00:00Z", ("2030-06-01T10:00:00Z", "2030-06-01T12:00+02:00")),
        Sample("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00+14:00", ("0001-01-01T00:00:00+14:00",)),
    ),
    "opens": (
        Sample("08:00:00", "08:00:00", ("08:00", "08:00:00")),
        Sample("09:30:00+02:00", "07:30:00Z", ("07:30Z", "09:30+02:00")),
        Sample("00:30:00+02:00", "00:30:00+02:00", ("00:30+02:00",)),
    ),
    "share": (Sample(0.5, 0.5, ("0.5", "5e-1")), Sample(3.0, 3.0, ("3", "3.0"))),
    "flag": (Sample(False, False, ("false", "no", "0")), Sample(True, True, ("true", "yes", "1"))),
    "label": (Sample("red", "red", ("red",)), Sample("blue", "blue", ("blue",))),
    "odd": (Sample("calm", "calm", ("calm",)), Sample("null", "null", ("null",))),
    **dict.fromkeys(("code1", "code2", "code3", "code4", "code5"), _CODES),
}
"""By field: its values, beginning with a default where it is among them."""

WRONG_SEARCHES: tuple[dict[str, str], ...] = (
    {"price": "cheap"},
    {"price": "NaN"},
    {"share": "NaN"},
    {"odd": "boom"},
    {"label": "much too long for it"},
    {"code1": "x" * 1_500},
    {"code1": "5\x00"},
    dict.fromkeys(("code1", "code2", "code3", "code4", "code5"), "5"),
)


def sample_of(name: str, given: Any) -> Sample:
    """The sample of a value that the fields have."""
    return next(one for one in SAMPLES[name] if one.given == given and type(one.given) is type(given))


def drawn(rng: Random) -> dict[str, Any]:
    """Values of some fields."""
    names = rng.sample(sorted(SAMPLES), rng.randrange(len(SAMPLES)))
    return {name: rng.choice(SAMPLES[name]).given for name in names} | {"pin": f"{rng.randrange(10_000):04}"}


def shown(fields: str) -> Any:
    """What a page shows of stored fields."""
    state = json.loads(fields, parse_constant=str)
    return state | {"pin": "*" * 10} if "pin" in state else state
