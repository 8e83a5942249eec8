"""Reads what instances are searched by: values of their workflow's ``search_fields``, given as texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cloud_adapter.errors import InvalidRequest
from workflow_core import Workflow


def search_values(cls: type[Workflow], texts: Mapping[str, str]) -> dict[str, Any]:
    """The values as they are stored, by the fields' names.

    Raises:
        InvalidRequest: one is no search field, or its type does not take the text.
    """
    return {name: _value(cls, name, text) for name, text in texts.items()}


def _value(cls: type[Workflow], name: str, text: str) -> Any:
    if name not in cls.search_fields:
        known = ", ".join(cls.search_fields) or "none"
        raise InvalidRequest(f"{name!r} is no search field of workflow {cls.__workflow_name__!r}, but: {known}")
    adapter: TypeAdapter[Any] = TypeAdapter(cls.model_fields[name].annotation or Any)
    try:
        return adapter.dump_python(adapter.validate_python(text), mode="json")
    except ValidationError as error:
        raise InvalidRequest(f"no {name!r} can be {text[:100]!r}: {error.errors()[0]['msg']}") from None
