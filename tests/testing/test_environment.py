"""The environment for users' tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.options import EngineOptions
from gorchestrate import (
    Access,
    DefinitionError,
    EventNotAccepted,
    Forbidden,
    InstanceNotFound,
    InvalidInput,
    On,
    Retry,
    S,
    Select,
    Status,
    Step,
    StepContext,
    Workflow,
    activity,
    child,
    event,
    select,
    sleep,
    step,
    timeout,
    until,
)
from gorchestrate.testing import Environment

START = datetime(2027, 3, 1, 9, tzinfo=UTC)


class Parcel(Workflow, name="parcel"):
    weight: int = 0
    delivered_to: str = ""

    @event(role="courier")
    def deliver(self, to: str) -> None:
        self.delivered_to = to

    async def run(self) -> None:
        await select(self.deliver)


class Order(Workflow, name="order"):
    create_fields = ("item",)
    access = Access(create={"customer"}, read={"customer", "courier"})
    item: str
    price: int = 0
    paid: str = ""
    delivered_to: str = ""
    attempts: int = 0

    @event(role="customer")
    def confirm(self) -> None: ...

    @activity
    async def look_up_price(self, item: str) -> int:
        raise ConnectionError("there is no shop here")

    @step(retry=Retry(max_attempts=None))
    def pay(self, context: StepContext) -> str:
        self.attempts = context.attempt
        raise ConnectionError("there is no bank here")

    async def run(self) -> None:
        self.price = await self.look_up_price(self.item)
        if (await select(self.confirm, timeout=timedelta(days=30))).timed_out:
            return
        self.paid = await self.pay()
        parcel = await child(Parcel, id="parcel-1", weight=3)
        self.delivered_to = parcel.delivered_to
        await sleep(timedelta(days=365))


def test_an_order_from_end_to_end() -> None:
    with Environment(Order, Parcel, start=START) as environment:
        environment.fake(Order, "look_up_price", lambda self, item: len(item))
        environment.fake(Order, "pay", lambda self: f"receipt for {self.price}")
        order = environment.create(Order, item="pizza")
        assert (order.status, order.places, order.fields.price) == (Status.WAITING, {"confirm"}, 5)
        assert order.accepted_events == {"confirm"}
        order.send("confirm")
        parcel = environment.get(Parcel, "parcel-1")
        assert parcel.fields.weight == 3
        environment.advance(days=2)
        parcel.send("deliver", "Ann")
        assert parcel.result == {"weight": 3, "delivered_to": "Ann"}
        assert (order.fields.paid, order.fields.delivered_to) == ("receipt for 5", "Ann")
        assert order.places == {"sleep(timedelta(days=365))"}
        environment.advance(weeks=53)
        assert order.is_finished
        assert environment.now == START + timedelta(days=2, weeks=53)
        assert order.history[0][0] == "created"
        assert ("event", "confirm") in order.history
    with Environment(Order, Parcel) as environment:
        assert environment.instances(Order) == []


@pytest.fixture
def environment() -> Iterator[Environment]:
    with Environment(Order, Parcel, start=START) as made:
        made.fake(Order, "look_up_price", lambda self, item: 5)
        yield made


def test_retries_happen_as_time_passes(environment: Environment) -> None:
    order = environment.create(Order, item="pizza")
    order.send("confirm")
    assert order.places == {"pay"}
    environment.advance(minutes=10)
    assert order.places == {"pay"}
    attempts = [kind for kind, statement in order.history if (kind, statement) == ("step failed", "pay")]
    assert len(attempts) > 3
    environment.fake(Order, "pay", lambda self, context: f"attempt {context.attempt}")
    environment.advance(hours=1)
    assert order.fields.paid == f"attempt {len(attempts) + 1}"


def test_a_timeout_comes_exactly_when_it_is_due(environment: Environment) -> None:
    order = environment.create(Order, item="pizza")
    environment.advance(timedelta(days=30) - timedelta(seconds=1))
    assert not order.is_finished
    environment.advance(seconds=1)
    assert order.is_finished
    with pytest.raises(EventNotAccepted):
        order.send("confirm")


def test_years_pass_without_work_of_their_own(environment: Environment) -> None:
    orders = [environment.create(Order, item="pizza") for _ in range(3)]
    saves = environment.store.saves
    environment.advance(weeks=52 * 10)
    assert all(order.is_finished for order in orders)
    assert environment.store.saves - saves <= 2 * len(orders)


def test_roles(environment: Environment) -> None:
    order = environment.create(Order, item="pizza")
    with pytest.raises(Forbidden):
        order.send("confirm", roles={"courier"})
    assert order.places == {"confirm"}
    order.send("confirm", roles={"customer"})
    with pytest.raises(Forbidden):
        environment.create(Order, item="pizza", roles=set())
    with pytest.raises(TypeError, match=r"pass a set of roles, such as {'customer'}"):
        order.send("confirm", roles="customer")


def test_invalid_requests_change_nothing(environment: Environment) -> None:
    with pytest.raises(InvalidInput, match="item"):
        environment.create(Order)
    assert environment.instances(Order) == []
    with pytest.raises(InstanceNotFound):
        environment.get(Parcel, "parcel-1")
    parcel = environment.create(Parcel)
    with pytest.raises(InvalidInput):
        parcel.send("deliver", 7)
    with pytest.raises(ValueError, match=r"cannot go back by 1 day"):
        environment.advance(days=-1)
    assert (parcel.fields.delivered_to, environment.now) == ("", START)


def test_a_child_is_replaced(environment: Environment) -> None:
    environment.fake(Order, "pay", lambda self: "paid")
    environment.fake_child(Parcel, fields={"delivered_to": "the fake"})
    order = environment.create(Order, item="pizza")
    order.send("confirm")
    assert order.fields.delivered_to == "the fake"
    assert environment.get(Parcel, "parcel-1").fields.weight == 3
    with pytest.raises(TypeError, match=r"Parcel has no field 'deliverd_to'. Available: weight, delivered_to"):
        environment.fake_child(Parcel, fields={"deliverd_to": "x"})


def test_a_child_fails(environment: Environment) -> None:
    environment.fake(Order, "pay", lambda self: "paid")
    environment.fake_child(Parcel, error="it is lost")
    order = environment.create(Order, item="pizza")
    order.send("confirm")
    assert order.status == Status.FAILED
    assert order.error is not None
    assert "it is lost" in order.error.message


def test_fakes_end_with_their_environment() -> None:
    before = vars(Order)["pay"]
    with Environment(Order, Parcel) as environment:
        environment.fake(Order, "pay", lambda self: "fake")
        environment.fake(Order, "pay", lambda self: "another fake")
        assert vars(Order)["pay"] is not before
    assert vars(Order)["pay"] is before


def test_lazy_timers_fire() -> None:
    with Environment(Order, Parcel, options=EngineOptions(lazy_after=timedelta(hours=1))) as environment:
        environment.fake(Order, "look_up_price", lambda self, item: 5)
        order = environment.create(Order, item="pizza")
        environment.advance(days=30)
        assert order.is_finished


def test_environments_with_fakes_of_one_method_may_be_closed_in_any_order() -> None:
    before = vars(Order)["look_up_price"]
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)):
        made = [Environment(Order, Parcel) for _ in order]
        for price, environment in enumerate(made):
            environment.fake(Order, "look_up_price", lambda self, item, price=price: price)
        open_ones = [*range(len(made))]
        for number in order:
            made[number].close()
            open_ones.remove(number)
            if open_ones:
                assert made[open_ones[0]].create(Order, item="pizza").fields.price == max(open_ones)
        assert vars(Order)["look_up_price"] is before


def test_an_inherited_method_is_inherited_again() -> None:
    class Urgent(Explicit, name="urgent"):
        pass

    with Environment(Urgent) as first, Environment(Urgent) as second:
        first.fake(Urgent, "work", lambda self: self.log.append("first"))
        second.fake(Urgent, "work", lambda self: self.log.append("second"))
        first.close()
        instance = second.create(Urgent)
        instance.send("go on", "note")
        assert instance.fields.log == ["note", "second"]
    assert "work" not in vars(Urgent)


async def _later(self: Workflow) -> str:
    return "later"


@pytest.mark.parametrize(
    ("method", "fake", "error", "message"),
    [
        ("run", lambda self: None, DefinitionError, "Available: confirm, look_up_price, pay"),
        ("bill", lambda self: None, DefinitionError, "Available: confirm, look_up_price, pay"),
        ("pay", _later, TypeError, "Order.pay is not async, so its fake must not be async"),
        (
            "look_up_price",
            lambda self, items: 1,
            TypeError,
            "a parameter 'items'. It is called with self, and with: item",
        ),
        ("pay", lambda: "x", TypeError, "Order.pay cannot be called: too many positional arguments. It is called with"),
        ("look_up_price", lambda self: 5, TypeError, "cannot be called: got an unexpected keyword argument 'item'"),
        ("look_up_price", lambda: 5, TypeError, "cannot be called: "),
    ],
)
def test_fakes_that_do_not_fit(
    environment: Environment, method: str, fake: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        environment.fake(Order, method, fake)
    order = environment.create(Order, item="pizza")
    assert order.places == {"confirm"}


@pytest.mark.parametrize(
    "fake",
    [
        lambda self, item: len(item),
        lambda self, *args: len(args[0]),
        lambda self, **kwargs: len(kwargs["item"]),
        lambda self, *, item: len(item),
        lambda self, item, *more, extra=0: len(item),
    ],
)
def test_fakes_that_fit(environment: Environment, fake: Any) -> None:
    environment.fake(Order, "look_up_price", fake)
    assert environment.create(Order, item="pizza").fields.price == 5


@pytest.mark.parametrize("method", ["look_up_price", "pay", "confirm"])
def test_an_assertion_in_a_fake_reaches_the_test(environment: Environment, method: str) -> None:
    def checked(self: Order, **given: Any) -> Any:
        assert self.item == "pasta"

    def activity(self: Any, item: str) -> Any:
        assert item == "pasta"

    environment.fake(Order, method, activity if method == "look_up_price" else checked)

    def scenario() -> None:
        environment.create(Order, item="pizza").send("confirm")

    with pytest.raises(AssertionError, match="pasta"):
        scenario()
    environment.advance(seconds=0)  # it is told once


class Explicit(Workflow, name="explicit"):
    log: list[str] = []

    def go_on(self, note: str) -> None:
        self.log.append(note)

    async def work(self, context: StepContext) -> None:
        raise ConnectionError

    definition = S(Select("wait", On("go on", go_on)), Step("work", work), Step("rest", lambda self: None))


def test_an_explicit_definition() -> None:
    with Environment(Explicit) as environment:
        environment.fake(Explicit, "work", lambda self: self.log.append("fake work"))
        environment.fake(Explicit, "go_on", lambda self, note: self.log.append(note.upper()))
        instance = environment.create(Explicit, "one")
        assert environment.coverage(Explicit).missing == ["go on", "rest", "work"]
        instance.send("go on", "note")
        assert instance.fields.log == ["NOTE", "fake work"]
        assert environment.coverage(Explicit).missing == []


class Changed(Workflow, name="explicit"):
    log: list[str] = []

    def go_on(self, note: str) -> None:
        self.log.append(f"changed {note}")

    definition = S(Select("wait", On("go on", go_on)), Select("again", On("go on", go_on)))


def test_code_changes_under_a_running_instance() -> None:
    with Environment(Explicit) as environment:
        instance = environment.create(Explicit, "one")
        environment.restart(Changed)
        instance.send("go on", "note")
        assert environment.get(Changed, "one").fields.log == ["changed note"]
        assert environment.get(Changed, "one").places == {"again"}
        assert isinstance(environment.get(Changed, "one").fields, Changed)
        assert environment.coverage(Changed).missing == []
        assert environment.coverage(Explicit).missing == ["go on", "rest", "work"]


def test_operations() -> None:
    with Environment(Explicit) as environment:
        instance = environment.create(Explicit)
        instance.cancel()
        assert instance.status == Status.CANCELED


class Conditional(Workflow, name="conditional"):
    ok: bool = True

    @event
    def go(self) -> None: ...

    async def run(self) -> None:
        await until(lambda: self.ok)
        async with timeout(timedelta(days=1)):
            await select(self.go)


def test_what_leaves_no_trace_is_not_covered() -> None:
    with Environment(Conditional) as environment:
        assert environment.coverage(Conditional).missing == ["go", "timeout(timedelta(days=1))"]
        environment.create(Conditional).send("go")
        assert environment.coverage(Conditional).missing == []


def test_a_loop_without_an_end_is_named(monkeypatch: pytest.MonkeyPatch, environment: Environment) -> None:
    monkeypatch.setattr("gorchestrate.testing.environment.DELIVERIES_MAX", 50)
    environment.create(Order, "one", item="pizza").send("confirm")
    with pytest.raises(AssertionError, match=r"order 'one' is at 'pay', which failed: ConnectionError: there is no b"):
        environment.advance(days=400)


def test_a_closed_environment_says_so(environment: Environment) -> None:
    parcel = environment.create(Parcel)
    environment.close()
    for use in (lambda: parcel.fields, lambda: parcel.send("deliver", "x"), environment.advance):
        with pytest.raises(RuntimeError, match="the environment is closed"):
            use()


def test_an_environment_needs_workflows() -> None:
    with pytest.raises(TypeError, match="pass the workflows"):
        Environment()


def test_an_error_that_leaves_the_block_tells_where_the_instances_stand() -> None:
    def look(parcel: str) -> None:
        with Environment(Parcel) as environment:
            environment.create(Parcel, parcel)
            raise LookupError("no such parcel")

    with pytest.raises(LookupError, match="no such parcel") as caught:
        look("p-1")
    (note,) = caught.value.__notes__
    assert "parcel 'p-1' is waiting\n  thread 'main' stands at 'deliver' (waiting)" in note
