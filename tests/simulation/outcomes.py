"""Clients ask what has become of an event that was kept.

The rule: they are told that it waits, until the write that decides it, and then what that write has recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.errors import Unavailable
from tests.simulation.actors import Question
from tests.simulation.model.violations import require
from tests.simulation.requests import LOST, Request
from workflow_core import NewerVersion

if TYPE_CHECKING:
    from tests.simulation.clients import Client


async def ask_for_outcome(client: Client, request: Request) -> None:
    """Asks once, a while after the event was kept."""
    world, rng = client.world, client.outcomes
    await world.wait(rng.uniform(0, 60))
    process = world.hosting.any_process(rng)
    if process is None:
        return
    workflow, id, token = client.model.workflow, client.model.id, request.outcome
    before, started = world.kept.outcome(id, token), world.timeline.now
    actor, engine = Question(process, f"{process.name} outcome for {client.name}"), process.engine
    answer = await client.ask(actor, lambda: engine.outcome(workflow, id, token, principal=client.principal))
    if isinstance(answer, Outcome):
        after = world.kept.outcome(id, token)
        told = None if answer.waits else {"error": answer.error} if answer.error else {"answer": answer.answer}
        require(told in (before, after), f"the outcome {token} is said to be {told}, and is {before} or {after}")
        return
    known = answer is LOST or isinstance(answer, (Unavailable, NewerVersion)) or client.meets_damage(answer, started)
    known = known or (answer is None and world.kept.is_forgotten(id, token, world.now))
    require(known, f"the outcome {token} is said to be {answer!r}")
