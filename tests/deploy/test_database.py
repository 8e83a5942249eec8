"""The functions of deploy/database.sh with the real gcloud: what is compared, fixed and refused."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.deploy.desk import DATABASE, DEPLOY, Desk
from tests.deploy.fake_google import Json, fake_google

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PROTECTED: Json = {
    "name": DATABASE,
    "type": "FIRESTORE_NATIVE",
    "locationId": "us-central1",
    "deleteProtectionState": "DELETE_PROTECTION_ENABLED",
    "pointInTimeRecoveryEnablement": "POINT_IN_TIME_RECOVERY_DISABLED",
}
SCHEDULES = f"{DATABASE}/backupSchedules"


def written(desk: Desk) -> list[str]:
    return [str(request) for request in desk.google.requests if request.writes]


def test_an_existing_database_that_fits_is_left_as_it_is(desk: Desk) -> None:
    desk.google.resources[DATABASE] = PROTECTED
    run = desk.call("create_database; echo new=$IS_NEW")
    assert run.process.returncode == 0, run.process.stderr
    assert "new=false" in run.process.stdout
    assert written(desk) == []


def test_protection_and_recovery_of_an_existing_database_are_fixed(desk: Desk) -> None:
    desk.google.resources[DATABASE] = PROTECTED | {"deleteProtectionState": "DELETE_PROTECTION_DISABLED"}
    run = desk.call("create_database", PITR="true")
    assert run.process.returncode == 0, run.process.stderr
    database = run.resources[DATABASE]
    assert database["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"
    assert database["pointInTimeRecoveryEnablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"
    run = desk.call("create_database", PITR="false")
    assert run.resources[DATABASE]["pointInTimeRecoveryEnablement"] == "POINT_IN_TIME_RECOVERY_DISABLED"


def test_a_new_database_has_the_recovery_of_the_settings(desk: Desk) -> None:
    run = desk.call("create_database", PITR="true")
    assert run.process.returncode == 0, run.process.stderr
    assert run.resources[DATABASE]["pointInTimeRecoveryEnablement"] == "POINT_IN_TIME_RECOVERY_ENABLED"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "DATASTORE_MODE"}, "is of the type DATASTORE_MODE, but gorchestrate needs Firestore in native mode"),
        ({"locationId": "eur3"}, "is in eur3, not in us-central1, and cannot be moved: write FIRESTORE_LOCATION=eur3"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(change: Json, message: str, desk: Desk) -> None:
    desk.google.resources[DATABASE] = PROTECTED | change
    run = desk.call("create_database", PITR="true")
    assert run.process.returncode == 1
    assert message in run.process.stderr
    assert written(desk) == []


def test_backups_are_scheduled_changed_and_ended(desk: Desk) -> None:
    desk.google.resources[DATABASE] = PROTECTED
    run = desk.call("schedule_backups", DAILY_BACKUPS="7d", WEEKLY_BACKUPS="14w")
    assert run.process.returncode == 0, run.process.stderr
    made = [body for path, body in run.resources.items() if path.startswith(SCHEDULES)]
    assert sorted(body["retention"] for body in made) == ["604800s", "8467200s"]
    assert [body["weeklyRecurrence"]["day"] for body in made if "weeklyRecurrence" in body] == ["SUNDAY"]
    before = len(written(desk))
    run = desk.call("schedule_backups", DAILY_BACKUPS="1w", WEEKLY_BACKUPS="")
    assert run.process.returncode == 0, run.process.stderr
    assert len(written(desk)) == before, "the same time in other words"
    run = desk.call("schedule_backups", DAILY_BACKUPS="3d", WEEKLY_BACKUPS="none")
    assert run.process.returncode == 0, run.process.stderr
    left = [body for path, body in run.resources.items() if path.startswith(SCHEDULES)]
    assert [body["retention"] for body in left] == ["259200s"]


@pytest.mark.parametrize(("looks", "seconds", "said"), [(2, 60, "waiting until 2 are built"), (99, 0.2, "still being")])
def test_indexes_that_are_being_built_are_waited_for(looks: int, seconds: float, said: str) -> None:
    with fake_google() as google:
        google.looks_while_building = looks
        script = "import firestore_indexes as script; script.POLL_SECONDS = 0.05; script.main()"
        arguments = ["--project=my-project", "--database=(default)", f"--wait={seconds}"]
        run = subprocess.run(
            [sys.executable, "-c", script, *arguments, str(DEPLOY / "firestore.indexes.json")],
            env=google.environment(),
            cwd=DEPLOY,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert run.returncode == 0, run.stderr
    assert said in run.stdout


# --- whose database it is ----------------------------------------------------------------

MARK = f"{DATABASE}/documents/gorchestrate/deployment"


def test_a_database_has_one_deployment(desk: Desk) -> None:
    run = desk.call("claim_database")
    assert run.process.returncode == 0, run.process.stderr
    assert run.resources[MARK]["fields"]["deployment"] == {"stringValue": "us-central1/gorchestrate-worker"}
    before = len(written(desk))
    run = desk.call("claim_database")
    assert run.process.returncode == 0, run.process.stderr
    for other in ({"WORKER_FUNCTION": "other-worker"}, {"REGION": "europe-west1"}):
        run = desk.call("claim_database", **other)
        assert run.process.returncode == 1
        assert "the database belongs to the deployment us-central1/gorchestrate-worker" in run.process.stderr
        assert "choose another DATABASE" in run.process.stderr
    assert len(written(desk)) == before


def test_all_queues_that_a_deployment_has_had_are_torn_down(desk: Desk) -> None:
    assert desk.call("claim_database", QUEUES="3").process.returncode == 0
    assert desk.call("claim_database", QUEUE="orders").process.returncode == 0
    run = desk.call("OLD=$(marking release); echo $OLD", QUEUE="orders")
    assert run.process.stdout.strip() == "orders gorchestrate gorchestrate-2 gorchestrate-3"
    assert MARK not in run.resources


def test_another_deployment_cannot_remove_the_mark(desk: Desk) -> None:
    assert desk.call("claim_database").process.returncode == 0
    run = desk.call("marking release", WORKER_FUNCTION="other-worker")
    assert (run.process.returncode, run.process.stdout) == (0, "")
    assert MARK in run.resources
