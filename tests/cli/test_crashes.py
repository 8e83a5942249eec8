"""Processes that are killed, and processes that share a database: nothing is lost, nothing is done twice."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.processes import Server, dev
from tests.http.helpers import until

pytestmark = pytest.mark.slow

JOBS = '''
from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from pathlib import Path

from workflow_core import On, Return, S, Select, Step, StepContext, Timeout, While, Workflow

FOLDER = Path(__file__).parent


class Job(Workflow, name="job"):
    """A step that waits for a file, an event, and a timer."""

    log: list[str] = []

    async def work(self, step: StepContext) -> None:
        with (FOLDER / "runs").open("a") as runs:
            runs.write(f"{step.workflow_id} {step.idempotency_key} {os.getpid()}\\n")
        while not (FOLDER / "gate").exists():
            await asyncio.sleep(0.01)
        self.log.append("worked")

    def go(self, word: str) -> None:
        self.log.append(word)

    def late(self) -> None:
        self.log.append("late")

    definition = S(
        Step("work", work),
        Select("the event", On("Go", go)),
        Select("the timer", On("Never", late), Timeout("time is up", timedelta(seconds=1.5), Step("late", late))),
    )


class Tally(Workflow, name="tally"):
    marks: list[str] = []
    closed: bool = False
    summed: int = 0

    def mark(self, who: str) -> int:
        self.marks.append(who)
        return len(self.marks)

    def close(self) -> None:
        self.closed = True

    def count(self) -> None:
        self.summed = len(self.marks)

    definition = S(
        While("open", lambda w: not w.closed, Select("tally", On("Mark", mark), On("Close", close))),
        Step("sum", count),
    )
'''

QUICK: dict[str, Any] = {
    "GORCHESTRATE_LEASE_SECONDS": "1",
    "GORCHESTRATE_RECOVER_SECONDS": "0.5",
    "GORCHESTRATE_LOG_LEVEL": "WARNING",
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "jobs.py"
    source.write_text(JOBS)
    return source


@pytest.fixture(params=["sqlite", "postgresql"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A new database."""
    if request.param == "sqlite":
        return tmp_path / "orders.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


def runs(source: Path) -> list[list[str]]:
    """The instance, the idempotency key and the process of each run of the step."""
    file = source.parent / "runs"
    return [line.split() for line in file.read_text().splitlines()] if file.exists() else []


def test_killed_in_a_step_in_a_wait_and_before_a_timer(source: Path, db: Path | str) -> None:
    gate = source.parent / "gate"
    with dev(source, db, **QUICK) as server:
        gate.touch()
        for id in ("waits", "timed"):
            server.post(f"/wf/job/{id}")
            server.at(f"/wf/job/{id}", "the event")
        gate.unlink()
        server.post("/wf/job/works")
        until(lambda: "works" in [id for id, _, _ in runs(source)])
        server.post("/wf/job/timed/Go", "gone", headers={"Idempotency-Key": "go-1"})
        waits, timed = (server.get(f"/wf/job/{id}") for id in ("waits", "timed"))
        assert timed["meta"]["threads"][0]["step"] == "the timer"
        server.process.kill()

    gate.touch()
    with dev(source, db, **QUICK) as server:
        assert server.get("/wf/job/waits") == waits, "a wait costs nothing and changes nothing"
        server.at("/wf/job/works", "the event")
        for id in ("waits", "works"):
            server.post(f"/wf/job/{id}/Go", "gone")
        assert server.finished("/wf/job/timed") == {"log": ["worked", "gone", "late"]}
        assert server.post("/wf/job/timed/Go", "gone", headers={"Idempotency-Key": "go-1"}) is None
        for id in ("waits", "works"):
            assert server.finished(f"/wf/job/{id}") == {"log": ["worked", "gone", "late"]}

    done = runs(source)
    assert Counter(id for id, _, _ in done) == {"waits": 1, "timed": 1, "works": 2}
    assert len({key for id, key, _ in done if id == "works"}) == 1, "both attempts have one idempotency key"
    assert len({key for _, key, _ in done}) == 3


def test_a_deadline_that_passes_while_nobody_runs(source: Path, db: Path | str) -> None:
    (source.parent / "gate").touch()
    with dev(source, db, **QUICK) as server:
        server.post("/wf/job/a")
        server.at("/wf/job/a", "the event")
        server.post("/wf/job/a/Go", "gone")
        deadline = server.get("/wf/job/a")["meta"]["wake_at"]
        server.process.kill()
    with dev(source, db, **QUICK) as server:
        assert server.finished("/wf/job/a")["log"][-1] == "late"
        history = server.get("/wf/job/a")["history"]
        (timeout,) = [entry for entry in history if entry["kind"] == "timeout"]
        assert timeout["at"] >= deadline


def test_one_takes_over_what_another_leaves_behind(source: Path, db: Path | str) -> None:
    with dev(source, db, **QUICK) as first, dev(source, db, **QUICK) as second:
        first.post("/wf/job/a")
        # A busy machine may let the second one's recovery come first.
        ((_, _, runner),) = until(lambda: runs(source))
        killed, other = sorted((first, second), key=lambda server: server.process.process.pid != int(runner))
        killed.process.kill()
        (source.parent / "gate").touch()
        other.at("/wf/job/a", "the event")
        other.post("/wf/job/a/Go", "gone")
        assert other.finished("/wf/job/a") == {"log": ["worked", "gone", "late"]}
    done = runs(source)
    assert len(done) == 2 and len({key for _, key, _ in done}) == 1 and len({process for _, _, process in done}) == 2


def test_two_processes_take_events_for_one_instance(source: Path, db: Path | str) -> None:
    each = 15
    with dev(source, db, **QUICK) as first, dev(source, db, **QUICK) as second:
        first.post("/wf/tally/a")

        def client(number: int) -> list[int]:
            server: Server = (first, second)[number % 2]
            return [server.post("/wf/tally/a/Mark", f"client {number}, {mark}") for mark in range(each)]

        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(client, range(4)))
        marks = second.get("/wf/tally/a")["state"]["marks"]
        assert sorted(marks) == sorted(f"client {n}, {mark}" for n in range(4) for mark in range(each))
        assert sorted(count for one in counts for count in one) == list(range(1, 4 * each + 1))
        for n in range(4):
            own = [mark for mark in marks if mark.startswith(f"client {n},")]
            assert own == [f"client {n}, {mark}" for mark in range(each)], "each client's events are in its order"
        second.post("/wf/tally/a/Close")
        assert first.finished("/wf/tally/a")["summed"] == 4 * each
