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
import venv
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.codecs.fernet import FernetCodec
from cloud_adapter.document import Instance
from cloud_adapter.settings import Settings
from cloud_adapter.stores.firestore.store import FirestoreStore
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from tests.deploy.desk import (
    API,
    API_ACCOUNT,
    BUILD_ACCOUNT,
    CALLBACK_KEYS,
    DATABASE,
    DEPLOY,
    JOB,
    PROJECT,
    QUEUE,
    SECRET_KEYS,
    SESSION_KEYS,
    TASKS_ACCOUNT,
    WORKER,
    WORKER_ACCOUNT,
    WORKER_URL,
    Desk,
    Run,
)
from tests.deploy.fake_google import PROJECT_NUMBER, fake_google
from workflow_core import Execution, Status, Thread, ThreadStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FIRST = {"PUBLIC": "true", "BUILD_ACCOUNT": BUILD_ACCOUNT}
PUBLIC_URL = "https://example.com/a,GORCHESTRATE_UI=true;b|c='d'^e\"f\\g~$(h)"
"""Characters with a meaning to gcloud or to a shell."""
KMS_KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
SECOND = {
    "ACCESS": "authenticated",
    "BUILD_ACCOUNT": BUILD_ACCOUNT,
    "PUBLIC_URL": PUBLIC_URL,
    "RATE_LIMIT": "20/s",
    "CALLBACK_KEYS": "none",
    "KMS_KEY": KMS_KEY,
}


@pytest.fixture(scope="module")
def module_desk(tmp_path_factory: pytest.TempPathFactory, programs: Path, firestore_emulator: str) -> Iterator[Desk]:
    with fake_google() as google:
        yield Desk(google, tmp_path_factory.mktemp("deploy"), programs, firestore_emulator)
        assert google.refused == [], "something went past the recording proxy"


@pytest.fixture(scope="module")
def first(module_desk: Desk) -> Run:
    """The first deployment: public, and built by an account of the user's."""
    run = module_desk.run("deploy.sh", module_desk.settings(**FIRST))
    assert run.process.returncode == 0, run.process.stderr
    return run


@pytest.fixture(scope="module")
def second(module_desk: Desk, first: Run) -> Run:
    """The same once more with the same wheel, but private, in a cloud that removes the signatures of tokens."""
    module_desk.google.removes_signatures = True
    source = zipfile.ZipFile(io.BytesIO(first.uploads[0]))
    (name,) = [name for name in source.namelist() if name.endswith(".whl")]
    wheel = source.extract(name, module_desk.directory)
    run = module_desk.run("deploy.sh", "--wheel", wheel, module_desk.settings(**SECOND))
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
    module_desk.google.remove(f"{PROJECT}/serviceAccounts/{API_ACCOUNT}")
    del module_desk.google.policies[PROJECT]
    run = module_desk.run(
        "teardown.sh", "--delete-data", module_desk.settings(BUILD_ACCOUNT=BUILD_ACCOUNT), input="my-project\n"
    )
    assert run.process.returncode == 0, run.process.stderr
    return run


# --- what a deployment is ----------------------------------------------------------------


def test_nothing_temporary_is_left(module_desk: Desk, first: Run) -> None:
    assert list(module_desk.temporary.iterdir()) == []


def test_the_apis_are_enabled(first: Run) -> None:
    enabled = first.sent("POST", "services:batchEnable").body["serviceIds"]
    services = "artifactregistry cloudbuild cloudfunctions cloudscheduler cloudtasks firestore iam run secretmanager"
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


@pytest.mark.parametrize(
    ("function", "entry_point", "account", "timeout"),
    [(API, "api", API_ACCOUNT, 60), (WORKER, "worker", WORKER_ACCOUNT, 540)],
)
def test_both_functions_are_second_generation_functions(
    function: str, entry_point: str, account: str, timeout: int, first: Run
) -> None:
    deployed = first.resources[function]
    assert deployed["buildConfig"]["entryPoint"] == entry_point
    assert deployed["buildConfig"]["runtime"] == "python313"
    assert deployed["buildConfig"]["serviceAccount"].endswith(f"/serviceAccounts/{BUILD_ACCOUNT}")
    service = deployed["serviceConfig"]
    assert service["serviceAccountEmail"] == account
    assert service["maxInstanceRequestConcurrency"] == 40
    assert (service["availableMemory"], service["availableCpu"]) == ("512Mi", "1")
    assert service["timeoutSeconds"] == timeout
    assert service.get("minInstanceCount", 0) == 0
    assert service["maxInstanceCount"] == 10


def test_only_the_queue_and_the_scheduler_reach_the_worker(first: Run) -> None:
    assert first.resources[WORKER]["serviceConfig"]["ingressSettings"] == "ALLOW_INTERNAL_ONLY"
    assert "ingressSettings" not in first.resources[API]["serviceConfig"], "which allows all"


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
    assert settings.options().lazy_after == timedelta(minutes=10)


def test_the_source_is_the_users_code_the_wheel_and_pinned_requirements(first: Run) -> None:
    assert len(first.uploads) == 2
    source = zipfile.ZipFile(io.BytesIO(first.uploads[0]))
    names = set(source.namelist())
    (wheel,) = [name for name in names if name.endswith(".whl")]
    assert names == {"main.py", "pizza.py", "pizza_explicit.py", "requirements.txt", wheel}
    modules = zipfile.ZipFile(io.BytesIO(source.read(wheel))).namelist()
    assert {"cloud_adapter/hosting/service.py", "workflow_core/__init__.py"} <= set(modules)
    assert {"cloud_adapter/http/pages/templates/base.html", "cloud_adapter/http/pages/static/style.css"} <= set(modules)


def test_the_source_installs_exactly_the_files_that_were_tested(first: Run, tmp_path: Path) -> None:
    """As the build of a function installs it, and without any file whose hash is not in it."""
    zipfile.ZipFile(io.BytesIO(first.uploads[0])).extractall(tmp_path)
    venv.create(tmp_path / "venv")
    python = str(tmp_path / "venv/bin/python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile"]
    subprocess.run([*pip, "--require-hashes", "--requirement", "requirements.txt"], cwd=tmp_path, check=True)
    shown = subprocess.run(
        [python, "-c", "import cloud_adapter, main; print(cloud_adapter.__file__)"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.startswith(str(tmp_path / "venv"))


def test_recovery_is_called_every_minute_in_the_name_of_the_tasks_account(first: Run) -> None:
    job = first.resources[JOB]
    assert (job["schedule"], job["timeZone"]) == ("* * * * *", "Etc/UTC")
    target = job["httpTarget"]
    assert (target["httpMethod"], target["uri"]) == ("POST", f"{WORKER_URL}/recover")
    assert target["oidcToken"] == {"serviceAccountEmail": TASKS_ACCOUNT, "audience": WORKER_URL}


# --- who may do what ---------------------------------------------------------------------


def test_every_role_is_on_the_smallest_thing_that_it_is_needed_for(second: Run) -> None:
    functions = {f"serviceAccount:{API_ACCOUNT}", f"serviceAccount:{WORKER_ACCOUNT}"}
    assert {path: roles for path, roles in second.policies.items() if roles} == {
        PROJECT: {"roles/datastore.user": functions},
        QUEUE: {"roles/cloudtasks.enqueuer": functions, "roles/cloudtasks.taskDeleter": functions},
        SECRET_KEYS: {"roles/secretmanager.secretAccessor": functions},
        CALLBACK_KEYS: {"roles/secretmanager.secretAccessor": functions},
        SESSION_KEYS: {"roles/secretmanager.secretAccessor": {f"serviceAccount:{API_ACCOUNT}"}},
        f"{PROJECT}/serviceAccounts/{TASKS_ACCOUNT}": {"roles/iam.serviceAccountUser": functions},
        WORKER.replace("functions", "services"): {"roles/run.invoker": {f"serviceAccount:{TASKS_ACCOUNT}"}},
    }


def test_the_functions_may_use_their_own_database_only(first: Run) -> None:
    policies = [
        request.body["policy"]
        for request in first.requests
        if request.method == "POST" and request.path.endswith(f"/v1/{PROJECT}:setIamPolicy")
    ]
    expressions = {binding["condition"]["expression"] for policy in policies for binding in policy["bindings"]}
    assert expressions == {f'resource.name=="{DATABASE}"'}


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
    for name in ("fields", "execution", "history", "entries", "lease", "tokens"):
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
        and not request.path.endswith(
            ("/tasks", ":getIamPolicy", ":setIamPolicy", ":generateUploadUrl", ":batchEnable")
        )
    ]
    assert created == []
    assert [
        str(request) for request in second.requests if "/collectionGroups/" in request.path and request.writes
    ] == []


def test_a_second_deployment_leaves_things_as_they_are(first: Run, second: Run) -> None:
    expected = copy.deepcopy(_without_revisions(first.resources))
    for function in (API, WORKER):
        variables = expected[function]["serviceConfig"]["environmentVariables"]
        assert variables.pop("GORCHESTRATE_ACCESS") == "open"
        assert (variables["GORCHESTRATE_PUBLIC"], variables["GORCHESTRATE_WORKER_AUTH"]) == ("true", "oidc")
        variables |= {"GORCHESTRATE_PUBLIC": "false", "GORCHESTRATE_WORKER_AUTH": "iam"}
        variables |= {"GORCHESTRATE_PUBLIC_URL": PUBLIC_URL, "GORCHESTRATE_RATE_LIMIT": "20/s"}
        variables |= {"GORCHESTRATE_CALLBACK_KEYS": "none", "GORCHESTRATE_KMS_KEY": KMS_KEY}
        secrets = expected[function]["serviceConfig"]["secretEnvironmentVariables"]
        secrets[:] = [one for one in secrets if one["key"] != "GORCHESTRATE_CALLBACK_KEYS"]
        release = second.resources[function]["serviceConfig"]["environmentVariables"]["GORCHESTRATE_RELEASE"]
        assert release > variables["GORCHESTRATE_RELEASE"]
        variables |= {"GORCHESTRATE_RELEASE": release}
    assert _without_revisions(second.resources) == expected


def _without_revisions(resources: dict[str, Any]) -> dict[str, Any]:
    """What is there, without what each deployment makes anew."""
    return {path: body for path, body in resources.items() if not path.startswith("namespaces/")}


# --- the canary --------------------------------------------------------------------------


def test_a_task_has_reached_the_worker_before_the_api_is_deployed(first: Run) -> None:
    assert first.deliveries == [(f"{WORKER_URL}/canary", 200)]
    task = first.sent("POST", f"{QUEUE}/tasks").body["task"]["httpRequest"]
    assert task["oidcToken"] == {"serviceAccountEmail": TASKS_ACCOUNT, "audience": WORKER_URL}
    shown = "\n".join(first.commands)
    assert shown.index("gcloud tasks create-http-task") < shown.index("gcloud functions deploy gorchestrate-api")


def test_a_worker_whose_tokens_have_no_signature_leaves_it_to_cloud_run(second: Run) -> None:
    assert [status for _, status in second.deliveries] == [401, 200]
    deployed = [command for command in second.commands if command.startswith("gcloud functions deploy")]
    assert [re.findall(r"deploy (\S+).*WORKER_AUTH=(oidc|iam)[^;]*", command)[0] for command in deployed] == [
        ("gorchestrate-worker", "oidc"),
        ("gorchestrate-worker", "iam"),
        ("gorchestrate-api", "iam"),
    ]
    assert not any("/tasks/" in path for path in second.resources), "the refused canary is removed"


# --- the keys ----------------------------------------------------------------------------

ALL_KEYS = (SECRET_KEYS, CALLBACK_KEYS, SESSION_KEYS)


def test_each_setting_has_a_random_key_of_its_own_that_it_accepts(first: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [value.strip() for secret in ALL_KEYS for value in first.secrets[secret]]
    assert len({*keys}) == len(keys) == 3
    for function, count in ((API, 3), (WORKER, 2)):
        service = first.resources[function]["serviceConfig"]
        given = {one["key"]: one for one in service["secretEnvironmentVariables"]}
        assert len(given) == count
        for name, value in service["environmentVariables"].items():
            monkeypatch.setenv(name, value)
        for name, one in given.items():
            assert one["version"] == "latest"
            (value,) = first.secrets[f"{PROJECT}/secrets/{one['secret']}"]
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("K_SERVICE", "function")
        settings = Settings.load()
        assert len(settings.keys) == len(settings.callback_ring) == 1
        assert len(settings.listed_session_keys) == count - 2
        FernetCodec(settings.keys)
        for name in given:
            monkeypatch.delenv(name)


def test_a_key_is_in_no_output_and_no_command(first: Run) -> None:
    said = first.process.stdout + first.process.stderr
    sent = [request for request in first.requests if not request.path.endswith(":addVersion")]
    for (value,) in first.secrets.values():
        assert value.strip() not in said
        assert value.strip() not in str(sent)
    assert sum("versions add" in command and "--data-file=-" in command for command in first.commands) == 3


def test_keys_that_are_there_are_not_changed(first: Run, second: Run) -> None:
    assert second.secrets == first.secrets


# --- the check ---------------------------------------------------------------------------


def test_a_new_database_has_no_instances_to_be_checked(first: Run) -> None:
    assert [one for one in first.commands if one.startswith("gorchestrate")] == [
        f"gorchestrate check --deployable {DEPLOY.parent}/functions/main.py"
    ]
    assert "compiles: pizza" in first.process.stdout


def test_the_instances_that_are_there_are_checked(second: Run) -> None:
    assert [one for one in second.commands if one.startswith("gorchestrate")] == [
        f"gorchestrate check --deployable {DEPLOY.parent}/functions/main.py --against 'my-project/(default)'"
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
    run = desk.run("deploy.sh", "--dry-run", desk.settings(**FIRST))
    assert run.process.returncode == 0, run.process.stderr
    assert desk.google.requests == []
    invented = {
        PROJECT_NUMBER: "PROJECT_NUMBER",
        found(r"--source=(\S+)", first): "STAGED_SOURCE",
        found(r"--target=(\S+)", first): "BUILD_TOOLS",
        found(r"(canary-\d+-\d+)", first): "CANARY",
        found(r"RELEASE=(\w+)", first): "RELEASE",
    }
    done = "\n".join(first.commands)
    for value, name in invented.items():
        done = done.replace(value, name)
    assert run.commands == done.splitlines()


def found(pattern: str, run: Run) -> str:
    """The only text that matches a pattern in what a run has shown."""
    (text,) = {*re.findall(pattern, run.process.stdout)}
    return str(text)


def test_a_dry_teardown_sends_nothing_and_keeps_the_data(desk: Desk) -> None:
    run = desk.run("teardown.sh", "--dry-run", desk.settings())
    assert run.process.returncode == 0, run.process.stderr
    assert desk.google.requests == []
    assert len(run.commands) == 18
    assert sum("remove-iam-policy-binding" in command and " secrets " in command for command in run.commands) == 5
    assert not any("databases" in command.partition("--condition")[0] for command in run.commands)


# --- tearing it down ---------------------------------------------------------------------


def test_a_teardown_leaves_nothing_and_takes_no_offence_at_what_is_gone(torn_down: Run) -> None:
    left = {path for path in torn_down.resources if "/collectionGroups/" not in path}  # those went with the database
    assert left == set()
    assert torn_down.secrets == {}
    assert torn_down.process.stdout.count("already removed") == 4
