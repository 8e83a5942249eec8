"""An instance that was started by the explicit form continues under the plain form, because the names are the same."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import expense
import pytest

from tests.examples.expense_scenarios import ANN, EXAMPLE
from tests.examples.running import Run, new_world, services_of

FORMS = [(EXAMPLE.explicit, EXAMPLE.plain), (EXAMPLE.plain, EXAMPLE.explicit)]


@pytest.mark.parametrize(("days", "place"), [(0, "decide"), (4, "decide"), (10, "director decides")])
@pytest.mark.parametrize(("before", "after"), FORMS, ids=["explicit to plain", "plain to explicit"])
def test_it_continues_at_each_wait(tmp_path: Path, before: Any, after: Any, days: int, place: str) -> None:
    async def scenario() -> None:
        async with new_world(tmp_path, before) as world:
            run = Run(world, services_of(expense))
            await run.create(employee="Bob", amount="80")
            await run.pass_time(timedelta(days=days))
            assert await run.places() == {place}
            run.continue_with(after)
            await run.pass_time(timedelta(days=1))
            await run.send("decide", ANN)
            fields = await run.fields()
            assert (fields.status, fields.reminders) == ("approved", min(3, days // 3))
            assert run.services["mail"].log[-1] == "Bob: approved"
            assert await run.status() == "finished"

    asyncio.run(scenario())


def test_the_timer_that_is_set_counts_for_the_other_form(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with new_world(tmp_path, EXAMPLE.explicit) as world:
            run = Run(world, services_of(expense))
            await run.create(employee="Bob", amount="80")
            run.continue_with(EXAMPLE.plain)
            await run.pass_time(timedelta(days=17))
            assert ((await run.fields()).status, await run.status()) == ("rejected", "finished")
            assert len(run.services["mail"].log) == 5

    asyncio.run(scenario())
