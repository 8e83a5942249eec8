"""One server for the tests of a file that do not need one of their own, and a fresh instance for each test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from pizza import PizzaOrder

from tests.http.helpers import Http, serving
from tests.http.issuer import Issuer, issuing
from tests.http.workflows import WORKFLOWS

_numbers = itertools.count(1)


@pytest.fixture(scope="module")  # not longer: its timers and tasks would leave spans in the recorders of other files
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with serving(tmp_path_factory.mktemp("http") / "http.db", PizzaOrder, *WORKFLOWS) as http:
        yield http


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """Signs tokens, and publishes its keys."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def id() -> str:
    """An id that no other test has."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def create(http: Http, id: str) -> Callable[[str], str]:
    """Creates an instance of a workflow; gives its URL."""

    def create(workflow: str) -> str:
        http.create(f"/wf/{workflow}/{id}")
        return f"/wf/{workflow}/{id}"

    return create
