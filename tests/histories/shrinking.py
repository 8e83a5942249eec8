"""The smallest history that cannot be explained either.

Each step takes something away that can only make a history easier to explain: what is left is still a contradiction,
and one that the first history contains.

* Whatever starts after some time is left out, and answers after that time are lost.
* An answer is left out: a call that changes nothing with it; any other call is then one whose answer was lost.
* A word is erased, from the calls and from all answers: a register that has never had it gives the other answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from tests.histories.checker import LOST, Operation, is_linearizable, relevant, words_shown
from tests.histories.register import Absent, Accepted, Cancel, Create, Get, List, Refused, Row, Seen, Send

History = Sequence[Operation]


def shrunk(history: History) -> History:
    """The smallest history that was found, in the order in which the calls start."""
    small: History = sorted(relevant(history), key=lambda one: one.start)
    small = _first_failure(small)
    size = -1
    while size != _size(small):
        size = _size(small)
        for simpler in (_without_words, _without_answers):
            small = _simplest(small, simpler)
    return small


def _size(history: History) -> int:
    return sum(2 if one.answer is None else 3 for one in history) + len(words_shown(history))


def _simplest(history: History, simpler: Callable[[History], Iterator[History]]) -> History:
    """Takes away what can be taken away; ``simpler`` gives histories with something less, each time of the rest."""
    while True:
        for smaller in simpler(history):
            if _size(smaller) < _size(history) and not is_linearizable(smaller):
                history = smaller
                break
        else:
            return history


def _first_failure(history: History) -> History:
    """The history up to the first answer that makes it impossible."""
    ends = sorted(one.end for one in history if one.end != LOST)
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        if is_linearizable(_until(history, ends[middle])):
            low = middle + 1
        else:
            high = middle
    return _until(history, ends[high])


def _until(history: History, time: float) -> History:
    return relevant([one if one.end <= time else _lost(one) for one in history if one.start <= time])


def _without_answers(history: History) -> Iterator[History]:
    for number, one in enumerate(history):
        rest = [*history[:number], *history[number + 1 :]]
        if one.answer is None:
            if not _could_explain(one, rest):
                yield rest
        elif isinstance(one.call, Get | List) or isinstance(one.answer, Refused):
            yield relevant(rest)
        else:
            yield relevant([*history[:number], _lost(one), *history[number + 1 :]])


def _without_words(history: History) -> Iterator[History]:
    words = {one.call.word for one in history if isinstance(one.call, Send) and not one.call.is_last}
    for word in sorted(words | words_shown(history).keys()):
        if not any(_is_about_last(one, word) for one in history):
            yield [_erased(one, word) for one in history if not (isinstance(one.call, Send) and one.call.word == word)]


def _is_about_last(one: Operation, word: str) -> bool:
    """Whether it ends the instance with that word, or tells that the word is the last one, or that another one is not:
    without the word, another one would be the last."""
    call, answer = one.call, one.answer
    ends = isinstance(call, Send) and call.is_last and call.word == word
    is_last = isinstance(answer, Row) and answer.last == word
    return ends or is_last or (isinstance(call, List) and call.last is not None and isinstance(answer, Absent))


def _erased(one: Operation, word: str) -> Operation:
    match one.answer:
        case Accepted(words):
            return replace(one, answer=Accepted(_without(words, word)))
        case Seen():
            words, booked = _without(one.answer.words, word), _without(one.answer.booked, word)
            return replace(one, answer=replace(one.answer, words=words, booked=booked))
    return one


def _without(words: Iterable[str], word: str) -> tuple[str, ...]:
    return tuple(other for other in words if other != word)


def _lost(one: Operation) -> Operation:
    return replace(one, end=LOST, answer=None)


def _could_explain(one: Operation, rest: History) -> bool:
    """Whether a call whose answer was lost could be what makes one of the other answers possible."""
    call = one.call
    if isinstance(call, Send) and (not call.is_last or call.word in words_shown(rest)):
        return call.word in words_shown(rest)
    if isinstance(call, Cancel | Send):
        return any(_has_ended(other) or isinstance(other.call, List) for other in rest)
    return not isinstance(call, Create) or _could_be_the_creation(one, call.owner, rest)


def _could_be_the_creation(one: Operation, owner: str, rest: History) -> bool:
    """Whether the other answers may need this creation: another one with the same effect could not come first."""
    creations = [(other, other.call.owner) for other in rest if isinstance(other.call, Create)]
    if any(other.answer is not None for other, _ in creations):
        return True
    shown = {other.answer.owner for other in rest if isinstance(other.answer, Seen | Row)}
    if shown and owner not in shown:
        return False
    return not any(other.start <= one.start and (not shown or of == owner) for other, of in creations)


def _has_ended(one: Operation) -> bool:
    return one.answer == Refused("ended") or (isinstance(one.answer, Seen) and one.answer.status != "live")
