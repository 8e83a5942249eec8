"""The fixes that the deploy check prints for a plain definition: those that its form allows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cloud_adapter.cli.stored_instances import check_store
from tests.engine.harness import World, article, in_world, nothing
from workflow_core import On, Select, Workflow, event, gather, parallel, section, select, sleep, step


class Approval(Workflow, name="article"):
    """Waits at a select."""

    @event
    def approve(self) -> None: ...

    @event
    def reject(self) -> None: ...

    async def run(self) -> None:
        await select(self.approve, self.reject)


class Withdrawn(Approval, name="article"):
    @event
    def withdraw(self) -> None: ...

    async def run(self) -> None:
        await select(self.approve, self.reject, self.withdraw)


class Named(Withdrawn, name="article"):
    async def run(self) -> None:
        await select(self.approve, self.reject, self.withdraw).named("approve or reject")


class Rest(Approval, name="article"):
    """Waits for a computed time."""

    days: int = 2

    async def run(self) -> None:
        await sleep(timedelta(days=self.days / 2))


class Reviewed(Approval, name="article"):
    """Waits in a section."""

    @section
    async def review(self) -> None:
        await select(self.approve)

    async def run(self) -> None:
        await self.review()


class Checked(Approval, name="article"):
    @section
    async def check(self) -> None:
        await select(self.approve)

    async def run(self) -> None:
        await self.check()


class Declared(Approval, name="article"):
    @section(renamed_from="review")
    async def check(self) -> None:
        await select(self.approve)

    async def run(self) -> None:
        await self.check()


class Wider(Reviewed, name="article"):
    @section
    async def review(self) -> None:
        await select(self.approve, self.reject)


class Written(Workflow, name="article"):
    """Stands at a step."""

    @step
    def write(self) -> None: ...

    async def run(self) -> None:
        await self.write()


class Composed(Workflow, name="article"):
    @step
    def compose(self) -> None: ...

    async def run(self) -> None:
        await self.compose()


class Branches(Reviewed, name="article"):
    """Waits for its branches."""

    async def run(self) -> None:
        async with parallel() as branch:
            branch.start(self.review())


class Gathered(Reviewed, name="article"):
    async def run(self) -> None:
        await gather(self.review(), select(self.reject))


REST = "restore it, wait until no instance is there, or repair the instances"
CALLED = "add .named('{}') to the call that replaces it, "
FIXES: dict[str, tuple[type[Workflow], type[Workflow], str | None]] = {
    "select": (Approval, Withdrawn, CALLED.format("approve or reject")),
    "named": (Approval, Named, None),
    "sleep": (Rest, Approval, CALLED.format("sleep(timedelta(days=self.days / 2))")),
    "in a section": (Reviewed, Wider, CALLED.format("approve")),
    "section": (Reviewed, Checked, "add @section(renamed_from='review') to the method that replaces the section, "),
    "declared section": (Reviewed, Declared, None),
    "step": (Written, Composed, "add renamed_from='write' to the decorator of its replacement, "),
    "block": (Branches, Approval, ""),
    "gather": (Gathered, Approval, CALLED.format("gather review, reject")),
    "explicit": (Approval, article(Select("wait", On("E", nothing))), "add renamed_from='approve or reject' to its "),
}


@pytest.mark.parametrize("what", FIXES)
def test_the_fix(tmp_path: Path, what: str) -> None:
    old, new, fix = FIXES[what]

    async def scenario(world: World) -> None:
        await world.create()
        if old is not Written:
            await world.deliver()
        fixes = [
            problem.fix
            for problem, places in (await check_store(world.store, [new])).problems.items()
            if "main" in {place.thread for place in places}
        ]
        if fix is None:
            assert fixes == []
        else:
            (found,) = fixes
            assert found.startswith(fix) and found.endswith(REST)
            assert fix or found == REST

    in_world(old)(scenario)(tmp_path)
