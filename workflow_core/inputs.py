"""Inputs: JSON from clients, validated with the aliases of their types, and refused where it cannot mean what it says.

JSON has no NaN and no infinities, a view shows a secret as asterisks, and pydantic reads a number with a fraction as a
``float``. ``from_client`` refuses the first two, and keeps the digits of a decimal.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

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
_TEXT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def from_client(what: str, body: bytes | str, form: ValueForm, **options: Any) -> Any:
    """Returns the value for a JSON text of a client.

    Args:
        what: the input, for errors.
        form: the form of the type.
        options: of pydantic.

    Raises:
        InvalidInput: the text is not JSON or does not fit the type, or it contains a number that JSON does not have, a
            masked secret, or a number with more digits than can be kept.
    """
    is_large = values_in(body) > VALUES_OF_ALL_ERRORS

    def validate(text: bytes | str) -> Any:
        try:
            return form.validate_json(text, stops=is_large, **options)
        except ValidationError as error:
            errors = field_errors(error)
            if is_large and errors[0]["type"] != _NO_JSON:
                errors.append(_STOPPED)
            raise InvalidInput(what, errors) from None

    value = validate(body)
    exact = _with_exact_numbers(body) if form.has_decimals else None
    if exact is not None:
        value = _exact(what, value, exact, validate)
    if form.compare is not None and form.compare.is_needed():
        refuse_unusable(what, value)
    return value


def values_in(body: bytes | str) -> int:
    """Returns about how many values a JSON text has: items of lists, members of objects, and these themselves. A text
    of ``n`` bytes has at most ``n`` values, so a small text is not counted."""
    if len(body) <= VALUES_OF_ALL_ERRORS:
        return len(body)
    text = body.encode(errors="replace") if isinstance(body, str) else body
    if _separators(text) <= VALUES_OF_ALL_ERRORS:
        return _separators(text)
    return _separators(_TEXT.sub(b"", text))


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


# --- decimals --------------------------------------------------------------------------------


def _with_exact_numbers(body: bytes | str) -> str | None:
    """Returns the JSON text with each number that a ``float`` would change as a text; None if there is none."""
    found = False

    def number(text: str) -> float | str:
        nonlocal found
        if Decimal(text).as_tuple() == Decimal(repr(float(text))).as_tuple():
            return float(text)
        found = True
        return text

    try:
        data = json.loads(body, parse_float=number)
    except ValueError:  # such as an integer of more digits than Python reads
        return None
    return json.dumps(data) if found else None


def _exact(what: str, value: Any, exact: str, validate: Callable[[bytes | str], Any]) -> Any:
    """Returns the value whose decimals have all digits. ``value`` has the digits of a ``float``.

    Raises:
        InvalidInput: a decimal would lose digits.
    """
    try:
        other = validate(exact)
    except InvalidInput:
        other = None
    others = list(leaves(other))
    if [_sort(leaf) for leaf in leaves(value)] == [_sort(leaf) for leaf in others]:
        return other
    for path, leaf in leaves(value):
        if isinstance(leaf, Decimal):
            message = "a number in this input has more digits than JSON numbers keep. Send the decimal as a text"
            raise InvalidInput(what, [_error(path, message, "inexact_decimal")])
    return value


def _sort(leaf: tuple[Path, Any]) -> tuple[Any, ...]:
    """Returns a leaf in a form in which decimals are equal."""
    path, value = leaf
    return (path, Decimal) if isinstance(value, Decimal) else (path, type(value), value)
