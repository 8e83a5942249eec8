"""Which revisions get requests: after a deployment, after a rollback, and after the deployment that follows."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest

from tests.deploy.desk import API, API_ACCOUNT, DEPLOY, REGION, WORKER, WORKER_ACCOUNT, Desk
from tests.deploy.fake_google import FakeGoogle

SLOW = [pytest.mark.slow, pytest.mark.timeout(600)]
STAGE = 'STAGE=$(mktemp -d); touch "$STAGE/main.py" "$STAGE/requirements.txt"'
FIRST, SECOND, THIRD = "20250101T000000Z", "20250102T000000Z", "20250103T000000Z"


def deployed(google: FakeGoogle, release: str, **more: str) -> None:
    """Both functions, as a deployment leaves them."""
    for function, account in ((WORKER, WORKER_ACCOUNT), (API, API_ACCOUNT)):
        variables = {"GORCHESTRATE_RELEASE": release, "GORCHESTRATE_WORKER_AUTH": "oidc"} | more
        config = {"environmentVariables": variables, "serviceAccountEmail": account}
        google.resources[function] = {
            "name": function,
            "environment": "GEN_2",
            "buildConfig": {"runtime": "python313"},
            "serviceConfig": config | {"service": function.replace("/functions/", "/services/")},
        }
        google.run.deploy(function, config)


def served(google: FakeGoogle) -> dict[str, list[str]]:
    """The revisions that get requests, for each service."""
    services = {path: body for path, body in google.resources.items() if "/services/" in path}
    return {
        path.rpartition("/")[2].removeprefix("gorchestrate-"): [
            one["revisionName"] for one in body["status"]["traffic"]
        ]
        for path, body in services.items()
    }


def pin(google: FakeGoogle) -> None:
    """The requests stay with the revisions that get them now."""
    for body in (body for path, body in google.resources.items() if "/services/" in path):
        name = body["status"]["traffic"][0]["revisionName"]
        body["spec"]["traffic"] = [{"revisionName": name, "percent": 100}]


class TestWithGcloud:
    pytestmark = SLOW

    def test_a_rollback_goes_to_the_deployment_before_and_the_next_one_serves_again(self, desk: Desk) -> None:
        for release in (FIRST, SECOND):
            deployed(desk.google, release)
        desk.google.resources[f"{REGION}/queues/gorchestrate"] = {"name": "q"}
        run = desk.run("deploy.sh", "--rollback", desk.settings())
        assert run.process.returncode == 0, run.process.stderr
        before = {"worker": ["gorchestrate-worker-00001-abc"], "api": ["gorchestrate-api-00002-abc"]}
        assert served(desk.google) == before
        assert f"Done: {FIRST} serves" in run.process.stdout
        assert len(run.deliveries) == 1, "a canary has reached the worker"
        assert not any("functions deploy" in command for command in run.commands)
        run = desk.run("deploy.sh", "--rollback", desk.settings())
        assert run.process.returncode == 1
        assert f"no earlier release that is ready on all services: {FIRST} serves now" in run.process.stderr
        assert served(desk.google) == before
        run = desk.call(f"RELEASE={THIRD}; {STAGE}; send_worker")
        assert run.process.returncode == 0, run.process.stderr
        assert served(desk.google)["worker"] == ["gorchestrate-worker-00005-abc"]

    def test_a_new_revision_that_serves_nothing_gets_the_requests(self, desk: Desk) -> None:
        deployed(desk.google, FIRST)
        pin(desk.google)
        desk.google.run.pinned = True
        run = desk.call(f"RELEASE={SECOND}; {STAGE}; send_worker")
        assert run.process.returncode == 0, run.process.stderr
        assert served(desk.google)["worker"] == ["gorchestrate-worker-00003-abc"]
        assert sum("update-traffic" in command for command in run.commands) == 1
        pin(desk.google)
        desk.google.run.refuses_traffic = True
        run = desk.call(f"RELEASE={THIRD}; {STAGE}; send_worker")
        assert run.process.returncode == 1
        assert "was deployed, but gorchestrate-worker-00003-abc gets its requests" in run.process.stderr

    @pytest.mark.parametrize(("ingress", "kept"), [("", "ALLOW_INTERNAL_AND_GCLB"), ("all", "ALLOW_ALL")])
    def test_the_ingress_of_the_api_stays_unless_it_is_set(self, ingress: str, kept: str, desk: Desk) -> None:
        deployed(desk.google, FIRST)
        desk.google.resources[API]["serviceConfig"]["ingressSettings"] = "ALLOW_INTERNAL_AND_GCLB"
        run = desk.call(f"RELEASE={SECOND}; {STAGE}; deploy_api", INGRESS=ingress)
        assert run.process.returncode == 0, run.process.stderr
        assert run.resources[API]["serviceConfig"]["ingressSettings"] == kept
        (command,) = [one for one in run.commands if one.startswith("gcloud functions deploy gorchestrate-api")]
        assert ("--ingress-settings" in command) == bool(ingress)

    def test_a_dry_rollback_sends_nothing(self, desk: Desk) -> None:
        run = desk.run("deploy.sh", "--rollback", "--dry-run", desk.settings())
        assert run.process.returncode == 0, run.process.stderr
        assert desk.google.requests == []
        assert [one.partition(" --project")[0] for one in run.commands if "update-traffic" in one] == [
            "gcloud run services update-traffic gorchestrate-api",
            "gcloud run services update-traffic gorchestrate-worker",
        ]


# --- which release is the one before -----------------------------------------------------


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("revisions", DEPLOY / "revisions.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def service(name: str, *releases: str, serves: int = -1, failed: tuple[int, ...] = ()) -> tuple[Any, list[Any]]:
    """A service with a revision for each of the releases."""
    revisions: list[Any] = [
        {
            "metadata": {"name": f"{name}-{number}", "creationTimestamp": f"2025-01-01T00:00:0{number}Z"},
            "spec": {"containers": [{"env": [{"name": "GORCHESTRATE_RELEASE", "value": release}] if release else []}]},
            "status": {"conditions": [{"type": "Ready", "status": "False" if number in failed else "True"}]},
        }
        for number, release in enumerate(releases)
    ]
    traffic = [{"revisionName": revisions[serves]["metadata"]["name"], "percent": 100}]
    return {"status": {"traffic": traffic}}, json.loads(json.dumps(revisions))[::-1]


@pytest.mark.parametrize(
    ("api", "worker", "expected"),
    [
        (service("a", FIRST, SECOND), service("w", FIRST, SECOND), (FIRST, ["a-0", "w-0"])),
        # The canary has made a second revision of the worker.
        (service("a", FIRST, SECOND), service("w", FIRST, FIRST, SECOND, SECOND), (FIRST, ["a-0", "w-1"])),
        # The deployment was stopped between the two.
        (service("a", FIRST), service("w", FIRST, SECOND), (FIRST, ["a-0", "w-0"])),
        # A revision that never became ready.
        (service("a", FIRST, SECOND, THIRD), service("w", FIRST, SECOND, THIRD, failed=(1,)), (FIRST, ["a-0", "w-0"])),
        # After a rollback, the one before that.
        (
            service("a", FIRST, SECOND, THIRD, serves=1),
            service("w", FIRST, SECOND, THIRD, serves=1),
            (FIRST, ["a-0", "w-0"]),
        ),
    ],
)
def test_the_release_before(api: Any, worker: Any, expected: Any) -> None:
    assert module().previous([api, worker]) == expected


@pytest.mark.parametrize(
    ("api", "worker"),
    [
        (service("a", FIRST), service("w", FIRST)),
        (service("a", "", FIRST), service("w", "", FIRST)),
        (service("a", FIRST, SECOND), service("w", SECOND)),
        (service("a", "", ""), service("w", "", "")),
    ],
)
def test_there_is_no_release_before(api: Any, worker: Any) -> None:
    with pytest.raises(ValueError, match="no earlier release"):
        module().previous([api, worker])
