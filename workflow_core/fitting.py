"""Whether values of one type can be passed on as another type, as far as their JSON schemas tell.

Knows only what certainly does not fit: a type may have validators that accept anything, and pydantic converts many
values. Everything else fits here, and is checked when a value is passed on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from workflow_core.core_schemas import is_node, nodes

_ALL = frozenset(("null", "boolean", "number", "text", "string", "array", "object"))
"""The kinds of JSON values. A ``text`` is a string that means another value, such as a date."""

_ACCEPTED: Mapping[str, frozenset[str]] = {
    "null": frozenset(("null",)),
    "boolean": frozenset(("boolean", "number", "text")),
    "number": frozenset(("number", "boolean", "text")),
    "text": _ALL - {"null"},
    "string": _ALL - {"null", "object"},
    "array": frozenset(("array", "text")),
    "object": frozenset(("object", "array", "text")),
}
"""For each kind of a value, the kinds of types that may accept it."""

_CONVERTING = frozenset(("function-before", "function-wrap", "function-plain", "call", "custom-error"))


def fits(given: Any, taken: Any, core_schema: Any) -> bool:
    """Whether a value of one type may be accepted by another.

    Args:
        given: the JSON schema of what is given; ``taken``: that of the type that takes it.
        core_schema: the core schema of the type that takes it.
    """
    if any(is_node(node) and node["type"] in _CONVERTING for node in nodes(core_schema)):
        return True
    accepted = frozenset(_kinds(taken, taken))
    return any(_ACCEPTED[kind] & accepted for kind in _kinds(given, given))


def in_words(schema: Any) -> str:
    """Returns the kinds of values of a JSON schema, such as ``an object or null``."""
    words = {"null": "null", "boolean": "a boolean", "number": "a number", "array": "a list", "object": "an object"}
    return " or ".join(dict.fromkeys(words.get(kind, "a string") for kind in _kinds(schema, schema)))


def _kinds(schema: Any, root: Any, depth: int = 0) -> Iterator[str]:
    if not isinstance(schema, Mapping) or depth > 20:
        yield from sorted(_ALL)
    elif "$ref" in schema:
        yield from _kinds(root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2]), root, depth + 1)
    elif "anyOf" in schema or "oneOf" in schema:
        for part in schema.get("anyOf") or schema["oneOf"]:
            yield from _kinds(part, root, depth + 1)
    elif isinstance(kind := schema.get("type"), str):
        kind = "number" if kind == "integer" else kind
        is_text = kind == "string" and any(name.startswith(("format", "content", "pattern")) for name in schema)
        yield "text" if is_text else kind
    else:
        yield from sorted(_ALL)
