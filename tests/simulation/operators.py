"""Operators that repair instances: they move threads, set fields, and retry what has failed, while all goes on.

An operator sees the state of the model, and asks for what is possible in it. As the instance may change meanwhile, most
requests name the ``pc`` that was seen. Some requests are invalid on purpose, and must change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.engine.operations import Goto, Operation, RetryFailed, SetFields, Terminate
from cloud_adapter.engine.view import View
from cloud_adapter.errors import Busy, TooLarge, Unavailable
from tests.core.reference import arity
from tests.simulation.actors import Operator
from tests.simulation.clients import Client
from tests.simulation.mistakes import MISTAKEN
from tests.simulation.model.repairs import Moved, loops_on, path_to, places_in
from tests.simulation.model.violations import require
from tests.simulation.requests import LOST
from workflow_core import DuplicateThread, RepairRefused

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.world import World

BY = {"by": "ann", "reason": "as drawn"}


@dataclass(eq=False, kw_only=True)
class Repair(Operator):
    """A request for a repair."""

    operation: Operation


class Repairer(Client):
    """Repairs one instance now and then."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model, f"repairs of {model.id}", creates=False)
        self.last = world.scenario.stream(f"termination of {model.id}")

    async def run(self) -> None:
        for _ in range(2 + self.rng.randrange(7)):
            await self.world.wait(self.rng.expovariate(1 / self.world.settings.pause_seconds))
            if self.model.exists:
                await self.repair()
        if self.model.exists and self.last.random() < 0.2:
            await self.ask_for(self.terminate)

    async def repair(self) -> None:
        rng, executor = self.rng, self.model.executor
        point = rng.random()
        if executor.failed and point < 0.8 and self.model.parent is None:
            await self.change(0.5)
            await self.ask_for(self.retry)
        elif point < 0.15:
            await self.ask_for(self.invalid)
        elif point < 0.4 and not executor.ended:
            await self.operate("pause")
            await self.world.wait(rng.expovariate(1 / 10))
            await self.change(0.8)
            await self.operate("unpause")
        else:
            await self.change(0.7)

    async def change(self, chance: float) -> None:
        if self.rng.random() < chance:
            await self.ask_for(self.fields)
        if self.rng.random() < chance:
            await self.ask_for(self.goto)

    # --- what is asked for ---------------------------------------------------------------

    def retry(self) -> Operation | None:
        return RetryFailed(**BY, pc=self.model.executor.pc) if self.model.executor.failed else None

    def terminate(self) -> Operation | None:
        executor = self.model.executor
        is_possible = executor.teardowns or not executor.ended
        return Terminate(**BY, pc=executor.pc) if is_possible else None

    def fields(self) -> Operation | None:
        """New values of fields. The result of a child that has ended stays as it is, as its parent may know it."""
        names = self.rng.sample(("x", "y"), self.rng.randrange(1, 3))
        values = {name: self.rng.randrange(-3, 4) for name in names}
        if self.model.parent is not None:
            return None if self.model.executor.ended else SetFields(**BY, fields=values, pc=self.model.executor.pc)
        return SetFields(**BY, fields=values, dry_run=self.rng.random() < 0.1)

    def goto(self) -> Operation | None:
        """A statement of any thread that can be moved."""
        executor, rng = self.model.executor, self.rng
        if executor.canceling:
            return None
        threads = [thread for thread in executor.threads if not executor.children(thread)]
        if not threads:
            return None
        thread: Any = rng.choice(threads)
        places = [name for name in places_in(thread.body, thread.prefix) if self.has_items(thread, name)]
        if not places:
            return None
        statement, dry_run = rng.choice(places), rng.random() < 0.1
        return Goto(**BY, thread=thread.id, statement=statement, pc=executor.pc, dry_run=dry_run)

    def has_items(self, thread: Moved, name: str) -> bool:
        """Whether each loop around a statement that the thread would begin has a first item."""
        around = thread.items if thread.before is None else thread.before[0]
        item: Any = self.model.executor.item_in(around)[0]
        for _, loop in loops_on(thread.body, thread.prefix, path_to(thread.body, thread.prefix, name) or []):
            items = [*loop.items(*(self.model.executor.workflow, item)[: arity(loop.items)])]
            if not items:
                return False
            item = items[0]
        return True

    def invalid(self) -> Operation:
        rng, executor = self.rng, self.model.executor
        wrong: list[Operation] = [
            Goto(**BY, statement="nowhere"),
            Goto(**BY, statement="nowhere", thread="nobody"),
            SetFields(**BY, fields={"x": "many"}),
            SetFields(**BY, fields={"nothing": 1}),
            SetFields(**BY, fields={"x": 1}, pc=-1),
        ]
        threads: list[Any] = [one for one in executor.threads if executor.canceling or executor.children(one)]
        for thread in threads[:1]:
            place = next(places_in(thread.body, thread.prefix), "nowhere")
            wrong += [Goto(**BY, thread=thread.id, statement=place, pc=executor.pc)] * 3
        if not executor.failed:
            wrong.append(RetryFailed(**BY, pc=executor.pc))
        return rng.choice(wrong)

    # --- requests ------------------------------------------------------------------------

    async def ask_for(self, choose: Any) -> None:
        """Asks until there is an answer, each time for what is possible then."""
        for _ in range(4):
            process, operation = self.world.hosting.any_process(self.rng), choose()
            if operation is None:
                return
            if process is not None:
                seen, commits = self.pc, self.model.commits
                name = f"{process.name} {operation.name} for {self.name}"
                actor = Repair(process, name, operation=operation, principal=self.principal)
                perform = partial(self.operation, process, operation)
                answer = await self.ask(actor, perform)
                if isinstance(answer, View):
                    require(choose != self.invalid, f"{operation} is carried out")
                    if not operation.dry_run:
                        self.check_view(answer, seen)
                    return
                if isinstance(answer, RepairRefused):
                    has_reason = choose == self.invalid or self.model.commits > commits
                    require(has_reason, f"{operation} is refused: {answer}")
                    if choose == self.invalid:
                        return
                else:
                    known = answer is LOST or isinstance(answer, (Unavailable, Busy, DuplicateThread))
                    known = known or (isinstance(answer, TooLarge) and self.world.settings.has_limit)
                    known = known or (self.world.settings.has_mistakes and isinstance(answer, MISTAKEN))
                    require(known, f"{operation} is answered by {answer!r}")
            await self.world.wait(self.rng.uniform(0.1, 10))
