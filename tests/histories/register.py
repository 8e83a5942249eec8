"""What clients ask of one instance, what they are answered, and what an instance may answer: a register of words.

The state of an instance is the list of its accepted words, in order, and its status. A call *applies* to a state: it
gives the next state, or None if the state does not allow the answer. The call whose answer was lost applies only if it
has an effect; that it never takes place is always possible, and needs no state.

What is answered is what tells most: an accepted word is answered by all words up to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

MISSING, LIVE, FINISHED, CANCELED = "missing", "live", "finished", "canceled"
ENDED = (FINISHED, CANCELED)


class State(NamedTuple):
    """An instance.

    Attributes:
        owner: who created it: the creation that won.
        key: the idempotency key of that creation.
        words: the accepted words.
        booked: how many of them a step has booked, as far as is known: at least so many.
        is_settled: whether it is exactly so many, because the instance has ended.
    """

    status: str = MISSING
    owner: str = ""
    key: str | None = None
    words: tuple[str, ...] = ()
    booked: int = 0
    is_settled: bool = False


# --- answers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """An instance, as it is shown."""

    status: str
    owner: str
    words: tuple[str, ...] = ()
    booked: tuple[str, ...] = ()

    def explained(self, state: State) -> State | None:
        """The state, with what this tells about it; None if it is not what is shown."""
        if (self.status, self.owner, self.words) != (state.status, state.owner, state.words):
            return None
        booked = len(self.booked)
        most = len(state.words) - (state.status == FINISHED)  # the last word has ended it
        if self.booked != state.words[:booked] or not state.booked <= booked <= most:
            return None
        if state.is_settled and booked != state.booked:
            return None
        return state._replace(booked=booked, is_settled=state.status in ENDED)


@dataclass(frozen=True)
class Accepted:
    """A word is accepted: all words up to it."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Refused:
    """``missing``, ``exists`` or ``ended``; any other reason is one that an instance never has. Nothing was changed."""

    why: str


@dataclass(frozen=True)
class Row:
    """An instance in a list."""

    status: str
    owner: str
    last: str


@dataclass(frozen=True)
class Absent:
    """The instance is not in the list."""


Answer = Seen | Accepted | Refused | Row | Absent


# --- calls -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    owner: str
    key: str | None = None

    def apply(self, state: State, answer: Answer | None) -> State | None:
        if state.status == MISSING:
            created = State(LIVE, self.owner, self.key)
            return _told(created, answer)
        if answer is None:
            return None
        if self.key is not None and self.key == state.key:
            return answer.explained(state) if isinstance(answer, Seen) else None
        return state if answer == Refused("exists") else None


@dataclass(frozen=True)
class Send:
    """Sends a word, which nobody else sends, but for repetitions under its key. The last one ends the instance."""

    word: str
    key: str | None = None
    is_last: bool = False

    def apply(self, state: State, answer: Answer | None) -> State | None:
        if self.key is not None and self.word in state.words:
            words = state.words[: state.words.index(self.word) + 1]
            return state if answer == Accepted(words) else None
        if state.status == MISSING:
            return state if answer == Refused("missing") else None
        if state.status in ENDED:
            return state if answer == Refused("ended") else None
        words = (*state.words, self.word)
        if answer is not None and answer != Accepted(words):
            return None
        return state._replace(words=words, status=FINISHED if self.is_last else LIVE)


@dataclass(frozen=True)
class Cancel:
    def apply(self, state: State, answer: Answer | None) -> State | None:
        if state.status == LIVE:
            return _told(state._replace(status=CANCELED), answer)
        if state.status == CANCELED:
            return answer.explained(state) if isinstance(answer, Seen) else None
        return state if answer == Refused("missing" if state.status == MISSING else "ended") else None


@dataclass(frozen=True)
class Get:
    def apply(self, state: State, answer: Answer | None) -> State | None:
        if state.status == MISSING:
            return state if answer == Refused("missing") else None
        return answer.explained(state) if isinstance(answer, Seen) else None


@dataclass(frozen=True)
class List:
    """Lists instances of a status, or with a last word, or all. What one list tells about several instances is checked
    for each of them: that it shows all of them at one moment is not promised."""

    status: str | None = None
    last: str | None = None

    def apply(self, state: State, answer: Answer | None) -> State | None:
        last = state.words[-1] if state.words else ""
        is_wanted = state.status != MISSING and self.status in (None, state.status) and self.last in (None, last)
        if isinstance(answer, Row):
            return state if is_wanted and answer == Row(state.status, state.owner, last) else None
        # A live one may be running; lists of those that wait then leave it out.
        may_be_absent = not is_wanted or self.status == LIVE
        return state if isinstance(answer, Absent) and may_be_absent else None


Call = Create | Send | Cancel | Get | List


def _told(state: State, answer: Answer | None) -> State | None:
    if answer is None:
        return state
    return answer.explained(state) if isinstance(answer, Seen) else None
