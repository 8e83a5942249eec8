"""What one write may contain.

The rule: a write contains everything that the committing process has done since its last write, in the original order,
and it records the idempotency keys of exactly the requests that take effect in it. Only requests that arrived in a lane
may share a write, in the order of their arrival, because the lane decides all of them in memory before it sends any
response. An act outside the lane, or under a lease, is alone in its write.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cloud_adapter import history as limits
from cloud_adapter.document import Instance, KeyRecord
from cloud_adapter.engine.idempotency import stored_key
from cloud_adapter.history import OPERATIONS
from tests.simulation.acts import Act
from tests.simulation.model.leases import OVER_LEASES, is_done_under_lease
from tests.simulation.model.violations import require, require_equal

if TYPE_CHECKING:
    from tests.simulation.actors import Actor

Move = tuple[Act, bool]
"""What was done to an instance, and whether it has failed by that."""


WITHOUT_EFFECT = ("event rejected", "tick")
"""What is done for an event that was kept, and takes no effect."""


def is_outcome(key: KeyRecord) -> bool:
    """Whether it is the outcome of an event that was kept, not the key of a request."""
    return "\t" in key.key


class Writes:
    """The writes of one instance.

    Attributes:
        turns: for each lane, the number of the last arrival that was committed.
    """

    def __init__(self) -> None:
        self.turns: dict[object, int] = {}

    def check(
        self, actor: Actor, old: Instance | None, new: Instance, acts: Sequence[Act], keys: Sequence[KeyRecord]
    ) -> list[Move]:
        """Checks what a write holds, and gives the acts, each with whether the instance has failed by it."""
        self._check_history(old, new, acts)
        moves = self._moves(acts)
        require(moves, f"{actor.name} has written what nobody has done")
        self._check_order(actor, moves)
        self._check_keys([move for move in moves if move[0].kind not in WITHOUT_EFFECT], keys)
        if old is None:
            require([act.kind for act, _ in moves] == ["created"], f"the first write is {[str(act) for act in acts]}")
        return moves

    @staticmethod
    def _check_history(old: Instance | None, new: Instance, acts: Sequence[Act]) -> None:
        """Checks that the history contains all recorded entries, after the earlier ones. Where they are too many, those
        after the first ones are left out, except for what operators did last."""
        history = [*(() if old is None else old.history), *(act.entry for act in acts if act.entry is not None)]
        by_operators = [entry for entry in history if entry.kind in OPERATIONS][-limits.OPERATIONS_KEPT :]
        kept = by_operators + history[: limits.FIRST_KEPT]
        while len(history) > limits.HISTORY_MAX:
            history.remove(next(entry for entry in history if not any(entry is one for one in kept)))
        require_equal("history", new.history, tuple(history))

    @staticmethod
    def _moves(acts: Sequence[Act]) -> list[Move]:
        moves: list[Move] = []
        for act in acts:
            if act.kind == "failed" and moves:
                moves[-1] = moves[-1][0], True
            else:
                require(not (moves and moves[-1][1]), f"{act} came after the instance had failed")
                moves.append((act, False))
        return moves

    def _check_order(self, actor: Actor, moves: Sequence[Move]) -> None:
        several = len(moves) > 1
        arrived = [act.arrival.number for act, _ in moves if act.arrival is not None]
        in_order = arrived == sorted(arrived)
        require(in_order, f"not in the order in which they came: {[str(act) for act, _ in moves]}")
        for act, _ in moves:
            require(act.actor.process is actor.process, f"{actor.name} commits what {act.actor.name} has done")
            alone = act.kind in OVER_LEASES or is_done_under_lease(act)
            require(not (several and alone) or self._is_left_over(moves), f"{act} is committed with others")
            own = act.actor is actor or act.arrival is not None
            require(own, f"{actor.name} commits what {act.actor.name} has done")
            self._check_turn(act)

    @staticmethod
    def _is_left_over(moves: Sequence[Move]) -> bool:
        """Whether it is one act after lease renewals whose results are unknown."""
        return all(act.kind == "tick" and act.actor is moves[-1][0].actor for act, _ in moves[:-1])

    def _check_turn(self, act: Act) -> None:
        """Checks that no request that could be decided was overtaken by a later one. An event that was kept comes
        before all of them, whichever request of the lane has met it."""
        arrival = act.arrival
        if arrival is not None and not hasattr(act.actor, "token"):
            last = self.turns.setdefault(arrival.lane, arrival.number)
            require(arrival.has_waited or last <= arrival.number, f"{act} was overtaken by what came later")
            self.turns[arrival.lane] = max(last, arrival.number)

    @staticmethod
    def _check_keys(moves: Sequence[Move], keys: Sequence[KeyRecord]) -> None:
        """Each request's key is recorded in the very write that it takes effect in."""
        calls: list[Any] = [act.actor for act, _ in moves if hasattr(act.actor, "request")]
        used = [stored_key(call.request.key, call.principal) or "" for call in calls if call.request.key is not None]
        require_equal("keys", sorted(key.key for key in keys if not is_outcome(key)), sorted(used))
