"""The OpenAPI document: it is valid, and what the server takes and gives is what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pizza import PizzaOrder
from pydantic import BaseModel, Field, computed_field, field_validator

from cloud_adapter.engine.operations import ACTIONS
from cloud_adapter.http import openapi
from cloud_adapter.http.openapi.operation_ids import operation_ids
from cloud_adapter.http.openapi.samples import sample
from tests.core.generate import SPECS, build
from tests.http.helpers import BODY_BYTES_MAX, Http, deployed, serving, until
from tests.http.workflows import SLASH_EVENT, UNICODE_EVENT, WORKFLOWS
from workflow_core import On, S, Select, While, Workflow

GRAPHS = {"image/svg+xml", "text/plain", "application/json"}
METHODS = ("get", "post", "put", "patch", "delete")


class Spec:
    """A served OpenAPI document: sends requests, and validates them and their responses against it."""

    def __init__(self, http: Http, workflow: str) -> None:
        self.http = http
        self.workflow = workflow
        self.document: dict[str, Any] = http.get(f"/swagger/{workflow}")
        self.seen: set[tuple[str, str, int]] = set()

    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        paths: dict[str, Any] = self.document["paths"]
        return {
            (method, path): item[method] | {"parameters": item.get("parameters", []) + item[method]["parameters"]}
            if "parameters" in item[method]
            else item[method] | {"parameters": item.get("parameters", [])}
            for path, item in paths.items()
            for method in METHODS
            if method in item
        }

    def resolved(self, example: dict[str, Any]) -> dict[str, Any]:
        """An example; a shared one is referred to."""
        if "$ref" in example:
            example = self.document["components"]["examples"][example["$ref"].rpartition("/")[2]]
        return example

    def valid(self, schema: dict[str, Any], value: Any) -> bool:
        return bool(self.validator(schema).is_valid(value))

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator(schema | {"components": self.document["components"]})

    def request(self, method: str, path: str, *, id: str = "", body: Any = None, **options: Any) -> httpx.Response:
        """Performs an operation. The document and the server must agree on whether the request is valid."""
        operation = self.operations()[method, path]
        sent = b"" if body is None else json.dumps(body).encode()
        url = path.replace("{id}", id)
        response = self.http.request(method.upper(), url, content=sent, **options)

        taken = operation.get("requestBody")
        if taken is None or body is None:
            valid = body is None and not (taken and taken["required"])
        else:
            valid = self.valid(taken["content"]["application/json"]["schema"], body)
        if response.is_success:
            assert valid, f"{method} {path} took what the document refuses: {body}"
        if not valid:
            assert response.status_code == 422 or response.status_code == 409, response.text

        described = operation["responses"][str(response.status_code)]
        media_type = response.headers["content-type"].removesuffix("; charset=utf-8")
        content_type = described["content"][media_type]
        assert {name.lower() for name in described.get("headers", {})} == {*response.headers} & {
            "location",
            "retry-after",
        }
        content = response.json() if media_type.endswith("json") else response.text
        self.validator(content_type["schema"]).validate(content)
        if response.is_error:
            kinds = [self.resolved(example)["value"]["type"] for example in content_type["examples"].values()]
            assert response.json()["type"] in kinds, f"{method} {path}: {response.text}"
        self.seen.add((method, path, response.status_code))
        return response


def refs(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if "$ref" in value else []
        found += value["mapping"].values() if "mapping" in value else []
        return found + [ref for one in value.values() for ref in refs(one)]
    if isinstance(value, list):
        return [ref for one in value for ref in refs(one)]
    return []


def check_structure(spec: Spec) -> None:
    """What OpenAPI 3.1 demands, and what a reader and a generator of clients may expect beyond it."""
    document = spec.document
    OpenAPIV31SpecValidator(document).validate()
    assert document["openapi"] == "3.1.0"
    assert document["info"]["title"] == spec.workflow and document["info"]["version"]
    assert document["servers"] == [{"url": str(spec.http.client.base_url).rstrip("/")}]
    assert document["security"] == [] and "securitySchemes" not in document["components"], "everybody may call"
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        Draft202012Validator.check_schema(schema)
    for ref in refs(document):
        kind, name = ref.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], ref
    assert "$defs" not in json.dumps(document)
    ids, tags = [], {tag["name"] for tag in document["tags"]}
    for (_, path), operation in spec.operations().items():
        ids.append(operation["operationId"])
        assert operation["summary"] and operation["tags"] and tags.issuperset(operation["tags"])
        declared = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert declared == re.findall(r"{([^}]+)}", path)
        assert all(parameter.get("required") for parameter in operation["parameters"] if parameter["in"] == "path")
        assert all(parameter["schema"] and parameter["description"] for parameter in operation["parameters"])
        assert any(status.startswith("2") for status in operation["responses"])
        for status, response in operation["responses"].items():
            assert response["description"]
            media_types = GRAPHS if operation["operationId"].endswith("graph") else {"application/json"}
            is_event = operation["operationId"].startswith("send_")
            is_outcome = operation["operationId"] == "get_outcome"
            if status != "202" or is_outcome:
                assert {*response["content"]} == (
                    media_types if status.startswith("2") else {"application/problem+json"}
                )
            headers = response.get("headers", {})
            assert ("Retry-After" in headers) == (status == "503" or (is_outcome and status == "202"))
            assert ("Location" in headers) == (status == "201" or (is_event and status == "202"))
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", id) for id in ids)
    assert len(set(ids)) == len(ids)
    check_examples(spec)


def check_examples(spec: Spec) -> None:
    """Each example is valid by the schema that it stands beside."""
    problem = spec.validator(spec.document["components"]["schemas"]["Problem"])
    for example in spec.document["components"]["examples"].values():
        problem.validate(example["value"])
    for operation in spec.operations().values():
        contents = [operation["requestBody"]["content"]] if "requestBody" in operation else []
        contents += [response["content"] for response in operation["responses"].values() if "content" in response]
        for media in (media for content in contents for media in content.values()):
            for example in media.get("examples", {}).values():
                problem.validate(spec.resolved(example)["value"])
            if "example" in media:
                spec.validator(media["schema"]).validate(media["example"])


@pytest.mark.slow
def test_every_document_is_well_formed(http: Http) -> None:
    for path in http.get("/")["workflows"]:
        check_structure(Spec(http, path.removeprefix("/definition/")))


@pytest.mark.slow
@settings(max_examples=12)
@given(public=st.booleans(), spec=SPECS)
def test_the_document_of_any_definition_is_valid(public: bool, spec: list[Any]) -> None:
    access = openapi.DocumentAccess(public=public)
    document = openapi.document(build(spec), "http://127.0.0.1", access, max_body_bytes=1_000)
    OpenAPIV31SpecValidator(document).validate()


@given(names=st.lists(st.text(max_size=12), unique=True, max_size=12))
def test_events_of_any_names_have_methods_of_different_names(names: list[str]) -> None:
    ids = operation_ids(names)
    assert set(ids) == set(names) and len(set(ids.values())) == len(names)
    assert all(re.fullmatch(r"send_[a-z0-9_]*[a-z0-9]", id) for id in ids.values())


def test_the_names_of_methods() -> None:
    events = ["AddToCart", "add to cart", "HTTPServer2Started", UNICODE_EVENT, SLASH_EVENT, "\u2615", "A2", "A 2"]
    assert list(operation_ids(events).values()) == [
        "send_add_to_cart",
        "send_add_to_cart_2",
        "send_http_server_2_started",
        "send_uni_code_100",
        "send_door_open",
        "send_event",
        "send_a_2",
        "send_a_2_2",
    ]


def test_what_the_document_of_an_event_says(http: Http) -> None:
    spec = Spec(http, "pizza")
    add = spec.operations()["post", "/wf/pizza/{id}/AddToCart"]
    assert add["operationId"] == "send_add_to_cart"
    assert add["description"].splitlines() == [
        "Adds a line to the cart. Returns the order.",
        "",
        "Accepted in: *customer fills the cart*.",
    ]
    assert [(one["in"], one["name"]) for one in add["parameters"]] == [
        ("path", "id"),
        ("query", "thread"),
        ("query", "wait_id"),
        ("header", "Idempotency-Key"),
        ("header", "Prefer"),
    ]
    body = add["requestBody"]["content"]["application/json"]
    assert body == {"schema": {"$ref": "#/components/schemas/Pizza"}, "example": {"name": "margherita", "qty": 1}}
    assert add["responses"]["200"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/PizzaOrder"
    }
    assert sorted(add["responses"]) == ["200", "202", "400", "404", "409", "413", "415", "422", "500", "503"]
    refused = add["responses"]["409"]["content"]["application/problem+json"]["examples"]
    assert refused["event-not-accepted"]["value"] == {
        "type": "urn:gorchestrate:problem:event-not-accepted",
        "title": "Event not accepted",
        "status": 409,
        "detail": "event 'AddToCart' is not accepted now: the instance is waiting, it accepts: 'ConfirmOrder'",
        "accepted": ["ConfirmOrder"],
        "instance_status": "waiting",
    }
    invalid = add["responses"]["422"]["content"]["application/problem+json"]["examples"]["invalid-input"]["value"]
    assert invalid["errors"] == [{"field": "name", "message": "Field required", "type": "missing"}]
    assert [tag["name"] for tag in spec.document["tags"]] == ["instances", "customer", "manager", "cook", "delivery"]


def test_who_must_show_a_token_is_told(tmp_path: Path) -> None:
    with deployed(tmp_path / "private.db", PizzaOrder) as http:
        document = http.get("/swagger/pizza")
    OpenAPIV31SpecValidator(document).validate()
    (requirement,) = document["security"]
    (name,) = requirement
    scheme = document["components"]["securitySchemes"][name]
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer") and "roles/run.invoker" in scheme["description"]
    for path in document["paths"].values():
        for method in METHODS:
            assert method not in path or {"401", "403"} <= path[method]["responses"].keys()


def test_behind_a_proxy_that_ends_tls_the_server_is_still_https(http: Http) -> None:
    document = http.ok("GET", "/swagger/pizza", headers={"Host": "api.localhost", "X-Forwarded-Proto": "https"})
    assert document["servers"] == [{"url": "https://api.localhost"}]


class Guarded(BaseModel):
    """Its validator raises what pydantic does not expect; no text can be guessed that its pattern takes."""

    code: Annotated[str, Field(pattern=r"^\d{5}-[A-Z]{3}$")]

    @field_validator("code", mode="before")
    @classmethod
    def check(cls, value: Any) -> Any:
        return value.strip()


class Node(BaseModel):
    """Refers to itself where it must, may, and many times."""

    name: str
    next: Node | None
    either: Node | list[Node] | int
    many: list[Node]
    named: dict[str, Node]
    also: Node | None = None


class Tree(Workflow, name="tree"):
    def plant(self, node: Node) -> Node:
        return node

    def refuse(self, number: Annotated[float, Field(gt=0, lt=1)]) -> Annotated[int, Field(ge=7, multiple_of=5)]:
        return 10

    definition = S(Select("garden", On("Plant", plant), On("Refuse", refuse)))


def test_what_refers_to_itself_has_an_example_that_ends() -> None:
    document = openapi.document(Tree, "http://127.0.0.1", max_body_bytes=1_000)
    plant = document["paths"]["/wf/tree/{id}/Plant"]["post"]
    leaf: dict[str, object] = {"name": "name", "next": None, "either": [], "many": [], "named": {}}
    assert plant["requestBody"]["content"]["application/json"]["example"] == leaf
    answer = plant["responses"]["200"]["content"]["application/json"]["example"]
    assert answer == leaf | {"also": None}
    refuse = document["paths"]["/wf/tree/{id}/Refuse"]["post"]
    assert refuse["requestBody"]["content"]["application/json"]["example"] == 0.5
    assert refuse["responses"]["200"]["content"]["application/json"]["example"] == 10


@pytest.mark.parametrize(
    ("limits", "value"),
    [
        ({}, 1),
        ({"default": 3}, 3),
        ({"minimum": 7}, 7),
        ({"exclusiveMinimum": 7}, 8),
        ({"maximum": -2}, -2),
        ({"exclusiveMaximum": 0}, -1),
        ({"minimum": 7, "multipleOf": 5}, 10),
        ({"exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
        ({"minimum": 2, "maximum": 2}, 2),
    ],
)
def test_a_sample_keeps_to_the_limits(limits: dict[str, float], value: float) -> None:
    schema = {"type": "number", **limits}
    Draft202012Validator(schema).validate(value)
    assert sample(schema, {}) == value


class Odd(Workflow, name="odd"):
    """An event with a guarded input, one that is kept, one that takes nothing or something, fields that are needed."""

    create_fields = ("total",)

    total: int

    def guard(self, guarded: Guarded) -> None:
        """Documented."""

    def keep(self, note: str | None) -> str | None:
        return note

    definition = S(
        Select("first", On("Guard", guard, buffered=True)), Select("second", On("Note", keep), On("note", keep))
    )


def test_an_example_that_would_not_be_valid_is_not_given(tmp_path: Path) -> None:
    with serving(tmp_path / "odd.db", Odd) as http:
        spec = Spec(http, "odd")
        check_structure(spec)
        operations = spec.operations()
        guard, note = operations["post", "/wf/odd/{id}/Guard"], operations["post", "/wf/odd/{id}/Note"]
        assert "example" not in guard["requestBody"]["content"]["application/json"]
        assert "content" not in guard["responses"]["202"]
        assert (guard["requestBody"]["required"], note["requestBody"]["required"]) == (True, False)
        create = operations["post", "/wf/odd/{id}"]["requestBody"]
        assert (create["required"], create["content"]["application/json"]["example"]) == (True, {"total": 1})
        ids = {operation["operationId"] for operation in operations.values()}
        assert {"send_guard", "send_note", "send_note_2"} <= ids
        assert spec.request("post", "/wf/odd/{id}", id="a", body={"total": 1}).status_code == 201
        assert spec.request("post", "/wf/odd/{id}", id="b", body={"total": 1, "extra": 1}).status_code == 422
        assert spec.request("post", "/wf/odd/{id}/Guard", id="a", body={"code": "12345-ABC"}).status_code == 200
        assert spec.request("post", "/wf/odd/{id}/Note", id="a").status_code == 200


def test_there_is_an_operation_for_each_event_of_the_definition(http: Http) -> None:
    for name in ("pizza", "twins", "timed"):
        spec = Spec(http, name)
        events = {event["name"] for event in http.get(f"/definition/{name}")["events"]}
        posts = {path for method, path in spec.operations() if method == "post"}
        assert posts == {f"/wf/{name}/{{id}}"} | {f"/wf/{name}/{{id}}/{event}" for event in {*events, *ACTIONS}}


def test_an_event_under_any_name_has_its_path(http: Http, id: str) -> None:
    spec = Spec(http, "desk")
    http.create(f"/wf/desk/{id}")
    for event in http.get(f"/wf/desk/{id}")["events"]:
        assert ("post", event["url"].replace(id, "{id}")) in spec.operations()


def test_roles_are_tags_and_a_missing_input_is_no_body(http: Http) -> None:
    operations = Spec(http, "pizza").operations()
    pay, start = (operations["post", f"/wf/pizza/{{id}}/{event}"] for event in ("Pay", "StartCooking"))
    assert (pay["tags"], start["tags"]) == (["customer"], ["cook"])
    assert pay["requestBody"]["required"] and "requestBody" not in start


def test_a_whole_order_is_as_documented(http: Http, id: str) -> None:
    spec = Spec(http, "pizza")
    one = "/wf/pizza/{id}"

    def send(event: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        response = spec.request("post", f"{one}/{event}", id=id, body=body, **options)
        assert response.status_code == status, response.text
        spec.request("get", one, id=id)
        return response.json()

    assert spec.request("get", one, id=id).status_code == 404
    assert send_status(spec, "post", f"{one}/AddToCart", id, {"name": "margherita"}) == 404
    assert send_status(spec, "post", one, id, {"nonsense": []}) == 422
    assert spec.request("post", one, id=id, body={"cart": [{"name": "napoli"}]}).status_code == 201
    assert spec.request("post", one, id=id).status_code == 409
    for wrong in ({}, {"name": ""}, {"name": "a", "qty": 0}, {"name": "a", "qty": 101}, {"name": 1}, None, 1):
        send("AddToCart", wrong, 422)
    send("AddToCart", {"name": "margherita", "qty": 2}, headers={"Idempotency-Key": "add-1"})
    send("EmptyCart")
    send("SubmitCart", status=409)
    assert send("AddToCart", {"name": "funghi"})["cart"] == [{"name": "funghi", "qty": 1}]
    send("StartCooking", status=409)
    send("SubmitCart", {}, 422)
    send("SubmitCart")
    for wrong in ({"manager": "Ada"}, {"manager": "Ada", "amount": 0}, {"manager": "", "amount": 1}):
        send("ConfirmOrder", wrong, 422)
    send("ConfirmOrder", {"manager": "Ada", "amount": 31.5})
    assert send("Pay", {"amount": 20}) == 11.5
    send("Pay", {"amount": -1}, 422)
    send("StartCooking")
    send("FinishCooking")
    send("TakeDelivery", {"courier": "Grace"})
    send("Deliver")
    send("pause")
    send("Pay", {"amount": 1}, 409)
    send("unpause")
    assert send("Pay", {"amount": 11.5}) == 0
    shown = until(lambda: (view := http.get(f"/wf/pizza/{id}"))["meta"]["status"] == "finished" and view)
    assert shown["state"]["status"] == "completed"

    for path in ("/graph/pizza", f"{one}/graph"):
        for format in ("svg", "mermaid", "json"):
            assert spec.request("get", path, id=id, params={"format": format}).status_code == 200
        assert spec.request("get", path, id=id, params={"format": "png"}).status_code == 400

    send("cancel", status=409)
    spec.request("post", one, id=f"{id}-2")
    assert spec.request("post", f"{one}/cancel", id=f"{id}-2").status_code == 200
    spec.request("post", one, id=f"{id}-3")
    assert spec.request("post", f"{one}/terminate", id=f"{id}-3").status_code == 200
    assert spec.request("post", f"{one}/retry", id=f"{id}-2").status_code == 409
    assert send_status(spec, "post", f"{one}/pause", f"{id}-2", {"by": 1}) == 422

    large = httpx.Client(base_url=http.client.base_url)
    with large:
        response = large.post(f"/wf/pizza/{id}/Pay", content=b" " * (BODY_BYTES_MAX + 1))
    schema = spec.operations()["post", f"{one}/Pay"]["responses"]["413"]["content"]["application/problem+json"]
    spec.validator(schema["schema"]).validate(response.json())

    assert spec.request("get", "/wf/pizza", params={"limit": 1, "status": "finished"}).status_code == 200
    assert spec.request("get", "/wf/pizza", params={"limit": 1_000}).status_code == 400
    assert {(method, path) for method, path, status in spec.seen if status < 300} == set(spec.operations()) - {
        ("post", f"{one}/retry"),
        ("get", f"{one}/outcomes/{{token}}"),
    }, "which take a failed one and a slow step: see test_operating and test_respond_async"


def send_status(spec: Spec, method: str, path: str, id: str, body: Any) -> int:
    return spec.request(method, path, id=id, body=body).status_code


class Problem(BaseModel):
    """Has the name of a component that every document has."""

    size: int


class Instance(BaseModel):
    problem: Problem
    children: list[Instance] = []


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


def _other_problem() -> type[BaseModel]:
    class Problem(BaseModel):
        reason: str

    return Problem


OtherProblem = _other_problem()


class Names(Workflow, name="names"):
    """Types whose names collide, aliases, and a field that is computed."""

    create_fields = ("instance", "first", "pets")

    instance: Instance | None = None
    first: Annotated[int, Field(alias="firstNumber")] = 1
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        return self.first * 2

    def put(self, instance: Instance) -> Instance:
        self.instance = instance
        return instance

    def report(self, problem: list[OtherProblem]) -> list[OtherProblem]:  # type: ignore[valid-type]
        return problem

    def adopt(self, pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]) -> int:
        self.pets = pets
        return len(pets)

    definition = S(
        While("for ever", lambda w: True, Select("wait", On("Put", put), On("Report", report), On("Adopt", adopt)))
    )


def test_types_of_one_name_are_told_apart(tmp_path: Path) -> None:
    with serving(tmp_path / "names.db", Names) as http:
        spec = Spec(http, "names")
        check_structure(spec)
        one = "/wf/names/{id}"
        assert spec.request("post", one, id="a", body={"firstNumber": 4}).json()["state"]["first"] == 4
        tree = {"problem": {"size": 1}, "children": [{"problem": {"size": 2}, "children": []}]}
        assert spec.request("post", f"{one}/Put", id="a", body=tree).json() == tree
        assert spec.request("post", f"{one}/Put", id="a", body={"problem": {"reason": "?"}}).status_code == 422
        reasons = [{"reason": "late"}]
        assert spec.request("post", f"{one}/Report", id="a", body=reasons).json() == reasons
        assert spec.request("post", f"{one}/Report", id="a", body=[{"size": 1}]).status_code == 422
        assert spec.request("post", f"{one}/Adopt", id="a", body=[{"kind": "cat"}, {"kind": "dog"}]).json() == 2
        assert spec.request("post", f"{one}/Adopt", id="a", body=[{"kind": "fox"}]).status_code == 422
        assert spec.request("get", one, id="a").json()["state"]["first"] == 4


def test_the_sample_is_among_those_that_are_tested() -> None:
    assert PizzaOrder.__workflow_name__ == "pizza"
    assert "pizza" not in {cls.__workflow_name__ for cls in WORKFLOWS}
