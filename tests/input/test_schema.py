"""Requests generated from the OpenAPI document of the running application: such that fit it, and such that do not.

Every answer must be one that the document allows, none is an error of the server, and an error changes nothing.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st
from pizza import PizzaOrder
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.generation import GenerationMode

from cloud_adapter.http import openapi
from tests.input.conftest import Attacked, attack
from tests.input.workflows import Store
from workflow_core import Workflow

pytestmark = pytest.mark.slow

load_all_checks()
ANSWERS = CHECKS.get_by_names(
    ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
)
BUSY = 503

OPERATIONS = [
    (cls, path, method)
    for cls in (Store, PizzaOrder)
    for path, item in openapi.document(cls, "http://127.0.0.1", max_body_bytes=1_000)["paths"].items()
    for method in item
    if method != "parameters"
]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def schemas(attacked: Attacked) -> dict[type[Workflow], Any]:
    """The documents of the running application, each read once for all of its operations."""
    url = f"{attacked.url}/swagger"
    return {cls: schemathesis.openapi.from_url(f"{url}/{cls.__workflow_name__}") for cls in (Store, PizzaOrder)}


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["fits", "does not fit"])
@pytest.mark.parametrize(
    ("workflow", "path", "method"), OPERATIONS, ids=[f"{method} {path}" for _, path, method in OPERATIONS]
)
def test_generated_requests(
    attacked: Attacked,
    schemas: dict[type[Workflow], Any],
    workflow: type[Workflow],
    path: str,
    method: str,
    mode: GenerationMode,
) -> None:
    operation = schemas[workflow][path][method]
    id = f"generated-{next(_numbers)}"
    attacked.http.create(f"/wf/{workflow.__workflow_name__}/{id}")

    @attack()
    @given(case=operation.as_strategy(generation_mode=mode), to_mine=st.booleans())
    def send(case: Any, to_mine: bool) -> None:
        if to_mine and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = id
        before = attacked.stored()
        response = case.call()
        if response.status_code != BUSY:
            case.validate_response(response, checks=ANSWERS)
        if response.status_code >= 400:
            assert response.headers["content-type"] == ["application/problem+json"]
            assert attacked.stored() == before

    send()
