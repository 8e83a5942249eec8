"""Generates sample values for JSON schemas, for the examples of an OpenAPI document.

A sample is a guess. The caller must check that it is valid before showing it.
"""

from __future__ import annotations

from typing import Any, Literal

Json = dict[str, Any]

Given = Literal["required", "simple", "all"]
"""Which properties of an object a sample contains: only required ones, also those with a simple default, or all."""

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


def sample(
    schema: Json,
    definitions: Json,
    given: Given = "simple",
    *,
    name: str = "text",
    within: frozenset[str] = frozenset(),
) -> Any:
    """Returns a sample value of a schema.

    Args:
        definitions: the targets of ``$ref``, by the last part of the reference.
        given: which properties of an object the sample contains.
        name: the sample of an unrestricted text.
        within: the references that lead here. A recursive schema is expanded only once.
    """
    if "$ref" in schema:
        if schema["$ref"] in within:
            return None
        within |= {schema["$ref"]}
        return sample(definitions[schema["$ref"].rpartition("/")[2]], definitions, given, name=name, within=within)

    def inner(other: Json, name: str = name) -> Any:
        return sample(other, definitions, given, name=name, within=within)

    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return inner(min(schema[key], key=lambda alternative: _rank(alternative, within)))
    kind = schema.get("type")
    match kind[0] if isinstance(kind, list) else kind:
        case "object":
            return _object(schema, inner, given, within)
        case "array":
            return _array(schema, inner, within)
        case "integer" | "number":
            return _number(schema)
        case "string":
            return _string(schema, name)
        case "boolean":
            return schema.get("default", True)
        case "null":
            return None
    return "any JSON value"


def _rank(schema: Json, within: frozenset[str]) -> int:
    """The rank of an alternative: null is a poor sample, and a recursive reference is the worst."""
    return 2 if schema.get("$ref") in within else int(schema.get("type") == "null")


def _object(schema: Json, inner: Any, given: Given, within: frozenset[str]) -> Json:
    required = schema.get("required", ())
    result = {}
    for name, property in schema.get("properties", {}).items():
        simple = "examples" in property or isinstance(property.get("default"), (str, int, float))
        wanted = given == "all" or (given == "simple" and simple)
        if name in required or (wanted and property.get("$ref") not in within):
            result[name] = inner(property, name)
    values = schema.get("additionalProperties")
    if not result and given == "all" and isinstance(values, dict) and values.get("$ref") not in within:
        result["key"] = inner(values, "text")
    return result


def _array(schema: Json, inner: Any, within: frozenset[str]) -> list[Any]:
    if "prefixItems" in schema:
        return [inner(item) for item in schema["prefixItems"]]
    items = schema.get("items", {})
    none = items.get("$ref") in within or schema.get("maxItems") == 0
    return [] if none else [inner(items)] * max(schema.get("minItems", 0), 1)


def _number(schema: Json) -> Any:
    """The simplest number within the limits of the schema."""
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    step = schema.get("multipleOf")

    def fits(value: Any) -> bool:
        return (
            (least is None or value >= least)
            and (most is None or value <= most)
            and (above is None or value > above)
            and (below is None or value < below)
            and (step is None or value % step == 0)
        )

    low = above if least is None else least
    high = below if most is None else most
    guesses = [schema.get("default"), 1]
    if step:
        guesses += [step, ((low or 0) // step + 1) * step]
    guesses += [] if low is None else [low, low + 1]
    guesses += [] if high is None else [high, high - 1]
    guesses += [] if low is None or high is None else [(low + high) / 2]
    return next((guess for guess in guesses if isinstance(guess, (int, float)) and fits(guess)), 1)


def _string(schema: Json, name: str) -> str:
    if isinstance(schema.get("default"), str):
        return str(schema["default"])
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = name.ljust(schema.get("minLength", 0), "x")
    return text[: schema.get("maxLength", len(text))]
