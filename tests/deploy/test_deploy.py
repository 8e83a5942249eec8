"""deploy.sh and teardown.sh as a whole, with the real gcloud: what they send, twice, and what they refuse to send.

One deployment is made (public), made again with other settings (private), and torn down; the tests look at what each
run has sent and left. gcloud is slow, so nothing is run for one test alone that could be seen in these three runs.
"""

from __future__ import annotations

import asyncio
import copy
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.emulators import FIRESTORE_EMULATOR_VARIABLE
from cloud_adapter.settings import Settings
from cloud_adapter.stores.firestore.store import FirestoreStore
from tests.deploy.fake_google import PROJECT_NUMBER, FakeGoogle, Request, fake_google
from tests.deploy.tools import need
from workflow_core import Execution, Status, Thread, ThreadStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DEPLOY = Path(__file__).parents[2] / "deploy"
TIMEOUT_S = 900

PROJECT = "projects/my-project"
REGION = f"{PROJECT}/locations/us-central1"
DATABASE = f"{PROJECT}/databases/(default)"
QUEUE = f"{REGION}/queues/gorchestrate"
API = f"{REGION}/functions/gorchestrate-api"
WORKER = f"{REGION}/functions/gorchestrate-worker"
JOB = f"{REGION}/jobs/gorchestrate-worker-recover"
RUN_ACCOUNT = "gorchestrate-run@my-project.iam.gserviceaccount.com"
TASKS_ACCOUNT = "gorchestrate-tasks@my-project.iam.gserviceaccount.com"
WORKER_URL = f"https://gorchestrate-worker-{PROJECT_NUMBER}.us-central1.run.app"
BUILD_ACCOUNT = "builder@my-project.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Run:
    """A script that has ended, what it has sent, and what was there when it had."""

    process: subprocess.CompletedProcess[str]
    requests: list[Request]
    resources: dict[str, Any]
    policies: dict[str, dict[str, set[str]]]
    uploads: list[bytes]

    @property
    def commands(self) -> list[str]:
        """The commands that it has shown."""
        return re.findall(r"^  \$ (.*)$", self.process.stdout, re.MULTILINE)

    def sent(self, method: str, path: str) -> Request:
        """The one request of a method to a path."""
        (request,) = [one for one in self.requests if one.method == method and one.path.endswith(path)]
        return request


@dataclass(frozen=True)
class Desk:
    """Where the scripts are run."""

    google: FakeGoogle
    directory: Path
    firestore: str = ""
    """Where the documents are; the fake has none."""

    def settings(self, **changes: str | None) -> Path:
        """The example's settings with some changed; None leaves one out."""
        lines = []
        for line in (DEPLOY / "settings.env.example").read_text().splitlines():
            name = line.partition("=")[0]
            if name not in changes:
                lines.append(line)
            elif changes[name] is not None:
                lines.append(f"{name}={changes[name]}")
        file = self.directory / "settings.env"
        file.write_text("\n".join(lines) + "\n")
        return file

    def run(self, script: str, *arguments: str | Path, input: str = "") -> Run:
        token = self.directory / "token"
        token.write_text("ya29.not-a-token")
        variables = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CLOUDSDK_CONFIG": str(self.directory / "gcloud"),
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(token),
            "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "1",
            "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "1",
        }
        if self.firestore:
            variables |= {
                FIRESTORE_EMULATOR_VARIABLE: self.firestore,
                "no_grpc_proxy": self.firestore.partition(":")[0],
            }
        first, first_upload = len(self.google.requests), len(self.google.uploads)
        process = subprocess.run(
            [DEPLOY / script, *arguments],
            env=os.environ | self.google.environment() | variables,
            input=input,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Run(
            process,
            self.google.requests[first:],
            copy.deepcopy(self.google.resources),
            {path: self.google.bindings(path) for path in self.google.policies},
            self.google.uploads[first_upload:],
        )


@pytest.fixture(scope="module")
def module_desk(tmp_path_factory: pytest.TempPathFactory, firestore_emulator: str) -> Iterator[Desk]:
    need("gcloud")
    with fake_google() as google:
        yield Desk(google, tmp_path_factory.mktemp("deploy"), firestore_emulator)
        assert google.refused == [], "something went past the recording proxy"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk of the test's own, with an empty cloud."""
    need("gcloud")
    with fake_google() as google:
        yield Desk(google, tmp_path)


@pytest.fixture(scope="module")
def first(module_desk: Desk) -> Run:
    """The first deployment: public, and built by an account of the user's."""
    run = module_desk.run("deploy.sh", module_desk.settings(PUBLIC="true", BUILD_ACCOUNT=BUILD_ACCOUNT))
    assert run.process.returncode == 0, run.process.stderr
    return run


@pytest.fixture(scope="module")
def second(module_desk: Desk, first: Run) -> Run:
    """The same once more, but private."""
    run = module_desk.run("deploy.sh", module_desk.settings(BUILD_ACCOUNT=BUILD_ACCOUNT))
    assert run.process.returncode == 0, run.process.stderr
    return run


@pytest.fixture(scope="module")
def stopped(module_desk: Desk, second: Run) -> Run:
    """A third one, stopped by an instance that could not go on."""
    asyncio.run(_park(module_desk.firestore, "a step that is gone"))
    return module_desk.run("deploy.sh", module_desk.settings(BUILD_ACCOUNT=BUILD_ACCOUNT))


async def _park(emulator: str, step: str) -> None:
    """Stores a pizza order that stands on ``step`` in the database of the deployment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FIRESTORE_EMULATOR_VARIABLE, emulator)
        store = FirestoreStore(project="my-project")
        execution = Execution("order-1", "pizza", Status.WAITING)
        execution.threads = [Thread("main", "main", ThreadStatus.WAITING, step)]
        await store.create(Instance("pizza", "order-1", execution, "{}"))
        await store.close()


@pytest.fixture(scope="module")
def torn_down(module_desk: Desk, second: Run, stopped: Run) -> Run:
    """Torn down with its data, after somebody has removed some of it by hand."""
    module_desk.google.remove(API)
    module_desk.google.remove(f"{PROJECT}/serviceAccounts/{RUN_ACCOUNT}")
    del module_desk.google.policies[PROJECT]
    run = module_desk.run("teardown.sh", "--delete-data", module_desk.settings(), input="my-project\n")
    assert run.process.returncode == 0, run.process.stderr
    return run


# --- what a deployment is ----------------------------------------------------------------


def test_the_apis_are_enabled(first: Run) -> None:
    enabled = first.sent("POST", "services:batchEnable").body["serviceIds"]
    services = "artifactregistry cloudbuild cloudfunctions cloudscheduler cloudtasks firestore iam run"
    assert sorted(enabled) == [f"{name}.googleapis.com" for name in services.split()]


def test_the_database_is_native_and_protected(first: Run) -> None:
    database = first.resources[DATABASE]
    assert database["type"] == "FIRESTORE_NATIVE"
    assert database["locationId"] == "us-central1"
    assert database["deleteProtectionState"] == "DELETE_PROTECTION_ENABLED"


def test_a_task_is_retried_and_the_rate_is_limited(first: Run) -> None:
    queue = first.resources[QUEUE]
    assert queue["rateLimits"] == {"maxDispatchesPerSecond": 500, "maxConcurrentDispatches": 400}
    assert queue["retryConfig"] == {
        "maxAttempts": 100,
        "maxRetryDuration": "86400s",
        "minBackoff": "0.5s",
        "maxBackoff": "60s",
        "maxDoublings": 7,
    }


@pytest.mark.parametrize(("function", "entry_point", "timeout"), [(API, "api", 60), (WORKER, "worker", 540)])
def test_both_functions_are_second_generation_functions(
    function: str, entry_point: str, timeout: int, first: Run
) -> None:
    deployed = first.resources[function]
    assert deployed["buildConfig"]["entryPoint"] == entry_point
    assert deployed["buildConfig"]["runtime"] == "python311"
    assert deployed["buildConfig"]["serviceAccount"].endswith(f"/serviceAccounts/{BUILD_ACCOUNT}")
    service = deployed["serviceConfig"]
    assert service["serviceAccountEmail"] == RUN_ACCOUNT
    assert service["maxInstanceRequestConcurrency"] == 40
    assert (service["availableMemory"], service["availableCpu"]) == ("512Mi", "1")
    assert service["timeoutSeconds"] == timeout
    assert service.get("minInstanceCount", 0) == 0
    assert service["maxInstanceCount"] == 10


def test_only_the_queue_and_the_scheduler_reach_the_worker(first: Run) -> None:
    assert first.resources[WORKER]["serviceConfig"]["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    assert first.resources[API]["serviceConfig"]["ingressSettings"] == "ALLOW_ALL"


@pytest.mark.parametrize("function", [API, WORKER])
def test_the_functions_accept_the_settings_that_they_are_given(
    function: str, first: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in first.resources[function]["serviceConfig"]["environmentVariables"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("K_SERVICE", "worker")  # as on Cloud Run
    settings = Settings.load()
    assert settings.backend == "cloud"
    assert (settings.project, settings.database) == ("my-project", "(default)")
    assert f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}" == QUEUE
    assert settings.worker_url == settings.audience == WORKER_URL
    assert settings.tasks_account == TASKS_ACCOUNT
    assert settings.public


def test_the_source_is_the_users_code_the_wheel_and_pinned_requirements(first: Run) -> None:
    assert len(first.uploads) == 2
    source = zipfile.ZipFile(io.BytesIO(first.uploads[0]))
    names = set(source.namelist())
    (wheel,) = [name for name in names if name.endswith(".whl")]
    assert names == {"main.py", "pizza.py", "requirements.txt", wheel}
    *pins, last = source.read("requirements.txt").decode().splitlines()
    assert last == f"./{wheel}"
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==\S+", pin) for pin in pins if not pin.startswith("#"))
    assert any(pin.startswith("functions-framework==") for pin in pins)
    modules = zipfile.ZipFile(io.BytesIO(source.read(wheel))).namelist()
    assert {"cloud_adapter/hosting/service.py", "workflow_core/__init__.py"} <= set(modules)
    assert {"cloud_adapter/http/pages/templates/base.html", "cloud_adapter/http/pages/static/style.css"} <= set(modules)


def test_recovery_is_called_every_minute_in_the_name_of_the_tasks_account(first: Run) -> None:
    job = first.resources[JOB]
    assert (job["schedule"], job["timeZone"]) == ("* * * * *", "Etc/UTC")
    target = job["httpTarget"]
    assert (target["httpMethod"], target["uri"]) == ("POST", f"{WORKER_URL}/recover")
    assert target["oidcToken"] == {"serviceAccountEmail": TASKS_ACCOUNT, "audience": WORKER_URL}


# --- who may do what ---------------------------------------------------------------------


def test_every_role_is_on_the_smallest_thing_that_it_is_needed_for(second: Run) -> None:
    run = f"serviceAccount:{RUN_ACCOUNT}"
    assert {path: roles for path, roles in second.policies.items() if roles} == {
        PROJECT: {"roles/datastore.user": {run}},
        QUEUE: {"roles/cloudtasks.enqueuer": {run}, "roles/cloudtasks.taskDeleter": {run}},
        f"{PROJECT}/serviceAccounts/{TASKS_ACCOUNT}": {"roles/iam.serviceAccountUser": {run}},
        WORKER.replace("functions", "services"): {"roles/run.invoker": {f"serviceAccount:{TASKS_ACCOUNT}"}},
    }


def test_the_functions_may_use_their_own_database_only(first: Run) -> None:
    (binding,) = first.sent("POST", f"/v1/{PROJECT}:setIamPolicy").body["policy"]["bindings"]
    assert binding["condition"]["expression"] == f'resource.name=="{DATABASE}"'


def test_a_public_api_makes_nothing_else_public(first: Run) -> None:
    public = {path for path, roles in first.policies.items() for members in roles.values() if "allUsers" in members}
    assert public == {API.replace("functions", "services")}
    assert first.policies[API.replace("functions", "services")] == {"roles/run.invoker": {"allUsers"}}


def test_a_public_api_that_is_to_be_private_becomes_so(second: Run) -> None:
    assert second.policies[API.replace("functions", "services")] == {}


# --- the indexes -------------------------------------------------------------------------


def test_the_indexes_of_the_file_are_there(first: Run) -> None:
    groups = f"{DATABASE}/collectionGroups"
    composites = [body for name, body in first.resources.items() if name.startswith(f"{groups}/instances/indexes/")]
    assert {composite["queryScope"] for composite in composites} == {"COLLECTION"}
    times = ["created_at", "updated_at"]
    assert sorted((composite["fields"][:2] for composite in composites), key=str) == [
        [{"fieldPath": "status", "order": "ASCENDING"}, {"fieldPath": time, "order": "DESCENDING"}] for time in times
    ]
    assert first.resources[f"{groups}/instances/fields/wake_at"]["indexConfig"]["indexes"] == [
        {"queryScope": "COLLECTION_GROUP", "fields": [{"fieldPath": "wake_at", "order": "ASCENDING"}]}
    ]
    for name in ("fields", "execution", "history", "lease", "tokens"):
        assert first.resources[f"{groups}/instances/fields/{name}"]["indexConfig"] == {"indexes": []}
    assert first.resources[f"{groups}/idempotency_keys/fields/expires_at"]["ttlConfig"] == {}
    assert first.resources[f"{groups}/instance_inbox/fields/at"]["indexConfig"]["indexes"] == [
        {"queryScope": scope, "fields": [{"fieldPath": "at", "order": "ASCENDING"}]}
        for scope in ("COLLECTION", "COLLECTION_GROUP")
    ]
    assert first.resources[f"{groups}/instance_inbox/fields/body"]["indexConfig"] == {"indexes": []}


# --- running it again --------------------------------------------------------------------


def test_a_second_deployment_creates_nothing(second: Run) -> None:
    created = [
        str(request)
        for request in second.requests
        if request.method == "POST"
        and not request.path.endswith((":getIamPolicy", ":setIamPolicy", ":generateUploadUrl", ":batchEnable"))
    ]
    assert created == []
    assert [
        str(request) for request in second.requests if "/collectionGroups/" in request.path and request.writes
    ] == []


def test_a_second_deployment_leaves_things_as_they_are(first: Run, second: Run) -> None:
    expected = copy.deepcopy(first.resources)
    for function in (API, WORKER):
        variables = expected[function]["serviceConfig"]["environmentVariables"]
        assert variables["GORCHESTRATE_PUBLIC"] == "true"
        variables["GORCHESTRATE_PUBLIC"] = "false"
    assert second.resources == expected


# --- the check ---------------------------------------------------------------------------


def test_a_new_database_has_no_instances_to_be_checked(first: Run) -> None:
    assert [one for one in first.commands if one.startswith("gorchestrate")] == [
        f"gorchestrate check {DEPLOY.parent}/functions/main.py"
    ]
    assert "compiles: pizza" in first.process.stdout


def test_the_instances_that_are_there_are_checked(second: Run) -> None:
    assert [one for one in second.commands if one.startswith("gorchestrate")] == [
        f"gorchestrate check {DEPLOY.parent}/functions/main.py --against 'my-project/(default)'"
    ]
    assert "Live instances in my-project/(default): none" in second.process.stdout


def test_an_instance_that_could_not_go_on_stops_the_deployment(stopped: Run, second: Run) -> None:
    assert stopped.process.returncode == 1
    assert "pizza: it is at 'a step that is gone', which the definition no longer contains" in stopped.process.stdout
    assert "1 instance: order-1 (main)" in stopped.process.stdout
    assert "no function was deployed: fix what is listed above, or pass --skip-check" in stopped.process.stderr
    assert not any("functions deploy" in one for one in stopped.commands)
    assert stopped.resources == second.resources


def test_the_check_can_be_left_out(desk: Desk) -> None:
    run = desk.run("deploy.sh", "--skip-check", "--dry-run", desk.settings())
    assert run.process.returncode == 0, run.process.stderr
    assert not any("gorchestrate check" in one for one in run.commands)
    assert any("functions deploy" in one for one in run.commands)


# --- a dry run ---------------------------------------------------------------------------


def test_a_dry_run_shows_what_a_run_does_and_sends_nothing(desk: Desk, first: Run) -> None:
    run = desk.run("deploy.sh", "--dry-run", desk.settings(PUBLIC="true", BUILD_ACCOUNT=BUILD_ACCOUNT))
    assert run.process.returncode == 0, run.process.stderr
    assert desk.google.requests == []
    (stage,) = {*re.findall(r"--source=(\S+)", first.process.stdout)}
    done = [
        command.replace(stage, "STAGED_SOURCE").replace(PROJECT_NUMBER, "PROJECT_NUMBER") for command in first.commands
    ]
    assert run.commands == done


def test_a_dry_teardown_sends_nothing_and_keeps_the_data(desk: Desk) -> None:
    run = desk.run("teardown.sh", "--dry-run", desk.settings())
    assert run.process.returncode == 0, run.process.stderr
    assert desk.google.requests == []
    assert len(run.commands) == 7
    assert not any("databases" in command.partition("--condition")[0] for command in run.commands)


# --- what is refused ---------------------------------------------------------------------


REQUIRED = re.findall(r"^([A-Z_]+)=.+$", (DEPLOY / "settings.env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("script", ["deploy.sh", "teardown.sh"])
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(script: str, name: str, desk: Desk) -> None:
    run = desk.run(script, desk.settings(**{name: None}))
    assert run.process.returncode == 1
    assert f"{name} is missing" in run.process.stderr
    assert desk.google.requests == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PROJECT": ""}, "PROJECT is missing"),
        ({"PUBLIC": "yes"}, "PUBLIC is 'yes': write true or false"),
        ({"PUBLIC_URL": "example.com"}, "PUBLIC_URL is 'example.com': write a URL such as https://example.com/orders"),
        ({"PUBLIC_URL": "https://a.b/c,X=1"}, "PUBLIC_URL is 'https://a.b/c,X=1': write a URL"),
        ({"UI": "maybe"}, "UI is 'maybe': write true or false"),
        ({"API_FUNCTION": "Api"}, "API_FUNCTION is 'Api': lower-case letters"),
        ({"API_FUNCTION": "gorchestrate-worker"}, "API_FUNCTION and WORKER_FUNCTION must differ"),
        ({"SOURCE": "tests"}, "which does not contain main.py"),
        ({"LOG_LEVEL": "INFO\nMEMROY=1Gi"}, "unknown setting MEMROY"),
        ({"LOG_LEVEL": "INFO\nexport X=1"}, "expected NAME=value, found: export X=1"),
    ],
)
def test_a_wrong_setting_is_explained(changes: dict[str, str], message: str, desk: Desk) -> None:
    run = desk.run("deploy.sh", desk.settings(**changes))
    assert run.process.returncode == 1
    assert message in run.process.stderr
    assert desk.google.requests == []


def test_settings_are_data_and_are_not_run(desk: Desk) -> None:
    trap = desk.directory / "trap"
    run = desk.run("deploy.sh", "--dry-run", desk.settings(RECOVERY_SCHEDULE=f"$(touch {trap})"))
    assert run.process.returncode == 0
    assert not trap.exists()


@pytest.mark.parametrize("arguments", [["nowhere.env"], ["--dryrun"]])
def test_wrong_arguments_send_nothing(arguments: list[str], desk: Desk) -> None:
    run = desk.run("deploy.sh", *arguments)
    assert run.process.returncode == 1
    assert arguments[0] in run.process.stderr
    assert desk.google.requests == []


def test_what_cannot_be_looked_at_is_not_created(desk: Desk) -> None:
    desk.google.forbidden = "/databases/"
    run = desk.run("deploy.sh", desk.settings())
    assert run.process.returncode == 1
    assert "cannot tell whether it exists" in run.process.stderr
    assert [str(request) for request in run.requests if request.writes and "firestore" in request.host] == []


def test_a_teardown_that_is_not_confirmed_removes_nothing(desk: Desk) -> None:
    run = desk.run("teardown.sh", desk.settings(), input="yes\n")
    assert run.process.returncode == 1
    assert "nothing was removed" in run.process.stderr
    assert desk.google.requests == []


# --- tearing it down ---------------------------------------------------------------------


def test_a_teardown_leaves_nothing_and_takes_no_offence_at_what_is_gone(torn_down: Run) -> None:
    left = {path for path in torn_down.resources if "/collectionGroups/" not in path}  # those went with the database
    assert left == set()
    assert torn_down.process.stdout.count("already removed") == 3


# --- the scripts themselves --------------------------------------------------------------


def test_shellcheck_has_no_complaint() -> None:
    scripts = sorted(DEPLOY.glob("*.sh"))
    run = subprocess.run(
        [need("shellcheck"), "--external-sources", *scripts], capture_output=True, text=True, cwd=DEPLOY.parent
    )
    assert run.stdout == ""
    assert run.returncode == 0


def test_every_setting_is_explained() -> None:
    lines = (DEPLOY / "settings.env.example").read_text().splitlines()
    known = re.search(r"REQUIRED=\((.*?)\)\nOPTIONAL=\((.*?)\)", (DEPLOY / "lib.sh").read_text(), re.DOTALL)
    assert known is not None
    settings = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(settings) == sorted(f"{known[1]} {known[2]}".split())
    assert any(line.startswith("#") for line in lines)
