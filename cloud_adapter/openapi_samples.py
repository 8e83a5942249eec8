"""Sample values for JSON schemas: what an OpenAPI document gives as examples.

A sample is a good guess: whoever shows it checks before that it is valid.
"""

from __future__ import annotations

from typing import Any, Literal

Json = dict[str, Any]

Given = Literal["required", "simple", "all"]
"""Which properties of an object a sample gives: those that must be there; also those with a simple default; all."""

DEPTH_MAX = 6

_FORMATS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00",
    "duration": "PT1H",
    "uuid": "123e4567-e89b-42d3-a456-426614174000",
    "email": "somebody@example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
}


def sample(schema: Json, definitions: Json, given: Given = "simple", *, name: str = "text", depth: int = 0) -> Any:
    """A value of that schema.

    Args:
        definitions: what ``$ref`` refers to, by the last part of the reference.
        given: which properties of an object are given.
        name: stands for a text that may be anything.
    """

    def inner(other: Json, name: str = name) -> Any:
        return sample(other, definitions, given, name=name, depth=depth + 1)

    if "$ref" in schema:
        return inner(definitions[schema["$ref"].rpartition("/")[2]])
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            # Null says least of all.
            return inner(next((one for one in schema[key] if one.get("type") != "null"), schema[key][0]))
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return _object(schema, inner, given, depth)
        case "array":
            return _array(schema, inner, depth=depth)
        case "integer" | "number":
            return _number(schema)
        case "string":
            return _string(schema, name)
        case "boolean":
            return schema.get("default", True)
        case "null":
            return None
    return "any JSON value"


def _object(schema: Json, inner: Any, given: Given, depth: int) -> Json:
    required = schema.get("required", ())
    result = {}
    for name, property in schema.get("properties", {}).items():
        simple = "examples" in property or isinstance(property.get("default"), (str, int, float))
        wanted = given == "all" or (given == "simple" and simple)
        if name in required or (wanted and depth < DEPTH_MAX):
            result[name] = inner(property, name)
    values = schema.get("additionalProperties")
    if not result and given == "all" and isinstance(values, dict) and depth < DEPTH_MAX:
        result["key"] = inner(values, "text")
    return result


def _array(schema: Json, inner: Any, *, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [inner(one) for one in schema["prefixItems"]]
    items = schema.get("items", {})
    least = schema.get("minItems", 0)
    count = max(least, 1 if depth < DEPTH_MAX and schema.get("maxItems", 1) else 0)
    return [inner(items)] * count


def _number(schema: Json) -> Any:
    if isinstance(schema.get("default"), (int, float)):
        return schema["default"]
    step = schema.get("multipleOf", 1)
    above = schema.get("exclusiveMinimum")
    least = schema.get("minimum", -1 if above is None else above + step)
    value = max(step, -(-least // step) * step)
    most = schema.get("maximum", value)
    below = schema.get("exclusiveMaximum")
    value = min(value, most)
    if below is not None and value >= below:
        value = below - step if above is None and "minimum" not in schema else (least + below) / 2
    return value


def _string(schema: Json, name: str) -> str:
    if isinstance(schema.get("default"), str):
        return str(schema["default"])
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = name.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]
