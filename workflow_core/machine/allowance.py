"""How many instructions a thread may pass without a step or an event, until it counts as an endless loop.

Only what can repeat for ever may be cut off. A ``ForEach`` cannot, so each of its rounds begins with what was left
when it was entered: all rounds together cost no more than one. A collection may grow while it is gone through and
so have no end; rounds beyond the length that it had at first do count.

It outlives the rest on a condition or on branches, as threads can make each other's conditions true for ever. Every
endless series of moves is cut off: in it there is a thread that passes instructions for ever, since threads that
pass finitely many start finitely many others, and only as deep as the definition is nested.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Allowance:
    """How many instructions a thread may still pass before the next step or event.

    Attributes:
        left: the number when the thread came to its last rest.
        rounds: of each ``ForEach`` that it is in, what was left at its entry, and how many items there were.
        has_rested: whether the thread has rested since the last step or event.
    """

    left: int = 0
    rounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    has_rested: bool = False

    def round(self, name: str, position: int, total: int) -> bool:
        """Notes that a ``ForEach`` over ``total`` items is at a position; says whether its items at entry reach it."""
        if position == 0 or name not in self.rounds:
            self.rounds[name] = (self.left, total)
        return position <= self.rounds[name][1]
