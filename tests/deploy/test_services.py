"""With HOSTING=run, deploy.sh deploys two services from one image instead of two functions."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.deploy.desk import API_ACCOUNT, PROJECT, REGION, WORKER_ACCOUNT, Desk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STAGE = "TOOLS=$(mktemp -d) STAGE=$(mktemp -d); touch $STAGE/main.py; printf '.gcloudignore\n' >$STAGE/.gcloudignore\n"
REPOSITORY = f"{REGION}/repositories/gorchestrate-worker-images"


def service(name: str) -> str:
    """The path of a service."""
    return f"namespaces/{PROJECT.removeprefix('projects/')}/services/{name}"


def test_the_two_services_have_one_image(desk: Desk) -> None:
    lines = STAGE + "serve_deployed() { :; }; name_release; build_image; WORKER_AUTH=iam; send_worker; deploy_api\n"
    lines += "WORKER_AUTH=oidc; is_private() { true; }; choose_worker_auth; echo found $WORKER_AUTH"
    run = desk.call(lines, HOSTING="run", INGRESS="internal-and-gclb", RUNTIME="python312")
    assert run.process.returncode == 0, run.process.stderr
    assert desk.google.refused == []
    assert run.process.stdout.endswith("found iam\n")

    (archive,) = run.uploads
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        assert set(files.getnames()) == {"Dockerfile", "main.py"}
        dockerfile = files.extractfile("Dockerfile")
        assert dockerfile is not None and "\nFROM python:3.12-slim\n" in dockerfile.read().decode()
    build = run.sent("POST", "/builds").body
    assert build["serviceAccount"].endswith("/gorchestrate-build@my-project.iam.gserviceaccount.com")
    image = build["substitutions"]["_IMAGE"]
    assert image.startswith("us-central1-docker.pkg.dev/my-project/gorchestrate-worker-images/source:2")
    assert run.resources[REPOSITORY]["format"] == "DOCKER"

    api, worker = (run.resources[service(f"gorchestrate-{name}")] for name in ("api", "worker"))
    for made, target, account in ((api, "api", API_ACCOUNT), (worker, "worker", WORKER_ACCOUNT)):
        spec = made["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        assert (container["image"], spec["serviceAccountName"]) == (image, account)
        assert {"name": "FUNCTION_TARGET", "value": target} in container["env"]
        assert any(v["name"] == "GORCHESTRATE_SECRET_KEYS" and "valueFrom" in v for v in container["env"])
    ingress = "run.googleapis.com/ingress"
    assert worker["metadata"]["annotations"][ingress] == "internal"
    assert api["metadata"]["annotations"][ingress] == "internal-and-cloud-load-balancing"
    assert not [path for path in run.resources if "/functions/" in path]


@pytest.mark.parametrize(
    ("gcloud", "message"),
    [
        (
            "echo name: gorchestrate-api",
            "gorchestrate-api is a function: remove it with HOSTING=functions and teardown.sh",
        ),
        ("echo forbidden >&2; return 1", "cannot tell whether gorchestrate-api is a function: forbidden"),
        ("echo NOT_FOUND >&2; return 1", ""),
    ],
)
def test_functions_with_these_names_are_not_replaced_by_services(gcloud: str, message: str, desk: Desk) -> None:
    run = desk.call(f"gcloud() {{ {gcloud}; }}; refuse_functions", HOSTING="run")
    assert run.process.returncode == (1 if message else 0)
    assert message in run.process.stderr


def test_a_teardown_removes_the_services_and_their_images(desk: Desk) -> None:
    run = desk.run("teardown.sh", "--dry-run", desk.settings(HOSTING="run"))
    assert run.process.returncode == 0, run.process.stderr
    place = "--project=my-project --"
    assert f"gcloud run services delete gorchestrate-worker {place}region=us-central1" in run.commands
    assert (
        f"gcloud artifacts repositories delete gorchestrate-worker-images {place}location=us-central1" in run.commands
    )
    assert not [command for command in run.commands if command.startswith("gcloud functions")]


def test_the_hosting_is_one_of_two(desk: Desk) -> None:
    run = desk.call("", HOSTING="gke")
    assert "HOSTING is 'gke': write functions or run, or nothing" in run.process.stderr
