"""The canary's decisions, each by itself: the functions of deploy/canary.sh, with a gcloud that only prints files.

test_deploy.py runs them with the real gcloud, whose output these files are.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.desk import DEPLOY, TASKS_ACCOUNT, WORKER_URL, settings_file

SERVICE, POLICY, PROJECT_POLICY, FUNCTION, TASK = "service", "policy", "project", "function", "task"
COMMANDS = {
    "run services describe": SERVICE,
    "run services get-iam-policy": POLICY,
    "projects get-iam-policy": PROJECT_POLICY,
    "functions describe": FUNCTION,
    "tasks describe": TASK,
}
Bash = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def bash(tmp_path: Path) -> Bash:
    """Runs lines that call the functions. Where a private worker is, ``gcloud`` prints what it prints there."""
    binding = {"members": [f"serviceAccount:{TASKS_ACCOUNT}"], "role": "roles/run.invoker"}
    owner = {"members": ["user:ann@example.com"], "role": "roles/owner"}
    write(
        tmp_path / SERVICE, {"kind": "Service", "metadata": {"annotations": {"run.googleapis.com/ingress": "internal"}}}
    )
    write(tmp_path / POLICY, {"bindings": [binding], "etag": "BwY=", "version": 1})
    write(tmp_path / PROJECT_POLICY, {"bindings": [owner], "etag": "BwY=", "version": 1})
    (tmp_path / FUNCTION).write_text("iam\n")
    (tmp_path / TASK).write_text("\n")
    cases = "".join(f"*'{words}'*) cat '{tmp_path}/{name}' ;; " for words, name in COMMANDS.items())
    stub = f'gcloud() {{ case "$*" in {cases} esac; }}; sleep() {{ :; }}\n'
    parts = "".join(f"source '{DEPLOY}/{name}.sh'\n" for name in ("lib", "settings", "canary"))
    settings = f"load_settings '{settings_file(tmp_path)}'; derive; WORKER_URL={WORKER_URL}\n"

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", "-euo", "pipefail", "-c", parts + settings + stub + script]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    return run


def write(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=2))


def bind(file: Path, member: str) -> None:
    """Gives a role to one more member."""
    content = json.loads(file.read_text())
    content["bindings"].append({"members": [member], "role": "roles/run.admin"})
    write(file, content)


def is_private(bash: Bash) -> bool:
    ended = bash("if is_private; then echo private; else echo public; fi")
    assert ended.returncode == 0, ended.stderr
    return ended.stdout == "private\n"


def test_a_worker_that_only_the_tasks_account_may_call_is_private(bash: Bash) -> None:
    assert is_private(bash)


@pytest.mark.parametrize("name", [POLICY, PROJECT_POLICY])
@pytest.mark.parametrize("member", ["allUsers", "allAuthenticatedUsers"])
def test_a_worker_that_everyone_may_call_is_not_private(name: str, member: str, bash: Bash, tmp_path: Path) -> None:
    bind(tmp_path / name, member)
    assert not is_private(bash)


@pytest.mark.parametrize("value", ["true", "True", True])
def test_a_worker_whose_callers_are_not_checked_is_not_private(value: object, bash: Bash, tmp_path: Path) -> None:
    write(tmp_path / SERVICE, {"metadata": {"annotations": {"run.googleapis.com/invoker-iam-disabled": value}}})
    assert not is_private(bash)


@pytest.mark.parametrize("name", [SERVICE, POLICY, PROJECT_POLICY])
def test_what_cannot_be_read_is_not_private(name: str, bash: Bash, tmp_path: Path) -> None:
    (tmp_path / name).unlink()
    assert not is_private(bash)


def test_a_policy_that_does_not_name_the_tasks_account_is_not_that_of_the_worker(bash: Bash, tmp_path: Path) -> None:
    write(tmp_path / POLICY, {"etag": "BwY="})
    assert not is_private(bash)


@pytest.mark.parametrize(("private", "auth"), [(True, "iam"), (False, "oidc")])
def test_what_an_earlier_canary_has_found_is_kept_while_it_is_safe(
    private: bool, auth: str, bash: Bash, tmp_path: Path
) -> None:
    if not private:
        bind(tmp_path / POLICY, "allUsers")
    ended = bash("choose_worker_auth >/dev/null; echo $WORKER_AUTH")
    assert ended.stdout == f"{auth}\n", ended.stderr


@pytest.mark.parametrize("before", ["", "oidc", "none", "iam,oidc"])
def test_nothing_else_leaves_the_signature_to_cloud_run(before: str, bash: Bash, tmp_path: Path) -> None:
    (tmp_path / FUNCTION).write_text(before)
    assert bash("choose_worker_auth >/dev/null; echo $WORKER_AUTH").stdout == "oidc\n"


@pytest.mark.parametrize("auth", ["oidc", "iam"])
def test_nothing_is_changed_where_the_worker_is_not_private(auth: str, bash: Bash) -> None:
    status = 401 if auth == "oidc" else 200
    script = f"is_private() {{ false; }}; send_worker() {{ echo deployed; }}; send_canary() {{ status={status}; }};"
    ended = bash(f"{script} WORKER_AUTH={auth}; try_worker")
    assert ended.returncode == 1
    assert "the worker is not private" in ended.stderr
    assert "deployed" not in ended.stdout


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("none", "the canary was not delivered within 300 s"),
        ("401", "refuses the token of gorchestrate-tasks@my-project.iam.gserviceaccount.com with status 401"),
        ("403", "refuses the token"),
        ("500", "the worker answers tasks with status 500"),
    ],
)
def test_a_canary_that_does_not_arrive_ends_the_deployment(status: str, message: str, bash: Bash) -> None:
    script = f"is_private() {{ true; }}; send_worker() {{ :; }}; send_canary() {{ status={status}; }};"
    ended = bash(f"{script} try_worker")
    assert ended.returncode == 1
    assert message in ended.stderr


@pytest.mark.parametrize(
    ("shown", "status"),
    [
        ("", "none"),
        ("\t\n", "none"),
        ("2025-01-01T00:00:00Z\tPERMISSION_DENIED(7): HTTP status code 403", "403"),
        ("2025-01-01T00:00:00Z\tUNAUTHENTICATED(16): HTTP status code 401", "401"),
        ("2025-01-01T00:00:00Z\tUNAUTHENTICATED", "401"),
        ("2025-01-01T00:00:00Z\tINTERNAL(13): HTTP status code 500", "500"),
        ("2025-01-01T00:00:00Z\t", "unknown (2025-01-01T00:00:00Z\t)"),
    ],
)
def test_what_the_queue_says_of_the_last_attempt(shown: str, status: str, bash: Bash, tmp_path: Path) -> None:
    (tmp_path / TASK).write_text(shown)
    ended = bash('send_canary >&2; echo "$status"')
    assert ended.stdout == f"{status}\n"
    assert "gcloud tasks delete canary-" in ended.stderr, "a canary that fails is removed"
