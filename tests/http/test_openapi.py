"""The OpenAPI document: it is valid, and what the server takes and gives is what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from jsonschema import Draft202012Validator
from pizza import PizzaOrder
from pydantic import BaseModel, Field, computed_field

from cloud_adapter.operating import ACTIONS
from tests.http.helpers import BODY_BYTES_MAX, Http, serving, until
from tests.http.workflows import WORKFLOWS
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

    def valid(self, schema: dict[str, Any], value: Any) -> bool:
        return bool(self.validator(schema).is_valid(value))

    def validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator(schema | {"components": self.document["components"]})

    def request(self, method: str, path: str, *, id: str = "", body: Any = None, **options: Any) -> httpx.Response:
        """Performs an operation. What the document calls valid the server must not call invalid, nor the reverse."""
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
        content = response.json() if media_type.endswith("json") else response.text
        self.validator(content_type["schema"]).validate(content)
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
    """What OpenAPI 3.1 demands of the parts that the documents use."""
    document = spec.document
    assert document["openapi"] == "3.1.0"
    assert set(document) == {"openapi", "info", "servers", "paths", "components"}
    assert document["info"]["title"] == spec.workflow and document["info"]["version"]
    assert document["servers"] == [{"url": str(spec.http.client.base_url).rstrip("/")}]
    schemas = document["components"]["schemas"]
    for name, schema in schemas.items():
        assert re.fullmatch(r"[a-zA-Z0-9._-]+", name)
        Draft202012Validator.check_schema(schema)
    for ref in refs(document):
        assert ref.startswith("#/components/schemas/") and ref.rpartition("/")[2] in schemas, ref
    assert "$defs" not in json.dumps(document)
    ids = []
    for (_, path), operation in spec.operations().items():
        ids.append(operation["operationId"])
        declared = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"]
        assert declared == re.findall(r"{([^}]+)}", path)
        assert all(parameter.get("required") for parameter in operation["parameters"] if parameter["in"] == "path")
        assert all("schema" in parameter for parameter in operation["parameters"])
        assert any(status.startswith("2") for status in operation["responses"])
        for status, response in operation["responses"].items():
            assert response["description"]
            media_types = GRAPHS if operation["operationId"].endswith("graph") else {"application/json"}
            assert set(response["content"]) == (media_types if status.startswith("2") else {"application/problem+json"})
    assert len(set(ids)) == len(ids)


def test_every_document_is_well_formed(http: Http) -> None:
    for path in http.get("/")["workflows"]:
        check_structure(Spec(http, path.removeprefix("/definition/")))


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
    assert send_status(spec, "post", one, id, {"nonsense": []}, valid_may_be_refused=True) == 422
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
        ("post", f"{one}/retry")
    }, "which takes a failed one: see test_operating"


def send_status(spec: Spec, method: str, path: str, id: str, body: Any, *, valid_may_be_refused: bool = False) -> int:
    """The status of a request; one may be refused for a reason that its schema does not tell."""
    if not valid_may_be_refused:
        return spec.request(method, path, id=id, body=body).status_code
    return spec.http.request(method.upper(), path.replace("{id}", id), json=body).status_code


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

    instance: Instance | None = None
    first: Annotated[int, Field(alias="firstNumber")] = 1
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []

    @computed_field
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
