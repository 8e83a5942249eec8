"""Who may write while a lease is held.

The rule: until a lease expires, only its holder writes. Operators are the only exception; their writes leave the lease
unchanged. The effects of user code are written under the lease under which it ran. Two runs of user code therefore
never change the fields of one instance at the same time. A lease expires while its holder still works only if a fault
affected the holder; otherwise it is renewed in time.

A write for the sake of a lease alone needs a reason. A lease is taken when work is due. It is renewed when a third of
it has passed. It is given back in the write that holds the last work; a write of its own only removes a lease that
somebody has left behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.options import EngineOptions
from tests.simulation.acts import Act
from tests.simulation.model.violations import require

if TYPE_CHECKING:
    from tests.simulation.actors import Actor

OVER_LEASES = ("cancel", "terminate", "pause", "unpause", "retry", "goto", "set")
"""What operators do although a step runs, leaving its lease in place."""

DELIVERIES = ("event", "event rejected", "event failed")
"""How the delivery of an event that was kept may end."""

USER_CODE = ("step", "setup", "teardown")


def is_call(actor: Actor) -> bool:
    """Whether it is a client that waits for an answer."""
    return hasattr(actor, "request")


def is_done_under_lease(act: Act) -> bool:
    """Whether it is what only the holder of the lease may do."""
    if act.kind in DELIVERIES and not is_call(act.actor):
        return True
    return act.kind.split(" ")[0] in (*USER_CODE, "tell")


class Leases:
    """The leases of one instance.

    Attributes:
        holders: who wrote each lease's token first.
    """

    def __init__(self) -> None:
        self.holders: dict[str, Actor] = {}

    def check_alone(self, actor: Actor, old: Instance | None, new: Instance, options: EngineOptions, due: int) -> None:
        """Checks a write that only changes the lease.

        Args:
            due: how many pieces of work are due.
        """
        before, now = old.lease if old is not None else None, actor.process.latest()
        if new.lease is None:
            left_behind = before is not None and (before.expires_at <= now or self.holders[before.token].disturbed)
            require(left_behind, f"{actor.name} gives its lease back in a write of its own")
        elif before is None or before.token != new.lease.token:
            actor.traffic.takes += 1
            require(due, f"{actor.name} takes a lease, and nothing is due")
        elif not actor.disturbed:
            left = before.expires_at - now
            # Renewed early once, so that events may be kept.
            early = not before.keeps_events and new.lease.keeps_events and left <= options.lease - options.keeps_after
            require(early or left <= options.lease * 2 / 3, f"{actor.name} renews its lease, and {left} of it are left")

    def check(self, actor: Actor, old: Instance | None, new: Instance, acts: Sequence[Act]) -> None:
        before = old.lease if old is not None else None
        if before is not None and acts[0].kind in OVER_LEASES:
            holder = self.holders[before.token]
            require(new.lease in (before, None), f"{actor.name} has changed a lease")
            require(
                new.lease is not None or before.expires_at <= actor.process.latest(),
                f"{actor.name} has ended the live lease of {holder.name}",
            )
            holder.disturb()
        elif before is not None:
            holder = self.holders[before.token]
            if any(act.actor is not holder for act in acts):
                expired = before.expires_at <= actor.process.latest()
                require(expired, f"{actor.name} has committed over the live lease of {holder.name}")
                at_work = holder.running and not holder.process.dead and not holder.disturbed
                require(not at_work, f"the lease of {holder.name} ran out while it was at work undisturbed")
        if new.lease is not None and new.lease != before:
            mine = self.holders.setdefault(new.lease.token, actor) is actor
            require(mine, f"{actor.name} has written another's lease")
        for act in acts:
            if is_done_under_lease(act):
                leased = before is not None and self.holders[before.token] is act.actor
                require(leased, f"{act.actor.name} has committed a {act.kind} without the lease")
