"""Mistakes in the code of workflows: functions that raise, or return what they must not, and loops that never end.

A mistake depends on the fields alone, so it is met again where the fields are the same. In some runs, only the code of
one process has them. When the faults end, they are corrected, because nothing else would move some instances on. The
model runs the code without them: a transition with a mistake does not take place, and at most fails the instance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random
from typing import Any

from cloud_adapter.errors import UserCodeError
from tests.core.generate import Fields
from tests.core.reference import arity
from tests.simulation.actors import CURRENT, MistakeError
from workflow_core import (
    Break,
    DefinitionError,
    ExecutionError,
    If,
    LoopLimitExceeded,
    S,
    Statement,
    TimedOut,
    While,
    WorkflowError,
)
from workflow_core.errors import InvalidFields, UnusableResult

Function = Callable[..., Any]


REPORTED: dict[str, type[Exception]] = {
    error.__name__: error
    for error in (
        MistakeError,
        RuntimeError,
        UnusableResult,
        ExecutionError,
        InvalidFields,
        DefinitionError,
        LoopLimitExceeded,
    )
}
"""The errors that mistakes lead to, by name. ``RuntimeError`` stands for what is no ordinary error."""


def is_mistaken(w: Fields, number: int) -> bool:
    """Whether a mistake of that number is met now: if not in a child, not at once, or there would be no instance."""
    begins = w.__workflow_name__ == "flow"
    return CURRENT.get().process.has_mistakes and len(w.log) % 4 == number % 3 + begins


MISTAKEN: tuple[type[Exception], ...] = (
    UserCodeError,
    *(error for error in REPORTED.values() if issubclass(error, WorkflowError)),
)
"""What a request is answered that meets a mistake."""

BY_ITSELF = "the code gave up by itself"
"""The message of a ``TimedOut`` that the code has raised."""


def failure(number: int) -> BaseException:
    """The error of code that is to fail."""
    kinds = (MistakeError, SystemExit, KeyboardInterrupt, StopIteration)
    return TimedOut(BY_ITSELF) if number % 5 == 0 else kinds[number % 4]("as was to be")


def raised(name: str, number: int) -> BaseException:
    """The error of a mistake: an ordinary one, or one that no code should raise."""
    kinds = (MistakeError, MistakeError, StopIteration, SystemExit, KeyboardInterrupt)
    error = kinds[number % len(kinds)](f"a mistake in {name}")
    error.add_note(f"it is number {number}")
    return error


class Mistakes:
    """Puts mistakes into the functions of a definition.

    Args:
        rng_of_messages: for those that give the message of an error.
        rng_of_items: for those that give the items of a loop.
    """

    def __init__(self, rng: Random, rng_of_messages: Random, rng_of_items: Random) -> None:
        self.rng = rng
        self.rng_of_messages = rng_of_messages
        self.rng_of_items = rng_of_items
        self._loops = count()

    def _drawn(self, chance: float, rng: Random | None = None) -> int | None:
        rng = rng or self.rng
        point, number = rng.random(), rng.randrange(100)
        return number if point < chance else None

    def condition(self, name: str, holds: Function) -> Function:
        """A condition that raises, or returns a generator."""
        number = self._drawn(0.4)
        if number is None:
            return holds

        def cond(*given: Any) -> Any:
            if is_mistaken(given[0], number):
                if number % 3 == 0:
                    return _generator()
                raise raised(name, number)
            return holds(*given)

        return _like(holds, cond)

    def returns(self, function: Function, wrong: Any, chance: float = 0.4) -> Function:
        """A function that returns something wrong."""
        number = self._drawn(chance)
        return (
            function
            if number is None
            else _like(function, lambda *given: wrong if is_mistaken(given[0], number) else function(*given))
        )

    def message(self, text: str) -> str | Function:
        """The message of an error: a text, or a function that raises."""
        number = self._drawn(0.6, self.rng_of_messages)
        if number is None:
            return text

        def wrong(w: Fields) -> str:
            if is_mistaken(w, number):
                raise raised("a message", number)
            return text

        return wrong

    def collection(self, name: str, items: Function) -> Function:
        """The items of a loop: the function raises, returns what has no order, or items that nothing can use."""
        number = self._drawn(0.5, self.rng_of_items)
        if number is None:
            return items

        def wrong(*given: Any) -> Any:
            if not is_mistaken(given[0], number):
                return items(*given)
            match number % 5:
                case 0:
                    raise raised(f"the items of {name}", number // 5)
                case 1:
                    return set(items(*given))
                case 2:
                    return number
                case 3:
                    return _generator()
            return [Useless(name) for _ in items(*given)]

        return _like(items, wrong)

    def then(self, name: str, then: Function) -> Function:
        """What takes a result: it changes the fields, and then raises."""
        number = self._drawn(0.6)
        if number is None:
            return then

        def taken(w: Fields, result: int) -> None:
            then(w, result)
            if is_mistaken(w, number):
                raise MistakeError(f"a mistake in {name}")

        return taken

    def result(self, result: Function) -> Function:
        """What gives the result of a child: it gives what is no JSON."""
        number = self._drawn(0.5)
        return result if number is None else lambda w: object() if is_mistaken(w, number) else result(w)

    def step(self) -> int | None:
        """The number of the mistake of a step, if it has one."""
        return self._drawn(0.2)

    def endless(self, statement: Statement) -> Statement:
        """A loop before a statement, which never ends when it is begun by mistake."""
        number = self._drawn(0.1)
        if number is None:
            return statement
        name = f"endless {next(self._loops)}"
        forever = If(f"{name} ends", lambda w: False, Break())
        return S(While(name, lambda w: is_mistaken(w, number), forever), statement)


class Useless:
    """An item that can be neither converted, compared nor printed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _refused(self, *given: Any) -> Any:
        raise MistakeError(f"a mistake in the items of {self.name}")

    __str__ = __format__ = __mod__ = __le__ = __add__ = __radd__ = _refused


def is_of_items(error: str) -> bool:
    """Whether the text of an error tells of the items of a loop."""
    return any(words in error for words in ("the items of", "its items are"))


def _generator() -> Iterator[None]:
    yield


def _like(function: Function, other: Function) -> Function:
    """The other function, with as many parameters as the function."""
    return (lambda w: other(w)) if arity(function) == 1 else (lambda w, item: other(w, item))


def spoilt_result(w: Fields, number: int) -> Any:
    """What a step does by mistake, after it has done its work: it returns a generator, or changes a field's type."""
    if number % 2:
        w.x = "many"  # type: ignore[assignment]
        return None
    return _generator()
