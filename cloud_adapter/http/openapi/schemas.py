"""The schemas of an OpenAPI document: the schemas that every document has, and the names of all schemas.

Independent of workflows and operations.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from cloud_adapter.history import HistoryEntry
from workflow_core import Execution, execution, wait_types
from workflow_core.shown import ShownEvent, ShownTeardown, ShownWait

Json = dict[str, Any]

PREFIX = "#/components/schemas/"

TIME_OR_NULL: Json = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
TEXT_OR_NULL: Json = {"anyOf": [{"type": "string"}, {"type": "null"}]}


def ref(name: str) -> Json:
    """Returns a reference to a schema of the document."""
    return {"$ref": PREFIX + name}


class Schemas:
    """Collects the schemas of a document under unique names.

    If a name is already used for another schema, because two classes have the same name, the new name gets a number.
    """

    def __init__(self) -> None:
        self.definitions: Json = _common()

    def take(self, schema: Json) -> Json:
        """Moves the ``$defs`` of a schema into the document, and the schema itself if it is a class.

        Returns:
            A reference to the schema, or the schema without its ``$defs``.
        """
        definitions = schema.get("$defs", {})
        rest = {key: value for key, value in schema.items() if key != "$defs"}
        name = _component_name(rest)
        if name and definitions.get(name, rest) == rest:
            definitions, rest = definitions | {name: rest}, {"$ref": f"#/$defs/{name}"}
        renamed = self._add(definitions)
        result: Json = _renamed(rest, renamed)
        return result

    def take_instance(self, state: Json, *, operator: bool, public: bool) -> None:
        """Adds the schema of an instance, whose fields have the schema ``state``.

        Args:
            operator: whether it may be shown as to operators, including its errors and its history.
            public: whether it may be shown without.
        """
        if public:
            self.definitions |= {"Summary": _SUMMARY, "PublicError": _PUBLIC_ERROR}
        if operator and public:
            names = {"OperatorInstance": instance(state), "PublicInstance": public_instance(state)}
            self.definitions |= names | {"Instance": {"anyOf": [ref(name) for name in names]}}
        else:
            self.definitions["Instance"] = instance(state) if operator else public_instance(state)

    def _add(self, definitions: Json) -> dict[str, str]:
        """Adds definitions. Returns the new reference for each old one."""
        number = 1
        while True:
            names = {name: name if number == 1 else f"{name}{number}" for name in definitions}
            refs = {f"#/$defs/{old}": PREFIX + new for old, new in names.items()}
            moved = {names[name]: _renamed(definition, refs) for name, definition in definitions.items()}
            if all(self.definitions.get(name, definition) == definition for name, definition in moved.items()):
                self.definitions |= moved
                return refs
            number += 1


def _component_name(schema: Json) -> str:
    """The name of a schema that is a class with properties; otherwise empty."""
    title = schema.get("title", "")
    return title if "properties" in schema and re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", title) else ""


def _renamed(value: Any, refs: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(item, refs) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, refs) for item in value]
    return refs.get(value, value) if isinstance(value, str) else value


# --- the schemas of every document -----------------------------------------------------------


def instance(state: Json) -> Json:
    """Returns the schema of an instance whose fields have the schema ``state``, as operators see it."""
    description = "An instance: its position, its fields, the events that it accepts now, and its history."
    history = _list(ref("HistoryEntry"), "The first and the newest entries of its history.")
    return _object(description, _parts("Execution", state) | {"history": history})


def public_instance(state: Json) -> Json:
    """Returns the schema of an instance whose fields have the schema ``state``, as everyone else sees it."""
    return _object("An instance: its status, its fields, and the events that you may send.", _parts("Summary", state))


def _parts(meta: str, state: Json) -> Json:
    events = _list(ref("AcceptedEvent"), "The events that it accepts now.")
    return {"meta": ref(meta), "state": state, "events": events}


def _common() -> Json:
    meta = _execution()
    entry = _of_class(HistoryEntry)
    for name, text in {
        "wake_at": "When something is due next. If this is in the past, the instance should be moving.",
        "leased_until": "The expiry of the lease of the process that runs its step.",
        "problem": "Why the instance cannot move and needs a repair.",
    }.items():
        shape = TEXT_OR_NULL if name == "problem" else TIME_OR_NULL
        meta["Execution"]["properties"][name] = shape | {"description": text}
        meta["Execution"]["required"].append(name)
    return meta | entry | _SHOWN | {"Instance": {}, "Problem": PROBLEM}


def _execution() -> Json:
    """The schemas of an execution. Each kind of wait and of teardown has a class, but all are shown in one form."""
    own = ("Wait", "Teardown", "BufferedEvent", "Sender")
    meta = {name: schema for name, schema in _of_class(Execution).items() if not name.endswith(own)}
    meta["Thread"]["properties"]["waits"]["items"] = ref("Wait")
    for name in ("caused_by", "watches", "locals", "covers"):
        meta["Thread"]["required"].remove(name)
    for name in ("failed", "locals"):
        del meta["Leave"]["properties"][name]
    for name in ("until", "failed", "locals"):
        meta["Leave"]["required"].remove(name)
    for name in ("leaves", "cause"):
        meta["ErrorInfo"]["required"].remove(name)
    meta["Execution"]["properties"]["teardowns"]["items"] = ref("Teardown")
    whole = meta.pop("Execution")
    for shown, name in ((ShownWait, "Wait"), (ShownTeardown, "Teardown"), (ShownEvent, "BufferedEvent")):
        shown_schemas = _of_class(shown)
        meta[name] = shown_schemas.pop(shown.__name__) | {"title": name}
        if meta[name]["properties"].pop("setup_data", None) is not None:  # see views.py
            meta[name]["required"].remove("setup_data")
        meta |= shown_schemas
    meta["Wait"]["required"].remove("progress")
    return dict(sorted(meta.items())) | {"Execution": whole}


def _of_class(cls: type) -> Json:
    """The schemas of a dataclass and of the classes in it, with all attributes required and described by docstrings."""
    schema = TypeAdapter(cls).json_schema(mode="serialization", ref_template=PREFIX + "{model}")
    definitions = schema.pop("$defs", {})
    if "$ref" not in schema:
        definitions[cls.__name__] = schema
    for name, definition in definitions.items():
        source = cls if name == cls.__name__ else getattr(execution, name, None) or getattr(wait_types, name)
        definition["description"] = summary(source)
        attributes = dict(_attributes(source))
        for attribute, property in definition.get("properties", {}).items():
            property.pop("title", None)
            property.pop("default", None)
            if attribute in attributes:
                property["description"] = attributes[attribute]
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
            definition["additionalProperties"] = False
    return dict(definitions)


def summary(cls: type) -> str:
    """Returns the first paragraph of a docstring as one line of Markdown."""
    return _markdown((inspect.getdoc(cls) or "").split("\n\n")[0])


def _markdown(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _attributes(cls: type) -> Iterator[tuple[str, str]]:
    """The attributes that a docstring lists, with their descriptions."""
    listing = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    for name, text in re.findall(r"^    (\w+): (.+(?:\n {8,}.+)*)", listing, re.MULTILINE):
        text = _markdown(text)
        yield name, text[0].upper() + text[1:]


def _object(description: str, properties: Json) -> Json:
    return {
        "type": "object",
        "description": description,
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _list(items: Json, description: str) -> Json:
    return {"type": "array", "items": items, "description": description}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


_SHOWN: Json = {
    "AcceptedEvent": _object(
        "An event that an instance accepts now.",
        {
            "name": _text("The name of the event."),
            "role": TEXT_OR_NULL | {"description": "The role that should send it."},
            "thread": _text("The thread that waits for it."),
            "wait_id": _text("The wait of that thread. The id changes each time the thread starts to wait."),
            "input": {
                "anyOf": [{"type": "object"}, {"type": "null"}],
                "description": "The JSON schema of its input; null if it has no input.",
            },
            "url": _text("The path to which it is sent, with the prefix of the server's URL."),
        },
    ),
    "InstanceSummary": _object(
        "An instance in a list.",
        {
            "id": _text("The id of the instance."),
            "status": ref("Status"),
            "created_at": TIME_OR_NULL,
            "updated_at": TIME_OR_NULL,
            "wake_at": TIME_OR_NULL | {"description": "When something is due next."},
            "error": TEXT_OR_NULL | {"description": "Why it failed."},
            "search": {"type": "object", "description": "The values of the workflow's `search_fields`."},
            "url": _text("The path of the instance, with the prefix of the server's URL."),
        },
    ),
    "InstancePage": _object(
        "One page of a list of instances.",
        {
            "instances": _list(ref("InstanceSummary"), "The instances, in the requested order."),
            "cursor": TEXT_OR_NULL | {"description": "The cursor of the next page; null on the last page."},
        },
    ),
    "Outcome": {
        "type": "object",
        "description": "What has become of an event that was accepted for later.",
        "required": ["state"],
        "properties": {
            "state": {
                "enum": ["waiting", "handled", "buffered", "refused"],
                "description": "`waiting`: not decided yet. `buffered`: it is handled when a thread waits for it.",
            },
            "output": {"description": "For `handled`: the handler's output."},
            "problem": ref("Problem") | {"description": "For `refused`: the error that the sender would have got."},
        },
        "additionalProperties": False,
    },
    "FieldError": _object(
        "An error in one field of an input.",
        {
            "field": _text("The dotted path of the field; empty for the whole input."),
            "message": _text("The error message."),
            "type": _text("The type of the error, for example `missing` or `int_parsing`."),
        },
    ),
}

_SUMMARY: Json = _object(
    "What everyone who may read an instance sees of it.",
    {
        "id": _text("The id of the instance."),
        "workflow": _text("The name of its workflow."),
        "status": ref("Status"),
        "created_at": TIME_OR_NULL,
        "updated_at": TIME_OR_NULL,
        "wake_at": TIME_OR_NULL | {"description": "When something is due next."},
        "error": {"anyOf": [ref("PublicError"), {"type": "null"}], "description": "Why it failed."},
    },
)

_PUBLIC_ERROR: Json = _object(
    "The error of a failed instance.",
    {
        "type": _text("The name of its class."),
        "message": _text("Its text, if the workflow has written it for its clients."),
    },
)

PROBLEM: Json = {
    "type": "object",
    "description": "An error (RFC 9457). The request changed nothing. After `unavailable`, this is unknown.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": _text("The type of the error. Types are stable."),
        "title": _text("The type in words."),
        "status": {"type": "integer", "description": "The status of the response."},
        "detail": _text("The reason and the fix."),
        "accepted": _list({"type": "string"}, "For `event-not-accepted`: the events that are accepted now."),
        "instance_status": ref("Status") | {"description": "For `event-not-accepted`: the status of the instance."},
        "error_id": _text("For status 500 and `unavailable`: identifies the error in the log of the server."),
        "retry_after": {
            "type": "integer",
            "description": "For `too-many-requests`: the number of seconds to wait before trying again.",
        },
        "errors": _list(ref("FieldError"), "For `invalid-input`: the error in each field."),
    },
}
