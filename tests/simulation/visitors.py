"""People who look at the page of an instance, and what it offers them.

The rule: a page shows the stored fields. It offers an operation exactly if the operation is possible and would change
something, unless somebody else is faster. A trial changes nothing.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import KeyRecord
from cloud_adapter.engine.idempotency import stored_key
from cloud_adapter.engine.operations import ACTIONS, Action, Terminate
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy, InstanceEnded, InstanceNotFound, TooLarge, Unavailable
from cloud_adapter.history import HistoryKind
from tests.simulation.actors import Actor, Operator
from tests.simulation.clients import PATIENCE_SECONDS, Client
from tests.simulation.mistakes import MISTAKEN
from tests.simulation.model.violations import require, require_equal
from tests.simulation.principals import member
from tests.simulation.requests import LOST
from tests.simulation.typed import shown
from workflow_core import DuplicateThread, InvalidInput, RepairRefused, UnknownStatement, WorkflowError

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.processes import Process
    from tests.simulation.world import World

TRIAL = b'{"dry_run": true, "by": "ann", "reason": "to see"}'

IMPOSSIBLE = (InstanceEnded, RepairRefused)


class Visitor(Client):
    """Looks at one instance now and then."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model, f"visits to {model.id}", creates=False)

    async def run(self) -> None:
        for number in range(3 + self.rng.randrange(6)):
            await self.world.wait(self.rng.expovariate(1 / self.world.settings.pause_seconds))
            process = self.world.hosting.any_process(self.rng)
            if process is None:
                continue
            self.see_calls(process)
            await self.ask_for_key(process, number)
            view = await self.look()
            if view is not None:
                self.see_page(view)
                await self.try_out(process, self.rng.choice(list(ACTIONS.values())), view)

    def see_calls(self, process: Process) -> None:
        """What runs in a process, as it says when it ends."""
        calls = process.engine.running.list()
        require(len(calls) <= len(process.actors), f"{process.name} says that {calls} run, in {list(process.actors)}")
        for running in calls:
            require(running.text(process.now()).startswith(running.kind), f"what {running} is called")

    def see_page(self, view: View) -> None:
        """What a page shows."""
        require_equal("what is shown", view.state, shown(view.instance.fields))
        kinds = {entry.kind for entry in view.instance.history if isinstance(entry.kind, HistoryKind)}
        wrong = [kind for kind in kinds if kind.failed != kind.endswith("failed")]
        require(not wrong, f"{wrong} are not shown as what they are")
        names = [name for name, kind in ACTIONS.items() if kind.arguments()]
        require(not names, f"a page asks for no arguments, and {names} have some")

    async def try_out(self, process: Process, kind: type[Action], view: View) -> None:
        """Asks what an operation would do, and finds that out which is offered."""
        execution, commits = view.instance.execution, self.model.commits
        try:
            kind.from_json(b'{"dry_run": "perhaps"}')
        except InvalidInput:
            operation = kind.from_json(TRIAL)
        name = f"{process.name} trial of {kind.name} for {self.name}"
        actor = Operator(process, name, principal=self.principal)
        answer = await self.ask(actor, partial(self.operation, process, operation))
        changed = self.model.commits != commits or self.pc != execution.pc
        if isinstance(answer, View):
            is_offered = kind.is_offered(execution)
            does = answer.instance.execution.pc != execution.pc
            is_hidden = does and kind is Terminate  # while a cancellation is better
            require(
                changed or does == is_offered or is_hidden, f"{kind.name} is offered: {is_offered}, and would do {does}"
            )
        elif isinstance(answer, IMPOSSIBLE):
            require(changed or not kind.is_offered(execution), f"{kind.name} is offered, and refused: {answer}")
            refusal = kind.refusal(self.model.id)
            require(isinstance(answer, type(refusal)), f"{answer!r} is told, and the documents tell {refusal!r}")
        else:
            self.check_excuse(kind.name, answer)

    async def ask_for_key(self, process: Process, number: int) -> None:
        """Asks what a form that was sent before has come to."""
        engine, key = process.engine, self.rng.choice((f"{self.model.id}-a-create", f"{self.model.id}-a-{number}"))
        actor = Actor(process, f"{process.name} key {key} for {self.name}")
        sender = member(self.world.scenario, self.world.settings, f"{self.model.id}-a")
        recorded = partial(engine.recorded, self.model.workflow, self.model.id, key, principal=sender)
        calls = (recorded, engine.check_store)
        answer: Any = await self.ask(actor, self.rng.choice(calls))
        if isinstance(answer, KeyRecord):
            require_equal("the key of the record", answer.key, stored_key(key, sender))
        elif answer is not None:
            self.check_excuse("a look", answer)

    def check_excuse(self, what: str, answer: Any) -> None:
        known = answer is LOST or isinstance(answer, (Unavailable, Busy, InstanceNotFound, DuplicateThread))
        known = known or self.meets_damage(answer, self.world.timeline.now - 2 * PATIENCE_SECONDS)
        known = known or (isinstance(answer, UnknownStatement) and self.world.settings.has_bad_deployment)
        known = known or (isinstance(answer, TooLarge) and self.world.settings.has_limit)
        known = known or (isinstance(answer, WorkflowError) and self.world.settings.is_renamed)
        known = known or (self.world.settings.has_mistakes and isinstance(answer, MISTAKEN))
        require(known, f"{what} is answered by {answer!r}")
