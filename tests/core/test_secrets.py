"""Secrets are stored, wherever they are in the fields, and masked in what is shown of them."""

from __future__ import annotations

import json
import traceback
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    field_serializer,
    model_serializer,
)
from pydantic_core import PydanticSerializationError
from typing_extensions import TypeAliasType, TypedDict

from tests.core.helpers import do
from workflow_core import DefinitionError, InvalidFields, InvalidInput, RepairRefused, S, Workflow
from workflow_core.machine.operations import set_fields
from workflow_core.secret_values import plain_fields
from workflow_core.value_form import ValueForm

MASK = "**********"


class Account(BaseModel):
    user: str = "ada"
    token: SecretStr = SecretStr("")
    renamed: SecretStr | None = Field(default=None, alias="alias")


class Revealing(BaseModel):
    token: SecretStr

    @field_serializer("token", when_used="json")
    def revealed(self, token: SecretStr) -> str:
        return token.get_secret_value()


class Whole(BaseModel):
    token: SecretStr

    @model_serializer
    def revealed(self) -> dict[str, str]:
        return {"token": self.token.get_secret_value()}


class Tree(BaseModel):
    token: SecretStr
    children: list[Tree] = []


class Card(BaseModel):
    kind: Literal["card"] = "card"
    number: SecretStr


class Cash(BaseModel):
    kind: Literal["cash"] = "cash"
    amount: int = 1


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, SecretStr]


class Bytes(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
    key: SecretBytes


class Birthday(Secret[date]):
    def _display(self) -> str:
        return "****-**-**"


@dataclass
class Login:
    token: SecretStr


class Pair(TypedDict):
    token: SecretStr


Nested = TypeAliasType("Nested", "list[Nested] | SecretStr")
S_ = SecretStr


@pytest.mark.parametrize(
    ("annotation", "value", "stored", "shown"),
    [
        (SecretStr, S_("x"), "x", MASK),
        (SecretStr, S_(""), "", ""),
        (SecretBytes, SecretBytes(b"x"), "x", MASK),
        (Secret[int], Secret(5), 5, MASK),
        (Birthday, Birthday(date(2000, 1, 2)), "2000-01-02", "****-**-**"),
        (SecretStr | None, None, None, None),
        (SecretStr | int, S_("x"), "x", MASK),
        (list[SecretStr], [S_("x"), S_("y")], ["x", "y"], [MASK, MASK]),
        (dict[str, SecretStr], {"a": S_("x")}, {"a": "x"}, {"a": MASK}),
        (dict[SecretStr, int], {S_("x"): 1}, {"x": 1}, {MASK: 1}),
        (tuple[int, SecretStr], (1, S_("x")), [1, "x"], [1, MASK]),
        (
            Account,
            Account(token=S_("x"), alias=S_("y")),
            {"user": "ada", "token": "x", "renamed": "y"},
            {"user": "ada", "token": MASK, "renamed": MASK},
        ),
        (Login, Login(S_("x")), {"token": "x"}, {"token": MASK}),
        (Pair, {"token": S_("x")}, {"token": "x"}, {"token": MASK}),
        (
            Tree,
            Tree(token=S_("x"), children=[Tree(token=S_("y"))]),
            {"token": "x", "children": [{"token": "y", "children": []}]},
            {"token": MASK, "children": [{"token": MASK, "children": []}]},
        ),
        (Cash | Card, Card(number=S_("x")), {"kind": "card", "number": "x"}, {"kind": "card", "number": MASK}),
        (Nested, [S_("x"), [S_("y")]], ["x", ["y"]], [MASK, [MASK]]),
        (RootModel[list[SecretStr]], RootModel[list[SecretStr]]([S_("x")]), ["x"], [MASK]),
        (Secret[Account], Secret(Account(token=S_("x"))), {"user": "ada", "token": "x", "renamed": None}, MASK),
        pytest.param(
            *(Extra, Extra(a=S_("x")), {"a": "x"}, {"a": MASK}),
            marks=pytest.mark.skipif(pydantic.VERSION.startswith("2.12"), reason="it does not serialize by that type"),
        ),
        (Bytes, Bytes(key=SecretBytes(b"\xff")), {"key": "_w=="}, {"key": MASK}),
        (Revealing, Revealing(token=S_("x")), {"token": "x"}, {"token": MASK}),
        (list[Whole], [Whole(token=S_("x"))], [{"token": "x"}], [MASK]),
    ],
)
def test_it_is_stored_and_shown_masked(annotation: Any, value: Any, stored: Any, shown: Any) -> None:
    class Holder(Workflow, name="holder"):
        __annotations__ = {"value": annotation, "other": int}
        other: int = 3
        definition = S(do("a"))

    workflow = Holder.model_construct(value=value)
    fields = workflow.dump_fields()
    assert json.loads(fields) == {"value": stored, "other": 3}
    loaded: Any = Holder.load_fields(fields)
    workflow.refuse_changes(loaded)
    assert loaded.value == value
    assert type(loaded.value) is type(value)
    assert Holder.shown_fields(fields) == {"value": shown, "other": 3}
    assert plain_fields(Holder.__pydantic_core_schema__) == {"other"}
    form = ValueForm.of(TypeAdapter(annotation))
    packed = form.pack(value)
    assert (packed.data, json.loads(packed.shown or b"")) == (stored, shown)
    assert form.load(packed.text) == value


@pytest.mark.parametrize(
    "name", ["cls", "config", "default", "expected", "members", "metadata", "ref", "serialization", "type"]
)
def test_a_field_may_have_the_name_of_a_part_of_a_core_schema(name: str) -> None:
    fields_of: dict[str, Any] = {name: (SecretStr, ...)}
    inner: Any = pydantic.create_model("Inner", **fields_of)

    class Holder(Workflow, name="holder"):
        __annotations__ = {"value": inner}
        definition = S(do("a"))

    workflow = Holder(value=inner(**{name: "hunter2"}))
    fields = workflow.dump_fields()
    assert json.loads(fields) == {"value": {name: "hunter2"}}
    assert Holder.load_fields(fields) == workflow
    assert Holder.shown_fields(fields) == {"value": {name: MASK}}


class Shop(Workflow, name="shop"):
    account: Account = Account(token=SecretStr("hunter2"))
    key: SecretStr = SecretStr("hunter2")
    pin: SecretBytes | None = None
    note: str = ""
    definition = S(do("a"))


def as_logged(error: BaseException | None) -> str:
    return "".join(traceback.format_exception(error))


def test_a_text_in_place_of_a_secret_is_refused_and_not_named() -> None:
    shop = Shop()
    shop.account.token = "hunter" + "2"  # type: ignore[assignment]  # a log also shows the lines of the code
    with pytest.raises(InvalidFields, match="Expected a secret, got a value of type str") as refused:
        shop.dump_fields()
    assert "hunter2" not in as_logged(refused.value)
    form = ValueForm.of(TypeAdapter(SecretStr | int))
    with pytest.raises(PydanticSerializationError) as unfit:
        form.pack("hunter" + "2")
    assert "hunter2" not in as_logged(unfit.value)


def test_a_stored_secret_that_no_longer_fits_is_not_named() -> None:
    class Short(Workflow, name="short"):
        pin: SecretStr = Field(default=SecretStr(""), max_length=4)
        definition = S(do("a"))

    stored = '{"pin": "hunter' + '2"}'
    with pytest.raises(InvalidFields, match="pin: Value should have at most 4 items") as refused:
        Short.load_fields(stored)
    assert "hunter2" not in as_logged(refused.value)
    form = ValueForm.of(TypeAdapter(Annotated[SecretStr, Field(max_length=4)]))
    with pytest.raises(InvalidFields, match="could not be loaded again: it: Value should have at most 4") as unfit:
        form.pack(SecretStr("hunter" + "2"))
    assert "hunter2" not in as_logged(unfit.value)


def test_what_was_copied_from_a_view_does_not_replace_a_secret() -> None:
    stored = Shop(account=Account(token=S_("old"))).dump_fields()
    assert '"token":"old"' in stored
    with pytest.raises(RepairRefused, match=r"account\.token: '\*+' is what a secret is shown as. Send the secret"):
        set_fields(Shop, stored, 1, Shop.shown_fields(stored) | {"note": "new"})
    changed = set_fields(Shop, stored, 1, {"key": "new"})
    assert json.loads(changed) == json.loads(stored) | {"key": "new"}
    with pytest.raises(InvalidInput, match=r"pin: .* is what a secret is shown as"):
        Shop.new(json.dumps({"pin": MASK}))
    assert Shop.new(json.dumps({"note": MASK})).note == MASK, "only a secret"


def test_a_schema_has_no_default_that_is_a_masked_secret() -> None:
    properties = Shop.model_json_schema()["properties"]
    assert "default" not in properties["key"]
    assert "default" not in properties["account"]
    assert properties["note"]["default"] == ""
    assert MASK not in json.dumps(Shop.__fields_schema__())


def test_a_search_field_cannot_be_secret() -> None:
    with pytest.raises(DefinitionError, match="its search field 'key' contains a secret, which lists would show"):

        class One(Workflow, name="one"):
            key: SecretStr | None = None
            search_fields = ("key",)
            definition = S(do("a"))


def test_a_workflow_that_serializes_itself_cannot_have_secrets() -> None:
    with pytest.raises(DefinitionError, match="it has a model_serializer and secrets"):

        class One(Workflow, name="one"):
            key: SecretStr | None = None
            definition = S(do("a"))

            @model_serializer
            def all(self) -> dict[str, Any]:
                return {}
