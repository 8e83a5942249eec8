"""What deploy.sh and teardown.sh refuse, before anything is sent."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.deploy.desk import DEPLOY, Desk
from tests.deploy.tools import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


MAY_BE_EMPTY = ("BUILD_ACCOUNT",)
REQUIRED = [
    name
    for name in re.findall(r"^([A-Z_]+)=.+$", (DEPLOY / "settings.env.example").read_text(), re.MULTILINE)
    if name not in MAY_BE_EMPTY
]


@pytest.mark.parametrize("script", ["deploy.sh", "teardown.sh"])
@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(script: str, name: str, desk: Desk) -> None:
    run = desk.run(script, desk.settings(**{name: None}))
    assert run.process.returncode == 1
    assert f"{name} is missing: see {DEPLOY / 'settings.env.example'}" in run.process.stderr
    assert desk.google.requests == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"PROJECT": ""}, "PROJECT is missing"),
        ({"PUBLIC": "yes"}, "PUBLIC is 'yes': write true or false"),
        ({"PUBLIC_URL": "example.com"}, "PUBLIC_URL is 'example.com': write a URL such as https://example.com/orders"),
        ({"PUBLIC_URL": "https://a.b/c?X=1"}, "PUBLIC_URL is 'https://a.b/c?X=1': write a URL"),
        ({"PUBLIC_URL": "https://a.b/\x1f"}, "PUBLIC_URL contains a control character"),
        ({"ACCESS": ""}, "everyone who has roles/run.invoker on the api may start instances and send every event"),
        ({"ACCESS": "", "PUBLIC": "true"}, "everyone on the internet may start instances and send every event"),
        ({"ACCESS": "closed"}, "ACCESS is 'closed': write open or authenticated"),
        ({"PROJECT": "p,title=x"}, "PROJECT is 'p,title=x': lower-case letters"),
        ({"DATABASE": '(default)",title=x'}, "DATABASE is '(default)\",title=x': write (default)"),
        ({"DATABASE": "postgresql://u:p@h/n"}, "DATABASE is a URL of PostgreSQL, but this script deploys on Firestore"),
        ({"REGION": "us-central1/../x"}, "REGION is 'us-central1/../x': write a location"),
        ({"QUEUE": "q,title=x"}, "QUEUE is 'q,title=x': letters, digits and hyphens"),
        ({"QUEUES": "0"}, "QUEUES is '0': write a number of queues from 1 to 99"),
        ({"ACTIVITY_QUEUE": "q/x"}, "ACTIVITY_QUEUE is 'q/x': letters, digits and hyphens"),
        ({"ACTIVITY_QUEUE": "gorchestrate"}, "ACTIVITY_QUEUE and QUEUE must differ"),
        (
            {"ACTIVITY_QUEUE": "gorchestrate-2", "QUEUES": "2"},
            "one of the 2 queues that are named after QUEUE",
        ),
        ({"INDEX_SHARDS": "31"}, "INDEX_SHARDS is '31': write a number of shards from 1 to 30"),
        ({"SHARDED_INDEXES": "none"}, "SHARDED_INDEXES is 'none': write write, read or only"),
        ({"SHARDED_INDEXES": "read"}, "SHARDED_INDEXES is read, but INDEX_SHARDS is not more than 1"),
        ({"API_ACCOUNT": "a@b"}, "API_ACCOUNT is 'a@b': lower-case letters"),
        ({"API_ACCOUNT": "gorchestrate-worker"}, "API_ACCOUNT, WORKER_ACCOUNT and TASKS_ACCOUNT must differ"),
        ({"BUILD_ACCOUNT": "Builder"}, "BUILD_ACCOUNT is 'Builder': write a name of 6 to 30 lower-case letters"),
        ({"BUILD_ACCOUNT": "gorchestrate-api"}, "BUILD_ACCOUNT must differ from API_ACCOUNT"),
        ({"LOG_LEVEL": "INFO,X=1"}, "LOG_LEVEL is 'INFO,X=1': write DEBUG"),
        ({"LEASE_SECONDS": "60,X=1"}, "LEASE_SECONDS is '60,X=1': write a number"),
        ({"LAZY_TIMER_SECONDS": "10m"}, "LAZY_TIMER_SECONDS is '10m': write a number"),
        (
            {"LAZY_TIMER_SECONDS": "600", "RECOVERY_SCHEDULE": "*/5 * * * *"},
            "LAZY_TIMER_SECONDS is '600': write 0, because RECOVERY_SCHEDULE is not '* * * * *'",
        ),
        ({"RATE_LIMIT": "1000001/s"}, "RATE_LIMIT is '1000001/s': write a rate"),
        ({"RATE_LIMIT": "20"}, "RATE_LIMIT is '20': write a rate such as 20/s or 600/m, or nothing"),
        ({"SECRET_KEYS": "k=1"}, "write the name of a secret in Secret Manager, or none, not the keys themselves"),
        ({"SESSION_KEYS": "gorchestrate-secret-keys"}, "SESSION_KEYS must be different secrets"),
        ({"KMS_KEY": "my-key"}, "KMS_KEY is 'my-key': write the name of a key, projects/P/locations/L/keyRings"),
        ({"PITR": "on"}, "PITR is 'on': write true or false"),
        ({"DAILY_BACKUPS": "7"}, "DAILY_BACKUPS is '7': write how long a backup is kept, such as 7d or 14w, or none"),
        ({"INGRESS": "public"}, "INGRESS is 'public': write all, internal-only or internal-and-gclb, or nothing"),
        ({"ALERTS": "me@example.com"}, "write the name of a notification channel, projects/P/notificationChannels/N"),
        ({"UI": "maybe"}, "UI is 'maybe': write true or false"),
        ({"API_FUNCTION": "Api"}, "API_FUNCTION is 'Api': lower-case letters"),
        ({"API_FUNCTION": "gorchestrate-worker"}, "API_FUNCTION and WORKER_FUNCTION must differ"),
        ({"SOURCE": "tests"}, "which does not contain main.py"),
        ({"LOG_LEVEL": "INFO\nMEMROY=1Gi"}, f"unknown setting MEMROY: see {DEPLOY}/settings.env.example"),
        ({"LOG_LEVEL": "INFO\nexport X=1"}, "expected NAME=value, found: export X=1"),
    ],
)
def test_a_wrong_setting_is_explained(changes: dict[str, str], message: str, desk: Desk) -> None:
    run = desk.run("deploy.sh", desk.settings(**changes))
    assert run.process.returncode == 1
    assert message in run.process.stderr
    assert desk.google.requests == []


@pytest.mark.parametrize("name", [".env", "service-key.json", "orders.db"])
def test_a_source_with_a_secret_or_a_database_is_not_uploaded(name: str, desk: Desk) -> None:
    source = desk.directory / "source"
    source.mkdir()
    (source / "main.py").write_text("")
    (source / name).write_text("")
    run = desk.run("deploy.sh", desk.settings(SOURCE=str(source)))
    assert run.process.returncode == 1
    assert f"nothing was uploaded, because of these files:\n  {name} has the name of" in run.process.stderr
    assert desk.google.requests == []
    (source / ".gcloudignore").write_text(f"{name}\n")
    assert desk.run("deploy.sh", "--dry-run", desk.settings(SOURCE=str(source))).process.returncode == 0


def test_a_comma_in_a_setting_adds_no_variable() -> None:
    script = f"source '{DEPLOY}/lib.sh'; joined_variables \"$@\""
    values = ["A=1,X=2", "B=;3|4", "C=^,^", "D='=\"~"]
    ended = subprocess.run(["bash", "-c", script, "bash", *values], capture_output=True, text=True)
    assert ended.stdout == "^!^" + "!".join(values)
    ended = subprocess.run(["bash", "-c", script, "bash", "A=,;|~!%#*"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "gcloud could not tell them apart" in ended.stderr


def test_settings_are_data_and_are_not_run(desk: Desk) -> None:
    trap = desk.directory / "trap"
    run = desk.run("deploy.sh", "--dry-run", desk.settings(RECOVERY_SCHEDULE=f"$(touch {trap})"))
    assert run.process.returncode == 0
    assert not trap.exists()


@pytest.mark.parametrize("script", ["deploy.sh", "teardown.sh"])
def test_all_queues_are_created_and_deleted(desk: Desk, script: str) -> None:
    run = desk.run(script, "--dry-run", desk.settings(QUEUES="3", ACTIVITY_QUEUE="slow"))
    assert run.process.returncode == 0, run.process.stderr
    verb = "create" if script == "deploy.sh" else "delete"
    queues = re.findall(rf"gcloud tasks queues {verb} (\S+)", run.process.stdout)
    assert queues == ["gorchestrate", "gorchestrate-2", "gorchestrate-3", "slow"]
    if script == "deploy.sh":
        granted = re.findall(r"gcloud tasks queues add-iam-policy-binding (\S+)", run.process.stdout)
        assert sorted(granted) == sorted(4 * queues), "two roles of two accounts"
        assert "GORCHESTRATE_QUEUES=3" in run.process.stdout
        assert "GORCHESTRATE_ACTIVITY_QUEUE=slow" in run.process.stdout


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
    known = re.search(r"REQUIRED=\((.*?)\)\nOPTIONAL=\((.*?)\)", (DEPLOY / "settings.sh").read_text(), re.DOTALL)
    assert known is not None
    settings = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert sorted(settings) == sorted(f"{known[1]} {known[2]}".split())
    assert any(line.startswith("#") for line in lines)
