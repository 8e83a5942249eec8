"""The checker accepts histories that one instance explains, finds those that none does, and shows why."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from tests.histories.checker import LOST, Operation, explanation, is_linearizable
from tests.histories.register import (
    Absent,
    Accepted,
    Answer,
    Call,
    Cancel,
    Create,
    Get,
    List,
    Refused,
    Row,
    Seen,
    Send,
    State,
)
from tests.histories.shrinking import shrunk


def op(start: float, end: float, call: Call, answer: Answer | None = None) -> Operation:
    return Operation("client", call, start, end, answer)


def lost(start: float, call: Call) -> Operation:
    return op(start, LOST, call)


def seen(*words: str, status: str = "live", booked: int = 0) -> Seen:
    return Seen(status, "ann", words, words[:booked])


def accepted(*words: str) -> Accepted:
    return Accepted(words)


CREATED = op(0, 1, Create("ann"), seen())
A = op(2, 3, Send("a"), accepted("a"))
B = op(4, 5, Send("b"), accepted("a", "b"))

GOOD = {
    "one after the other": [CREATED, A, B, op(6, 7, Get(), seen("a", "b"))],
    "concurrent, the later one first": [
        CREATED,
        op(2, 9, Send("a"), accepted("b", "a")),
        op(3, 8, Send("b"), accepted("b")),
    ],
    "a read beside an event sees it or not": [
        CREATED,
        op(2, 9, Send("a"), accepted("a")),
        op(3, 4, Get(), seen()),
        op(5, 6, Get(), seen("a")),
    ],
    "a lost event takes effect": [CREATED, lost(2, Send("x")), A, op(8, 9, Get(), seen("a", "x"))],
    "a lost event takes effect much later": [
        CREATED,
        lost(1, Send("x")),
        A,
        op(4, 5, Get(), seen("a")),
        op(6, 7, Get(), seen("a", "x")),
    ],
    "a lost event never takes effect": [CREATED, lost(1, Send("x")), A, op(8, 9, Get(), seen("a"))],
    "a repeated event has the first answer": [
        CREATED,
        op(2, 3, Send("a", "k"), accepted("a")),
        B,
        op(6, 7, Send("a", "k"), accepted("a")),
        op(8, 9, Get(), seen("a", "b")),
    ],
    "a lost event is repeated, and takes effect once": [
        CREATED,
        lost(1, Send("a", "k")),
        op(2, 3, Send("a", "k"), accepted("a")),
        op(6, 7, Get(), seen("a")),
    ],
    "a repeated event has its answer after the end": [
        CREATED,
        op(2, 3, Send("a", "k"), accepted("a")),
        op(4, 5, Cancel(), seen("a", status="canceled")),
        op(6, 7, Send("a", "k"), accepted("a")),
        op(8, 9, Send("b", "l"), Refused("ended")),
    ],
    "two creations, one accepted": [CREATED, op(0, 1, Create("bob"), Refused("exists"))],
    "a repeated creation shows the instance": [
        op(0, 1, Create("ann", "k"), seen()),
        A,
        op(4, 5, Create("ann", "k"), seen("a")),
    ],
    "nothing before the creation": [
        op(0, 1, Get(), Refused("missing")),
        op(0, 1, Send("a"), Refused("missing")),
        op(0, 1, Cancel(), Refused("missing")),
        op(0, 1, List(), Absent()),
        op(2, 3, Create("ann"), seen()),
    ],
    "a canceled instance takes no event": [
        CREATED,
        op(2, 3, Cancel(), seen(status="canceled")),
        op(4, 5, Send("a"), Refused("ended")),
        op(4, 5, Cancel(), seen(status="canceled")),
    ],
    "the last event ends it": [
        CREATED,
        op(2, 3, Send("z", is_last=True), accepted("z")),
        op(4, 5, Cancel(), Refused("ended")),
        op(4, 5, Send("a"), Refused("ended")),
        op(4, 5, Get(), seen("z", status="finished")),
    ],
    "a lost cancel may come after an event": [
        CREATED,
        lost(1, Cancel()),
        A,
        op(4, 5, Send("b"), Refused("ended")),
    ],
    "a busy instance changes nothing": [CREATED, op(2, 3, Send("x"), Refused("busy")), A],
    "words are booked one after the other": [
        CREATED,
        A,
        B,
        op(6, 7, Get(), seen("a", "b", booked=1)),
        op(8, 9, Get(), seen("a", "b", booked=2)),
    ],
    "lists show it as it is": [
        CREATED,
        A,
        op(4, 5, List(), Row("live", "ann", "a")),
        op(4, 5, List(last="a"), Row("live", "ann", "a")),
        op(4, 5, List(last="x"), Absent()),
        op(4, 5, List(status="finished"), Absent()),
        op(4, 5, List(status="live"), Absent()),
    ],
}


@pytest.mark.parametrize("history", GOOD.values(), ids=GOOD)
def test_what_one_instance_explains_is_accepted(history: list[Operation]) -> None:
    assert is_linearizable(history)
    assert is_linearizable(history[::-1]), "the order in which operations are recorded does not matter"


BAD = {
    "a stale read": [CREATED, A, op(4, 5, Get(), seen())],
    "a read goes back": [
        CREATED,
        op(2, 9, Send("a"), accepted("a")),
        op(3, 4, Get(), seen("a")),
        op(5, 6, Get(), seen()),
    ],
    "a lost event": [CREATED, A, op(4, 5, Send("b"), accepted("b")), op(6, 7, Get(), seen("b"))],
    "an answered event that a later read does not show": [CREATED, A, B, op(6, 7, Get(), seen("a"))],
    "an event twice": [
        CREATED,
        lost(1, Send("a", "k")),
        op(2, 3, Send("a", "k"), accepted("a")),
        op(4, 5, Get(), seen("a", "a")),
    ],
    "a repeated event has another answer": [
        CREATED,
        op(2, 3, Send("a", "k"), accepted("a")),
        op(4, 5, Send("b"), accepted("a", "b")),
        op(6, 7, Send("a", "k"), accepted("a", "b", "a")),
    ],
    "the order turned": [CREATED, A, B, op(6, 7, Get(), seen("b", "a"))],
    "one after the other, and answered in the other order": [
        CREATED,
        op(2, 3, Send("a"), accepted("b", "a")),
        op(4, 5, Send("b"), accepted("b")),
    ],
    "an event that nobody sent": [CREATED, op(2, 3, Get(), seen("x"))],
    "an event that was refused as busy": [CREATED, op(2, 3, Send("x"), Refused("busy")), op(4, 5, Get(), seen("x"))],
    "an event before it was sent": [CREATED, op(2, 3, Get(), seen("x")), lost(4, Send("x"))],
    "a cancel undone": [CREATED, op(2, 3, Cancel(), seen(status="canceled")), op(4, 5, Get(), seen())],
    "an event after the cancel": [
        CREATED,
        op(2, 3, Cancel(), seen(status="canceled")),
        op(4, 5, Send("a"), accepted("a")),
    ],
    "a live instance refuses": [CREATED, A, op(4, 5, Send("b"), Refused("ended"))],
    "two creations accepted": [CREATED, op(0, 1, Create("bob"), Seen("live", "bob"))],
    "a creation accepted again without its key": [CREATED, op(2, 3, Create("ann"), seen())],
    "a creation refused under its own key": [
        op(0, 1, Create("ann", "k"), seen()),
        op(2, 3, Create("ann", "k"), Refused("exists")),
    ],
    "a created instance is missing": [CREATED, op(2, 3, Get(), Refused("missing"))],
    "a list that misses one": [CREATED, op(2, 3, List(), Absent())],
    "a list by status that misses one": [
        CREATED,
        op(2, 3, Cancel(), seen(status="canceled")),
        op(4, 5, List(status="canceled"), Absent()),
    ],
    "a list by a field that misses one": [CREATED, A, op(4, 5, List(last="a"), Absent())],
    "a list that shows an old value": [CREATED, A, B, op(6, 7, List(), Row("live", "ann", "a"))],
    "a list by a field that shows an old value": [CREATED, A, B, op(6, 7, List(last="a"), Row("live", "ann", "a"))],
    "a booking lost": [
        CREATED,
        A,
        op(4, 5, Get(), seen("a", booked=1)),
        op(6, 7, Get(), seen("a")),
    ],
    "a booking twice": [CREATED, A, op(4, 5, Get(), Seen("live", "ann", ("a",), ("a", "a")))],
    "a booking after the end": [
        CREATED,
        A,
        op(4, 5, Cancel(), seen("a", status="canceled")),
        op(6, 7, Get(), seen("a", status="canceled", booked=1)),
    ],
    "an answer that is none": [CREATED, op(2, 3, Get(), Refused("500 Internal Server Error"))],
}


@pytest.mark.parametrize("history", BAD.values(), ids=BAD)
def test_what_no_instance_explains_is_found(history: list[Operation]) -> None:
    assert not is_linearizable(history)
    assert not is_linearizable(history[::-1])
    assert not is_linearizable(shrunk(history))


def recorded(seed: int, length: int, clients: int, *, forgets_keys: bool = False) -> list[Operation]:
    """A history of a real register: each call takes effect at a moment between its start and its end. Some answers are
    lost; half of these calls take no effect, the others may do so later. Lost events are repeated under their key.

    Args:
        forgets_keys: the register takes repeated events for new ones.
    """
    rng = random.Random(seed)
    free = [0.0] * clients
    calls: list[tuple[float, float, float, Call, bool, bool]] = [(0, 0.5, 1, Create("ann"), False, True)]
    for number in range(length):
        client = rng.randrange(clients)
        read: Call = Get() if rng.random() < 0.5 else List()
        call = Send(f"w{number}", f"k{number}") if rng.random() < 0.6 else read
        is_lost = True
        while is_lost:
            start = max(free[client], 1.0) + rng.expovariate(1)
            end = free[client] = start + rng.expovariate(1)
            is_lost = rng.random() < 0.1
            at = rng.uniform(start, end + 5 * is_lost)
            calls.append((start, at, end, call, is_lost, not is_lost or rng.random() < 0.5))
    state, history = State(), []
    for start, _, end, call, is_lost, has_effect in sorted(calls, key=lambda one: one[1]):
        answer: Answer | None = None
        if has_effect:
            done = replace(call, key=None) if forgets_keys and isinstance(call, Send) else call
            answer = answered(state, done)
            following = done.apply(state, answer)
            assert following is not None
            state = following
        history.append(lost(start, call) if is_lost else op(start, end, call, answer))
    return history


def answered(state: State, call: Call) -> Answer:
    words = state.words
    match call:
        case Send(word, key):
            is_known = key is not None and word in words
            return Accepted(words[: words.index(word) + 1] if is_known else (*words, word))
        case List():
            return Row("live", "ann", words[-1] if words else "")
    return seen(*words)


@pytest.mark.parametrize("seed", range(8))
def test_histories_of_a_register_are_accepted_and_found_once_a_read_is_stale(seed: int) -> None:
    history = recorded(seed, 150, 5)
    assert is_linearizable(history)
    reads = [one for one in history if isinstance(one.answer, Seen) and one.answer.words]
    broken = random.Random(seed).choice(reads)
    assert isinstance(broken.answer, Seen)
    missing = broken.answer.words[len(broken.answer.words) // 3]
    words = tuple(word for word in broken.answer.words if word != missing)
    history[history.index(broken)] = replace(broken, answer=replace(broken.answer, words=words))
    assert not is_linearizable(history)
    small = shrunk(history)
    assert not is_linearizable(small)
    assert len(small) <= 6


@pytest.mark.parametrize("seed", range(5))
def test_events_that_take_effect_twice_are_found(seed: int) -> None:
    history = recorded(seed, 150, 5, forgets_keys=True)
    assert not is_linearizable(history)
    small = shrunk(history)
    assert not is_linearizable(small)
    assert len(small) <= 6


def test_thousands_of_operations_take_seconds() -> None:
    history = recorded(1, 3_000, 10)
    started = time.process_time()
    assert explanation(history).is_complete
    assert time.process_time() - started < 10


def test_a_contradiction_is_shown_by_its_smallest_part() -> None:
    rest = [op(10 + n, 10.5 + n, Send(f"w{n}"), accepted("a", *(f"w{m}" for m in range(n + 1)))) for n in range(50)]
    stale = op(70, 71, Get(), seen(*(f"w{n}" for n in range(50))))
    other = op(80, 81, Get(), seen("nonsense"))
    creations = [lost(0.1, Create("bob")), lost(0.2, Create("ann", "k"))]
    small = shrunk([CREATED, *creations, A, *rest, lost(5, Cancel()), stale, other])
    assert [one.call for one in small] == [Create("ann"), Send("a"), Get()]
    assert [one.answer for one in small][1:] == [accepted("a"), seen()]
