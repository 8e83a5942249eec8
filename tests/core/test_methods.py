"""A definition means the methods of its class: what overrides or replaces one is called, and annotations mean what they
mean where the function was written."""

from __future__ import annotations

import asyncio
import functools
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar, Generic, Self, TypeVar
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from pydantic import BaseModel

from tests.core import handlers_elsewhere as elsewhere
from tests.core.helpers import Logged, start
from workflow_core import (
    Activity,
    Case,
    Child,
    DefinitionError,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    InvalidInput,
    On,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    Workflow,
    aresume,
    handle_event,
    resume,
)


class Item(BaseModel):
    here: int


# --- overriding -------------------------------------------------------------------------------


class Order(Logged, name="order"):
    def is_big(self) -> bool:
        return self.n > 10

    def rows(self) -> list[int]:
        return [1]

    def charge(self) -> None:
        self.log.append("charged")

    def bake(self, step: StepContext) -> None:
        self.log.append(f"baked {step.item}")

    def add(self, number: int) -> int:
        self.n += number
        return self.n

    @staticmethod
    def weigh(number: int) -> int:
        return number

    def weighed(self, number: int) -> None:
        self.log.append(f"weighs {number}")

    definition = S(
        If("big", is_big, Step("charge", charge)),
        ForEach("rows", rows, Step("bake", bake)),
        Activity("weigh", weigh, input=lambda w: 3, then=weighed),
        Select("wait", On("Add", add)),
    )


def ran(cls: type[Order], *numbers: int, **fields: Any) -> list[str]:
    order, execution = start(cls, **fields)
    for number in numbers:
        handle_event(order, execution, "Add", number)
        resume(order, execution)
    return [*order.log, str(order.n)]


def test_a_subclass_overrides_what_the_definition_uses() -> None:
    class Special(Order, name="special"):
        def is_big(self) -> bool:
            return True

        def rows(self) -> list[int]:
            return [7, 8]

        def charge(self) -> None:
            self.log.append("specially")
            super().charge()

        def add(self, number: int) -> int:
            return super().add(number * 2)

        @staticmethod
        def weigh(number: int) -> int:
            return 2 * number

        def weighed(self, number: int) -> None:
            self.log.append(f"{number} g")

    assert ran(Special, 4) == ["specially", "charged", "baked 7", "baked 8", "6 g", "8"]
    assert ran(Order, 4) == ["baked 1", "weighs 3", "4"]


def test_the_types_of_an_event_are_those_of_the_override() -> None:
    class Special(Order, name="special"):
        def add(self, number: int | str) -> int:
            return super().add(int(number))

    assert ran(Special)[-1] == "0"
    special, execution = start(Special)
    assert handle_event(special, execution, "Add", "5") == 5
    order, execution = start(Order)
    with pytest.raises(InvalidInput):
        handle_event(order, execution, "Add", "five")


def test_an_override_that_is_no_function_or_does_not_fit_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"Special\.charge is None, not a function"):

        class Special(Order, name="special"):
            charge: ClassVar[Any] = None

    with pytest.raises(DefinitionError, match="must accept the workflow, or the workflow and a StepContext"):

        class Other(Order, name="other"):
            def charge(self, one: Any, two: Any) -> None: ...  # type: ignore[override]

    with pytest.raises(DefinitionError, match="is async"):

        class Another(Order, name="another"):
            async def is_big(self) -> bool:  # type: ignore[override]
                return True


def test_a_mixin_overrides_too() -> None:
    class Loud:
        def weighed(self: Any, number: int) -> None:
            self.log.append("LOUD")

    class Special(Loud, Order, name="special"):
        pass

    assert ran(Special) == ["baked 1", "LOUD", "0"]


def test_a_base_that_is_named_explicitly_stays_itself() -> None:
    class Special(Order, name="special"):
        def charge(self) -> None:
            self.log.append("my own")

        definition = S(Step("base", Order.charge), Step("own", charge))

    order, _ = start(Special)
    assert order.log == ["charged", "my own"]


# --- replacing it in a test -------------------------------------------------------------------


def test_a_fake_is_called_while_it_is_there() -> None:
    class Special(Order, name="special"):
        pass

    for cls in (Order, Special):
        with patch.object(cls, "charge", lambda self: self.log.append("fake")):
            assert ran(cls, n=11) == ["fake", "baked 1", "weighs 3", "11"]
        assert ran(cls, n=11) == ["charged", "baked 1", "weighs 3", "11"]
    with patch.object(Order, "charge", lambda self: self.log.append("fake")):
        assert ran(Special, n=11)[0] == "fake", "of the base too"
        with patch.object(Special, "charge", lambda self: self.log.append("faker")):
            assert ran(Special, n=11)[0] == "faker"
            assert ran(Order, n=11)[0] == "fake"
        assert ran(Special, n=11)[0] == "fake"
    assert ran(Special, n=11)[0] == "charged"


@pytest.mark.parametrize(
    ("name", "fake", "expected"),
    [
        ("is_big", lambda self: True, ["charged", "baked 1", "weighs 3", "4"]),
        ("rows", lambda self: [], ["weighs 3", "4"]),
        ("bake", lambda self, step: self.log.append("fake"), ["fake", "weighs 3", "4"]),
        ("weigh", lambda number: number + 1, ["baked 1", "weighs 4", "4"]),
        ("weighed", lambda self, number: None, ["baked 1", "4"]),
        ("add", lambda self, number: number, ["baked 1", "weighs 3", "0"]),
    ],
)
def test_every_use_can_be_faked(name: str, fake: Any, expected: list[str]) -> None:
    with patch.object(Order, name, fake):
        assert ran(Order, 4) == expected
    assert ran(Order, 4) == ["baked 1", "weighs 3", "4"]


class Uses(Logged, name="uses"):
    """Each place where a definition may name a method."""

    def holds(self) -> bool:
        return False

    def items(self) -> list[int]:
        return []

    def key(self) -> str:
        return "key"

    def text(self) -> str:
        return "text"

    def delay(self) -> Any: ...

    def caught(self, error: Any) -> None: ...

    def happened(self) -> None: ...

    def fields(self) -> dict[str, int]:
        return {}

    definition = S(
        Switch("cases", Case("case", holds, Try("try", Fail("fail", text)).except_(Exception, then=caught))),
        ForEach("each", items, Go("go", Sleep("sleep", delay), id=key), parallel=True),
        ForEach("outer", items, ForEach("inner", items, If("if", holds, Step("step", happened)))),
        Go("child", Child("a child", "order", id=key, input=fields, then=happened)),
        Select("select", Timeout("late", delay), On("Go", happened)),
        WaitFor("wait", holds, happened),
    )


@pytest.mark.parametrize("name", ["holds", "items", "key", "text", "delay", "caught", "happened", "fields"])
def test_a_fake_reaches_each_place(name: str) -> None:
    def found(part: Any, code: Any, seen: set[int]) -> int:
        """How often a function is part of the compiled definition."""
        if part is code:
            return 1
        if id(part) in seen or isinstance(part, (str, int, type, frozenset)) or part is None:
            return 0
        seen.add(id(part))
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, tuple) else ()
        own = vars(part) if hasattr(part, "__dict__") and not callable(part) else {}
        attributes = (value for name, value in own.items() if name != "definition")
        return sum(found(one, code, seen) for one in (*inner, *attributes))

    original, program = getattr(Uses, name), Uses.__program__
    before = found(program.code, original, set())
    assert before >= 1
    with patch.object(Uses, name) as fake:
        assert found(program.code, fake, set()) == before
        assert found(program.code, original, set()) == 0
    assert found(program.code, original, set()) == before


def test_mocks_of_the_standard_library() -> None:
    with patch.object(Order, "is_big", return_value=True) as is_big, patch.object(Order, "charge") as charge:
        assert ran(Order) == ["baked 1", "weighs 3", "0"]
    assert isinstance(charge, MagicMock)
    assert is_big.call_count == charge.call_count == 1
    with patch.object(Order, "charge", AsyncMock()) as charge:
        order = Order(n=11)
        asyncio.run(aresume(order, Execution.start("a", Order)))
    assert charge.await_count == 1
    with patch.object(Order, "charge", autospec=True) as charge:
        ran(Order, n=11)
    assert charge.call_count == 1


class Priced:
    """No workflow, so it does not notice what is replaced."""

    @functools.cache  # noqa: B019
    def rate(number: Any) -> int:  # noqa: N805
        return 2

    def charge(self: Any, *, times: int = 1) -> None:
        self.log.append(f"charged {times}")

    charge_twice = functools.partial(charge, times=2)


class WithMixin(Priced, Logged, name="with-mixin"):
    add_tax: ClassVar[Any] = functools.partial(Priced.charge, times=3)

    def rated(self, rate: int) -> None:
        self.log.append(f"rate {rate}")

    definition = S(
        Step("once", Priced.charge),
        Step("twice", Priced.charge_twice),
        Step("tax", add_tax),
        ForEach("each", lambda w: [1], Activity("rate", Priced.rate, then=rated)),
    )


class OverMixin(WithMixin, name="over-mixin"):
    def charge(self: Any, *, times: int = 1) -> None:
        self.log.append("mine")


@pytest.mark.parametrize(
    ("owner", "name", "index"),
    [(Priced, "charge", 0), (Priced, "charge_twice", 1), (WithMixin, "add_tax", 2), (Priced, "rate", 3)],
)
def test_methods_of_plain_classes_and_wrapped_functions_can_be_faked(owner: type, name: str, index: int) -> None:
    expected = ["charged 1", "charged 2", "charged 3", "rate 2"]
    assert start(WithMixin)[0].log == expected
    with patch.object(owner, name, return_value=5) as fake:
        rest = ["rate 5"] if name == "rate" else expected[index + 1 :]
        assert start(WithMixin)[0].log == expected[:index] + rest
    assert fake.call_count == 1
    assert start(WithMixin)[0].log == expected
    with patch.object(Priced, "charge") as fake:
        assert start(OverMixin)[0].log == ["mine", *expected[1:]]
    assert fake.call_count == 0


def test_a_subclass_that_is_made_while_its_base_is_faked() -> None:
    class Base(Order, name="base"):
        pass

    with (
        patch.object(Order, "weighed", MagicMock()) as weighed,
        patch.object(Base, "charge", lambda self: self.log.append("fake")),
    ):

        class Special(Base, name="special"):
            pass

        class Other(Base, name="other"):
            def charge(self) -> None:
                self.log.append("other")

        assert ran(Special, n=11) == ["fake", "baked 1", "11"]
        assert ran(Other, n=11)[0] == "other"
        assert weighed.call_count == 2
    for cls in (Special, Base):
        assert ran(cls, n=11) == ["charged", "baked 1", "weighs 3", "11"]
    assert Special.__program__.version == Base.__program__.version
    with patch.object(Special, "charge", lambda self: self.log.append("again")):
        assert ran(Special, n=11)[0] == "again"


def test_two_methods_with_one_fake_become_two_again() -> None:
    fake = MagicMock(return_value=None)
    with patch.object(Order, "charge", fake), patch.object(Order, "bake", fake):
        assert ran(Order, n=11) == ["weighs 3", "11"]
    assert ran(Order, n=11) == ["charged", "baked 1", "weighs 3", "11"]


def test_a_method_with_two_names_is_known_by_its_own() -> None:
    class Twice(Logged, name="twice"):
        def own(self) -> None:
            self.log.append("own")

        other: ClassVar[Any] = own
        definition = S(Step("step", own))

    with patch.object(Twice, "own", lambda self: self.log.append("fake")):
        assert start(Twice)[0].log == ["fake"]


def test_monkeypatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "weighed", lambda self, number: self.log.append("patched"))
    assert ran(Order) == ["baked 1", "patched", "0"]


# --- annotations ------------------------------------------------------------------------------


def test_annotations_of_functions_of_other_modules() -> None:
    class Shop(elsewhere.Mixin, elsewhere.Base, name="shop"):
        handled: ClassVar[Any] = elsewhere.add

        definition = S(
            Select(
                "select",
                On("Imported", elsewhere.add),
                On("Assigned", handled),
                On("Mixed in", elsewhere.Mixin.from_mixin),
                On("Inherited", elsewhere.Base.from_base),
            ),
            Activity("check", elsewhere.check, input=lambda w: {"elsewhere": 1}),
        )

    for event in ("Imported", "Assigned", "Mixed in"):
        order, execution = start(Shop)
        assert handle_event(order, execution, event, {"elsewhere": 1}) == elsewhere.Item(elsewhere=1)
    order, execution = start(Shop)
    assert handle_event(order, execution, "Inherited", {"elsewhere": 1}) == elsewhere.Base.Nested(nested=1)
    order, execution = start(Shop)
    with pytest.raises(InvalidInput, match="elsewhere"):
        handle_event(order, execution, "Imported", {"here": 1})


def test_a_name_of_the_function_around_the_class_goes_before_that_of_the_module() -> None:
    class Item(BaseModel):
        local: int

    class Shop(Logged, name="shop"):
        def add(self, item: Item) -> int:
            return item.local

        definition = S(Select("select", On("Add", add), On("Lambda", lambda w, item=None: None)))

    order, execution = start(Shop)
    assert handle_event(order, execution, "Add", {"local": 1}) == 1


def test_types_of_a_subclass_are_not_those_of_its_base() -> None:
    class Shop(elsewhere.Base):
        def add(self, item: Item) -> int:
            return item.here

        definition = S(Select("select", On("Add", add), On("Inherited", elsewhere.Base.from_base)))

    class Special(Shop, name="special"):
        class Item(BaseModel):
            special: int

        class Nested(BaseModel):
            special: int

    order, execution = start(Special)
    assert handle_event(order, execution, "Add", {"here": 1}) == 1
    order, execution = start(Special)
    assert Special.__program__.events["Inherited"][0][1].signature.output_schema["title"] == "Nested"
    assert "nested" in Special.__program__.events["Inherited"][0][1].signature.output_schema["properties"]


def test_dataclasses_inside_a_function_may_name_each_other() -> None:
    @dataclass
    class Topping:
        name: str

    @dataclass
    class Pizza:
        toppings: list[Topping]

    class Shop(Logged, name="shop"):
        def add(self, pizza: Pizza) -> Topping:
            return pizza.toppings[0]

        definition = S(Select("select", On("Add", add)))

    order, execution = start(Shop)
    assert handle_event(order, execution, "Add", {"toppings": [{"name": "basil"}]}) == Topping("basil")


def test_self_is_the_class() -> None:
    class Shop(Logged):
        def add(self, others: list[Self]) -> Self:
            return others[0]

        def maybe(self) -> Self | None:
            return None

        definition = S(Select("select", On("Add", add), On("Maybe", maybe)))

    class One(Shop, name="one"):
        one: int

    order, execution = start(One, one=1)
    answer = handle_event(order, execution, "Add", [{"one": 3}])
    assert isinstance(answer, One)
    assert answer.one == 3


# --- generic workflows ------------------------------------------------------------------------

T = TypeVar("T")
U = TypeVar("U")


class Box(BaseModel, Generic[T]):
    content: T


class Boxes(elsewhere.Approval[U], Generic[U]):
    def unpack(self, boxes: dict[str, Box[U] | None]) -> U | None:
        return next(box.content for box in boxes.values() if box is not None)

    definition = S(Select("proposal", On("Propose", elsewhere.Approval.propose), On("Unpack", unpack)))


def test_a_generic_workflow_is_bound_by_its_subclass() -> None:
    class Items(elsewhere.Approval[Item], name="items"):
        pass

    order, execution = start(Items, subject=Item(here=1))
    assert handle_event(order, execution, "Propose", {"here": 2}) == [Item(here=2)]
    assert Items.load_fields(order.dump_fields()) == order
    order, execution = start(Items, subject=Item(here=1))
    with pytest.raises(InvalidInput, match="here"):
        handle_event(order, execution, "Propose", {"there": 2})


def test_a_generic_workflow_of_a_generic_workflow() -> None:
    class Items(Boxes[Item], name="items"):
        pass

    order, execution = start(Items, subject=Item(here=1))
    assert handle_event(order, execution, "Unpack", {"a": None, "b": {"content": {"here": 2}}}) == Item(here=2)
    for event, wrong in (("Unpack", {"a": {"content": {"there": 2}}}), ("Propose", {"there": 2})):
        order, execution = start(Items, subject=Item(here=1))
        with pytest.raises(InvalidInput, match="here"):
            handle_event(order, execution, event, wrong)


def test_one_generic_workflow_for_two_types() -> None:
    class Numbers(elsewhere.Approval[int], name="numbers"):
        pass

    class Words(elsewhere.Approval[str], name="words"):
        pass

    numbers, execution = start(Numbers, subject=1)
    assert handle_event(numbers, execution, "Propose", 2) == [2]
    words, execution = start(Words, subject="a")
    with pytest.raises(InvalidInput):
        handle_event(words, execution, "Propose", 2)


def test_a_generic_workflow_with_a_name_of_its_own_takes_any_type() -> None:
    class Untyped(Workflow, Generic[T], name="any"):
        def put(self, value: T) -> T:
            return value

        definition = S(Select("select", On("Put", put)))

    order, execution = start(Untyped)
    assert handle_event(order, execution, "Put", {"a": [1]}) == {"a": [1]}


def test_type_variables_of_a_handler() -> None:
    Number = TypeVar("Number", bound=int)

    def twice(w: Any, number: Number) -> Number:
        return number * 2  # type: ignore[return-value]

    class Shop(Logged, name="shop"):
        definition = S(Select("select", On("Twice", twice)))

    order, execution = start(Shop)
    assert handle_event(order, execution, "Twice", 4) == 8
    order, execution = start(Shop)
    with pytest.raises(InvalidInput):
        handle_event(order, execution, "Twice", "four")


@pytest.fixture
def new_syntax(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module in the syntax of Python 3.12."""
    source = """
from __future__ import annotations
from workflow_core import On, S, Select, Workflow

class Approval[T](Workflow):
    subject: T
    def propose(self, subject: T) -> list[T]:
        return [subject]
    def twice[N: int](self, number: N) -> N:
        return number * 2
    definition = S(Select("select", On("Propose", propose), On("Twice", twice)))

class Numbers(Approval[int], name="numbers"):
    pass
"""
    module = ModuleType("new_syntax")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    try:
        exec(compile(source, "new_syntax.py", "exec", dont_inherit=True), vars(module))
    except SyntaxError:
        pytest.skip("needs Python 3.12")
    return vars(module)


def test_the_syntax_of_python_3_12(new_syntax: dict[str, Any]) -> None:
    order, execution = start(new_syntax["Numbers"], subject=1)
    assert handle_event(order, execution, "Propose", 2) == [2]
    order, execution = start(new_syntax["Numbers"], subject=1)
    assert handle_event(order, execution, "Twice", 2) == 4
    for event in ("Propose", "Twice"):
        order, execution = start(new_syntax["Numbers"], subject=1)
        with pytest.raises(InvalidInput):
            handle_event(order, execution, event, "two")
