"""What happens to a batch."""

from __future__ import annotations

from datetime import timedelta

import batch
import batch_explicit

from tests.examples.running import Example, Run

ROWS = [str(number) for number in range(6)]


async def imported_with_problems(run: Run) -> None:
    run.services["ledger"].errors["3"] = [ConnectionError("no line")] * 9
    run.services["ledger"].errors["4"] = [ConnectionError("no line")]
    await run.create(rows=[*ROWS, "wrong"])
    await run.pass_time(timedelta(minutes=2))
    fields = await run.fields()
    assert fields.imported == 5
    assert {problem.row: problem.reason for problem in fields.problems} == {
        "3": "no line",
        "wrong": "'wrong' is not a number",
    }
    assert sorted(run.services["ledger"].log) == ["0", "1", "2", "4", "5"]
    assert run.services["mail"].log == ["5 imported, 2 failed"]
    assert await run.status() == "finished"


async def stopped_by_too_many_problems(run: Run) -> None:
    await run.create(rows=["a", "b", "c", "d"], problems_max=1)
    await run.pass_time(timedelta(minutes=1))
    fields = await run.fields()
    assert (fields.canceled, len(fields.problems)) == ("more than 1 rows failed", 2)
    assert run.services["ledger"].log == []
    assert run.services["mail"].log == ["0 imported, 2 failed"]
    assert await run.status() == "finished"


EXAMPLE = Example(
    batch,
    plain=(batch.Batch,),
    explicit=(batch_explicit.Batch,),
    scenarios=(imported_with_problems, stopped_by_too_many_problems),
)
