"""Reads the input of a command, as ``FIELD=VALUE`` pairs or as JSON, and writes the JSON of its request.

Values are sent as they were typed and not converted: a number keeps all of its digits, and only the API decides whether
a value is valid. What a value means when it could be both, JSON and text, depends on the schema of its field.
"""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Iterable
from typing import Any

from pydantic_core import from_json

from cloud_adapter.errors import InvalidRequest
from workflow_core import InvalidInput
from workflow_core.inputs import refuse_repeated_keys

Json = dict[str, Any]

_TYPES: dict[type, str] = {
    type(None): "null",
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


class JsonText(str):
    """A value that is already JSON."""


def written(value: Any) -> str:
    """Returns the JSON of a request's body. It contains each ``JsonText`` as it is."""
    if isinstance(value, JsonText):
        return value
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {written(item)}" for name, item in value.items()) + "}"
    return json.dumps(value)


def read_input(fields: list[str] | None, text: str | None, schema: Json, parameter: str = "") -> Any:
    """Returns the input of a request from pairs or from JSON; None means no body.

    Args:
        text: the JSON; ``-`` reads it from standard input.
        schema: the JSON schema of the input.
        parameter: its name in the code, for an input that is not an object.

    Raises:
        InvalidRequest: both are given, the text is not JSON, or a field or a key is repeated.
    """
    if text is None:
        types = _types(schema, schema)
        if fields and parameter and types is not None and "object" not in types:
            return _read_single(fields, schema, parameter)
        return read_pairs(fields, schema) if fields else None
    if fields:
        raise InvalidRequest("pass the input either as FIELD=VALUE or with --input, not both")
    try:
        text = _decoded(sys.stdin.buffer.read()) if text == "-" else text.removeprefix("\ufeff")
        from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"--input is not JSON: {error}") from None
    try:
        refuse_repeated_keys("--input", text)
    except InvalidInput as error:
        raise InvalidRequest(str(error)) from None
    return JsonText(text)


def _read_single(fields: list[str], schema: Json, parameter: str) -> JsonText:
    given = [name for name, _ in map(read_pair, fields)]
    if given != [parameter]:
        raise InvalidRequest(
            f"the input is not an object with fields. Write {parameter}=VALUE, or pass it with --input"
        )
    return _value(read_pair(fields[0])[1], schema, schema)


def read_pairs(pairs: Iterable[str], schema: Json) -> dict[str, JsonText]:
    """Returns the values of ``field=value`` texts, as JSON. If a value is JSON of a type that its field allows, it is
    that JSON. Otherwise it is a text. JSON in quotes is a text with quotes if the field allows texts.

    Raises:
        InvalidRequest: a text is not a pair, or a field is given twice.
    """
    properties = _resolved(schema, schema).get("properties", {})
    return {name: _value(text, properties.get(name, {}), schema) for name, text in split_pairs(pairs).items()}


def split_pairs(pairs: Iterable[str]) -> dict[str, str]:
    """Splits several ``field=value`` texts.

    Raises:
        InvalidRequest: a text is not a pair, or a field is given twice.
    """
    split: dict[str, str] = {}
    for name, value in map(read_pair, pairs):
        if name in split:
            raise InvalidRequest(f"{name} is given twice: {name}={split[name]} and {name}={value}. Give it once")
        split[name] = value
    return split


def read_pair(text: str) -> tuple[str, str]:
    """Splits ``field=value``.

    Raises:
        InvalidRequest: the text is not a pair.
    """
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"{text!r} is not FIELD=VALUE. If the input is not an object, pass it with --input")
    return name, value


def check_texts(arguments: Json) -> None:
    """Checks the texts on the command line. A byte that is not UTF-8 cannot be sent.

    Raises:
        InvalidRequest: an argument is not UTF-8.
    """
    for name, value in arguments.items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and text.encode(errors="replace").decode() != text:
                raise InvalidRequest(f"the argument {name} is not valid UTF-8: {text!r}")


def _value(text: str, schema: Json, root: Json) -> JsonText:
    types = _types(schema, root)
    try:
        type_of_text = _TYPES[type(from_json(text, allow_inf_nan=False))]
    except ValueError:  # also NaN and infinities, which JSON does not have
        return JsonText(json.dumps(text))
    allowed = types is None or type_of_text in types or (type_of_text == "integer" and "number" in types)
    takes_text = types is not None and "string" in types
    if takes_text and (type_of_text == "string" or not allowed):
        return JsonText(json.dumps(text))
    return JsonText(text)


def _types(schema: Json, root: Json) -> set[str] | None:
    """The types of JSON that a schema allows; None if it allows each."""
    schema = _resolved(schema, root)
    if "enum" in schema or "const" in schema:
        return {_TYPES[type(value)] for value in schema.get("enum", [schema.get("const")])}
    if "type" in schema:
        return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    alternatives = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if not alternatives:
        return None
    found = [_types(alternative, root) for alternative in alternatives]
    return None if None in found else set().union(*filter(None, found))


def _resolved(schema: Json, root: Json) -> Json:
    while "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2], {})
    return schema


def _decoded(content: bytes) -> str:
    """Decodes a file. Windows PowerShell writes UTF-16, and many programs write a byte order mark."""
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if utf16 else "utf-8-sig")
