"""Runs of user code and of other work under a lease: how often each attempt is made.

The rule: an attempt at a piece of work (a step, a setup, a teardown, the delivery of a buffered event, the start or the
cancellation of a child, the message to a parent) is made once, and its outcome is in the next write of the request that
has made it. It is made once more only if that request was affected by a fault, or if an operator committed over its
lease; each fault accounts for one attempt that was made in vain. While a request makes an attempt, it runs the user
code once.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.simulation.model.attempts import Work
from tests.simulation.model.children import TELL
from tests.simulation.renaming import first_name
from workflow_core.machine import work as engine_work
from workflow_core.machine.outside_work import ChildCancel, ChildStart, SetupWork, TeardownWork, TellWork

if TYPE_CHECKING:
    from tests.simulation.actors import Actor, Run
    from tests.simulation.model.instance import Model

Attempt = tuple[Work, int]
"""A piece of work, and how often it has failed; for a delivery, the pc."""


class Runs:
    """The work of one instance that was done under leases."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self._made: dict[Attempt, list[Actor]] = {}
        self._in_vain: Counter[Actor] = Counter()
        self._now: dict[Actor, int] = {}

    def begin(self, actor: Actor, work: engine_work.Work, pc: int) -> None:
        """A request begins an attempt."""
        name = f"{type(work).__name__} of {work.statement!r}"
        place = _place(work)
        executor = self.model.executor
        self._now[actor] = 0
        pending = place in self.model.work()
        if not pending:
            self._accept(actor, f"{actor.name} begins a {name}, which is not to be done")
        attempt = place, pc if isinstance(work, engine_work.DeliveryWork) else executor.attempts.failures[place]
        made = self._made.setdefault(attempt, [])
        for earlier in made:
            self._accept(earlier, f"{actor.name} begins a {name} again, which {earlier.name} has done")
        made[:] = [actor]
        self.model.lateness.begun(place)

    def _accept(self, actor: Actor, what: str) -> None:
        """What an actor has done was in vain: this takes a fault."""
        self._in_vain[actor] += 1
        causes = actor.disturbances + actor.drags + actor.process.dead
        self._check(self._in_vain[actor] <= causes, f"{what}, and nothing has disturbed it")

    def dropped(self, actor: Actor) -> None:
        """What a request has done last has no outcome, without a fault: another instance was busy, or a move that
        came next has failed, and with it the instance."""
        for made in self._made.values():
            made[:] = [one for one in made if one is not actor]

    def ran(self, run: Run) -> None:
        """User code begins to run."""
        self._check(run.actor in self._now, f"{run.actor.name} runs a {run.kind}, which is not its work")
        self._now[run.actor] = self._now.get(run.actor, 0) + 1
        self._check(self._now[run.actor] == 1, f"{run.actor.name} runs a {run.kind} again, in the same attempt")

    def forget(self) -> None:
        """An operator has intervened: what is to be done is to be done anew."""
        self._made.clear()

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            self.model.world.violate(what)  # not raised: the engine would take it for an error of the work

    def end(self, actor: Actor) -> None:
        """The attempt has ended; its outcome is not yet written."""
        self._now.pop(actor, None)


def _place(work: engine_work.Work) -> Work:
    """How the executor calls a piece of work."""
    match work:
        case engine_work.StepWork(thread=thread):
            return "step", thread.id, thread.pc
        case SetupWork(wait=wait) | ChildStart(wait=wait):
            return "setup", wait.id, first_name(wait.event)
        case TeardownWork(teardown=teardown) | ChildCancel(teardown=teardown):
            return "teardown", teardown.id, first_name(teardown.event)
        case engine_work.DeliveryWork():
            return ("delivery of an event that was kept",)
        case TellWork():
            return TELL
    raise AssertionError(work)
