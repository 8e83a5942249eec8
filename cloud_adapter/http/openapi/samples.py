"""Sample values for JSON schemas: what an OpenAPI document gives as examples.

A sample is a good guess: whoever shows it checks before that it is valid.
"""

from __future__ import annotations

from typing import Any, Literal

Json = dict[str, Any]

Given = Literal["required", "simple", "all"]
"""Which properties of an object a sample gives: those that must be there; also those with a simple default; all."""

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
    """A value of that schema.

    Args:
        definitions: what ``$ref`` refers to, by the last part of the reference.
        given: which properties of an object are given.
        name: stands for a text that may be anything.
        within: the references that lead here: what refers to itself is given once.
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
            return inner(min(schema[key], key=lambda one: _says_little(one, within)))
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


def _says_little(schema: Json, within: frozenset[str]) -> int:
    """Null says little as an alternative, what would go round in a circle nothing."""
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
        return [inner(one) for one in schema["prefixItems"]]
    items = schema.get("items", {})
    none = items.get("$ref") in within or schema.get("maxItems") == 0
    return [] if none else [inner(items)] * max(schema.get("minItems", 0), 1)


def _number(schema: Json) -> Any:
    """The simplest number that keeps to the limits."""
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
