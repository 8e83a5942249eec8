"""What reaches a process that nobody of it has made: tasks and inbox entries of strangers, and code that cannot start.

The rule: it is refused or dropped, and everything else goes on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import InboxEntry
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.inbox import entry_name
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.engine.tasks import RESUME_PATH
from cloud_adapter.errors import InvalidRequest, TooLarge, WorkflowNotFound
from tests.simulation.actors import Actor
from tests.simulation.clients import Client
from tests.simulation.model.violations import require
from tests.simulation.requests import LOST
from tests.simulation.wrong_code import WRONG_CODE
from workflow_core import DefinitionError, On, S, Select, Workflow

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.processes import Process
    from tests.simulation.world import World

BODIES = ("no json", "{}", '{"kind": "unknown"}', '{"kind": "end"}', '{"kind": "result", "wait_id": 7}')


class Misnamed(Workflow, name="misnamed"):
    """Has an event with the name of an operation."""

    definition = S(Select("wait", On("cancel", lambda w: None)))


class Stranger(Client):
    """Sends one process after another what does not belong there."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model, f"strangers to {model.id}", creates=False)

    async def run(self) -> None:
        for number in range(3 + self.rng.randrange(8)):
            await self.world.wait(self.rng.expovariate(1 / self.world.settings.pause_seconds))
            process = self.world.hosting.any_process(self.rng)
            point = self.rng.random()
            if process is None:
                continue
            if point < 0.2:
                self.deploy()
            elif point < 0.5 and self.model.exists and self.world.settings.recovers:
                await self.post(process, number)
            else:
                await self.send_anything(process)

    def deploy(self) -> None:
        """Starts an engine that cannot serve what it is given."""
        (flow, *_), (child, *_) = self.world.definitions.flows, self.world.definitions.children

        class Other(child, name="child"):  # type: ignore[call-arg, misc, valid-type]
            """Has the name of another workflow."""

        for workflows in ([flow, child, Other], [flow, child, Misnamed]):
            try:
                Engine(workflows, None, None)  # type: ignore[arg-type]
            except DefinitionError:
                continue
            require(False, f"an engine serves {workflows}")
        for number in self.rng.sample(range(len(WRONG_CODE)), 3):
            try:
                WRONG_CODE[number]()
            except DefinitionError:
                continue
            require(False, f"wrong code number {number} is imported")

    async def post(self, process: Process, number: int) -> None:
        """Puts an entry into an inbox that nobody can read. Some are not even accepted."""
        now, workflow, id = self.world.now, self.model.workflow, self.model.id
        body, name = self.rng.choice(BODIES), entry_name("end", self.name, number)
        bad = [InboxEntry(workflow, id, "no name!", body, now), InboxEntry(workflow, id, name, "x" * 10_000_000, now)]
        entry = self.rng.choice([InboxEntry(workflow, id, name, body, now)] * 4 + bad)
        actor = Actor(process, f"{process.name} foreign entry for {self.name}")
        answer = await self.ask(actor, partial(process.engine.store.post, entry))
        if entry in bad:
            require(answer is LOST or isinstance(answer, InvalidRequest | TooLarge), f"it is answered by {answer!r}")

    async def send_anything(self, process: Process) -> None:
        """Sends tasks and requests that no engine makes."""
        now = self.world.now.isoformat()
        body = {"workflow": "unknown", "id": "nobody", "pc": 1, "created_at": now, "trace": "nonsense"}
        engine, asked = process.engine, self.rng.randrange(5)
        expected: Any = (InvalidRequest, InvalidRequest, Outcome, WorkflowNotFound, InvalidRequest)[asked]
        perform: Any = (
            partial(run_task, engine, "/nowhere", body),
            partial(run_task, engine, RESUME_PATH, body | {"pc": "many"}),
            partial(run_task, engine, RESUME_PATH, body),
            partial(engine.get, "unknown", "nobody"),
            partial(engine.get, self.model.workflow, ""),
        )[asked]
        actor = Actor(process, f"{process.name} number {asked} of a stranger")
        answer = await self.ask(actor, perform)
        require(answer is LOST or isinstance(answer, expected), f"{actor.name} is answered by {answer!r}")
