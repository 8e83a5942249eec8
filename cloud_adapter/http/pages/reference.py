"""The reference of a workflow: its OpenAPI document as a page. Reads only the document."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.http.pages.rendering import page
from cloud_adapter.json_texts import readable

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a type in words. ``link`` is the name of a schema."""

    text: str
    link: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A property or a parameter, as a row of a table."""

    name: str
    type: list[Part]
    required: bool
    text: str
    limits: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request or a response."""

    description: str
    type: list[Part]
    rows: list[Row]
    required: bool
    example: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A response that is not an error."""

    status: str
    body: Body
    headers: list[Row]


@dataclass(frozen=True, slots=True)
class Error:
    """A type of problem document."""

    status: int
    name: str
    text: str
    example: str


@dataclass(frozen=True, slots=True)
class Failure:
    """A response that is an error: its possible types, and the specific examples of the operation."""

    status: str
    names: list[str]
    text: str
    headers: list[Row]
    examples: list[str]


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation. ``label`` is its short name."""

    id: str
    label: str
    method: str
    path: str
    summary: str
    description: str
    curl: str
    parameters: list[Row]
    body: Body | None
    answers: list[Answer]
    failures: list[Failure]


@dataclass(frozen=True, slots=True)
class Group:
    """The operations under one tag."""

    name: str
    description: str
    operations: list[Operation] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return "tag-" + "".join(c if c.isalnum() else "-" for c in self.name)


@dataclass(frozen=True, slots=True)
class Schema:
    name: str
    description: str
    rows: list[Row]
    type: list[Part]


def reference(request: Request, document: Json) -> Response:
    """Returns the page of an OpenAPI document of ``cloud_adapter.http.openapi``."""
    reader = _Reader(document)
    return page(
        request,
        "reference.html",
        name=document["info"]["title"],
        info=document["info"],
        server=reader.server,
        token=reader.token,
        groups=reader.groups(),
        errors=reader.errors(),
        schemas=reader.schemas(),
    )


class _Reader:
    def __init__(self, document: Json) -> None:
        self.document = document
        self.components = document["components"]
        self.server: str = document["servers"][0]["url"]
        names = [name for requirement in document["security"] for name in requirement]
        self.token: str = self.components["securitySchemes"][names[0]]["description"] if names else ""

    def groups(self) -> list[Group]:
        groups = {tag["name"]: Group(tag["name"], tag["description"]) for tag in self.document["tags"]}
        for path, item in self.document["paths"].items():
            for method in ("post", "get"):
                if method in item:
                    operation = item[method]
                    parameters = item.get("parameters", []) + operation.get("parameters", [])
                    groups[operation["tags"][0]].operations.append(self.operation(method, path, operation, parameters))
        # An operation with two tags is shown under the first.
        return [group for group in groups.values() if group.operations]

    def schemas(self) -> list[Schema]:
        return [
            Schema(name, schema.get("description", ""), self.rows(schema), [] if "properties" in schema else types)
            for name, schema in sorted(self.components["schemas"].items())
            for types in [list(_types(schema))]
        ]

    def operation(self, method: str, path: str, operation: Json, parameters: list[Json]) -> Operation:
        answers: list[Answer] = []
        failures: list[Failure] = []
        for status, response in operation["responses"].items():
            named = response.get("headers", {}).items()
            headers = self.parameters([header | {"name": name, "in": "header"} for name, header in named])
            if status < "400":
                answers.append(Answer(status, self.body(response), headers))
            else:
                failures.append(_failure(status, response, headers))
        taken = operation.get("requestBody")
        id = operation["operationId"]
        event = operation["summary"].removeprefix("Send the event ")
        return Operation(
            id,
            event if event != operation["summary"] else id.partition("_")[0].capitalize(),
            method.upper(),
            path,
            operation["summary"],
            operation.get("description", ""),
            self.curl(method, path, parameters, taken),
            self.parameters(parameters),
            self.body(taken) if taken else None,
            answers,
            failures,
        )

    def errors(self) -> list[Error]:
        errors = [
            Error(example["value"]["status"], name, example["summary"], readable(example["value"]))
            for name, example in self.components["examples"].items()
        ]
        return sorted(errors, key=lambda error: error.status)

    def parameters(self, parameters: list[Json]) -> list[Row]:
        return [
            Row(
                parameter["name"],
                list(_types(parameter["schema"])),
                parameter.get("required", False),
                parameter["description"],
                _limits(parameter["schema"]),
                parameter["in"],
            )
            for parameter in parameters
        ]

    def body(self, of: Json) -> Body:
        content = of.get("content", {})
        media = content.get("application/json", {})
        schema = media.get("schema", {})
        example = readable(media["example"]) if "example" in media else ""
        if "allOf" in schema:
            schema = schema["allOf"][0]
        types = list(_types(schema)) if len(content) == 1 else [Part(" or ".join(content))] if content else []
        rows = self.rows(self.resolved(schema)) if of.get("required") is not None else []
        return Body(of["description"], types, rows, of.get("required", False), example)

    def rows(self, schema: Json) -> list[Row]:
        """The properties of an object."""
        return [
            Row(
                name,
                list(_types(property)),
                name in schema.get("required", ()),
                property.get("description", ""),
                _limits(property),
            )
            for name, property in schema.get("properties", {}).items()
        ]

    def resolved(self, schema: Json) -> Json:
        while "$ref" in schema:
            schema = self.components["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema

    def curl(self, method: str, path: str, parameters: list[Json], taken: Json | None) -> str:
        """A shell command that performs the operation."""
        for parameter in parameters:
            path = path.replace(f"{{{parameter['name']}}}", str(parameter.get("example", "")))
        words = ["curl -s", *([] if method == "get" else ["-X", method.upper()]), shlex.quote(self.server + path)]
        if self.token:
            words.append('-H "Authorization: Bearer $(gcloud auth print-identity-token)"')
        if taken is not None:
            media = taken["content"]["application/json"]
            if "example" in media:
                content = shlex.quote(json.dumps(media["example"], ensure_ascii=False))
                words.append(f"-H 'Content-Type: application/json' -d {content}")
            elif taken["required"]:
                words.append("-H 'Content-Type: application/json' -d @input.json")
        return " ".join(words)


def _failure(status: str, response: Json, headers: list[Row]) -> Failure:
    examples = [item for media in response["content"].values() for item in media.get("examples", {}).items()]
    own = [readable(example["value"]) for _, example in examples if "value" in example]
    return Failure(status, [name for name, _ in examples], "" if examples else response["description"], headers, own)


def _types(schema: Json) -> Iterator[Part]:
    """A schema's type in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        yield Part(name, name)
    elif "const" in schema:
        yield Part(json.dumps(schema["const"]))
    elif "enum" in schema:
        yield Part("one of " + ", ".join(json.dumps(value, ensure_ascii=False) for value in schema["enum"]))
    elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
        for index, alternative in enumerate(alternatives):
            yield from [Part(" or ")] if index else []
            yield from _types(alternative)
    elif "allOf" in schema:
        yield from _types(schema["allOf"][0])
    elif schema.get("type") == "array":
        yield Part("array of ")
        yield from _types(schema.get("items", {}))
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), dict):
        yield Part("object of ")
        yield from _types(schema["additionalProperties"])
    else:
        kind = schema.get("type", "any JSON value")
        yield Part(" or ".join(kind) if isinstance(kind, list) else kind)
        if "format" in schema:
            yield Part(f" ({schema['format']})")


_LIMITS = {
    "exclusiveMinimum": "greater than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "pattern": "matches the pattern {}",
}


def _limits(schema: Json) -> str:
    """The limits of a value, and its default."""
    limits = [
        *_range(schema.get("minimum"), schema.get("maximum"), ""),
        *(text.format(schema[key]) for key, text in _LIMITS.items() if key in schema),
        *_range(schema.get("minLength"), schema.get("maxLength"), " characters"),
        *_range(schema.get("minItems"), schema.get("maxItems"), " items"),
    ]
    if "default" in schema:
        limits.append(f"default {json.dumps(schema['default'], ensure_ascii=False)}")
    return ", ".join(limits)


def _range(least: float | None, most: float | None, unit: str) -> list[str]:
    if least is None and most is None:
        return []
    if least is not None and most is not None:
        return [f"{least} to {most}{unit}"]
    return [f"at most {most}{unit}" if least is None else f"{least}{unit} or more"]
