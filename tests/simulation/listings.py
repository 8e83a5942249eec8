"""Clients that list instances by status and search fields, and send values that cannot be searched for.

The rule: the search fields that are stored are those of the stored fields, after each write. A listing contains exactly
the instances that match it, the last updated first; if a write comes in between, before or after that write.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_adapter.document import Instance
from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.ports import Page
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.summaries import Summary, summary_of
from tests.simulation.actors import Actor
from tests.simulation.clients import Client
from tests.simulation.flows import UNSEARCHABLE
from tests.simulation.model.violations import require, require_equal
from tests.simulation.requests import LOST, Request
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
                await self.page(**rng.choice(WRONG))
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
            expected = self.expected(filters)
            require_equal(f"instances of {filters}", found, expected)

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
        answer = await self.ask(actor, partial(process.engine.list, self.model.workflow, **filters))
        if isinstance(answer, Page):
            require(filters not in WRONG, f"{filters} is listed")
            require(len(answer.instances) <= filters.get("limit", 50), f"{filters} gives too many instances")
            return answer
        refused = isinstance(answer, InvalidRequest) and filters in WRONG
        require(refused or answer is LOST or isinstance(answer, Unavailable), f"{filters} is answered by {answer!r}")
        return None

    @staticmethod
    def matches(summary: Summary, filters: dict[str, Any]) -> bool:
        wanted = filters.get("search", {})
        right = all(summary.search[name] == int(text) for name, text in wanted.items())
        return right and filters.get("status", summary.status) == summary.status

    def expected(self, filters: dict[str, Any]) -> list[Summary]:
        """What is to be listed, by what is stored of the fields."""
        of_this = [one for one in self.world.database.all() if one.workflow == self.model.workflow]
        by_fields = [replace(summary_of(one), search=self.searched(one)) for one in of_this]
        found = [one for one in by_fields if self.matches(one, filters)]
        return sorted(found, key=lambda one: (one.updated_at or EPOCH, one.id), reverse=True)

    @staticmethod
    def searched(instance: Instance) -> dict[str, Any]:
        fields = json.loads(instance.fields)
        return {name: fields[name] for name in instance.search}
