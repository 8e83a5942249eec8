"""The number of instructions that a thread may pass without a step or an event before it counts as an endless loop.

The limit must stop only moves that can repeat forever. A ``ForEach`` over a fixed collection ends, so each of its
rounds begins with the allowance that was left when the loop was entered: all rounds together cost no more than one
round. A collection may grow during the loop, and then the loop may never end. Rounds beyond the initial length of the
collection therefore count.

The allowance is kept while a thread rests on a condition or on branches, because threads can make each other's
conditions true forever. Every endless series of moves is stopped. Proof: a thread that passes a finite number of
instructions starts a finite number of threads, and threads are nested only as deeply as the definition. An endless
series therefore contains at least one thread that passes instructions forever.
"""

from __future__ import annotations

from dataclasses import field

from workflow_core.records import record


@record(slots=True)
class Allowance:
    """How many instructions a thread may still pass before the next step or event.

    Attributes:
        left: the remaining number when the thread last came to rest.
        rounds: for each ``ForEach`` that the thread is in: the remaining number and the number of items when it was
            entered.
        has_rested: whether the thread has rested since the last step or event.
    """

    left: int = 0
    rounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    has_rested: bool = False

    def round(self, name: str, position: int, total: int) -> bool:
        """Records that a ``ForEach`` over ``total`` items is at ``position``.

        Returns:
            Whether the position is within the items that the collection had when the loop was entered.
        """
        if position == 0 or name not in self.rounds:
            self.rounds[name] = (self.left, total)
        return position <= self.rounds[name][1]
