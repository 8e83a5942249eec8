"""Chooses a form control for a JSON schema. Resolves references and separates ``null``. Pure, independent of HTML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]

Kind = Literal["text", "number", "date", "check", "choice", "const", "json", "list", "tuple", "object"]
"""``json`` is a text area for JSON, for every schema that no other control supports."""

_HOPS_MAX = 50
_SCALARS = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Shape:
    """The control for a schema.

    Attributes:
        schema: the schema without references and without the alternative ``null``.
        nullable: whether ``null`` is an alternative.
        options: the values of a ``choice``.
    """

    kind: Kind
    schema: Json
    nullable: bool = False
    options: tuple[Any, ...] = ()


def shape_of(schema: Json, definitions: Json) -> Shape:
    """Returns the shape of a schema.

    Args:
        definitions: the targets of ``$ref``, by the last part of the reference.
    """
    nullable = False
    for _ in range(_HOPS_MAX):
        around = {name: value for name, value in schema.items() if name not in ("$ref", "allOf", "anyOf", "oneOf")}
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]] | around
            continue
        if len(schema.get("allOf", ())) == 1:
            schema = schema["allOf"][0] | around
            continue
        parts = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(schema.get("type"), list):
            parts = [schema | {"type": name} for name in schema["type"]]
            around = {}
        if parts is None:
            return _plain(schema, nullable)
        others = [part for part in parts if part.get("type") != "null"]
        nullable = nullable or len(others) < len(parts)
        if len(others) != 1:
            # If a text is an alternative to a number, as for ``Decimal``, the text is used, because it loses nothing.
            kinds = sorted(str(part.get("type")) for part in others)
            if kinds == ["number", "string"] and not any("enum" in part or "const" in part for part in others):
                text = next(part for part in others if part["type"] == "string")
                return Shape("text", text | around | {"format": "decimal"}, nullable)
            return Shape("json", schema, nullable)
        schema = others[0] | around
    return Shape("json", schema, nullable)


def _plain(schema: Json, nullable: bool) -> Shape:
    if "const" in schema:
        options = (schema["const"],)
        return Shape("choice" if nullable else "const", schema, nullable, options)
    if "enum" in schema:
        options = tuple(value for value in schema["enum"] if value is not None)
        nullable = nullable or len(options) < len(schema["enum"])
        if all(isinstance(option, _SCALARS) for option in options):
            return Shape("choice", schema, nullable, options)
        return Shape("json", schema, nullable)
    return Shape(_kind(schema), schema, nullable)


def _kind(schema: Json) -> Kind:
    match schema.get("type"):
        case "string":
            return "date" if schema.get("format") == "date" else "text"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "check"
        case "null":
            return "const"
        case "array" if "prefixItems" in schema:
            length = len(schema["prefixItems"])
            return "tuple" if schema.get("minItems") == schema.get("maxItems") == length else "json"
        case "array" if isinstance(schema.get("items"), dict):
            return "list"
        case "object" if not schema.get("additionalProperties") and not schema.get("patternProperties"):
            return "object" if "properties" in schema else "json"
    return "json"
