"""Inputs: JSON from clients, validated with the aliases of their types, and refused where it cannot mean what it says.

JSON has no NaN and no infinities, a view shows a secret as asterisks, and pydantic takes the last of the values of a
repeated key, and reads a number with a fraction as a ``float``. ``from_client`` refuses the first three, and keeps the
digits of a decimal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any

from pydantic import ValidationError
from pydantic_core import SchemaValidator, core_schema

from workflow_core.comparing import Path, leaves
from workflow_core.error_texts import field_errors
from workflow_core.errors import InvalidInput
from workflow_core.secret_values import MASK, is_mask
from workflow_core.value_form import ValueForm

Error = dict[str, Any]

VALUES_OF_ALL_ERRORS = 1_000
"""In an input of more values, only the first error of each list and mapping is made."""

_STOPPED: Error = {
    "field": "",
    "message": f"the input has more than {VALUES_OF_ALL_ERRORS:,} values, so each list was read up to its first error",
    "type": "too_many_errors",
}

_NO_JSON = "json_invalid"

# The end is optional, so that a text that does not end is not searched again from each of its escaped quotes.
_TEXT = rb'(?s)"(?:[^"\\]++|\\.)*+"?'


def from_client(what: str, body: bytes | str, form: ValueForm, **options: Any) -> Any:
    """Returns the value for a JSON text of a client.

    Args:
        what: the input, for errors.
        form: the form of the type.
        options: of pydantic.

    Raises:
        InvalidInput: the text is not JSON or does not fit the type, or it contains a repeated key, a number that JSON
            does not have, a masked secret, or a decimal with more digits than can be kept.
    """
    is_large = values_in(body) > VALUES_OF_ALL_ERRORS
    value = _validated(what, form, is_large, options, body)
    refuse_repeated_keys(what, body)
    if form.has_decimals:
        data, places = _with_numbers(body)
        if places:
            value = _Decimals(what, value, data, partial(_validated, what, form, is_large, options)).exact(places)
    if form.compare is not None and form.compare.is_needed():
        refuse_unusable(what, value)
    return value


def _validated(what: str, form: ValueForm, is_large: bool, options: dict[str, Any], text: bytes | str) -> Any:
    try:
        return form.validate_json(text, stops=is_large, **options)
    except ValidationError as error:
        errors = field_errors(error)
        if is_large and errors[0]["type"] != _NO_JSON:
            errors.append(_STOPPED)
        raise InvalidInput(what, errors) from None


def values_in(body: bytes | str) -> int:
    """Returns about how many values a JSON text has: items of lists, members of objects, and these themselves. A text
    of ``n`` bytes has at most ``n`` values, so a small text is not counted."""
    if len(body) <= VALUES_OF_ALL_ERRORS:
        return len(body)
    text = body.encode(errors="replace") if isinstance(body, str) else body
    if _separators(text) <= VALUES_OF_ALL_ERRORS:
        return _separators(text)
    return _separators(re.sub(_TEXT, b"", text))


def _separators(text: bytes) -> int:
    return 1 + sum(map(text.count, (b",", b"[", b"{")))


def refuse_unusable(what: str, value: Any) -> None:
    """Rejects ``nan`` and infinities, because JSON cannot represent them, and masked secrets. Fields that were left out
    may have such a number as their default.

    Raises:
        InvalidInput: the value contains one of them.
    """
    for path, leaf in leaves(value, only_given=True):
        if isinstance(leaf, (float, Decimal)) and not math.isfinite(leaf):
            raise InvalidInput(what, [_error(path, f"{leaf} is not a finite number", "finite_number")])
    refuse_masks(what, value)


def refuse_masks(what: str, value: Any) -> None:
    """Rejects values with a masked secret: it was copied from a view, and would replace the secret.

    Raises:
        InvalidInput: the value contains a masked secret.
    """
    for path, leaf in leaves(value):
        if is_mask(leaf):
            message = f"{MASK!r} is what a secret is shown as. Send the secret itself, or leave the field out"
            raise InvalidInput(what, [_error(path, message, "masked_secret")])


def _error(path: Path, message: str, type: str) -> Error:
    return {"field": ".".join(map(str, path)), "message": message, "type": type}


# --- repeated keys ---------------------------------------------------------------------------

_STRING = rb'"([^"]*)"\s*(:?)'
"""A string of a JSON text without escapes, and the colon after it if it is a key."""


def refuse_repeated_keys(what: str, body: bytes | str) -> None:
    """Rejects a JSON text with an object that has a key twice, because only one of the values would be used.

    Reading a text into pairs takes as long as validating it. Most texts are small and have no key in two places, which
    is faster to see.

    Raises:
        InvalidInput: a key is repeated.
    """
    text = body.encode() if isinstance(body, str) else body
    if b"{" not in text:
        return
    if b"\\" not in text:
        keys = [string for string, colon in re.findall(_STRING, text) if colon]
        if len(keys) == len(set(keys)):
            return
    with suppress(ValueError):  # such as an integer of more digits than Python reads
        json.loads(text, object_pairs_hook=partial(_unique, what), parse_int=str)


def _unique(what: str, pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for key in keys if keys.count(key) > 1)
        message = f"the key {key!r} is given more than once in one object. Send it once"
        raise InvalidInput(what, [_error((key,), message, "repeated_key")])


# --- decimals --------------------------------------------------------------------------------

_Validate = Callable[[bytes | str], Any]
_Place = tuple[str, ...]
"""Where a number is in a JSON text: the keys of objects, and ``*`` for the items of lists."""

_TRIES_MAX = 50
"""How often an input may be validated to find the numbers that are decimals."""


_AS_DECIMAL = SchemaValidator(core_schema.decimal_schema())


class _Number(float):
    """A number of which a decimal would lose digits, also zeros at the end, with its text."""

    text: str


class _Unclear(Exception):
    """It takes too long to find which numbers are decimals."""


def _with_numbers(body: bytes | str) -> tuple[Any, list[_Place]]:
    """Returns the data of a JSON text, with a ``_Number`` for each number of which a decimal would lose digits, and
    where these are."""
    found = False

    def number(text: str) -> float:
        nonlocal found
        value = float(text)
        with suppress(ValidationError):
            if Decimal(text).as_tuple() == _AS_DECIMAL.validate_json(text).as_tuple():
                return value
        found = True
        exact = _Number(value)
        exact.text = text
        return exact

    try:
        data = json.loads(body, parse_float=number)
    except ValueError:  # such as an integer of more digits than Python reads
        return None, []
    return data, list(dict.fromkeys(_places(data, ()))) if found else []


def _places(data: Any, place: _Place) -> Iterator[_Place]:
    if isinstance(data, dict):
        for key, part in data.items():
            yield from _places(part, (*place, key))
    elif isinstance(data, list):
        for part in data:
            yield from _places(part, (*place, "*"))
    elif isinstance(data, _Number):
        yield place


def _replaced(data: Any, places: Collection[_Place], new: Callable[[_Number], Any], place: _Place = ()) -> Any:
    """Returns JSON data with other values for the numbers at some places."""
    if isinstance(data, dict):
        return {key: _replaced(part, places, new, (*place, key)) for key, part in data.items()}
    if isinstance(data, list):
        return [_replaced(part, places, new, (*place, "*")) for part in data]
    return new(data) if isinstance(data, _Number) and place in places else data


class _Decimals:
    """Finds the decimals among the numbers of an input, and gives them all their digits.

    A number that is sent as a text has all digits, but only a decimal is the same then. The types do not tell which
    number of a JSON text becomes which value, because of aliases, unions and validators, so it is tried.
    """

    def __init__(self, what: str, value: Any, data: Any, validate: _Validate) -> None:
        self.what = what
        self.value = value
        self.data = data
        self.validate = validate
        self.leaves = list(leaves(value))
        self.tries = _TRIES_MAX

    def exact(self, places: list[_Place]) -> Any:
        """Returns the value whose decimals have all digits. ``value`` has the digits of a ``float``.

        Raises:
            InvalidInput: a decimal would lose digits.
        """
        try:
            found = set(self.as_texts(places))
            exact = self.tried(found, lambda number: number.text) if found else self.value
            if self.differences(exact) == []:
                return exact
        except _Unclear:
            pass
        for path, leaf in self.leaves:
            if isinstance(leaf, Decimal):
                raise self.refusal(path)
        return self.value

    def as_texts(self, places: list[_Place]) -> list[_Place]:
        """Returns the places whose numbers can be texts without changing anything but the digits of decimals."""
        differences = self.differences(self.tried(places, lambda number: number.text))
        if differences == []:
            return places
        if len(places) == 1:
            self.refuse_inexact(places, differences)
            return []
        half = len(places) // 2
        return self.as_texts(places[:half]) + self.as_texts(places[half:])

    def refuse_inexact(self, places: list[_Place], differences: list[tuple[Path, Any]] | None) -> None:
        """Refuses a number that must stay a number, if it is a decimal."""
        if differences is None:  # it is a decimal if another number makes another decimal
            others = (self.tried(places, partial(_other_number, step)) for step in (1, -1))
            other = next((other for other in others if other is not None), None)
            changes = zip(self.leaves, leaves(other), strict=False)
            differences = self.leaves if other is None else [leaf for leaf, new in changes if leaf != new]
        for path, leaf in differences:
            if isinstance(leaf, Decimal):
                raise self.refusal(path)

    def tried(self, places: Collection[_Place], new: Callable[[_Number], Any]) -> Any:
        """Returns the value for other numbers; None if they are not valid."""
        if not self.tries:
            raise _Unclear
        self.tries -= 1
        try:
            return self.validate(json.dumps(_replaced(self.data, places, new)))
        except InvalidInput:
            return None

    def differences(self, other: Any) -> list[tuple[Path, Any]] | None:
        """Returns the leaves that are not the same in another value, apart from the digits of decimals; None if they
        cannot be compared."""
        others = [] if other is None else list(leaves(other))
        if len(others) != len(self.leaves):
            return None
        return [leaf for leaf, changed in zip(self.leaves, others, strict=True) if _sort(leaf) != _sort(changed)]

    def refusal(self, path: Path) -> InvalidInput:
        """Returns the error for a decimal that would lose digits."""
        message = "a number in this input has more digits than JSON numbers keep. Send the decimal as a text"
        return InvalidInput(self.what, [_error(path, message, "inexact_decimal")])


def _other_number(step: int, number: float) -> float:
    return number + step if number + step != number else 0.0


def _sort(leaf: tuple[Path, Any]) -> tuple[Any, ...]:
    """Returns a leaf in a form in which decimals are equal."""
    path, value = leaf
    return (path, Decimal) if isinstance(value, Decimal) else (path, type(value), value)
