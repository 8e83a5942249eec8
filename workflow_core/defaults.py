"""Checks the defaults of fields and parameters at import. Pydantic uses a default as it is, without validation, so one
that is not a value of its type would make each creation fail that uses it.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, PydanticUndefined, SchemaSerializer, SchemaValidator

from workflow_core.comparing import Changed, changed, compare_values, leaves
from workflow_core.core_schemas import Schema, definitions, parts
from workflow_core.error_texts import field_texts
from workflow_core.errors import DefinitionError
from workflow_core.keeping import Comparison, is_special
from workflow_core.records import record
from workflow_core.secret_values import MASK
from workflow_core.type_names import type_name
from workflow_core.value_form import ValueForm


def check_parameter_default(where: str, name: str, annotation: Any, adapter: TypeAdapter[Any], default: Any) -> None:
    """Rejects a default that is not a value of the parameter's type, because the handler gets it as it is.

    Raises:
        DefinitionError: validation does not accept it, or changes it.
    """
    try:
        compare_values(default, adapter.validate_python(deepcopy(default)), ())
    except (ValidationError, Changed) as error:
        raise _not_of_type(where, f"parameter {name!r}", name, annotation, repr(default), default) from error


def check_field_defaults(where: str, cls: type[BaseModel]) -> None:
    """Rejects static defaults that cannot be saved, in the fields of a class and in the objects that they contain.

    Raises:
        DefinitionError: a default is not a value of its type, or JSON cannot represent it.
    """
    if not cls.__pydantic_complete__:  # it has no schema, which is reported with its own error
        return
    schema = cls.__pydantic_core_schema__
    targets = list(definitions(schema).values())
    for field in _fields(schema, _Owner(cls)):
        _check_field(where, cls, field, targets)


@record(frozen=True)
class _Owner:
    """The class around a field, and its settings in the core schema."""

    cls: type
    config: Mapping[str, Any] | None = None


@record(frozen=True)
class _Field:
    """A field with a static default.

    Attributes:
        schema: its node in the core schema, of the type ``default``.
    """

    owner: _Owner
    name: str
    schema: Schema


def _check_field(where: str, cls: type, field: _Field, targets: list[Schema]) -> None:
    schema: Any = field.schema
    if targets:
        schema = {"type": "definitions", "schema": schema, "definitions": targets}
    config: Any = field.owner.config
    validator = SchemaValidator(schema, config)
    form = ValueForm(schema, validator, SchemaSerializer(schema, config), by_alias=False)
    if is_special(config or {}):
        form.compare = Comparison()
    default = field.schema["default"]
    try:
        used = validator.get_default_value()  # validated, if the settings say so
        _save(form, default if used is None else used.value)
    except (PydanticSerializationError, ValidationError, Changed) as error:
        what = f"field {field.name!r}" + ("" if field.owner.cls is cls else f" of the class {field.owner.cls.__name__}")
        refused = _refusal(where, what, field, form, error)
    except Exception:
        return  # a validator that needs the other fields cannot be asked here
    else:
        return
    raise refused  # not inside of ``except``, because a log would show secrets


def _save(form: ValueForm, default: Any) -> None:
    """Saves and loads a default.

    Raises:
        PydanticSerializationError, ValidationError, Changed: that fails, or makes another value of it.
    """
    loaded = form.load(form.dump(default))
    if form.compare is not None:
        form.compare(default, loaded, ())
    for (path, leaf), (_, other) in zip(leaves(default), leaves(loaded), strict=False):
        if isinstance(leaf, bool) and not isinstance(other, bool):
            changed(leaf, other, path)


def _refusal(where: str, what: str, field: _Field, form: ValueForm, error: Exception) -> DefinitionError:
    default, annotation = field.schema["default"], _annotation(field)
    shown = MASK if form.has_secrets else repr(default)
    numbers = [leaf for _, leaf in leaves(default) if isinstance(leaf, (float, Decimal)) and not math.isfinite(leaf)]
    if numbers:
        fix = "Use None or a text."
        if isinstance(numbers[0], float):
            fix = "Use None, or set ser_json_inf_nan='constants' in the settings of the class (model_config)."
        return DefinitionError(where, f"the default of its {what} is {shown:.60}, but JSON has no such number", fix)
    if default is None or isinstance(error, PydanticSerializationError):
        converted = None if form.has_secrets else _converted(form, default)
        return _not_of_type(where, what, field.name, annotation, shown, default, converted)
    if isinstance(error, Changed):
        reason = "but a load would give another value" + ("" if form.has_secrets else f": {error}")
        fix = "Use a default that is loaded as it is."
    else:
        reason = "which its type does not accept"
        reason += f": {field_texts(error)}" if isinstance(error, ValidationError) and not form.has_secrets else ""
        fix = "Use a default that the type accepts."
    return DefinitionError(where, f"the default of its {what} is {shown:.60}, {reason}", fix)


def _converted(form: ValueForm, default: Any) -> str | None:
    """Returns how to write the value that the type makes of a default; None if it makes none."""
    try:
        value = form.accept(deepcopy(default))
        _save(form, value)
    except Exception:
        return None
    return repr(value)


def _not_of_type(
    where: str, what: str, name: str, annotation: Any, shown: str, default: Any, converted: str | None = None
) -> DefinitionError:
    wanted = type_name(annotation)
    example = f": {converted}" if converted else ""
    fix = f"Use a {wanted} as the default{example}."
    if default is None:
        fix = f"Write {name}: {wanted} | None = None."
    return DefinitionError(where, f"the default of its {what} is {shown:.60}, which is not a {wanted}", fix)


def _annotation(field: _Field) -> Any:
    cls: Any = field.owner.cls
    known = getattr(cls, "__pydantic_fields__", {}).get(field.name)
    if known is not None:
        return known.annotation
    with suppress(Exception):  # a name that only pydantic can resolve
        return typing.get_type_hints(cls)[field.name]
    hint = getattr(cls, "__annotations__", {}).get(field.name, "value of its type")
    return getattr(hint, "__forward_arg__", hint)  # a NamedTuple keeps a text as a reference


# --- the core schema -------------------------------------------------------------------------


def _fields(node: Any, owner: _Owner, name: str = "root") -> Iterator[_Field]:
    """Yields the fields with static defaults that stay as they are: no code of their class may replace them."""
    if isinstance(node, dict):
        if node.get("type") in ("model", "dataclass"):
            owner = _Owner(node["cls"], node.get("config"))
        elif node.get("type") == "named-tuple":  # since pydantic 2.14
            owner = _Owner(node["cls"], node.get("config", owner.config))
        elif node.get("type") == "call" and isinstance(node["function"], type):
            owner = _Owner(node["function"], owner.config)
        name = node.get("name", name) if node.get("type") in ("dataclass-field", "named-tuple-field", None) else name
        is_static = node.get("type") == "default" and node.get("default", PydanticUndefined) is not PydanticUndefined
        if is_static and not _has_field_serializer(node) and not _may_replace(owner.cls):
            yield _Field(owner, name, node)
        if node.get("type") == "model-fields":
            for key, field in node["fields"].items():
                yield from _fields(field, owner, key)
            return
    for part in parts(node):
        yield from _fields(part, owner, name)


def _has_field_serializer(node: Schema) -> bool:
    """Whether a method of the class writes the field: it cannot be called without the object."""
    return bool(node.get("serialization", {}).get("is_field_serializer"))


def _may_replace(cls: type) -> bool:
    """Whether the class has code that may set a field which is left out."""
    decorators = getattr(cls, "__pydantic_decorators__", None)
    if decorators is not None and (decorators.model_validators or decorators.root_validators):
        return True
    if issubclass(cls, BaseModel):
        return cls.model_post_init is not BaseModel.model_post_init or cls.__init__ is not BaseModel.__init__
    return hasattr(cls, "__post_init__")
