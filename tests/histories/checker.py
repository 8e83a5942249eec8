"""Whether a history is linearizable: whether each call can have taken effect at one moment between its start and its
answer, so that all answers are those of one instance that is used by one client at a time.

The search is the one of Wing and Gong (J. M. Wing, C. Gong: "Testing and Verifying Concurrent Objects", Journal of
Parallel and Distributed Computing 17, 1993) with the memory of Lowe (G. Lowe: "Testing for linearizability",
Concurrency and Computation: Practice and Experience 29(4), 2017), on a linked list, as in Porcupine (A. Athalye,
https://github.com/anishathalye/porcupine). It puts the calls that have started in an order, one after the other, and
goes back when a call must have ended that does not fit. The same calls in another order that lead to the same state are
not followed again. A call whose answer was lost never has to end: it takes effect at any later time, or never.

Instances are independent: histories are checked one instance at a time, as linearizability is local.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.histories.register import Accepted, Answer, Call, Get, List, Refused, Row, Seen, Send, State

LOST = math.inf
"""The end of a call whose answer was lost."""

BUSY = "busy"
"""The reason of a refusal that every state allows: nothing was changed."""


@dataclass(frozen=True)
class Operation:
    """A call as a client has made it; times in seconds. Without an answer, its end is ``LOST``."""

    client: str
    call: Call
    start: float
    end: float = LOST
    answer: Answer | None = None
    process: str = ""


def is_linearizable(history: Sequence[Operation]) -> bool:
    """Whether one instance explains all answers."""
    return explanation(history).is_complete


def relevant(history: Sequence[Operation]) -> Sequence[Operation]:
    """The operations without those that cannot matter: what was refused as ``BUSY``, reads whose answer was lost, and
    words whose answer was lost and that nobody has seen. Whoever is answered with words is answered with all of them:
    where nobody has seen a word, it may as well never have been accepted."""
    shown = words_shown(history)

    def matters(one: Operation) -> bool:
        if one.answer is not None:
            return one.answer != Refused(BUSY)
        return one.call.word in shown if isinstance(one.call, Send) else not isinstance(one.call, Get | List)

    return [one for one in history if matters(one)]


def words_shown(history: Sequence[Operation]) -> Mapping[str, tuple[str, ...] | None]:
    """The words in answers, each with all words before it; None if only a list shows it as the last one."""
    shown: dict[str, tuple[str, ...] | None] = {}
    longest: tuple[str, ...] = ()
    for one in history:
        if isinstance(one.answer, Seen | Accepted) and one.answer.words != longest[: len(one.answer.words)]:
            longest = one.answer.words
            for number, word in enumerate(longest):
                if shown.get(word) is None:
                    shown[word] = longest[:number]
        elif isinstance(one.answer, Row) and one.answer.last:
            shown.setdefault(one.answer.last, None)
    return shown


@dataclass(frozen=True)
class Explanation:
    """Operations in the order in which they take effect.

    Attributes:
        is_complete: whether they are all that were answered; if not, it is the longest part that was found.
    """

    order: Sequence[Operation]
    is_complete: bool


def explanation(history: Sequence[Operation]) -> Explanation:
    """An order of the operations that explains all answers.

    A word whose answer was lost is tried only where all words before it are those that an answer shows: elsewhere,
    nothing could explain that answer.

    The calls with an answer that are done and the state say what can follow: whether a call whose answer was lost has
    taken effect, or still can, shows in the state.

    Entries of the list are numbered: 2n is the start of operation n, 2n + 1 its end, the last one the list's own end.
    """
    operations, shown = relevant(history), words_shown(history)
    times = [(one.start, 0, 2 * n) for n, one in enumerate(operations)]
    times += [(one.end, 1, 2 * n + 1) for n, one in enumerate(operations) if one.end != LOST]
    root = 2 * len(operations)
    following, before = [root] * (root + 1), [root] * (root + 1)
    last = root
    for _, _, entry in sorted(times):
        following[last], before[entry], last = entry, last, entry
    following[last], before[root] = root, last

    def leave_out(entry: int) -> None:
        following[before[entry]], before[following[entry]] = following[entry], before[entry]

    def put_back(entry: int) -> None:
        following[before[entry]] = before[following[entry]] = entry

    def applied(one: Operation, state: State) -> State | None:
        if one.answer is None and isinstance(one.call, Send):
            earlier = shown[one.call.word]
            if earlier is not None and state.words != earlier:
                return None
        return one.call.apply(state, one.answer)

    answered = sum(1 << number for number, one in enumerate(operations) if one.end != LOST)
    state, done = State(), 0
    tried: set[tuple[int, State]] = set()
    order: list[tuple[int, State]] = []
    best: list[int] = []
    entry = following[root]
    while done != answered:
        number, is_end = divmod(entry, 2)
        bit = 1 << number & answered
        if entry != root and not is_end:
            then = applied(operations[number], state)
            if then is None or (done | bit, then) in tried:
                entry = following[entry]
                continue
            tried.add((done | bit, then))
            order.append((number, state))
            state, done = then, done | bit
            leave_out(entry)
            if bit:
                leave_out(entry + 1)
            entry = following[root]
            continue
        if len(order) > len(best):
            best = [number for number, _ in order]
        if not order:
            return Explanation([operations[number] for number in best], is_complete=False)
        number, state = order.pop()
        bit = 1 << number & answered
        done &= ~bit
        if bit:
            put_back(2 * number + 1)
        put_back(2 * number)
        entry = following[2 * number]
    return Explanation([operations[number] for number, _ in order], is_complete=True)
