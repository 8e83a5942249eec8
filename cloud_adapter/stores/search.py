"""What instances are searched by: the values of their workflow's ``search_fields``, as they are stored and as they are
looked for.

Every store is given the same values, so what none of them may get is refused here: Firestore's numbers have 64 bits,
and it indexes no more than the first 1,500 bytes of a text.
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
"""How long a text that is looked for may be: Firestore counts one byte more. A longer one is stored as it is, but no
instance is found by it."""


def stored_values(workflow: Workflow) -> dict[str, Any]:
    """The values that an instance is to be found by, by the fields' names.

    Raises:
        InvalidInput: one cannot be searched by.
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
    """The values of texts as they are stored, by the fields' names.

    Raises:
        InvalidRequest: one is not a search field, or no instance can have that value in it.
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
        raise InvalidRequest(f"no {name!r} can be {text[:100]!r}: {error.errors()[0]['msg']}") from None
    reason = _why_not(value)
    if isinstance(value, str) and ("\x00" in value or len(value.encode()) > TEXT_BYTES_MAX):
        # SQLite sees a text up to its first NUL.
        reason = f"a text that is looked for has at most {TEXT_BYTES_MAX:,} bytes, and none of them is zero"
    if reason:
        raise InvalidRequest(f"no {name!r} can be {text[:100]!r}: {reason}")
    return value


def _why_not(value: Any) -> str:
    """Why a value, as JSON has it, cannot be searched by; empty if it can."""
    if isinstance(value, (list, dict)):
        return "only a text, a number, a boolean or null can be searched by"
    if isinstance(value, int) and value not in INTEGERS:
        return "a whole number that is searched by has at most 64 bits"
    if isinstance(value, float) and not math.isfinite(value):
        return "a number that is searched by is finite"
    return ""
