"""The account that builds the functions, with the real gcloud."""

from __future__ import annotations

import pytest

from tests.deploy.desk import BUILD_ACCOUNT, PROJECT, Desk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ACCOUNT = "gorchestrate-build@my-project.iam.gserviceaccount.com"
ROLES = ("roles/storage.objectViewer", "roles/logging.logWriter", "roles/artifactregistry.writer")


def test_the_build_has_an_account_of_its_own_with_three_roles(desk: Desk) -> None:
    run = desk.call("create_account gorchestrate-build $BUILD_EMAIL builds; grant_build_roles")
    assert run.process.returncode == 0, run.process.stderr
    assert f"{PROJECT}/serviceAccounts/{ACCOUNT}" in run.resources
    assert run.policies[PROJECT] == {role: {f"serviceAccount:{ACCOUNT}"} for role in ROLES}


@pytest.mark.parametrize("account", ["", BUILD_ACCOUNT])
def test_another_build_account_gets_no_roles(account: str, desk: Desk) -> None:
    run = desk.call("grant_build_roles", BUILD_ACCOUNT=account)
    assert run.process.returncode == 0, run.process.stderr
    assert run.commands == []


def test_the_functions_are_built_by_it(desk: Desk) -> None:
    run = desk.run("deploy.sh", "--dry-run", "--skip-check", desk.settings())
    assert run.process.returncode == 0, run.process.stderr
    option = f"--build-service-account=projects/my-project/serviceAccounts/{ACCOUNT}"
    assert sum(option in command for command in run.commands) == 2
    assert sum(command.startswith("gcloud iam service-accounts create") for command in run.commands) == 4
