"""A batch of 2,000 rows, in both forms."""

from __future__ import annotations

import asyncio
from typing import Any

import batch
import batch_explicit
import pytest

from tests.examples.running import services_of
from workflow_core import Execution, aresume

RELOADED_EACH = 100
"""After how many checkpoints the instance is loaded anew from the stored JSON."""


class Stopped(Exception):
    """The process ends."""


@pytest.mark.slow
@pytest.mark.parametrize("form", [batch.Batch, batch_explicit.Batch], ids=["plain", "explicit"])
def test_2000_rows(form: Any) -> None:
    services = services_of(batch)
    rows = [str(number) if number % 100 else f"wrong {number}" for number in range(2000)]
    workflow, execution = form(rows=rows), Execution.start("batch-1", form)
    checkpoints = most_threads = 0

    def stop(_: object) -> None:
        nonlocal checkpoints
        checkpoints += 1
        if checkpoints % RELOADED_EACH == 0:
            raise Stopped

    while not execution.ended:
        most_threads = max(most_threads, len(execution.threads))
        try:
            asyncio.run(aresume(workflow, execution, stop))
        except Stopped:
            workflow, execution = form.load_fields(workflow.dump_fields()), Execution.from_json(execution.to_json())
    assert checkpoints > 4000
    assert most_threads == 51  # its limit, and the main thread
    assert (workflow.imported, workflow.canceled) == (1980, "")
    assert sorted(problem.row for problem in workflow.problems) == sorted(f"wrong {n}" for n in range(0, 2000, 100))
    assert len(services["ledger"].done) == 1980
    assert services["mail"].log == ["1980 imported, 20 failed"]
