"""Definitions that have a plain form: the trees that ``plain_source`` writes as ``async def run``.

The rule: both forms of a definition are built from the same data. ``reduced`` replaces what has no plain form, and
``PlainNames`` builds the rest as an author of the explicit form would write it who wants the names of the plain form.
So the model, which walks the tree, knows the statements and threads of the plain form by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.core.generate import ERRORS, Fields, Spec, note, unlooped
from tests.simulation.rare import RareStatements
from workflow_core import (
    Child,
    Do,
    ErrorInfo,
    Failure,
    ForEach,
    Go,
    Parallel,
    Race,
    S,
    Section,
    Select,
    Statement,
    TimedOut,
    Timeout,
    Try,
    WaitFor,
    Within,
)
from workflow_core.statements.selects import SelectPart

Errors = tuple[type[Exception], ...]

STEP: Spec = ("step", ("x", 1), False)

ALWAYS: Spec = ("log", "x", 0)


# --- as data ---------------------------------------------------------------------------------


def reduced(specs: Sequence[Spec], catches: Errors = ()) -> list[Spec]:
    """Statements without what has no plain form.

    Args:
        catches: the classes of errors that the same thread catches around them. Code that raises another error
            behind an event rejects that event, so such an error comes from a step instead.
    """
    return [_reduced(spec, catches) for spec in specs]


def _reduced(spec: Spec, catches: Errors) -> Spec:
    match spec:
        case ("fail", number):
            error = (Failure, *ERRORS)[number]
            return spec if issubclass(error, catches) else ("risky", ("x", 1), ALWAYS, max(number - 1, 0))
        case ("try", body, excepts, cleanup):
            inside = [one for number, _ in excepts for one in _classes(number)]
            return (
                "try",
                reduced(body, (*catches, *inside)),
                [(number, reduced(handler, catches)) for number, handler in excepts],
                None if cleanup is None else reduced(cleanup),
            )
        case ("each", items, parallel, body):
            return ("each", items, parallel, contained(reduced(body)) if parallel else reduced(body, catches))
        case ("fan out", count, limit, body):
            return ("fan out", count, limit, contained(reduced(body)))
        case ("parallel", branches) | ("race", [_] as branches, _):
            return ("parallel", list(map(reduced, branches)))
        case ("race", branches, _):
            return ("race", list(map(reduced, branches)), False)
        case ("if" | "switch" as kind, cases, last):
            cases = [(cond, reduced(body, catches)) for cond, body in cases]
            return (kind, cases, None if last is None else reduced(last, catches))
        case ("while", cond, first, body):
            return ("while", cond, _reduced(first, catches), reduced(body, catches))
        case ("go", id, body):
            return ("go", id, reduced(body))
        case ("section", "", body):
            return ("section", "", reduced(body, catches))
        case ("section", prefix, body):
            return ("section", prefix, contained(reduced(body, catches)))
        case ("twice", body):
            return ("twice", contained(reduced(body, catches)))
        case ("within", body, late):
            return ("within", reduced(body, catches), None if late is None else reduced(late, catches))
        case ("select", cases):
            return ("select", _cases(cases, catches))
    return _reduced_rare(spec, catches)


def _reduced_rare(spec: Spec, catches: Errors) -> Spec:
    """See ``tests.simulation.rare``."""
    match spec:
        case ("items", number, how, parallel, body):
            return ("items", number, how, parallel, contained(reduced(body)) if parallel else reduced(body, catches))
        case ("inner items", body):
            return ("inner items", reduced(body, catches))
        case ("if item" | "truthy" as kind, body, other):
            return (kind, reduced(body, catches), reduced(other, catches))
        case ("go of item", body):
            return ("go of item", reduced(body))
        case ("bare try", body, other):
            return ("bare try", reduced(body, (*catches, Exception)), reduced(other, catches))
        case ("given child", _):
            return ("child", "x", "own", False)
        case ("method", effect):
            return ("step", effect, False)
    return spec


def _classes(number: int) -> Errors:
    return ((ERRORS[0],), (ERRORS[1],), ERRORS, (Exception,))[number]


def _cases(cases: Sequence[Spec], catches: Errors) -> list[Spec]:
    """The cases of a select: events, and one timeout."""
    kept: list[Spec] = []
    for event, kind, effect, body in cases:
        again = kind == "timeout" and any(other == "timeout" for _, other, _, _ in kept)
        if kind not in ("when", "done") and not again:
            kept.append((event, "int" if kind == "object" else kind, effect, reduced(body, catches)))
    return kept or [("A", "none", ("x", 1), [])]


def contained(specs: Sequence[Spec]) -> list[Spec]:
    """Statements of a method of its own, which a ``break`` or a ``return`` of them cannot leave."""
    return _unreturned(unlooped(list(specs))) or [STEP]


def _unreturned(specs: Sequence[Spec]) -> list[Spec]:
    return [spec for spec in map(_without_return, specs) if spec is not None]


def _without_return(spec: Spec) -> Spec | None:
    match spec:
        case ("return",):
            return None
        case ("if" | "switch" as kind, cases, last):
            cases = [(cond, _unreturned(body) or [STEP]) for cond, body in cases]
            return (kind, cases, None if last is None else _unreturned(last) or [STEP])
        case ("select", cases):
            return ("select", [(*case[:3], _unreturned(case[3])) for case in cases])
        case ("if item" | "truthy" | "bare try" as kind, body, other):
            return (kind, _unreturned(unlooped(body)) or [STEP], _unreturned(unlooped(other)) or [STEP])
        case ("inner items", body):
            return ("inner items", _unreturned(body) or [STEP])
        case ("section", prefix, body):
            return ("section", prefix, _unreturned(body) or [STEP])
        case ("within", body, late):
            return ("within", _unreturned(body) or [STEP], None if late is None else _unreturned(late))
        case ("while", cond, first, body):
            return ("while", cond, *_unreturned([first]), _unreturned(body))
        case ("each", items, 0, body):
            return ("each", items, 0, _unreturned(body) or [STEP])
        case ("try", body, excepts, cleanup):
            excepts = [(number, _unreturned(one)) for number, one in excepts]
            return ("try", _unreturned(body) or [STEP], excepts, cleanup)
    return spec


# --- built -----------------------------------------------------------------------------------


class PlainNames(RareStatements):
    """Builds statements with the names and the threads of their plain form."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.child_fields: dict[str, str] = {}

    def statement(self, spec: Spec) -> Statement:
        made = super().statement(spec)
        match made:
            case Go(name=name):
                return Go(f"go {name}", S(*made.body.statements, prefix=name), id=made.id)
            case Parallel(name=name):
                return Parallel(name, *map(self.called, made.branches))
            case Race(name=name):
                return Race(name, *map(self.called, made.branches))
            case ForEach(name=name, parallel=True):
                body = S(*made.body.statements, prefix=name)
                return ForEach(f"each {name}", made.items, body, parallel=True, limit=made.limit)
            case WaitFor(late=Section()):
                noted = Do(self.name("late"), note(made.name))
                waits = WaitFor(made.name, made.cond, made.handler, timeout=made.timeout)
                return Try(self.name("try"), waits).except_(TimedOut, noted, name=self.name("except"))
            case Within(late=Section() as late):
                within = Within(made.name, made.delay, *made.body.statements)
                return Try(self.name("try"), within).except_(TimedOut, *late.statements, name=self.name("except"))
            case Select(name=name):
                return Select(name, *(_timed_out(name, case) for case in made.cases))
        return made

    def called(self, branch: Section) -> Section:
        """A branch whose statements are in a method of their own."""
        return S(S(*branch.statements, prefix=self.name("branch")))

    def child(self, field: str, id: str, detached: bool) -> Child:
        made = super().child(field, id, detached)
        self.child_fields[made.name] = field
        return made

    def caught(self, name: str) -> Callable[..., Any]:
        def note_error(w: Fields, error: ErrorInfo | Exception) -> None:
            text = error.text if isinstance(error, ErrorInfo) else f"{type(error).__name__}: {error}"
            w.log.append(f"{name} caught {text}")

        return note_error


def _timed_out(select: str, case: SelectPart) -> SelectPart:
    if not isinstance(case, Timeout):
        return case
    return Timeout(f"{select} timed out", case.delay, *case.body.statements, handler=case.handler)
