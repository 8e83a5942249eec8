"""People who send requests that they may not send.

The rule: they are refused, and nothing changes. Who may read sees the instance, and no event that it could send.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.operations import ACTIONS, SetFields
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy, Forbidden, InstanceNotFound, Unauthenticated, Unavailable
from cloud_adapter.ports import Page
from tests.core.generate import EVENTS
from tests.simulation.actors import Denied
from tests.simulation.clients import PATIENCE_SECONDS, Client
from tests.simulation.model.violations import require
from tests.simulation.principals import READER
from tests.simulation.requests import LOST
from workflow_core import ANONYMOUS, EventNotAccepted, NewerVersion, Principal, UnknownStatement

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.processes import Process
    from tests.simulation.world import World

REFUSALS = (Forbidden, InstanceNotFound, Unauthenticated)


class Outsider(Client):
    """Knows the name of one instance."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model, f"outsiders to {model.id}", creates=False)
        roles = {"reader": frozenset((READER,)), "nobody": frozenset[str]()}
        self.principals = [Principal(f"outside|{name}", name, roles=some) for name, some in roles.items()]

    async def run(self) -> None:
        for _ in range(3 + self.rng.randrange(6)):
            await self.world.wait(self.rng.expovariate(1 / self.world.settings.pause_seconds))
            process = self.world.hosting.any_process(self.rng)
            if process is not None:
                await self.try_one(process, self.rng.choice([*self.principals, ANONYMOUS]))

    async def try_one(self, process: Process, principal: Principal) -> None:
        """Sends any request, and is answered by a refusal, unless it may look."""
        engine, model = process.engine, self.model
        at = model.workflow, model.id
        operation: Any = self.rng.choice((ACTIONS["cancel"](), ACTIONS["pause"](), SetFields(fields={"x": 9})))
        requests: dict[str, Any] = {
            "create": partial(engine.create, *at, b'{"x": 9}'),
            "event": partial(engine.handle_event, *at, self.rng.choice(EVENTS), b"9"),
            "operation": partial(engine.operate, *at, operation),
            "view": partial(engine.get, *at),
            "list": partial(engine.list, model.workflow),
            "outcome": partial(engine.outcome, *at, f"{model.id}-a-0-later"),
            "key": partial(engine.recorded, *at, f"{model.id}-a-create"),
        }
        what = self.rng.choice(list(requests))
        started = self.world.timeline.now
        actor = Denied(process, f"{process.name} {what} of {principal.name} for {self.name}")
        answer = await self.ask(actor, partial(requests[what], principal=principal))
        if answer is LOST or isinstance(answer, (*REFUSALS, Unavailable, Busy, NewerVersion)):
            return
        if what == "event" and READER in principal.roles and isinstance(answer, EventNotAccepted):
            return
        may_look = READER in principal.roles and what in ("view", "list", "outcome", "key")
        if isinstance(answer, View):
            require(not answer.accepted, f"{actor.name} is told that it may send {answer.accepted}")
        is_damaged = isinstance(answer, UnknownStatement) and self.world.settings.has_bad_deployment
        is_damaged = is_damaged or self.meets_damage(answer, started - PATIENCE_SECONDS)
        require(may_look or is_damaged, f"{actor.name} is answered by {answer!r}")
        require(
            is_damaged or answer is None or isinstance(answer, View | Page), f"{actor.name} is answered by {answer!r}"
        )
