"""``Access``, ``CreatedBy`` and ``create_fields``: what is refused at import, and what a creator may set."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BeforeValidator, Field

from workflow_core import (
    ANY_ROLE,
    ANYONE,
    AUTHENTICATED,
    EVERYONE,
    Access,
    Action,
    CreatedBy,
    DefinitionError,
    InvalidInput,
    On,
    Principal,
    S,
    Select,
    Step,
    Workflow,
)
from workflow_core.access import creation, has_role, is_authorized
from workflow_core.principal import ANONYMOUS

ANN = Principal("login|ann", "Ann", roles=frozenset({"customer"}))
STEPS = S(Step("nothing", lambda w: None))


def nothing(w: Any) -> None: ...


def wrong(value: Any) -> Any:
    """A value of another type than the annotation says."""
    return value


async def later(self: Any, principal: Principal, action: Action, event: str | None) -> bool | None: ...


def of_class(**attributes: Any) -> Callable[[], type[Workflow]]:
    types = attributes.pop("types", {})
    return lambda: type("Order", (Workflow,), {"__annotations__": types, "definition": STEPS, **attributes})


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Access(read=wrong("manager")), "read is 'manager', not a set of roles. Write read={'manager'}"),
        (lambda: Access(create=wrong({1})), "1 is not a role"),
        (lambda: Access(send={""}), "'' is not a role"),
        (lambda: Access(repair={ANY_ROLE}), "'\\*' is not a role"),
        (lambda: Access(list=wrong(3)), "list is 3, not a set of roles"),
        (lambda: On("Ask", nothing, role=wrong({"manager"})), "On 'Ask': {'manager'} is not a role"),
        (lambda: On("Ask", nothing, role=""), "On 'Ask': '' is not a role"),
        (of_class(access={"read": "manager"}), "its access is {'read': 'manager'}. Write access = Access"),
        (of_class(types={"access": str}, access=""), "'access' has an annotation, which makes it a field"),
        (
            of_class(create_fields="cart"),
            r"its create_fields is 'cart'. Write a tuple of names: create_fields = \('cart',\)",
        ),
        (of_class(create_fields=("cart",)), "'cart' in its create_fields is not a field"),
        (
            of_class(types={"owner": Annotated[str, CreatedBy]}, owner="", create_fields=("owner",)),
            "'owner' in its create_fields is CreatedBy.*Remove it from create_fields",
        ),
        (of_class(types={"owner": Annotated[int, CreatedBy]}, owner=0), "'owner' is CreatedBy, but not a text"),
        (of_class(authorize=later), "it is async, but is asked between a load and a commit"),
        (of_class(authorize=lambda self: True), r"It must accept \(self, principal, action, event\)"),
        (of_class(visible=lambda cls, principal: None), "it is not a class method. Put @classmethod"),
        (of_class(visible=classmethod(lambda cls: None)), r"It must accept \(cls, principal\)"),
        (of_class(types={"visible": bool}, visible=True), "its field 'visible' replaces a method of Workflow"),
    ],
)
@pytest.mark.filterwarnings("ignore:Field name")
def test_what_is_refused_at_import(make: Callable[[], Any], reason: str) -> None:
    with pytest.raises(DefinitionError, match=reason):
        make()


@pytest.mark.parametrize(
    ("principal", "roles", "expected"),
    [
        (ANN, {"customer", "manager"}, True),
        (ANN, {"manager"}, False),
        (ANN, set(), False),
        (ANN, None, False),
        (ANN, {AUTHENTICATED}, True),
        (ANN, {ANYONE}, True),
        (ANONYMOUS, {ANYONE}, True),
        (ANONYMOUS, {AUTHENTICATED}, False),
        (EVERYONE, {"manager"}, True),
        (EVERYONE, None, True),
        (Principal("token", kind="callback"), {AUTHENTICATED}, False),
        (Principal("login|eve", roles=frozenset({ANY_ROLE})), {"manager"}, False),
    ],
)
def test_roles(principal: Principal, roles: set[str] | None, expected: bool) -> None:
    assert has_role(principal, roles) is expected


def test_authorize_of_a_class_is_not_asked_for_everyone() -> None:
    class Locked(Workflow):
        definition = STEPS

        def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
            return False

    assert not is_authorized(Locked(), ANN, Action.READ)
    assert is_authorized(Locked(), EVERYONE, Action.READ)


class Order(Workflow, name="order"):
    customer: Annotated[str, CreatedBy] = ""
    price: Decimal = Decimal(0)
    note: str = Field("", alias="Note")
    lines: Annotated[int, Field(validation_alias=AliasChoices("count", AliasPath("cart", "lines")))] = 0
    discount: Annotated[int, Field(validation_alias=AliasPath("cart", "discount"))] = 0
    paid: bool = False
    create_fields = ("price", "note", "lines")
    definition = S(Select("open", On("Ask", nothing)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", {}),
        (b" {\n} ", {}),
        (
            b'{"price": 0.1000000000000000055511151231257827}',
            {"price": Decimal("0.1000000000000000055511151231257827")},
        ),
        (b'{"Note": "a", "count": 2}', {"note": "a", "lines": 2}),
        (b'{"note": "\\u00e4"}', {"note": "ä"}),
    ],
)
def test_a_creator_sets_what_it_may_and_the_rest_is_filled(body: bytes, expected: dict[str, Any]) -> None:
    order = Order.new(creation(Order, body, ANN))
    assert order == Order.model_construct(**Order().__dict__ | {"customer": ANN.id} | expected)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"paid": true}', "paid"),
        (b'{"customer": "login|bob"}', "customer"),
        (b'{"cart": {"lines": 1, "discount": 90}}', "cart"),  # a key of two fields, of which one may not be set
        (b'{"definition": 1}', "definition"),
        (b"[]", ""),
        (b"{", ""),
    ],
)
def test_a_creator_sets_nothing_else(body: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        creation(Order, body, EVERYONE)
    assert [error["field"] for error in raised.value.errors] == [field]


def test_what_is_not_json_never_reaches_a_validator_of_the_workflow() -> None:
    """A validator may accept more than JSON objects, such as a list of pairs."""

    class Lenient(Workflow):
        paid: Annotated[bool, BeforeValidator(bool)] = False
        definition = STEPS

    for body in (b'[["paid", true]]', b'"paid"'):
        with pytest.raises(InvalidInput, match="should be an object"):
            creation(Lenient, body, ANN)


def test_a_required_field_is_filled_for_a_principal_without_an_id() -> None:
    class Ticket(Workflow):
        owner: Annotated[str, CreatedBy]
        definition = STEPS

    assert Ticket.new(creation(Ticket, b"", EVERYONE)).owner == ""
    assert Ticket.new(creation(Ticket, b"", ANN)).owner == ANN.id
