"""Clients that list instances by status and search fields, and send values that cannot be searched for.

The rule: the search fields that are stored are those of the stored fields, after each write. A listing contains exactly
the instances that match it, the last updated first; if a write comes in between, before or after that write.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import Instance
from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.ports import Order, Page
from cloud_adapter.stores.listings import time_in
from cloud_adapter.summaries import Summary, summary_of
from tests.simulation.actors import Actor
from tests.simulation.clients import Client
from tests.simulation.flows import UNSEARCHABLE
from tests.simulation.model.violations import require, require_equal
from tests.simulation.requests import LOST, Request
from tests.simulation.typed import SAMPLES, WRONG_SEARCHES, sample_of
from workflow_core import Status

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model
    from tests.simulation.world import World

WRONG: tuple[dict[str, Any], ...] = (
    {"status": "lost"},
    {"limit": 0},
    {"limit": 100_000},
    {"search": {"log": "a"}},
    {"search": {"x": "many"}},
    {"search": {"x": str(UNSEARCHABLE)}},
    {"cursor": "nowhere"},
    {"order": "sideways"},
)


class Lister(Client):
    """Lists the instances of one workflow now and then."""

    def __init__(self, world: World, model: Model) -> None:
        super().__init__(world, model, f"listings of {model.id}", creates=False)

    async def run(self) -> None:
        rng, model = self.rng, self.model
        for number in range(2 + rng.randrange(6)):
            await self.world.wait(rng.expovariate(1 / self.world.settings.pause_seconds))
            point = rng.random()
            if point < 0.2:
                body, key = str(UNSEARCHABLE).encode(), f"{self.name}-{number}"
                view = await self.look()
                events = [one.case.event for one in view.accepted] if view is not None else []
                name = rng.choice([*events, *model.events.keepable, "A"])
                await self.insist(Request(model, name, body, key=key if rng.random() < 0.5 else None))
            elif point < 0.25 and not model.exists:
                await self.insist(Request(model, "", json.dumps({"x": UNSEARCHABLE}).encode()))
            elif point < 0.4:
                wrong = [*WRONG, *({"search": one} for one in WRONG_SEARCHES)]
                await self.page(**rng.choice(wrong if self.is_typed else WRONG))
            else:
                await self.list_matching()

    async def list_matching(self) -> None:
        """Lists by a random filter, page after page."""
        rng, filters = self.rng, dict[str, Any]()
        if rng.random() < 0.4:
            filters["status"] = rng.choice(list(Status))
        if rng.random() < 0.6:
            names = rng.sample(("x", "y"), rng.randrange(1, 3))
            filters["search"] = {name: str(self.value(name)) for name in names}
        if self.is_typed and rng.random() < 0.6:
            wanted = rng.sample(sorted(SAMPLES), rng.randrange(1, 3))
            filters["search"] = {name: rng.choice(rng.choice(SAMPLES[name]).texts) for name in wanted}
        filters["order"] = order = rng.choice((Order.UPDATED, Order.UPDATED, *Order))
        limit = rng.choice((1, 2, 50))
        commits, found = self.world.commits, list[Summary]()
        page = await self.page(**filters, limit=limit)
        while page is not None:
            found += page.instances
            for one in page.instances:
                require(self.matches(one, filters), f"{one.id!r} is listed, and does not match {filters}")
            if page.cursor is None:
                break
            page = await self.page(**filters, limit=limit, cursor=page.cursor)
        if page is not None and self.world.commits == commits:
            require_equal(f"instances of {filters}", found, self.expected(filters, order))

    def value(self, name: str) -> int:
        """Mostly a value that the field has."""
        if self.model.exists and self.rng.random() < 0.8:
            return int(getattr(self.model.executor.workflow, name))
        return self.rng.randrange(-3, 4)

    async def page(self, **filters: Any) -> Page | None:
        process = self.world.hosting.any_process(self.rng)
        if process is None:
            return None
        actor = Actor(process, f"{process.name} list for {self.name}")
        listed = partial(process.engine.list, self.model.workflow, principal=self.principal)
        answer = await self.ask(actor, partial(listed, **filters))
        if isinstance(answer, Page):
            require(not self.is_wrong(filters), f"{filters} is listed")
            require(len(answer.instances) <= filters.get("limit", 50), f"{filters} gives too many instances")
            return answer
        refused = isinstance(answer, InvalidRequest) and self.is_wrong(filters)
        require(refused or answer is LOST or isinstance(answer, Unavailable), f"{filters} is answered by {answer!r}")
        return None

    @property
    def is_typed(self) -> bool:
        return self.world.settings.has_typed_fields

    @staticmethod
    def is_wrong(filters: dict[str, Any]) -> bool:
        return filters in WRONG or filters.get("search") in WRONG_SEARCHES

    @staticmethod
    def matches(found: Summary | Instance, filters: dict[str, Any]) -> bool:
        """Whether an instance is to be listed. Of a summary, which has other forms of samples, only numbers are
        compared."""
        summary = isinstance(found, Summary)
        fields = found.search if isinstance(found, Summary) else json.loads(found.fields)
        status = found.status if isinstance(found, Summary) else found.execution.status
        right = all(
            summary or text in sample_of(name, fields[name]).texts if name in SAMPLES else fields[name] == int(text)
            for name, text in filters.get("search", {}).items()
        )
        return right and filters.get("status", status) == status

    def expected(self, filters: dict[str, Any], order: Order) -> list[Summary]:
        """What is to be listed, by what is stored of the fields."""
        of_this = [one for one in self.world.database.readable() if one.workflow == self.model.workflow]
        found = [summary_of(one) for one in of_this if self.matches(one, filters)]
        return sorted(found, key=lambda one: (time_in(order, one), one.id), reverse=order is not Order.ID)
