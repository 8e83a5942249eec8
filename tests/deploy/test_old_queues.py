"""Queues that a deployment no longer uses: when they are deleted."""

from __future__ import annotations

import pytest

from tests.deploy.desk import DATABASE, REGION, Desk, Run
from tests.deploy.fake_google import Json
from tests.deploy.test_traffic import FIRST, SECOND, THIRD, deployed, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MARK = f"{DATABASE}/documents/gorchestrate/deployment"
QUEUES = f"{REGION}/queues"


def deploy(desk: Desk, release: str, queue: str, **more: str) -> Run:
    """What a deployment does with its queues."""
    desk.google.resources.setdefault(f"{QUEUES}/{queue}", {"name": queue})
    variables = {"GORCHESTRATE_QUEUE": queue} | {f"GORCHESTRATE_{name}": value for name, value in more.items()}
    deployed(desk.google, release, **variables)
    run = desk.call(f"TOOLS='{desk.directory}'; claim_database; remove_old_queues", QUEUE=queue, **more)
    assert run.process.returncode == 0, run.process.stderr
    return run


def said(run: Run) -> list[str]:
    """What was told of each queue."""
    return [line.partition("is kept: ")[2] for line in run.process.stdout.splitlines() if "is kept: " in line]


def queues(run: Run) -> list[str]:
    return sorted(path.rpartition("/")[2] for path in run.resources if path.rpartition("/")[0] == QUEUES)


def marked(run: Run) -> list[str]:
    values: list[Json] = run.resources[MARK]["fields"]["queues"]["arrayValue"]["values"]
    return [value["stringValue"] for value in values]


def test_a_queue_is_deleted_once_no_rollback_needs_it_and_it_has_no_tasks(desk: Desk) -> None:
    for number in (2, 3):
        desk.google.resources[f"{QUEUES}/a-{number}"] = {"name": f"a-{number}"}
    task = f"{QUEUES}/a-2/tasks/t"
    desk.google.resources[task] = {"name": task, "scheduleTime": "2025-02-03T04:05:06Z"}
    assert said(deploy(desk, FIRST, "a", QUEUES="2", ACTIVITY_QUEUE="a-3")) == []
    run = deploy(desk, SECOND, "b")
    assert [text.partition(".")[0] for text in said(run)] == ["a rollback needs it"] * 3
    assert queues(run) == ["a", "a-2", "a-3", "b"]
    run = deploy(desk, THIRD, "b")
    (text,) = said(run)
    assert text.startswith("it has tasks (1), the last of them due at 2025-02-03T04:05:06")
    assert (queues(run), marked(run)) == (["a-2", "b"], ["b", "a-2"])
    del desk.google.resources[task]
    run = deploy(desk, "20250104T000000Z", "b")
    assert (said(run), queues(run), marked(run)) == ([], ["b"], ["b"])
    assert not any("queues describe" in command for command in deploy(desk, "20250105T000000Z", "b").commands)


def test_a_dry_run_tells_that_queues_may_be_deleted(desk: Desk) -> None:
    run = desk.call("DRY_RUN=true; claim_database; remove_old_queues")
    assert "== Queues that were used before\n    deleted if the settings no longer name them" in run.process.stdout
    assert run.requests == []


def test_a_queue_that_was_deleted_by_hand_is_forgotten(desk: Desk) -> None:
    deploy(desk, FIRST, "a")
    del desk.google.resources[f"{QUEUES}/a"]
    run = deploy(desk, SECOND, "b")
    assert (said(run), marked(run)) == ([], ["b"])


def test_a_queue_whose_tasks_cannot_be_listed_is_kept(desk: Desk) -> None:
    for release, queue in ((FIRST, "a"), (SECOND, "b")):
        deploy(desk, release, queue)
    desk.google.forbidden = "/queues/a/tasks"
    deployed(desk.google, THIRD, GORCHESTRATE_QUEUE="b")
    run = desk.call(f"TOOLS='{desk.directory}'; claim_database; remove_old_queues", QUEUE="b")
    assert run.process.returncode == 1
    assert "cannot tell whether the queue a has tasks" in run.process.stderr
    assert queues(run) == ["a", "b"]


def test_a_rollback_to_a_release_whose_queue_is_gone_changes_nothing(desk: Desk) -> None:
    for release, queue in ((FIRST, "a"), (SECOND, "b")):
        deploy(desk, release, queue)
    del desk.google.resources[f"{QUEUES}/a"]
    before = served(desk.google)
    run = desk.run("deploy.sh", "--rollback", desk.settings(QUEUE="b"))
    assert run.process.returncode == 1
    assert f"the release {FIRST} creates its tasks in the queue a, which no longer exists" in run.process.stderr
    assert served(desk.google) == before
