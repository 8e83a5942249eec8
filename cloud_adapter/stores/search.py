"""The values of a workflow's ``search_fields``, as a store keeps them and as a listing searches for them.

Every store gets the same values, so values that one of the stores does not support are rejected here: Firestore's
numbers have 64 bits, and it indexes only the first 1,500 bytes of a text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cloud_adapter.errors import InvalidRequest
from workflow_core import InvalidInput, Workflow

INTEGERS = range(-(2**63), 2**63)
TEXT_BYTES_MAX = 1499
"""The longest text that a listing can search for; Firestore counts one byte more. A longer text is stored as it is, but
no search finds it."""


def stored_values(workflow: Workflow) -> dict[str, Any]:
    """Returns the values of an instance's search fields, by field name.

    Raises:
        InvalidInput: a value is not searchable.
    """
    names = set(workflow.search_fields)
    if not names:
        return {}
    values = workflow.model_dump(mode="json", by_alias=False, include=names)
    errors = [
        {"field": name, "message": reason, "type": "not_searchable"}
        for name, value in values.items()
        if (reason := _why_not(value))
    ]
    if errors:
        raise InvalidInput(f"the search fields of workflow {workflow.__workflow_name__!r}", errors)
    return values


def search_values(cls: type[Workflow], texts: Mapping[str, str]) -> dict[str, Any]:
    """Converts the texts of a search request to values as they are stored, by field name.

    Raises:
        InvalidRequest: a name is not a search field, or a text is not a valid value of its field.
    """
    return {name: _value(cls, name, text) for name, text in texts.items()}


def _value(cls: type[Workflow], name: str, text: str) -> Any:
    if name not in cls.search_fields:
        known = ", ".join(cls.search_fields) or "none"
        raise InvalidRequest(f"unknown search field {name!r} of workflow {cls.__workflow_name__!r}. Available: {known}")
    adapter: TypeAdapter[Any] = TypeAdapter(cls.model_fields[name].annotation or Any)
    try:
        value = adapter.dump_python(adapter.validate_python(text), mode="json")
    except ValidationError as error:
        raise InvalidRequest(f"search field {name!r} cannot be {text[:100]!r}: {error.errors()[0]['msg']}") from None
    reason = _why_not(value)
    if isinstance(value, str) and ("\x00" in value or len(value.encode()) > TEXT_BYTES_MAX):
        # SQLite reads a text only up to its first NUL.
        reason = f"a text to search for must have at most {TEXT_BYTES_MAX:,} bytes and no NUL characters"
    if reason:
        raise InvalidRequest(f"search field {name!r} cannot be {text[:100]!r}: {reason}")
    return value


def _why_not(value: Any) -> str:
    """Returns why a JSON value is not searchable; empty if it is."""
    if isinstance(value, (list, dict)):
        return "the value of a search field must be a text, a number, a boolean or null"
    if isinstance(value, int) and value not in INTEGERS:
        return "an integer in a search field must fit in 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number in a search field must be finite"
    return ""
