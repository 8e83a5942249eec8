"""``version`` and ``migrate``: fields that older code has stored become those of the present code."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ConfigDict, model_validator
from pydantic_core import from_json

from tests.core.helpers import unchanged
from workflow_core import (
    DefinitionError,
    Execution,
    InvalidFields,
    NewerVersion,
    On,
    S,
    Select,
    Step,
    Workflow,
    WorkflowError,
    handle_event,
    resume,
)


def pay(w: Any) -> None:
    w.paid = True


DEFINITION = S(Select("payment", On("Pay", pay)), Step("thank", lambda w: None))


class First(Workflow, name="invoice"):
    amount: float = 0
    paid: bool = False
    definition = DEFINITION


class Second(Workflow, name="invoice", version=2):
    cents: int
    paid: bool = False
    definition = DEFINITION

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return {"cents": round(fields["amount"] * 100), "paid": fields["paid"]}


class Third(Workflow, name="invoice", version=3):
    cents: int
    currency: str
    paid: bool = False
    definition = DEFINITION

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        if version < 2:
            fields["cents"] = round(fields.pop("amount") * 100)
        fields["currency"] = "EUR"
        return fields


def parked(cls: type[Workflow], **fields: Any) -> tuple[str, str]:
    """An instance as it is stored, standing at the payment."""
    order, execution = cls(**fields), Execution.start("id-1", cls)
    resume(order, execution)
    return order.dump_fields(), execution.to_json()


def loaded(cls: type[Workflow], fields: str, standing: str) -> tuple[Any, Execution]:
    execution = Execution.from_json(standing)
    return cls.load_fields(fields, execution.fields_version), execution


def test_a_parked_instance_goes_on_with_migrated_fields() -> None:
    order, execution = loaded(Second, *parked(First, amount=9.5))
    handle_event(order, execution, "Pay")
    resume(order, execution)
    assert order == Second(cents=950, paid=True)
    assert (execution.status, execution.fields_version) == ("finished", 2)


def test_what_was_migrated_once_is_not_migrated_again() -> None:
    order, execution = loaded(Second, *parked(First, amount=9.5))
    resume(order, execution)
    order, execution = loaded(Second, order.dump_fields(), execution.to_json())
    assert order == Second(cents=950)


@pytest.mark.parametrize(("old", "fields"), [(First, {"amount": 9.5}), (Second, {"cents": 950})])
def test_every_older_version(old: type[Workflow], fields: dict[str, Any]) -> None:
    order, _ = loaded(Third, *parked(old, **fields))
    assert order == Third(cents=950, currency="EUR")


def test_a_version_without_a_migration_takes_the_fields_as_they_are() -> None:
    class Later(First, name="invoice", version=5):
        note: str = "none"

    order, execution = loaded(Later, *parked(First, amount=2))
    assert order == Later(amount=2)
    resume(order, execution)
    assert execution.fields_version == 5


def test_versions() -> None:
    class Inherits(Second, name="other"): ...

    class Abstract(Workflow, version=7):
        text: str = ""

    class Concrete(Abstract):
        definition = DEFINITION

    versions = [cls.__workflow_version__ for cls in (First, Second, Inherits, Concrete)]
    assert versions == [1, 2, 2, 7]
    assert [Execution.start("1", cls).fields_version for cls in (First, Second, Concrete)] == [1, 2, 7]
    assert "fields_version" not in from_json(Execution.start("1", First).to_json())


@pytest.mark.parametrize("version", [0, -1, "2", 1.5, True])
def test_what_is_no_version(version: Any) -> None:
    with pytest.raises(DefinitionError, match=r"its version is .* Use 1, 2, 3"):

        class Wrong(Workflow, version=version):
            definition = DEFINITION


def test_fields_of_a_newer_version() -> None:
    fields, standing = parked(Second, cents=950)
    with pytest.raises(NewerVersion) as caught:
        loaded(First, fields, standing)
    assert str(caught.value) == (
        "the instance was saved by version 2 of workflow 'invoice', this code has version 1: try again, so that the "
        "newer code is reached, or deploy that again"
    )


def test_an_execution_of_a_newer_version() -> None:
    order, execution = First(), Execution.from_json(parked(Second, cents=950)[1])
    for call in (lambda: handle_event(order, execution, "Pay"), lambda: resume(order, execution)):
        with unchanged(order, execution), pytest.raises(NewerVersion):
            call()


def migrating(migrate: Any) -> type[Workflow]:
    class Wrong(Workflow, name="invoice", version=2):
        cents: int
        definition = DEFINITION

    Wrong.migrate = classmethod(migrate)  # type: ignore[assignment]
    return Wrong


@pytest.mark.parametrize(
    ("migrate", "message"),
    [
        (lambda cls, version, fields: fields, "the fields of Wrong do not fit their types: cents: Field required"),
        (
            lambda cls, version, fields: {"cents": "many"},
            "the fields of Wrong do not fit their types: cents: Input should be a valid integer",
        ),
        (
            lambda cls, version, fields: fields["gone"],
            "the fields of Wrong that version 1 stored cannot be migrated: KeyError: 'gone'",
        ),
        (
            lambda cls, version, fields: fields.pop("amount") and None,
            "the fields of Wrong that version 1 stored cannot be migrated: migrate returned None, it must return "
            "the fields",
        ),
        (
            lambda cls, version, fields: {"cents": object()},
            "the fields of Wrong that version 1 stored cannot be migrated: PydanticSerializationError",
        ),
    ],
)
def test_what_cannot_be_migrated(migrate: Any, message: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        loaded(migrating(migrate), *parked(First, amount=1))
    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, WorkflowError)


def test_a_migration_is_not_called_for_fields_of_its_own_version() -> None:
    def fail(cls: Any, version: int, fields: Any) -> Any:
        raise AssertionError

    cls = migrating(fail)
    assert cls.load_fields('{"cents": 1}', 2) == cls(cents=1)
    assert cls.load_fields('{"cents": 1}') == cls(cents=1)


def test_a_misspelled_name() -> None:
    cls = migrating(lambda cls, version, fields: {"cent": 950})
    message = "version 1 stored cannot be migrated: migrate returned 'cent', but no 'cents'. Is it misspelled?"
    with pytest.raises(InvalidFields, match=re.escape(message)):
        loaded(cls, *parked(First, amount=9.5))


@pytest.mark.parametrize("extra", [{"cent": 5}, {"zzz": 5}, {1: 5}])
def test_a_name_that_nobody_knows_is_dropped(extra: dict[Any, Any]) -> None:
    cls = migrating(lambda cls, version, fields: fields | {"cents": 950} | extra)
    assert loaded(cls, *parked(First, amount=9.5))[0].cents == 950


class InSteps(Workflow, name="invoice", version=3):
    cents: int
    definition = DEFINITION

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        if version < 2:
            fields["total"] = fields.pop("amount")  # version 2 had it
        if version < 3:
            fields["cents"] = round(fields["total"] * 100)
        return fields


@pytest.mark.parametrize(("version", "stored"), [(1, '{"amount": 9.5}'), (2, '{"total": 9.5}'), (3, '{"cents": 950}')])
def test_a_chain_of_migrations_leaves_fields_of_versions_in_between(version: int, stored: str) -> None:
    assert InSteps.load_fields(stored, version).cents == 950


def test_stored_fields_that_the_class_no_longer_has_may_be_returned() -> None:
    def keep(cls: Any, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        amount = fields.pop("amount")
        return fields | {"amount": amount, "cents": 950}

    order, _ = loaded(migrating(keep), *parked(First, amount=9.5, paid=True))
    assert order.cents == 950


class OfAnyName(Workflow, name="invoice", version=2):
    model_config = ConfigDict(extra="allow")
    cents: int = 950
    definition = DEFINITION


class OfFormerNames(Workflow, name="invoice", version=2):
    cents: int
    definition = DEFINITION

    @model_validator(mode="before")
    @classmethod
    def take(cls, fields: Any) -> Any:
        return {"cents": fields["cent"]}


@pytest.mark.parametrize("cls", [OfAnyName, OfFormerNames])
def test_a_class_that_takes_other_names(cls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate = classmethod(lambda cls, version, fields: {"cent": 950})
    monkeypatch.setattr(cls, "migrate", migrate)
    order, _ = loaded(cls, *parked(First, amount=9.5))
    assert order.cents == 950
