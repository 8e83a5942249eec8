"""What an error of an input adds for a client who has sent the arguments of a function instead of its input."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from workflow_core.adapters import JsonSchema

_EXAMPLES = {"string": '"text"', "integer": "7", "number": "7.5", "boolean": "true"}


def for_the_value_itself(
    errors: list[dict[str, Any]], sent: Any, parameter: str, input: TypeAdapter[Any], schema: JsonSchema | None
) -> list[dict[str, Any]]:
    """Returns the errors of an input, with a hint if the value was sent in an object under the parameter's name.

    The hint does not contain the value, because errors never do.

    Args:
        sent: the input: data, or a JSON text.
        parameter: the name of the handler's parameter, ``schema`` its JSON schema.
    """
    as_json = isinstance(sent, bytes)
    if as_json:
        try:
            sent = json.loads(sent)
        except (ValueError, RecursionError):
            return errors
    if not (isinstance(sent, dict) and list(sent) == [parameter]):
        return errors
    value = sent[parameter]
    try:
        input.validate_json(json.dumps(value)) if as_json else input.validate_python(value)
    except Exception:  # also one of a validator of the user's
        return errors  # it is wrong for another reason
    schema = schema or {}
    example = None if schema.keys() & {"format", "pattern"} else _EXAMPLES.get(schema.get("type", ""))
    if "enum" in schema:
        example = json.dumps(schema["enum"][0])
    such_as = f", such as {example}," if example else ","
    hint = f"send the value itself{such_as} not an object with the key {parameter!r}"
    return [errors[0] | {"message": f"{errors[0]['message']}: {hint}"}, *errors[1:]]
