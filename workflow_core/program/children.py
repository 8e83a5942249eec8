"""What a child is given, and what it gives: checks at import of what certainly does not fit its class.

A workflow that is only named is not known at import. Everything that is not certain is checked when a child is started,
and when its result arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workflow_core.adapters import schema_of
from workflow_core.errors import DefinitionError
from workflow_core.fitting import fits, in_words
from workflow_core.program.scope import Scope

_FIX = "Change one of the annotations, or what is returned."


def check_fields(scope: Scope, where: str, function: Callable[..., Any], workflow: Any) -> None:
    """Checks the fields that a function returns against those of a child.

    Raises:
        DefinitionError: a field that is certainly given is unknown to the child, or has a value of another kind.
    """
    try:
        hint = scope.hints(where, function).get("return", Any)
        if hint is Any or (isinstance(hint, type) and issubclass(hint, workflow)):
            return
        names = scope.names(function)
        needed = schema_of(where, hint, "validation", names)[1]
        given = schema_of(where, hint, "serialization", names)[1]
        taken = schema_of(where, workflow, "validation", {})[1]
    except DefinitionError:  # it needs no annotation, so that may be anything
        return
    fields = _object(taken).get("properties", {})
    properties = _object(given).get("properties", {})
    for name in _object(needed).get("required", ()):
        if name not in properties:
            continue
        if name not in fields:
            known = ", ".join(map(repr, sorted(fields))) or "none"
            reason = f"its input has {name!r}, which is no field of the child. Available: {known}"
            raise DefinitionError(where, reason, "Return fields of the child.")
        value, field = _rooted(properties[name], given), _rooted(fields[name], taken)
        if not fits(value, field, workflow.__pydantic_core_schema__):
            reason = f"its input has {in_words(value)} as {name!r}, but the child needs {in_words(field)}"
            raise DefinitionError(where, reason, _FIX)


def _object(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the schema of an object that a schema refers to."""
    reference = schema.get("$ref")
    found: Mapping[str, Any] = schema["$defs"][reference.rpartition("/")[2]] if reference else schema
    return found


def _rooted(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a part of a schema with the definitions that it refers to."""
    return {**schema, "$defs": root.get("$defs", {})}


def result_schema(where: str, workflow: Any) -> Any:
    """Returns the JSON schema of the result of a child; None if it is not known."""
    if not hasattr(workflow, "result") and "result" not in workflow.model_fields:
        return {"type": "object"}
    method = getattr(workflow, "result", None)
    if not callable(method):
        return None
    scope = Scope(workflow)
    try:
        hint = scope.hints(where, method).get("return", Any)
        return None if hint is Any else schema_of(where, hint, "serialization", scope.names(method))[1]
    except DefinitionError:  # its class has no schema for it, so that may be anything
        return None
