"""Generated workflows whose code takes time, fails, and reports to the simulation when it runs.

They change their fields in the same way as the plain workflows of ``tests.core.generate``, which the model runs. The
second revision of a definition differs only in form: additional sections and branches, cases in another order, and a
case for an event that no client sends.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from inspect import iscoroutinefunction
from random import Random
from typing import Any, ClassVar

from cloud_adapter.engine.tasks import ActivityTask
from tests.core.generate import Fields, Outside, Spec
from tests.core.reference import arity
from tests.simulation.actors import CURRENT
from tests.simulation.mistakes import Mistakes, is_mistaken, spoilt_result
from tests.simulation.plain_source import ADDED_NAME, Printer, plain_class
from tests.simulation.plain_trees import PlainNames
from tests.simulation.principals import ACCESS
from tests.simulation.rare import NUMBER, RareStatements
from tests.simulation.renaming import renamed
from tests.simulation.typed import Typed, sealed, sealing
from workflow_core import (
    Access,
    Activity,
    ActivityContext,
    EventRejected,
    EventRequest,
    If,
    On,
    S,
    Select,
    Statement,
    Step,
    StepContext,
    When,
)

ADDED = "Added"
"""An event that the second revision alone knows."""

REJECTED, BROKEN = 13, 17
"""Inputs that a handler refuses, and that it fails on."""

UNSEARCHABLE = 2**64
"""An input that makes a field a value that no store can search for."""

DELAYS = (0.05, 1, 5, 30, 30, 120, 3_600, 40 * 86_400)


class Answering(Fields):
    """Fields with a result; abstract."""

    def result(self) -> int:
        return self.x - self.y + len(self.log)


class TypedAnswering(Answering, Typed):
    """These, and fields of many types; abstract."""


def build(
    spec: list[Spec],
    rng: Random,
    revision: int,
    name: str,
    search_by: tuple[str, ...] = (),
    *,
    slow: bool = False,
    threads: bool = False,
    renames: bool = False,
    mistakes: Mistakes | None = None,
    knows_none: bool = False,
    delay_max: float = float("inf"),
    is_typed: bool = False,
    is_guarded: bool = False,
    child_class: Any = "child",
    shared: tuple[str, ...] = (),
    plain_rng_of: Callable[[str], Random] | None = None,
) -> type[Fields]:
    """The instrumented workflow of a drawn definition; its times are drawn from ``rng``.

    Args:
        slow: the handlers of event objects take time.
        threads: some activities are synchronous.
        mistakes: puts mistakes into the code.
        knows_none: its statements all have other names, so it has none of those that instances are at.
        is_typed: it has fields of many types.
        is_guarded: it has roles.
        child_class: the class of children, or its name.
        shared: the names of fields whose values children get.
        delay_max: how long a timeout may wait at most, in seconds.
        renames: each revision has other names, and a version of its own.
        plain_rng_of: if given, it is an ``async def run``; see ``plain_source.Printer``.
    """
    base, version = (_migrating(revision), revision + 1) if renames else (Answering, None)
    base = TypedAnswering if is_typed else base
    made = _Instrumented if plain_rng_of is None else _InstrumentedPlain
    instrumented = made(rng, revision, slow=slow, mistakes=mistakes, delay_max=delay_max)
    instrumented.has_threads, instrumented.child_class = threads, child_class
    instrumented.is_typed = is_typed and plain_rng_of is None
    instrumented.shared = shared
    instrumented.before_names = "other " if knows_none else ""

    if isinstance(instrumented, _InstrumentedPlain):
        assert plain_rng_of is not None
        printer = Printer(plain_rng_of, child_class, instrumented.child_fields)
        return plain_class(printer, instrumented.section(spec), base, name, search_by)

    answer: Any = Answering.result if mistakes is None else mistakes.result(Answering.result)

    rules = ACCESS if is_guarded else Access()

    class Flow(base, name=name, version=version):  # type: ignore[call-arg, misc, valid-type]
        trace: ClassVar[list[str]] = []
        search_fields = search_by
        access = rules
        create_fields = tuple(base.model_fields)

        def result(self) -> Any:
            return answer(self)

        definition = renamed(instrumented.section(spec), revision if renames else 0)
        locals().update(instrumented.drafts)

    for method, action in instrumented.methods.items():
        setattr(Flow, method, action)
    return Flow


def _migrating(revision: int) -> type[Answering]:
    """Fields that tell which revision has stored them."""

    class Migrating(Answering):
        generation: int = revision

        @classmethod
        def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
            if fields["generation"] != version - 1:
                raise ValueError(f"version {version} has stored generation {fields['generation']}")
            return fields | {"generation": cls.__workflow_version__ - 1}

    return Migrating


def build_model(
    spec: list[Spec], name: str, *, is_typed: bool, is_plain: bool, shared: tuple[str, ...], child_class: Any = "child"
) -> type[Answering]:
    """What the model runs: not compiled, as compiling takes longer than a run.

    Args:
        child_class: what it runs for children, if the workflow names their class.
    """
    base = TypedAnswering if is_typed else Answering

    class Modeled(base):  # type: ignore[misc, valid-type]
        trace: ClassVar[list[str]] = []

    Modeled.__workflow_name__ = name
    builder = (PlainNames if is_plain else RareStatements)()
    builder.shared, builder.child_class = shared, child_class
    Modeled.definition = builder.section(spec)
    return Modeled


class _Instrumented(RareStatements):
    def __init__(self, rng: Random, revision: int, *, slow: bool, mistakes: Mistakes | None, delay_max: float) -> None:
        super().__init__()
        self.rng = rng
        self.revision = revision
        self.added = 0
        self.slow = slow
        self.mistakes = mistakes
        self.delay_max = delay_max
        self.before_names = ""
        self.is_typed = self.seals = False
        self.has_threads = False
        self.drafts: dict[str, Any] = {}
        self.methods: dict[str, Any] = {}

    def name(self, kind: str) -> str:
        return self.before_names + super().name(kind)

    def statements(self, specs: list[Spec]) -> list[Statement]:
        return [self.revised(statement) for statement in super().statements(specs)]

    def revised(self, statement: Statement) -> Statement:
        if self.mistakes is not None:
            statement = self.mistakes.endless(statement)
        if not self.revision:
            return statement
        self.added += 1
        if isinstance(statement, Select):
            whens = [case for case in statement.cases if isinstance(case, When)]  # of these, the order counts
            others = [case for case in reversed(statement.cases) if not isinstance(case, When)]
            statement = Select(statement.name, *others, *whens, On(ADDED, lambda w: None))
        never = If(f"{ADDED_NAME}{self.added}", lambda w: False, Step(f"{ADDED_NAME}step {self.added}", lambda w: None))
        return (S(statement), S(never, statement), S(statement, never))[self.added % 3]

    def action(self, action: Callable[..., Any]) -> Callable[..., Any]:
        count = arity(action)
        number = None if self.mistakes is None else self.mistakes.step()
        if self.count % 3 == 0:

            def at_once(w: Fields, step: StepContext) -> Any:
                run = CURRENT.get().begin("step", w, step.workflow_id, step.idempotency_key, step.attempt)
                is_spoilt = number is not None and is_mistaken(w, number)
                run.perform(lambda: action(*(w, step)[:count]))
                run.returns(is_spoilt=is_spoilt)
                return spoilt_result(w, number or 0) if is_spoilt else None

            return at_once

        async def in_time(w: Fields, step: StepContext) -> Any:
            run = CURRENT.get().begin("step", w, step.workflow_id, step.idempotency_key, step.attempt)
            is_spoilt = number is not None and is_mistaken(w, number)
            run.perform(lambda: action(*(w, step)[:count]))
            await run.take_time()
            run.end(is_spoilt=is_spoilt)
            return spoilt_result(w, number or 0) if is_spoilt else None

        return in_time

    def method(self, name: str, action: Callable[..., Any]) -> Callable[..., Any]:
        """A method that is replaced once its class is complete, as tests replace methods by fakes."""
        action = self.methods[name] = self.action(action)

        def draft(w: Fields, step: StepContext) -> Any:
            raise AssertionError(f"{name} was replaced")

        async def async_draft(w: Fields, step: StepContext) -> Any:
            draft(w, step)

        self.drafts[name] = async_draft if iscoroutinefunction(action) else draft
        chosen: Callable[..., Any] = self.drafts[name]
        return chosen

    def condition(self, name: str, holds: Callable[..., Any]) -> Callable[..., Any]:
        return holds if self.mistakes is None else self.mistakes.condition(name, holds)

    def collection(self, name: str, items: Callable[..., Any]) -> Callable[..., Any]:
        return items if self.mistakes is None else self.mistakes.collection(name, items)

    def given(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if self.seals:
            function = sealing(function)
        return function if self.mistakes is None else self.mistakes.returns(function, object())

    def taken(self, name: str, then: Callable[..., Any]) -> Callable[..., Any]:
        return then if self.mistakes is None else self.mistakes.then(name, then)

    def thread_id(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return function if self.mistakes is None else self.mistakes.returns(function, None)

    def message(self, text: str) -> Any:
        return text if self.mistakes is None else self.mistakes.message(text)

    def handler(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        if arity(handler) == 1:
            return handler

        def picky(w: Fields, input: int) -> int:
            output: int = handler(w, input)
            if input == REJECTED:
                raise EventRejected("the handler does not like it")
            if input == BROKEN:
                raise ValueError("the handler has a bug")
            return output

        return picky

    def work(self, field: str, risky: bool, *, takes_result: bool = True) -> Activity:
        self.seals = self.is_typed
        made = super().work(field, risky, takes_result=takes_result)
        self.seals = False
        return made

    def activity(self, function: Callable[..., Any], heartbeat: timedelta | None) -> Callable[..., Any]:
        in_thread = self.has_threads and heartbeat is None
        made = self.activity_in_thread(function) if in_thread else self.activity_in_time(function, heartbeat)
        return sealed(made) if self.seals else made

    def activity_in_time(self, function: Callable[..., Any], heartbeat: timedelta | None) -> Callable[..., Any]:
        async def in_time(number: int, context: ActivityContext) -> int:
            key = context.idempotency_key
            run = CURRENT.get().begin("activity", None, context.workflow_id, key, context.attempt)
            results: list[int] = []
            run.perform(lambda: results.append(function(number, context)))
            if heartbeat is None:
                await run.take_time()
            else:
                await run.live(context, heartbeat.total_seconds())
            run.end()
            return results[0]

        return in_time

    def activity_in_thread(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def at_once(number: int, context: ActivityContext) -> int:
            key = context.idempotency_key
            run = CURRENT.get().begin("activity", None, context.workflow_id, key, context.attempt)
            results: list[int] = []
            run.perform(lambda: results.append(function(number, context)))
            run.returns()
            return results[0] if results else 0

        return at_once

    def plain_activity(self, function: Callable[[], int]) -> Callable[[], int]:
        def at_once() -> int:
            actor: Any = CURRENT.get()
            body = ActivityTask.model_validate(actor.delivered.body)
            key = actor.process.world.models[body.id].activity_key(body.wait_id, body.event)
            run = actor.begin("activity", None, body.id, key, body.attempt + 1)
            results: list[int] = []
            run.perform(lambda: results.append(function()))
            run.returns()
            return results[0] if results else 0

        return at_once

    def default_activity(self, function: Callable[..., int]) -> Callable[..., Any]:
        given = self.activity_in_time(function, None)

        async def in_time(number: int = NUMBER, context: ActivityContext | None = None) -> Any:
            return await given(number, context)

        return in_time

    def attempt_limit(self) -> dict[str, timedelta]:
        what = self.rng.choice(("timeout", "timeout", "heartbeat") if self.has_threads else ("timeout", "heartbeat"))
        return {what: timedelta(seconds=self.rng.choice((20, 90, 600) if what == "timeout" else (20, 40)))}

    def event_handler(self, label: str) -> Any:
        return _Slow(label) if self.slow else _Registered(label)

    def delay(self) -> timedelta | Callable[[Fields], timedelta]:
        delays = [timedelta(seconds=min(self.rng.choice(DELAYS), self.delay_max)) for _ in range(3)]
        if self.rng.random() < 0.5:
            return delays[0]
        delay = lambda w: delays[len(w.log) % 3]  # noqa: E731
        return delay if self.mistakes is None else self.mistakes.returns(delay, 5)


class _InstrumentedPlain(PlainNames, _Instrumented):
    """The statements of a plain definition."""


class _Registered(Outside):
    async def setup(self, request: EventRequest) -> list[Any]:  # type: ignore[override]
        run = CURRENT.get().begin("setup", request.workflow, request.workflow_id, request.idempotency_key)
        data = super().setup(request)
        await run.take_time()
        run.end()
        return data

    async def teardown(self, request: EventRequest, handled: bool) -> None:  # type: ignore[override]
        run = CURRENT.get().begin("teardown", request.workflow, request.workflow_id, request.idempotency_key)
        super().teardown(request, handled)
        await run.take_time()
        run.end()


class _Slow(_Registered):
    """Its handler changes the fields at once, and takes time before it accepts or refuses the event."""

    async def handle(self, request: EventRequest, input: int) -> Any:
        output = super().handle(request, input)
        process = CURRENT.get().process
        await process.sleep(process.world.durations.handler_seconds())
        if input == REJECTED:
            raise EventRejected("the handler does not like it, after a while")
        if input == BROKEN:
            raise ValueError("the handler has a bug, after a while")
        return output
