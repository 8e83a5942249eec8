"""The values of a workflow's ``search_fields``, as a store keeps them and as a listing searches for them.

A search compares values, not their texts. Equal values are stored in one form: ``Decimal("1.1")`` and
``Decimal("1.10")``, or one moment in two time zones. A text in a request may have more than one reading in the type of
its field: ``5`` is both values of an ``int | str``. A listing then finds all of them.

Every store gets the same values, so values that one of the stores does not support are rejected here: Firestore's
numbers have 64 bits, it indexes only the first 1,500 bytes of a text, and a query may have 30 alternatives.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Any

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from cloud_adapter.errors import InvalidRequest
from workflow_core import InvalidInput, Workflow

INTEGERS = range(-(2**63), 2**63)
TEXT_BYTES_MAX = 1499
"""The longest text that a listing can search for; Firestore counts one byte more. A longer text is stored as it is, but
no search finds it."""

ALTERNATIVES_MAX = 30
"""How many combinations of values one listing can search for."""

_ZEROS_MAX = 30
"""Larger powers of ten are written with an exponent."""


def stored_values(workflow: Workflow) -> dict[str, Any]:
    """Returns the values of an instance's search fields, by field name.

    Raises:
        InvalidInput: a value is not searchable.
    """
    if not workflow.search_fields:
        return {}
    values = _dumped(workflow, workflow.search_fields)
    errors = [
        {"field": name, "message": reason, "type": "not_searchable"}
        for name, value in values.items()
        if (reason := _why_not(value))
    ]
    if errors:
        raise InvalidInput(f"the search fields of workflow {workflow.__workflow_name__!r}", errors)
    return values


def search_values(cls: type[Workflow], texts: Mapping[str, str]) -> dict[str, Sequence[Any]]:
    """Converts the texts of a search request to values as they are stored, by field name. An instance matches if each
    of the fields has one of its values.

    Raises:
        InvalidRequest: a name is not a search field, a text is not a valid value of its field, or the texts have too
            many readings.
    """
    values = {name: _values(cls, name, text) for name, text in texts.items()}
    if math.prod(map(len, values.values())) > ALTERNATIVES_MAX:
        raise InvalidRequest(
            f"the search has too many alternatives, because its texts could also be numbers or null: search by fewer "
            f"fields than {', '.join(values)}"
        )
    return values


def stored_value(cls: type[Workflow], name: str, value: Any) -> Any:
    """Returns the stored form of a value of a search field.

    Raises:
        InvalidRequest: no listing can search for it.
        Exception: the field's type does not allow it.
    """
    stored = _dumped(_with(cls, name, _adapter(cls, name).validate_python(value)), (name,))[name]
    if reason := _why_not(stored) or _why_not_sought(stored):
        raise InvalidRequest(f"search field {name!r} cannot be {value!r:.100}: {reason}")
    return stored


def _values(cls: type[Workflow], name: str, text: str) -> Sequence[Any]:
    """Returns the stored form of each value that a text can mean, at least one."""
    if name not in cls.search_fields:
        known = ", ".join(cls.search_fields) or "none"
        raise InvalidRequest(f"unknown search field {name!r} of workflow {cls.__workflow_name__!r}. Available: {known}")
    found, reason = dict[tuple[type, Any], Any](), ""
    try:
        for reading in _readings(_adapter(cls, name), text):
            refused = _why_not(reading) if isinstance(reading, float) else ""  # some types dump infinities as null
            value = _dumped(_with(cls, name, reading), (name,))[name]
            refused = refused or _why_not(value) or _why_not_sought(value)
            reason = reason or refused
            if not refused:
                found[type(value), value] = value
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
    except Exception as error:  # a validator or serializer of the workflow
        reason = f"{type(error).__name__}: {error}"
    if not found:
        raise InvalidRequest(f"search field {name!r} cannot be {text[:100]!r}: {reason}")
    return list(found.values())


def _readings(adapter: TypeAdapter[Any], text: str) -> Iterator[Any]:
    """Yields the values that a text can mean: as a text, and as a JSON number, boolean or null. Only if it is none of
    them, the text is converted, for example ``yes`` to a boolean.

    Raises:
        ValidationError: the text is not a value of the field's type.
    """
    is_read = False
    for reading in (json.dumps(text), text):
        if reading is text and text.lstrip().startswith(('"', "[", "{")):
            continue
        try:
            value = adapter.validate_json(reading, strict=True)
        except Exception:  # a validator of the workflow may raise anything
            continue
        is_read = True
        yield value
    if not is_read:
        yield adapter.validate_python(text)


@lru_cache(maxsize=256)
def _adapter(cls: type[Workflow], name: str) -> TypeAdapter[Any]:
    field = cls.model_fields[name]
    annotation: Any = field.annotation
    for part in field.metadata:
        annotation = Annotated[annotation, part]
    try:
        return TypeAdapter(annotation, config=cls.model_config)
    except PydanticUserError:  # the type has its own configuration
        return TypeAdapter(annotation)


def _with(cls: type[Workflow], name: str, value: Any) -> Workflow:
    """Returns a workflow that has only this field."""
    workflow = cls.__new__(cls)
    workflow.__setstate__(
        {
            "__dict__": {name: value},
            "__pydantic_fields_set__": {name},
            "__pydantic_extra__": None,
            "__pydantic_private__": None,
        }
    )
    return workflow


def _dumped(workflow: Workflow, names: Iterable[str]) -> dict[str, Any]:
    """Returns the JSON values of fields, with equal values in one form."""
    changed = {}
    for name in names:
        value = getattr(workflow, name)
        same = _canonical(value)
        if same is not value:
            changed[name] = same
    if changed:
        workflow = workflow.model_copy(update=changed)
    return workflow.model_dump(mode="json", by_alias=False, include=set(names))


def _canonical(value: Any) -> Any:
    """Returns the one among equal values that is stored. Only some types have equal values with different texts."""
    if isinstance(value, Decimal):
        return _canonical_decimal(value)
    if isinstance(value, (datetime, time)) and (offset := value.utcoffset()) is not None:
        try:
            if isinstance(value, datetime):
                return value.astimezone(UTC)
            moment = datetime(2000, 1, 2, value.hour, value.minute, value.second, value.microsecond) - offset
            # On another day, a time has no equal in UTC.
            return moment.time().replace(tzinfo=UTC) if moment.day == 2 else value
        except OverflowError:  # at the ends of the calendar
            pass
    return value


def _canonical_decimal(value: Decimal) -> Decimal:
    # Not `normalize`, which rounds to the precision of the context.
    if not value.is_finite():
        return value
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    kept = text.rstrip("0")
    if not kept:
        return Decimal(0)
    exponent += len(text) - len(kept)
    if 0 < exponent <= _ZEROS_MAX:
        kept, exponent = kept + "0" * exponent, 0
    return Decimal((sign, tuple(map(int, kept)), exponent))


def _why_not(value: Any) -> str:
    """Returns why a JSON value is not searchable; empty if it is."""
    if isinstance(value, (list, dict)):
        return "the value of a search field must be a text, a number, a boolean or null"
    if isinstance(value, int) and value not in INTEGERS:
        return "an integer in a search field must fit in 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number in a search field must be finite"
    return ""


def _why_not_sought(value: Any) -> str:
    """Returns why no listing can search for a JSON value; empty if it can."""
    # SQLite reads a text only up to its first NUL.
    if isinstance(value, str) and ("\x00" in value or len(value.encode()) > TEXT_BYTES_MAX):
        return f"a text to search for must have at most {TEXT_BYTES_MAX:,} bytes and no NUL characters"
    return ""
