"""Random definitions, and random orders of events to send to them.

A definition is read from random bytes as plain data (nested tuples, which print well) and then built. By construction,
it compiles and comes to rest: names are numbered, and every loop starts with a step or a select and ends when the log
has ``LOG_MAX`` entries. Each step and each event adds one entry, and a timeout in a loop starts with a step that does.

Steps, handlers and conditions work on two small integers and a log. Conditions and setups only read the fields, so
they record their calls in ``Flow.trace``, a list outside the fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from workflow_core import (
    Activity,
    ActivityContext,
    Break,
    Case,
    Child,
    Continue,
    Default,
    Do,
    Done,
    ErrorInfo,
    EventRequest,
    Fail,
    Failure,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Race,
    Return,
    S,
    Section,
    Select,
    Sleep,
    Statement,
    Step,
    StepContext,
    Switch,
    Timeout,
    Try,
    WaitFor,
    When,
    While,
    Within,
    Workflow,
)
from workflow_core.statements.selects import SelectPart

LOG_MAX = 20
DEPTH = 2
EVENTS = ("A", "B", "C", "D")

Spec = tuple[Any, ...]
"""A statement as data: its kind, and what it is made of."""


class Fields(Workflow):
    """What random workflows work on; abstract."""

    log: list[str] = []
    x: int = 0
    y: int = 0

    trace: ClassVar[list[str]] = []


# --- as data ---------------------------------------------------------------------------------


class Tape:
    """Random bytes that choices are read from; ends in zeros, the simplest choice everywhere.

    Drawing each choice from a strategy of its own takes ten times as long as the test itself.

    Args:
        calm: nothing fails.
        children: other instances are started, which takes an engine.
        deadlines: sections have deadlines.
        child_cases: selects wait for children, too.
    """

    def __init__(
        self,
        data: bytes,
        *,
        calm: bool = False,
        children: bool = False,
        deadlines: bool = False,
        child_cases: bool = False,
    ) -> None:
        self.child_cases = child_cases
        self.deadlines = deadlines
        self.data = iter(data)
        self.calm = calm
        self.children = children
        self.in_cleanup = False

    def below(self, limit: int) -> int:
        return next(self.data, 0) % limit

    def of(self, choices: Sequence[Any]) -> Any:
        return choices[self.below(len(choices))]

    def many(self, least: int, most: int, item: Callable[[], Any]) -> list[Any]:
        return [item() for _ in range(least + self.below(most - least + 1))]

    # --- parts of a definition -----------------------------------------------------------

    def effect(self) -> Spec:
        return (self.of("xy"), self.of((1, 2, 0, -1)))

    def cond(self) -> Spec:
        kind = self.of(("less", "even", "order", "log"))
        return (kind, self.of("xy"), self.below(6) - 1)

    def block(self, depth: int, *, in_loop: bool, least: int = 1) -> list[Spec]:
        return self.many(least, 3, lambda: self.statement(depth, in_loop=in_loop))

    def statement(self, depth: int, *, in_loop: bool) -> Spec:
        kinds = ["step", "step", "do", "wait for", "sleep", "activity", *([] if self.calm else ["risky", "fail"])]
        if in_loop:
            kinds += ["break", "continue"]
        kinds += ["child"] * 4 if self.children else []
        if depth > 0:
            kinds += ["select"] * 6 + ["go"] * 4 + ["while", "if", "switch"] * 2 + ["section", "twice"]
            kinds += ["try"] * 6 + ["each"] * 3 + ["parallel"] * 3 + ["race"] * 3
            kinds += ["within"] * 6 if self.deadlines else []
            kinds += [] if self.in_cleanup else ["return"]
        return self.of_kind(self.of(kinds), depth, in_loop=in_loop)

    def of_kind(self, kind: str, depth: int, *, in_loop: bool = False) -> Spec:
        inner = depth - 1
        match kind:
            case "step":
                return (kind, self.effect(), self.of((False, True)))
            case "do":
                return (kind, self.effect())
            case "wait for":
                late = self.of(("", "", "fails", "goes on"))
                return (kind, self.cond(), self.of((False, True)), late if late != "fails" or not self.calm else "")
            case "risky":
                return (kind, self.effect(), self.cond(), self.below(len(ERRORS)))
            case "activity":
                return (kind, self.of("xy"), not self.calm and self.below(3) == 0)
            case "child":
                return (kind, self.of("xy"), self.of(("own", "own", "log")), self.below(4) == 0)
            case "sleep":
                return ("step", self.effect(), False) if in_loop else (kind,)
            case "fail":
                # Not at every turn: whatever stands behind it would never be reached.
                return ("if", [(self.cond(), [(kind, self.below(3))])], None)
            case "try":
                body = self.block(inner, in_loop=in_loop)
                excepts = self.many(
                    0, 2, lambda: (self.below(len(ERRORS) + 2), self.block(inner, in_loop=in_loop, least=0))
                )
                cleanup = self.thread_body(inner, in_cleanup=True) if self.below(2) or not excepts else None
                return (kind, body, excepts, cleanup)
            case "each":
                return (kind, self.items(), self.below(3), self.block(inner, in_loop=True))
            case "parallel":
                return (kind, self.many(1, 3, lambda: self.thread_body(inner)))
            case "within":
                body = self.block(inner, in_loop=in_loop)
                late = self.block(inner, in_loop=in_loop, least=0) if self.below(3) else None
                return (kind, body, [] if late is None and self.calm else late)
            case "race":
                return (kind, self.many(1, 3, lambda: self.racer(inner)), self.of((False, True)))
            case "break" | "continue":
                return (kind,)
            case "return":
                return ("if", [(self.cond(), [(kind,)])], None)
            case "select":
                return self.select(inner, in_loop=in_loop)
            case "go":
                first = [self.select(0, in_loop=False)] if self.below(2) else []
                ids = ("log",) if in_loop else ("log", "name", "log", "text")
                return (kind, self.of(ids), [*first, *self.thread_body(inner)])
            case "while":
                begin = self.select(0, in_loop=True) if self.below(2) else ("step", self.effect(), True)
                return (kind, self.cond() if self.below(3) else None, begin, self.block(inner, in_loop=True))
            case "section":
                return (kind, self.of(("", "p")), self.block(inner, in_loop=in_loop))
            case "twice":
                return (kind, self.block(inner, in_loop=in_loop))
        cases = self.many(1, 3, lambda: (self.cond(), self.block(inner, in_loop=in_loop)))
        return (kind, cases, self.block(inner, in_loop=in_loop) if self.below(2) else None)

    def racer(self, depth: int) -> list[Spec]:
        """A branch of a race: in most cases one that waits, and some with a cleanup."""
        body = self.thread_body(depth)
        if self.below(3):
            body.insert(0, self.select(0, in_loop=False))
        return [("try", body, [], self.thread_body(0, in_cleanup=True))] if self.below(3) == 0 else body

    def thread_body(self, depth: int, *, in_cleanup: bool = False) -> list[Spec]:
        """What nothing leaves but its own end: a thread, or a cleanup."""
        outer, self.in_cleanup = self.in_cleanup, in_cleanup
        body = self.block(depth, in_loop=False)
        self.in_cleanup = outer
        return body

    def items(self) -> Spec:
        """A collection that never shrinks."""
        return (self.below(4),)

    def select(self, depth: int, *, in_loop: bool) -> Spec:
        first = self.below(len(EVENTS))
        cases = []
        for i in range(1 + self.below(3)):
            kinds = ("none", "int", "object", "timeout", "timeout", "kept", "kept", "when", "done")
            kind = self.of((*kinds, *("child",) * 4) if self.child_cases else kinds)
            effect = self.effect()
            body = self.block(depth, in_loop=in_loop, least=0)
            if kind in ("timeout", "when", "done", "child") and in_loop:
                body.insert(0, ("step", effect, False))
            what: Any = EVENTS[(first + i) % len(EVENTS)]
            if kind == "when":
                what = self.cond()
            elif kind == "done":
                what = ("activity", self.of("xy"), not self.calm and self.below(3) == 0)
            elif kind == "child":
                what, kind = (kind, self.of("xy"), self.of(("own", "own", "log")), False), "done"
            cases.append((what, kind, effect, body))
        return ("select", cases)


def definition(data: bytes, *, calm: bool = False, children: bool = False, child_cases: bool = False) -> list[Spec]:
    """Some threads to begin with, anything, and in most cases a loop that keeps the main thread alive."""
    tape = Tape(data, calm=calm, children=children, child_cases=child_cases)
    last = [("while", None, tape.select(0, in_loop=True), tape.block(1, in_loop=True))] if tape.below(4) else []
    threads = tape.many(0, 2, lambda: tape.of_kind("go", DEPTH))
    rest = tape.many(1, 4, lambda: tape.statement(DEPTH, in_loop=False))
    return [*threads, *rest, *last]


def deadlines(data: bytes, *, calm: bool = False) -> list[Spec]:
    """Sections with deadlines, around anything that may be interrupted, cleanups included."""
    tape = Tape(data, calm=calm, deadlines=True)
    cleanup = [*tape.many(0, 1, lambda: tape.select(0, in_loop=False)), *tape.thread_body(1, in_cleanup=True)]
    work = [*tape.many(0, 1, lambda: tape.select(0, in_loop=False)), *tape.block(1, in_loop=False)]
    attempts: list[Spec] = [("try", work, [], cleanup), *tape.block(1, in_loop=False, least=0)]
    within = ("within", attempts, tape.block(0, in_loop=False, least=0))
    threads = tape.many(0, 1, lambda: tape.of_kind("go", 1))
    return [*threads, within, *tape.many(1, 3, lambda: tape.statement(DEPTH, in_loop=False))]


def covered(data: bytes, *, calm: bool = False, deadlines: bool = True) -> list[Spec]:
    """Threads that are started inside of a ``Try`` and fail, while the thread that has started them waits there, leaves
    it, is in it again, or is in a cleanup."""
    tape = Tape(data, calm=calm, deadlines=deadlines)

    def go() -> Spec:
        body: list[Spec] = [tape.select(0, in_loop=False), *tape.block(0, in_loop=False, least=0)]
        if tape.below(4) == 0:
            body = [attempt(0) if tape.below(2) else started(body), *body]
        return started([*body, *([] if calm else [("fail", tape.below(3))])])

    def started(body: list[Spec]) -> Spec:
        return ("section", "", [("go", "log", body), ("do", tape.effect())])  # what is logged is in the next id

    def attempt(depth: int) -> Spec:
        waits: list[Spec] = [*tape.many(0, 2, go), tape.select(0, in_loop=False)]
        body = [*waits, inside(depth - 1), *tape.block(0, in_loop=False, least=0)] if depth else waits
        excepts = tape.many(0, 1, lambda: (tape.below(len(ERRORS) + 2), tape.block(0, in_loop=False, least=0)))
        cleanup = [tape.select(0, in_loop=False), *tape.thread_body(0, in_cleanup=True)] if tape.below(2) else None
        if cleanup and not calm and tape.below(3) == 0:
            cleanup.append(("fail", tape.below(3)))
        return ("try", body, excepts or ([] if cleanup else [(len(ERRORS) + 1, [])]), cleanup)

    def inside(depth: int) -> Spec:
        kind = tape.of(("try", "try", "race", "parallel", "each", "within" if deadlines else "try"))
        if kind in ("race", "parallel"):
            branches = tape.many(
                1, 2, lambda: [attempt(depth)] if tape.below(2) else [go(), tape.select(0, in_loop=False)]
            )
            return (kind, branches, False) if kind == "race" else (kind, branches)
        if kind == "each":
            return (kind, (2,), tape.below(3), [attempt(depth)])
        return attempt(depth) if kind == "try" else ("within", [attempt(depth)], [] if tape.below(2) else None)

    whole: list[Spec] = [attempt(2), *tape.block(0, in_loop=False, least=0)]
    if tape.below(2):
        whole = [("while", None, tape.select(0, in_loop=True), whole)]
    return [*tape.many(0, 1, go), *whole, *tape.block(0, in_loop=False)]


def errand(data: bytes, *, calm: bool = False) -> list[Spec]:
    """The definition of a child: it ends soon."""
    tape = Tape(data, calm=calm)
    return tape.many(1, 3, lambda: tape.statement(1, in_loop=False))


def orders(data: bytes, *, calm: bool = False) -> list[Spec]:
    """A loop in which each event starts a thread that waits for another event or a timer, as in a shop."""
    tape = Tape(data, calm=calm)
    waits: list[Spec] = [("B", tape.of(("none", "object")), tape.effect(), []), ("", "timeout", tape.effect(), [])]
    thread = ("go", "log", [("select", waits), *tape.block(0, in_loop=False)])
    cases: list[Spec] = [("A", tape.of(("int", "kept")), tape.effect(), [thread])]
    if tape.below(2):
        cases.append(("D", "none", tape.effect(), [("break",)]))
    loop = ("while", None, ("select", cases), tape.block(0, in_loop=True) if tape.below(2) else [])
    return [loop, *tape.block(1, in_loop=False)]


def inbox(data: bytes, *, calm: bool = False) -> list[Spec]:
    """A loop and a thread that handle buffered events, which may have arrived while they waited for others."""
    tape = Tape(data, calm=calm)

    def taken() -> Spec:
        cases: list[Spec] = [
            ("A", "kept", tape.effect(), tape.block(0, in_loop=True, least=0)),
            ("B", "kept", tape.effect(), []),
        ]
        other = tape.of(("none", "object", "timeout", ""))
        more = [("C", other, tape.effect(), [("step", tape.effect(), False)])] if other else []
        return ("select", [*cases[tape.below(2) :], *more])

    before = tape.of((("sleep",), ("select", [("D", "none", tape.effect(), [])]), ("step", tape.effect(), True)))
    gate: Spec = ("select", [("D", "none", tape.effect(), [])])
    threads = tape.many(0, 1, lambda: ("go", "name", [before, *unlooped([taken()])]))
    loop = ("while", None, *((gate, [taken(), taken()]) if tape.below(2) else (taken(), [gate])))
    return [*threads, before, loop, *tape.block(1, in_loop=False)]


def cleanups(data: bytes, *, calm: bool = False) -> list[Spec]:
    """Work with a cleanup, inside a ``Try`` that catches errors but must not catch a cancellation."""
    tape = Tape(data, calm=calm)
    cleanup = [*tape.many(0, 1, lambda: tape.select(0, in_loop=False)), tape.of_kind("step" if calm else "risky", 0)]
    work: Spec = ("try", [tape.select(0, in_loop=False), *tape.block(1, in_loop=False, least=0)], [], cleanup)
    caught = ("try", [work], [(len(ERRORS) + 1, tape.block(0, in_loop=False))], None)
    return [caught, *tape.block(1, in_loop=False)]


def fan_out(data: bytes, *, calm: bool = False, children: bool = False) -> list[Spec]:
    """Activities for many items, a few at a time, and a thread that handles events, as in an import."""
    tape = Tape(data, calm=calm, children=children)
    count, limit = 2 + tape.below(11), tape.of((1, 2, 3, 4, 12))
    work = (tape.of(("activity", "order")), tape.of("xy"), not calm and tape.below(4) == 0)
    kinds = ("", "", "", "step", "select", "child" if children else "activity")
    before, after = ([tape.of_kind(kind, 0)] if (kind := tape.of(kinds)) else [] for _ in range(2))
    rounds: Spec = ("fan out", count, limit, [*before, work, *after])
    if not calm and tape.below(2):
        rounds = ("try", [rounds], [(len(ERRORS) + 1, [])], None)
    threads = tape.many(0, 1, lambda: ("go", "name", [("while", None, tape.select(0, in_loop=True), [])]))
    return [*threads, rounds, *tape.block(0, in_loop=False)]


_BYTES = st.binary(min_size=100, max_size=500)

SPECS: SearchStrategy[list[Spec]] = (
    _BYTES.map(definition)
    | _BYTES.map(orders)
    | _BYTES.map(inbox)
    | _BYTES.map(cleanups)
    | _BYTES.map(fan_out)
    | _BYTES.map(deadlines)
    | _BYTES.map(covered)
)


# --- built -----------------------------------------------------------------------------------


def build(spec: list[Spec]) -> type[Fields]:
    """The workflow of a drawn definition."""

    class Flow(Fields, name="flow"):
        trace: ClassVar[list[str]] = []
        definition = Builder().section(spec)

    return Flow


class Builder:
    """Builds the statements of a drawn definition. What a subclass overrides is marked as a hook: it may add to how
    user code runs, not to what it does to the fields.

    Attributes:
        child_class: the class of children, or its name.
        shared: the names of fields whose values children get.
    """

    child_class: Any = "child"
    shared: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.count = 0

    def action(self, action: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what a step runs."""
        return action

    def handler(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what handles a plain event."""
        return handler

    def condition(self, name: str, holds: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: the condition of that name."""
        return holds

    def collection(self, name: str, items: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what gives the loop of that name its items."""
        return items

    def given(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what gives an activity its input."""
        return function

    def taken(self, name: str, then: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what takes the result of an activity or a child."""
        return then

    def caught(self, name: str) -> Callable[..., Any]:
        """Hook: what is told of an error that was caught."""
        return caught(name)

    def won(self, name: str, then: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what is told who has won a race."""
        return then

    def thread_id(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Hook: what gives a thread its id."""
        return function

    def event_handler(self, label: str) -> Any:
        """Hook: an event handler object."""
        return Outside(label)

    def activity(self, function: Callable[..., Any], heartbeat: timedelta | None) -> Callable[..., Any]:
        """Hook: the function of an activity."""
        return function

    def attempt_limit(self) -> dict[str, timedelta]:
        """Hook: the ``timeout`` or the ``heartbeat`` of an activity."""
        return {}

    def message(self, text: str) -> Any:
        """Hook: the message of an error."""
        return text

    def delay(self) -> Any:
        """Hook: how long a timeout waits."""
        return timedelta(hours=1)

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def section(self, specs: list[Spec], prefix: str = "") -> Section:
        return S(*self.statements(specs), prefix=prefix)

    def statements(self, specs: list[Spec]) -> list[Statement]:
        return [self.statement(spec) for spec in specs]

    def statement(self, spec: Spec) -> Statement:
        match spec:
            case ("step", effect, takes_context):
                return self.step(effect, takes_context)
            case ("risky", effect, cond, number):
                return self.risky(effect, cond, ERRORS[number])
            case ("activity", field, risky):
                return self.work(field, risky)
            case ("order", field, risky):
                return self.work(field, risky, takes_result=False)
            case ("child", field, id, detached):
                return self.child(field, id, detached)
            case ("sleep",):
                return Sleep(self.name("sleep"), self.delay())
            case ("do", effect):
                name = self.name("do")
                return Do(name, changing(effect, name))
            case ("fail", number):
                return Fail(self.name("fail"), self.message("as drawn"), error=(Failure, *ERRORS)[number])
            case ("try", body, excepts, cleanup):
                attempt = Try(self.name("try"), *self.statements(body))
                for number, statements in excepts:
                    types: Any = (*ERRORS, ERRORS, Exception)[number]
                    name = self.name("except")
                    attempt = attempt.except_(types, *self.statements(statements), name=name, then=self.caught(name))
                return attempt if cleanup is None else attempt.finally_(*self.statements(cleanup))
            case ("each", (most,), parallel, body):
                name = self.name("each")
                items = self.collection(name, lambda w: w.log[:most])
                if not parallel:
                    return ForEach(name, items, *self.statements(body))
                # Each round is a thread of its own, so nothing in it may leave a loop.
                limit = None if parallel == 1 else 1
                return ForEach(
                    name, items, self.of_item(), *self.statements(unlooped(body)), parallel=True, limit=limit
                )
            case ("fan out", count, limit, body):
                name, numbers = self.name("each"), list(range(count))
                items = self.collection(name, lambda w: numbers)
                return ForEach(name, items, *self.statements(unlooped(body)), parallel=True, limit=limit)
            case ("parallel", branches):
                return Parallel(self.name("parallel"), *(self.section(branch) for branch in branches))
            case ("within", body, late):
                within = Within(self.name("within"), self.delay(), *self.statements(body))
                return within if late is None else within.on_timeout(*self.statements(late))
            case ("race", branches, has_then):
                name = self.name("race")
                racers = (self.section(branch, self.name("racer")) for branch in branches)
                return Race(name, *racers, then=self.won(name, note_winner(name)) if has_then else None)
            case ("wait for", cond, has_handler, late):
                name = self.name("wait")
                holds, handler = self.condition(name, condition(cond)), note(name) if has_handler else None
                waits = WaitFor(name, holds, handler, timeout=self.delay() if late else None)
                return waits.on_timeout(Do(self.name("late"), note(name))) if late == "goes on" else waits
            case ("if", [(cond, body), *more], last):
                name = self.name("if")
                result = If(name, self.traced(name, cond), *self.statements(body))
                for cond, body in more:
                    name = self.name("elif")
                    result = result.elif_(name, self.traced(name, cond), *self.statements(body))
                return result if last is None else result.else_(*self.statements(last))
            case ("switch", cases, last):
                switch: list[Case | Default] = []
                for cond, body in cases:
                    name = self.name("case")
                    switch.append(Case(name, self.traced(name, cond), *self.statements(body)))
                return Switch(
                    self.name("switch"), *switch, *([] if last is None else [Default(*self.statements(last))])
                )
            case ("while", cond, first, body):
                return self.loop(cond, first, body)
            case ("select", cases):
                return Select(self.name("select"), *map(self.case, cases))
            case ("go", id, body):
                name = self.name("go")
                by_log = self.thread_id(name, lambda w: f"{name}-{len(w.log)}")
                ids = {"name": None, "text": f"thread-{name}", "log": by_log}
                return Go(name, *self.statements(body), id=ids[id])
            case ("section", prefix, body):
                return self.section(body, self.name(prefix) if prefix else "")
            case ("twice", body):
                name, once = self.name("p"), self.section(body)
                return S(S(once, prefix=f"{name}-first"), S(once, prefix=f"{name}-second"))
            case (kind,):
                return {"break": Break, "continue": Continue, "return": Return}[kind]()
        raise AssertionError(spec)

    def traced(self, name: str, cond: Spec) -> Callable[..., Any]:
        """A condition that leaves a mark in the trace each time it is looked at."""
        return self.condition(name, traced(name, cond))

    def step(self, effect: Spec, takes_context: bool) -> Step:
        """A step that logs where it runs if it takes a context, else its own name."""
        name = self.name("step")

        def plain(w: Fields) -> None:
            apply(w, effect)
            w.log.append(name)

        def with_context(w: Fields, step: StepContext) -> None:
            apply(w, effect)
            error = f" after {step.error.message!r}" if step.error else ""
            at = f"{step.step} of {step.thread_id} at {step.pc}{error}"
            w.log.append(f"{at}: {step.idempotency_key[:6]}")

        return Step(name, self.action(with_context if takes_context else plain))

    def of_item(self) -> Step:
        """A step that logs its item."""
        name = self.name("step")

        def action(w: Fields, step: StepContext) -> None:
            w.log.append(f"{name} {step.index}: {step.item} {step.error and step.error.message}")

        return Step(name, self.action(action))

    def work(self, field: str, risky: bool, *, takes_result: bool = True) -> Activity:
        """An activity that adds one to a field, or whose result is not used, and that fails for some values."""
        name = self.name("activity")

        def plain(number: int, context: ActivityContext) -> int:
            if risky and number % 3 == 0:
                raise FirstError(f"{name} failed")
            return number + 1

        def then(w: Fields, number: int) -> None:
            setattr(w, field, number)
            w.log.append(f"{name}: {number}")

        limit: dict[str, Any] = self.attempt_limit()
        function = self.activity(plain, limit.get("heartbeat"))
        taken = self.taken(name, then) if takes_result else None
        given = self.given(name, lambda w: getattr(w, field))
        return Activity(name, function, input=given, then=taken, **limit)

    def child(self, field: str, id: str, detached: bool) -> Child:
        """A child whose result becomes a field; with ids that others may have taken, or with its own."""
        name = self.name("child")

        def then(w: Fields, number: int) -> None:
            setattr(w, field, number)
            w.log.append(f"{name}: {number}")

        return Child(
            name,
            self.child_class,
            id=(lambda w: f"c-{len(w.log) // 3}") if id == "log" else None,
            input=lambda w: {name: getattr(w, name) for name in (field, *self.shared)},
            then=None if detached else self.taken(name, then),
            detached=detached,
        )

    def risky(self, effect: Spec, cond: Spec, error: type[Exception]) -> Step:
        """A step that fails if a condition holds, after it has changed the fields."""
        name, holds = self.name("risky"), condition(cond)

        def action(w: Fields, step: StepContext) -> None:
            if holds(w):
                raise error(f"{name} failed at {len(w.log)}")
            apply(w, effect)
            w.log.append(f"{name} {step.index} {step.error and step.error.message}")

        return Step(name, self.action(action))

    def loop(self, cond: Spec | None, first: Spec, body: list[Spec]) -> While:
        name = self.name("while")
        out_of_fuel = If(self.name("fuel"), lambda w: len(w.log) >= LOG_MAX, Break())
        holds = self.traced(name, cond) if cond is not None else lambda w: True
        return While(
            name,
            lambda w: len(w.log) < LOG_MAX and holds(w),
            self.statement(first),
            out_of_fuel,
            *self.statements(body),
        )

    def case(self, spec: Spec) -> SelectPart:
        event, kind, effect, body = spec
        statements = self.statements(body)
        if kind == "when":
            name = self.name("when")
            handler = note(name) if effect[1] == 2 else None
            return When(name, self.condition(name, condition(event)), *statements, handler=handler)
        if kind == "done":
            work = self.statement(event)
            assert isinstance(work, Activity | Child)
            return Done(self.name("done"), work, *statements)
        if kind == "timeout":
            name = self.name("timeout")
            handler = note(name) if effect[1] == 2 else None
            return Timeout(name, self.delay(), *statements, handler=handler)
        label = self.name("on")

        def without_input(w: Fields) -> int:
            apply(w, effect)
            w.log.append(label)
            return w.x

        def with_input(w: Fields, input: int) -> int:
            w.x += input
            w.log.append(f"{label}({input})")
            return w.x

        if kind == "object":
            return On(event, self.event_handler(label), *statements)
        handler = self.handler(without_input if kind == "none" else with_input)
        return On(event, handler, *statements, buffered=kind == "kept")


class Outside:
    """An event handler object; its setup and teardown leave their marks in the trace."""

    def __init__(self, label: str) -> None:
        self.label = label

    def setup(self, request: EventRequest) -> list[Any]:
        request.workflow.trace.append(f"setup {self.label} {request.idempotency_key}")
        return [request.wait_id, len(request.workflow.log)]

    def handle(self, request: EventRequest, input: int) -> Any:
        request.workflow.y += input
        request.workflow.log.append(f"{self.label} {request.setup_data} {request.wait_id}")
        return request.setup_data

    def teardown(self, request: EventRequest, handled: bool) -> None:
        request.workflow.trace.append(f"teardown {self.label} {handled} {request.setup_data} {request.idempotency_key}")


class FirstError(Exception):
    """What some steps raise."""


class SecondError(FirstError):
    """What others raise, which is a special case of the first."""


ERRORS = (FirstError, SecondError)


def caught(name: str) -> Callable[[Fields, ErrorInfo], None]:
    return lambda w, error: w.log.append(f"{name} caught {error.text} of {error.statement}")


def unlooped(specs: list[Spec]) -> list[Spec]:
    """The same statements without those that leave the loop around them."""
    return [spec for spec in map(_unlooped, specs) if spec is not None]


def _unlooped(spec: Spec) -> Spec | None:
    match spec:
        case ("break",) | ("continue",):
            return None
        case ("if" | "switch" as kind, cases, last):
            cases = [(cond, unlooped(body) or [("step", ("x", 1), False)]) for cond, body in cases]
            return (kind, cases, None if last is None else unlooped(last) or [("step", ("x", 1), False)])
        case ("select", cases):
            return ("select", [(*case[:3], unlooped(case[3])) for case in cases])
        case ("section", prefix, body):
            return ("section", prefix, unlooped(body))
        case ("twice", body):
            return ("twice", unlooped(body))
        case ("within", body, late):
            return ("within", unlooped(body) or [("step", ("x", 1), False)], None if late is None else unlooped(late))
        case ("try", body, excepts, cleanup):
            body = unlooped(body) or [("step", ("x", 1), False)]
            return ("try", body, [(number, unlooped(one)) for number, one in excepts], cleanup)
    return spec


def apply(w: Fields, effect: Spec) -> None:
    field, amount = effect
    setattr(w, field, getattr(w, field) + amount)


def changing(effect: Spec, name: str) -> Callable[[Fields], None]:
    def change(w: Fields) -> None:
        apply(w, effect)
        w.log.append(name)

    return change


def note(text: str) -> Callable[[Fields], None]:
    return lambda w: w.log.append(text)


def note_winner(name: str) -> Callable[[Fields, str], None]:
    return lambda w, prefix: w.log.append(f"{name} is won by {prefix}")


def condition(spec: Spec) -> Callable[[Fields], bool]:
    match spec:
        case ("less", field, limit):
            return lambda w: getattr(w, field) < limit
        case ("even", field, _):
            return lambda w: getattr(w, field) % 2 == 0
        case ("log", _, limit):
            return lambda w: len(w.log) >= limit
        case _:
            return lambda w: w.x <= w.y


def traced(name: str, spec: Spec) -> Callable[[Fields], bool]:
    """A condition that leaves a mark in the trace each time it is looked at."""
    holds = condition(spec)

    def cond(w: Fields) -> bool:
        w.trace.append(f"{name}?")
        return holds(w)

    return cond


# --- what is sent ----------------------------------------------------------------------------

Op = tuple[str, int, int]
"""What is done (one of ``WAYS``, or ``cancel``), with which of the events that are accepted or known, its input.

``any`` is one that may not be accepted, ``early`` one that is kept then, if the definition buffers any.
"""

WAYS = (
    "accepted",
    "accepted",
    "accepted",
    "by thread",
    "by wait id",
    "any",
    "early",
    "early",
    "resume",
    "resume",
    "resume",
)


def operations(data: bytes) -> list[Op]:
    tape = Tape(data)
    ops = [(tape.of(WAYS), tape.below(8), tape.below(7) - 3) for _ in range(len(data) // 3)]
    # Seldom, as nothing much happens any more once an instance is canceled.
    return [("cancel", 0, 0) if (way, pick) == ("any", 7) else (way, pick, amount) for way, pick, amount in ops]


OPS: SearchStrategy[list[Op]] = st.binary(min_size=9, max_size=60).map(operations)
