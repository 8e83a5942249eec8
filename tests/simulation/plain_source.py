"""Writes a tree of statements as a class with ``async def run``, and compiles that.

Each function of the tree becomes a method under a name of its own, so the code that runs is that of the tree. The
methods with the statements of sections, threads and branches are written as source, as ``run`` is. Between the
statements stand locals, whose values are compared with what they were: one that is lost or changed is an error, which
the model does not know. What is drawn for a statement depends on its name alone, so that each revision of a definition
has the locals that instances of the others have stored.
"""

from __future__ import annotations

import inspect
import linecache
import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import count
from random import Random
from typing import Any

from tests.core.generate import ERRORS
from tests.core.reference import arity
from tests.simulation.rare import NUMBER
from workflow_core import (
    Activity,
    ActivityContext,
    Break,
    Child,
    Continue,
    Do,
    Fail,
    Failure,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Race,
    Return,
    Section,
    Select,
    Sleep,
    Statement,
    Step,
    Switch,
    TimedOut,
    Timeout,
    Try,
    WaitFor,
    While,
    Within,
    activity,
    child,
    event,
    gather,
    go,
    parallel,
    race,
    section,
    select,
    sleep,
    step,
    timeout,
    until,
)
from workflow_core.signatures import is_async

_WORDS = (activity, child, gather, go, parallel, race, section, select, sleep, timeout, until, timedelta)
_NUMBERS = count()
_EXITS, _INDENT = {Break: "break", Continue: "continue", Return: "return"}, "    "

ADDED_NAME = "added "
"""How the names of statements begin that not every revision has."""


class Printer:
    """Writes one tree.

    Args:
        rng_of: the random numbers for a statement, by its name. They draw the locals, and which of several ways of
            writing something is taken.
        child_class: the class of children.
        child_fields: the field that each child gets, by the name of its statement.

    Attributes:
        members: the methods that the source uses, by name.
    """

    def __init__(self, rng_of: Callable[[str], Random], child_class: Any, child_fields: dict[str, str]) -> None:
        self.rng_of = rng_of
        self.child_fields = child_fields
        self.members: dict[str, Any] = {"same": _same}
        self.globals: dict[str, Any] = {word.__name__: word for word in (*_WORDS, *ERRORS, Failure, TimedOut)}
        self.globals |= {"CHILD": child_class}
        self._lines, self._sections = list[str](), list[str]()
        self._printed: dict[int, tuple[Section, str]] = {}
        self._known: list[str] = []
        self._item = ""

    def source(self, tree: Section) -> str:
        """The text of ``run`` and of the methods with its sections."""
        self._method("async def run(self):", tree)
        return "\n".join(self._sections)

    # --- methods -------------------------------------------------------------------------

    def _method(self, head: str, body: Section) -> None:
        outer, self._lines, self._known = (self._lines, self._known), [], []
        self._line(1, head)
        self._block(2, body)
        self._sections += [*self._lines, ""]
        self._lines, self._known = outer

    def _called(self, body: Section) -> str:
        """A call of the method with the statements of a section that has a prefix."""
        _, name = self._printed.get(id(body), (body, ""))
        if not name:
            name, given = f"section_{len(self._printed)}", f", {self._item}" if self._item else ""
            self._printed[id(body)] = body, name
            self._method(f"@section\n{_INDENT}async def {name}(self{given}):", body)
        return f"self.{name}({self._item}).named({body.prefix!r})"

    def _member(self, kind: str, value: Any) -> str:
        name = f"{kind}_{len(self.members)}"
        self.members[name] = value
        return f"self.{name}"

    def _asked(self, kind: str, function: Callable[..., Any]) -> str:
        """A call of a function of the workflow, or of the workflow and the item."""
        return f"{self._member(kind, function)}({self._item if arity(function) > 1 else ''})"

    # --- statements ----------------------------------------------------------------------

    def _line(self, depth: int, text: str) -> None:
        self._lines.append(_INDENT * depth + text)

    def _block(self, depth: int, body: Section) -> None:
        outer = list(self._known)
        first = _first_name(body.statements)
        rng = self.rng_of(f"block at {first}")
        if first and rng.random() < 0.5:
            self._known.append(self._stored(depth, first, rng))
        for statement in body.statements:
            if first and self._known and rng.random() < 0.4:
                self._line(depth, rng.choice(self._known))
            self._statement(depth, statement)
        if first and self._known and rng.random() < 0.4 and type(body.statements[-1]) not in _EXITS:
            self._line(depth, rng.choice(self._known))
        if not body.statements:
            self._line(depth, self._known[0] if self._known else "pass")
        self._known = outer

    def _stored(self, depth: int, at: str, rng: Random) -> str:
        """Assigns a local. Returns what compares it later, also in the blocks inside."""
        name, value = _variable("t", at), f"is {rng.randrange(1_000)}"
        if rng.random() < 0.5:
            self._line(depth, f"{name} = {value!r}")
            return f"self.same({name}, {value!r})"
        self._line(depth, f"{name} = [len(self.log), {value!r}]")
        return f"self.same([{name}[0] <= len(self.log), *{name}[1:]], [True, {value!r}])"

    def _statement(self, depth: int, made: Statement) -> None:
        match made:
            case Break() | Continue() | Return():
                self._line(depth, _EXITS[type(made)])
            case Section():
                if made.prefix:
                    self._line(depth, f"await {self._called(made)}")
                for statement in () if made.prefix else made.statements:
                    self._statement(depth, statement)
            case Step():
                self._line(depth, f"await {self._member('step', step(made.action))}().named({made.name!r})")
            case Do():
                self._line(depth, self._asked("do", made.handler))
            case Fail():
                self._line(depth, f"raise {made.error.__name__}({made.message!r})")
            case Sleep():
                self._line(depth, f"await sleep({self._delay(made.delay)}).named({made.name!r})")
            case WaitFor():
                self._wait(depth, made)
            case Activity():
                self._activity(depth, made)
            case Child():
                self._child(depth, made)
            case If() | Switch():
                self._if(depth, made)
            case While():
                self._line(depth, f"while {self._asked('holds', made.cond)}:")
                self._block(depth + 1, made.body)
            case Select():
                self._select(depth, made)
            case Within():
                self._line(depth, f"async with timeout({self._delay(made.delay)}).named({made.name!r}):")
                self._block(depth + 1, made.body)
            case Try():
                self._try(depth, made)
            case _:
                self._threads(depth, made)

    def _delay(self, delay: Any) -> str:
        if isinstance(delay, timedelta):
            return f"timedelta(seconds={delay.total_seconds()!r})"
        return self._asked("delay", delay)

    def _wait(self, depth: int, made: WaitFor) -> None:
        timeout = "" if made.timeout is None else f", timeout={self._delay(made.timeout)}"
        self._line(depth, f"await until(lambda: {self._asked('holds', made.cond)}{timeout}).named({made.name!r})")
        if made.handler is not None:
            self._line(depth, self._asked("do", made.handler))

    def _activity(self, depth: int, made: Activity) -> None:
        method: Any = activity(timeout=made.timeout, heartbeat=made.heartbeat)
        name = self._member("activity", method(_with_self(made.function)))
        given = self._item if _takes_item(made.function) else ""
        given = given if made.input is None else self._asked("given", made.input)
        self._result(depth, made, f"{name}({given}).named({made.name!r})")

    def _result(self, depth: int, made: Activity | Child, call: str) -> None:
        if made.then is None:
            self._line(depth, f"await {call}")
            return
        item = f", item={self._item}" if "item" in inspect.signature(made.then).parameters else ""
        result = f"await {call}"
        if self.rng_of(made.name).random() < 0.5:
            self._line(depth, f"{_variable('result', made.name)} = {result}")
            result = _variable("result", made.name)
        self._line(depth, f"{self._member('taken', made.then)}({result}{item})")

    def _child(self, depth: int, made: Child) -> None:
        field = self.child_fields[made.name]
        id = "" if made.id is None else f"id={self._asked('id', made.id)}, "  # type: ignore[arg-type]
        detached = ", detached=True" if made.detached else ""
        self._result(depth, made, f"child(CHILD, {id}{field}=self.{field}{detached}).named({made.name!r})")

    def _if(self, depth: int, made: If | Switch) -> None:
        word = "if"
        for branch in made.branches:
            test = "else" if branch.cond is None else f"{word} {self._asked('holds', branch.cond)}"
            self._line(depth, f"{test}:")
            self._block(depth + 1, branch.body)
            word = "elif"

    def _select(self, depth: int, made: Select) -> None:
        asked: list[tuple[str, On | Timeout]] = []
        events, timeout = [], ""
        for case in made.cases:
            if isinstance(case, On):
                handler: Any = case.handler
                events.append(self._member("on", event(case.event, buffered=case.buffered)(handler)))
                asked.append((f"happened({events[-1]})", case))
            else:
                assert isinstance(case, Timeout)
                timeout = f"timeout={self._delay(case.delay)}"
                asked.append(("timed_out", case))
        rng = self.rng_of(made.name)
        rng.shuffle(asked)
        got, word = _variable("got", made.name), "if"
        call = f"await select({', '.join([*events, *([timeout] if timeout else [])])}).named({made.name!r})"
        self._line(depth, f"{got} = {call}" if any(_has_more(case) for _, case in asked) else call)
        for question, case in asked:
            if not _has_more(case):
                continue
            is_last = word == "elif" and case is asked[-1][1] and all(_has_more(one) for _, one in asked)
            self._line(depth, "else:" if is_last and rng.random() < 0.5 else f"{word} {got}.{question}:")
            if isinstance(case, Timeout) and case.handler is not None:
                self._line(depth + 1, self._asked("do", case.handler))
            self._block(depth + 1, case.body)
            word = "elif"

    def _try(self, depth: int, made: Try) -> None:
        self._line(depth, "try:")
        self._block(depth + 1, made.body)
        for clause in made.excepts:
            names = ", ".join(error.__name__ for error in clause.types)
            bound = _variable("error", clause.name)
            self._line(
                depth, f"except ({names}) as {bound}:" if len(clause.types) > 1 else f"except {names} as {bound}:"
            )
            if clause.then is not None:
                self._line(depth + 1, f"{self._member('caught', clause.then)}({bound})")
            self._block(depth + 1, clause.body)
        if made.cleanup is not None:
            self._line(depth, "finally:")
            self._block(depth + 1, made.cleanup)

    # --- threads and loops ---------------------------------------------------------------

    def _threads(self, depth: int, made: Statement) -> None:
        match made:
            case Go():
                id = f", id={made.id!r}" if isinstance(made.id, str) else ""
                id = f", id={self._asked('id', made.id)}" if callable(made.id) else id
                self._line(depth, f"go({self._called(_only(made.body))}{id})")
            case Parallel() | Race():
                calls = ", ".join(self._called(_only(branch)) for branch in made.branches)
                word = "race" if isinstance(made, Race) else "gather"
                self._line(depth, f"await {word}({calls}).named({made.name!r})")
            case ForEach():
                self._each(depth, made)
            case _:
                raise TypeError(made)

    def _each(self, depth: int, made: ForEach) -> None:
        outer = self._item
        takes_item = arity(made.items) > 1
        name = self._asked("items", made.items) if takes_item else self._member("items", property(made.items))
        self._item = _variable("item", made.name)
        if made.parallel:
            limit = "" if made.limit is None else f"limit={made.limit}"
            call = self._called(_only(made.body))
            if self.rng_of(made.name).random() < 0.5:
                self._line(depth, f"async with parallel({limit}) as branch:")
                self._line(depth + 1, f"for {self._item} in {name}:")
                self._line(depth + 2, f"branch.start({call})")
            else:
                limit = f", {limit}" if limit else ""
                self._line(depth, f"await gather(*({call} for {self._item} in {name}){limit})")
        else:
            self._line(depth, f"for {self._item} in {name}:")
            self._block(depth + 1, made.body)
        self._item = outer


def _variable(kind: str, name: str) -> str:
    """A local that belongs to a statement."""
    return f"{kind}_{re.sub('[^0-9a-z]', '_', name)}"


def _first_name(statements: Iterable[Any]) -> str:
    """The name of the first statement that every revision has; empty if there is none with a name."""
    for made in statements:
        inner = made.branches[0] if isinstance(made, If) else made
        if isinstance(made, Section) and not made.prefix:
            name = _first_name(made.statements)
        else:
            name = getattr(inner, "name", "") or getattr(inner, "prefix", "")
        if name and not name.startswith(ADDED_NAME):
            return str(name)
    return ""


def _has_more(case: On | Timeout) -> bool:
    """Whether something stands behind a case."""
    return bool(case.body.statements) or (isinstance(case, Timeout) and case.handler is not None)


def _only(body: Section) -> Section:
    """The one statement of a section."""
    (inner,) = body.statements
    assert isinstance(inner, Section) and inner.prefix
    return inner


def _takes_item(function: Callable[..., Any]) -> bool:
    """Whether the function of an activity needs an input."""
    given = [one for one in inspect.signature(function).parameters.values() if one.name != "context"]
    return bool(given) and not _has_default(function)


def _has_default(function: Callable[..., Any]) -> bool:
    return any(one.default is not one.empty for one in inspect.signature(function).parameters.values())


def _with_self(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method that calls the function of an activity."""
    if not inspect.signature(function).parameters:
        return lambda self: function()
    if is_async(function):

        async def in_time(self: Any, context: ActivityContext, number: int) -> int:
            result: int = await function(number, context)
            return result

        in_time.__defaults__ = (NUMBER,) if _has_default(function) else None
        return in_time

    def at_once(self: Any, context: ActivityContext, number: int) -> int:
        result: int = function(number, context)
        return result

    return at_once


def _same(self: Any, value: Any, expected: Any) -> None:
    if value != expected:
        raise AssertionError(f"a local is {value!r}, and was {expected!r}")


def plain_class(printer: Printer, tree: Section, base: type, name: str, search_by: tuple[str, ...]) -> type[Any]:
    """The class whose ``run`` is the tree."""
    head = f"class Flow(Base, name={name!r}):\n    search_fields = {search_by!r}\n    locals().update(MEMBERS)\n"
    source = head + printer.source(tree)
    file = f"<plain definition {next(_NUMBERS)}>"
    linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
    names = {"__name__": __name__, "Base": base, "MEMBERS": printer.members, **printer.globals}
    exec(compile(source, file, "exec", dont_inherit=True), names)  # nosec B102 - the source that was written above
    flow: Any = names["Flow"]
    flow.trace = []
    made: type[Any] = flow
    return made
