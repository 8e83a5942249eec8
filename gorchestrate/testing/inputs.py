"""What a test sends, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaSerializer, from_json, to_json

from workflow_core import Workflow
from workflow_core.secret_values import SECRETS, has_secrets, revealing


def as_json(value: Any) -> bytes:
    """Returns a value as a client would send it. Secrets are not masked: the receiver would get asterisks.

    Raises:
        ValueError: JSON cannot represent it. The error names the field.
    """
    try:
        return to_json(_revealed(value))
    except PydanticSerializationError as error:
        names = [name for name, part in value.items() if not _is_sendable(part)] if isinstance(value, Mapping) else []
        what = f"the value of {names[0]!r}" if names else "the input"
        raise ValueError(
            f"{what} cannot be sent as JSON: {error}. Pass what a client would send. Bytes that are not UTF-8 are "
            "sent as text, such as base64 if the model has val_json_bytes='base64'."
        ) from None


def merged_fields(
    workflow: type[Workflow], fields: Mapping[str, Any] | None, more: Mapping[str, Any], **arguments: Any
) -> dict[str, Any]:
    """Returns the initial fields of an instance.

    Args:
        fields: the argument ``fields``.
        more: the other fields.
        arguments: the arguments of ``create`` that say who creates it.

    Raises:
        TypeError: it is not clear whether an argument is a field, or a field is given twice.
    """
    call = f"create({workflow.__name__}"
    names = workflow.model_fields
    if fields is None:
        for name, value in arguments.items():
            if name in names and value is not None:
                raise TypeError(
                    f"{workflow.__name__} has a field {name!r}, but {call}, {name}=...) says who creates the instance: "
                    f"write {call}, fields={{{name!r}: ...}}) for the field, or add fields={{}} if you mean the creator"
                )
        return dict(more)
    if not isinstance(fields, Mapping):
        hint = f": write {call}, fields={{'fields': ...}})" if "fields" in names else ""
        raise TypeError(f"fields is {fields!r}, not a mapping of names to values{hint}")
    if twice := sorted(fields.keys() & more.keys()):
        raise TypeError(f"the field {twice[0]!r} is given twice: in fields={{...}}, and as {twice[0]}=...")
    return {**fields, **more}


def _is_sendable(value: Any) -> bool:
    try:
        to_json(_revealed(value))
    except PydanticSerializationError:
        return False
    return True


def _revealed(value: Any) -> Any:
    if isinstance(value, SECRETS):
        return _revealed(value.get_secret_value())
    if isinstance(value, Mapping):
        return {key: _revealed(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_revealed(part) for part in value]
    cls: Any = type(value)
    serializer = _revealing(cls)
    return value if serializer is None else from_json(serializer.to_json(value, by_alias=True))


@lru_cache(maxsize=1000)
def _revealing(cls: type) -> SchemaSerializer | None:
    """Returns a serializer that does not mask the secrets in objects of a class; None: it has none, or is no class that
    pydantic knows."""
    if cls.__module__ == "builtins":
        return None
    try:
        schema = TypeAdapter(cls).core_schema
    except Exception:  # pydantic cannot describe it, and user code may raise anything
        return None
    return revealing(schema) if has_secrets(schema) else None
