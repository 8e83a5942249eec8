"""deploy/terraform with the real terraform: it is valid, and creates what deploy.sh creates.

Terraform plans and applies the module with values that it invents (``mock_provider``), so nothing is sent.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from tests.deploy.desk import DEPLOY, TASKS_ACCOUNT, WORKER_URL, Desk, Run, settings_file
from tests.deploy.fake_google import PROJECT_NUMBER, fake_google
from tests.deploy.terraform_provider import providers
from tests.deploy.tools import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MODULE = DEPLOY / "terraform"
CHANNEL = "projects/my-project/notificationChannels/1"
VARIABLES = {
    "project": "my-project",
    "access": "open",
    "source_archive": "source.zip",
    "queues": 2,
    "activity_queue": "slow",
    "alerts": CHANNEL,
    "daily_backups": "604800s",
    "weekly_backups": "8467200s",
    "public": True,
}
SETTINGS = {
    "QUEUES": "2",
    "ACTIVITY_QUEUE": "slow",
    "DAILY_BACKUPS": "7d",
    "WEEKLY_BACKUPS": "14w",
    "PUBLIC": "true",
}
IMAGE = "us-central1-docker.pkg.dev/my-project/orders/source:1"
AS_SERVICES = {"source_archive": None, "hosting": "run", "image": IMAGE, "ingress": "ALLOW_INTERNAL_AND_GCLB"}
MADE_BY_TERRAFORM = {
    "storage.googleapis.com": "the module uploads the source itself",
    "GORCHESTRATE_RELEASE": "to go back is to apply the archive before",
}
MOCK = f"""
mock_provider "google" {{
  mock_data "google_project" {{
    defaults = {{ number = "{PROJECT_NUMBER}" }}
  }}
}}
"""
Resources = dict[str, dict[str, Any]]


class Terraform:
    """The module in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.module = folder / "terraform"
        self.environment = os.environ | environment | {"TF_DATA_DIR": str(folder / "data")}
        shutil.copytree(MODULE, self.module)
        shutil.copytree(DEPLOY / "monitoring", folder / "monitoring")
        shutil.copy(DEPLOY / "firestore.indexes.json", folder)
        (self.module / "source.zip").write_bytes(b"PK")
        assert self.run("init", "-backend=false", "-input=false").returncode == 0

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [need("terraform"), *arguments],
            cwd=self.module,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def apply(self, **variables: object) -> tuple[subprocess.CompletedProcess[str], Resources]:
        """Applies the module with invented values. Returns the resources by their addresses."""
        values = "\n".join(f"  {name} = {json.dumps(value)}" for name, value in variables.items())
        (self.module / "apply.tftest.hcl").write_text(f'{MOCK}variables {{\n{values}\n}}\nrun "apply" {{}}\n')
        ended = self.run("test", "-json", "-verbose")
        messages = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
        states = [one["test_state"] for one in messages if one["type"] == "test_state"]
        resources = states[0]["root_module"]["resources"] if states else []
        return ended, {one["address"]: one["values"] for one in resources}


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    need("terraform")
    with providers() as environment:
        yield Terraform(tmp_path_factory.mktemp("terraform"), environment)


@pytest.fixture(scope="module")
def applied(terraform: Terraform) -> Resources:
    ended, resources = terraform.apply(**VARIABLES)
    assert ended.returncode == 0, ended.stdout
    return resources


@pytest.fixture(scope="module")
def as_services(terraform: Terraform) -> Resources:
    ended, resources = terraform.apply(**VARIABLES | AS_SERVICES)
    assert ended.returncode == 0, ended.stdout
    return resources


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Run:
    """What deploy.sh does with the same settings."""
    with fake_google() as google:
        desk = Desk(google, tmp_path_factory.mktemp("deploy"), programs)
        run = desk.run("deploy.sh", "--dry-run", "--skip-check", desk.settings(**SETTINGS))
    assert run.process.returncode == 0, run.process.stderr
    return run


def of(kind: str, resources: Resources) -> list[dict[str, Any]]:
    return [values for address, values in resources.items() if address.startswith(f"{kind}.")]


def test_the_module_is_valid_and_formatted(terraform: Terraform) -> None:
    ended = terraform.run("validate")
    assert ended.returncode == 0, ended.stderr
    ended = terraform.run("fmt", "-check", "-diff", str(MODULE))
    assert ended.returncode == 0, ended.stdout


def test_a_wrong_argument_would_be_found(terraform: Terraform) -> None:
    file = terraform.module / "wrong.tf"
    file.write_text('resource "google_service_account" "x" {\n  account = "x"\n}\n')
    ended = terraform.run("validate")
    file.unlink()
    assert ended.returncode == 1
    assert 'An argument named "account" is not expected here' in ended.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        {"access": "closed"},
        {"queues": 0},
        {"worker_auth": "none"},
        {"hosting": "gke"},
        {"hosting": "run"},
        {"image": IMAGE},
        {"ingress": "all"},
    ],
)
def test_a_wrong_setting_is_refused(wrong: dict[str, object], terraform: Terraform) -> None:
    ended, resources = terraform.apply(**VARIABLES | wrong)
    assert ended.returncode == 1
    assert "Invalid value for variable" in ended.stdout
    assert resources == {}


def test_the_defaults_are_those_of_the_settings() -> None:
    lines = (DEPLOY / "settings.env.example").read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    text = (MODULE / "variables.tf").read_text()
    found = dict(re.findall(r'^variable "(\w+)" \{\n(?:(?!^\}).*\n)*?  default +=  ?"?(.*?)"?$', text, re.MULTILINE))
    assert len(found) > 25
    seconds = {"api_timeout": "60", "worker_timeout": "540"}
    told = {
        "hosting": "functions",
        "ingress": "ALLOW_ALL",
        "pitr": "false",
        "worker_auth": "oidc",
        "queue_limits": "{}",
    }
    nothing = {"null", ""}
    for name, default in found.items():
        expected = seconds.get(name) or settings.get(name.upper()) or told.get(name, "")
        assert default == expected or (default in nothing and expected in nothing) or name == "queues", name
    limits = dict(re.findall(r"(\w+) += optional\(\w+, \"?(.*?)\"?\)", text))
    for name, default in limits.items():
        assert float(default.rstrip("s")) == float(settings[f"QUEUE_{name.upper()}"].rstrip("s")), name


def test_both_create_the_same_queues_accounts_and_secrets(applied: Resources, script: Run) -> None:
    for kind, name, command in (
        ("google_cloud_tasks_queue", "name", "tasks queues create"),
        ("google_service_account", "account_id", "iam service-accounts create"),
        ("google_secret_manager_secret", "secret_id", "secrets create"),
    ):
        made = re.findall(rf"gcloud {command} (\S+)", script.process.stdout)
        assert sorted(one[name] for one in of(kind, applied)) == sorted(made)
        assert len(made) == len({*made}) >= 3


def test_both_enable_the_same_apis(applied: Resources, script: Run) -> None:
    (command,) = [one for one in script.commands if "services enable" in one]
    enabled = {*re.findall(r"\w+\.googleapis\.com", command)}
    of_alerts = {"logging.googleapis.com", "monitoring.googleapis.com"}
    found = {one["service"] for one in of("google_project_service", applied)}
    assert found - {*MADE_BY_TERRAFORM} - of_alerts == enabled - of_alerts


def test_both_give_the_same_roles(applied: Resources, script: Run) -> None:
    given = {*re.findall(r"--role=(\S+)", script.process.stdout)}
    found = {values["role"] for address, values in applied.items() if "_iam_member." in address}
    assert found == given
    conditions = [one["condition"][0] for one in of("google_project_iam_member", applied) if one["condition"]]
    assert [one["expression"] for one in conditions] == ['resource.name=="projects/my-project/databases/(default)"'] * 2


@pytest.mark.parametrize("name", ["api", "worker"])
def test_both_give_the_functions_the_same_variables(name: str, applied: Resources, script: Run) -> None:
    (command,) = [one for one in script.commands if one.startswith(f"gcloud functions deploy gorchestrate-{name}")]
    given = dict(
        re.findall(r"(GORCHESTRATE_(?!\w+_KEYS)\w+)=([^,']*)", command.replace("PROJECT_NUMBER", PROJECT_NUMBER))
    )
    (function,) = of("google_cloudfunctions2_function", {k: v for k, v in applied.items() if k.endswith(f".{name}[0]")})
    service = function["service_config"][0]
    variables = dict(service["environment_variables"])
    assert variables.pop("GORCHESTRATE_TASKS_ACCOUNT")  # an invented address
    assert given.pop("GORCHESTRATE_TASKS_ACCOUNT") == TASKS_ACCOUNT
    assert variables == {name: value for name, value in given.items() if name not in MADE_BY_TERRAFORM}
    assert variables["GORCHESTRATE_WORKER_URL"] == WORKER_URL
    secrets = {*re.findall(r"(GORCHESTRATE_\w+_KEYS)=([\w-]+):latest", command)}
    assert {(one["key"], one["secret"]) for one in service["secret_environment_variables"]} == secrets
    for option, value in (
        ("memory", "available_memory"),
        ("cpu", "available_cpu"),
        ("max-instances", "max_instance_count"),
    ):
        assert f"--{option}={service[value]} " in command
    assert function["build_config"][0]["entry_point"] == name
    assert function["build_config"][0]["runtime"] == re.findall(r"--runtime=(\S+)", command)[0]


@pytest.mark.parametrize("name", ["api", "worker"])
def test_both_give_the_services_the_same(name: str, as_services: Resources, programs: Path, tmp_path: Path) -> None:
    with fake_google() as google:
        settings = settings_file(tmp_path, **SETTINGS, HOSTING="run", INGRESS="internal-and-gclb")
        run = Desk(google, tmp_path, programs).run("deploy.sh", "--dry-run", "--skip-check", settings)
    (command,) = [one for one in run.commands if one.startswith(f"gcloud run deploy gorchestrate-{name}")]
    variables = re.findall(
        r"((?:GORCHESTRATE_|FUNCTION_)\w+)=([^,']*)", command.replace("PROJECT_NUMBER", PROJECT_NUMBER)
    )
    given = {key: value for key, value in variables if not key.endswith("_KEYS") and key not in MADE_BY_TERRAFORM}
    secrets = dict(re.findall(r"(GORCHESTRATE_\w+_KEYS)=([\w-]+):latest", command))
    service = as_services[f"google_cloud_run_v2_service.{name}[0]"]
    (template,) = service["template"]
    (container,) = template["containers"]
    env = {one["name"]: one["value"] for one in container["env"] if not one["value_source"]}
    assert env.pop("GORCHESTRATE_TASKS_ACCOUNT")  # an invented address
    assert given.pop("GORCHESTRATE_TASKS_ACCOUNT") == TASKS_ACCOUNT
    assert env == given
    assert env["FUNCTION_TARGET"] == name
    references = {
        one["name"]: one["value_source"][0]["secret_key_ref"][0] for one in container["env"] if one["value_source"]
    }
    assert references == {key: {"secret": secret, "version": "latest"} for key, secret in secrets.items()}
    limits, (scaling,) = container["resources"][0]["limits"], template["scaling"]
    for option, value in (
        ("memory", limits["memory"]),
        ("cpu", limits["cpu"]),
        ("concurrency", template["max_instance_request_concurrency"]),
        ("timeout", template["timeout"]),
        ("min-instances", scaling["min_instance_count"]),
        ("max-instances", scaling["max_instance_count"]),
    ):
        assert f"--{option}={value} " in f"{command} "
    assert (container["image"], service["name"]) == (IMAGE, f"gorchestrate-{name}")
    internal = service["ingress"] == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    assert internal == ("--ingress=internal " in command) == (name == "worker")
    assert template["service_account"] == as_services[f"google_service_account.{name}"]["email"]


def test_services_need_nothing_of_functions(as_services: Resources, applied: Resources) -> None:
    assert {address.partition(".")[0] for address in applied.keys() - as_services.keys()} == {
        "google_cloudfunctions2_function",
        "google_project_iam_member",
        "google_service_account",
        "google_storage_bucket",
        "google_storage_bucket_object",
    }
    added = as_services.keys() - applied.keys()
    assert added == {f"google_cloud_run_v2_service.{name}[0]" for name in ("api", "worker")}
    invokers = of("google_cloud_run_v2_service_iam_member", as_services)
    assert {one["name"] for one in invokers} == {"gorchestrate-api", "gorchestrate-worker"}


def test_the_mark_of_the_database_is_that_of_the_script(applied: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEPLOY))
    claim = importlib.import_module("claim")
    (mark,) = of("google_firestore_document", applied)
    assert f"documents/{mark['collection']}/{mark['document_id']}" == claim.PATH
    queues = ["gorchestrate", "gorchestrate-2", "slow"]
    expected = claim.document("us-central1/gorchestrate-worker", queues)["fields"]
    assert json.loads(mark["fields"]) == expected


def test_the_worker_is_never_public(applied: Resources) -> None:
    worker = applied["google_cloudfunctions2_function.worker[0]"]["service_config"][0]
    assert worker["ingress_settings"] == "ALLOW_INTERNAL_ONLY"
    public = [address for address, values in applied.items() if values.get("member") == "allUsers"]
    assert public == ["google_cloud_run_v2_service_iam_member.everyone[0]"]
    assert applied[public[0]]["name"] == "gorchestrate-api"


def test_the_indexes_are_those_of_the_file(applied: Resources) -> None:
    wanted = json.loads((DEPLOY / "firestore.indexes.json").read_text())
    assert len(of("google_firestore_index", applied)) == len(wanted["indexes"])
    fields = {(one["collection"], one["field"]): one for one in of("google_firestore_field", applied)}
    assert len(fields) == len(wanted["fieldOverrides"])
    for spec in wanted["fieldOverrides"]:
        field = fields[spec["collectionGroup"], spec["fieldPath"]]
        found = [(one["order"], one["query_scope"]) for one in field["index_config"][0]["indexes"]]
        assert sorted(found) == sorted((one["order"], one["queryScope"]) for one in spec["indexes"])
        assert bool(field["ttl_config"]) == spec.get("ttl", False)


def test_the_archive_has_the_source_of_the_functions_and_is_the_same_each_time(desk: Desk, tmp_path: Path) -> None:
    wheel = tmp_path / "gorchestrate-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    archives = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for archive in archives:
        run = desk.run("deploy.sh", "--skip-check", "--wheel", wheel, "--archive", archive, desk.settings())
        assert run.process.returncode == 0, run.process.stderr
    assert desk.google.requests == []
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with ZipFile(archives[0]) as archive_file:
        names = archive_file.namelist()
    assert names == sorted(
        [".gcloudignore", wheel.name, "main.py", "pizza.py", "pizza_explicit.py", "requirements.txt"]
    )


def test_a_key_is_in_no_state(applied: Resources) -> None:
    versions = of("google_secret_manager_secret_version", applied)
    assert len(versions) == 3
    assert [one["secret_data_wo"] for one in versions] == [None] * 3
    assert "YWFhYWFh" not in json.dumps(applied), "the base64 of the fake's password"


def test_keys_and_alerts_can_be_left_out(terraform: Terraform) -> None:
    without = {"alerts": "", "session_keys": "none", "secret_keys": "none"}
    ended, resources = terraform.apply(**VARIABLES | without)
    assert ended.returncode == 0, ended.stdout
    assert not of("google_monitoring_alert_policy", resources)
    assert len(of("google_secret_manager_secret", resources)) == 1
    variables = {
        name: resources[f"google_cloudfunctions2_function.{name}[0]"]["service_config"][0]["environment_variables"]
        for name in ("api", "worker")
    }
    assert variables["api"]["GORCHESTRATE_SESSION_KEYS"] == variables["worker"]["GORCHESTRATE_SECRET_KEYS"] == "none"
    assert "GORCHESTRATE_SESSION_KEYS" not in variables["worker"]


def test_there_are_alerts_and_a_dashboard(applied: Resources) -> None:
    policies = {one["user_labels"]["alert"]: one for one in of("google_monitoring_alert_policy", applied)}
    assert sorted(policies) == ["failed-instances", "late-tasks", "recovery-failures", "worker-errors"]
    assert all(one["notification_channels"] == [CHANNEL] for one in policies.values())
    filter = policies["late-tasks"]["conditions"][0]["condition_threshold"][0]["filter"]
    assert 'full_match("gorchestrate|gorchestrate-2|slow")' in filter
    (metric,) = of("google_logging_metric", applied)
    assert (
        f'/user/{metric["name"]}"' in policies["failed-instances"]["conditions"][0]["condition_threshold"][0]["filter"]
    )
    (dashboard,) = of("google_monitoring_dashboard", applied)
    assert len(json.loads(dashboard["dashboard_json"])["mosaicLayout"]["tiles"]) == 6
