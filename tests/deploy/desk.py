"""Where the scripts are run: with the real gcloud, a Google Cloud in memory and settings of the test. Holds no test."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from tests.deploy.fake_google import PROJECT_NUMBER, FakeGoogle, Request

DEPLOY = Path(__file__).parents[2] / "deploy"
TIMEOUT_S = 900
PROGRAMS = ("deploy", "teardown", "lock")
"""The scripts that are run; the others have functions for them."""

PROJECT = "projects/my-project"
REGION = f"{PROJECT}/locations/us-central1"
DATABASE = f"{PROJECT}/databases/(default)"
QUEUE = f"{REGION}/queues/gorchestrate"
API = f"{REGION}/functions/gorchestrate-api"
WORKER = f"{REGION}/functions/gorchestrate-worker"
JOB = f"{REGION}/jobs/gorchestrate-worker-recover"
API_ACCOUNT = "gorchestrate-api@my-project.iam.gserviceaccount.com"
WORKER_ACCOUNT = "gorchestrate-worker@my-project.iam.gserviceaccount.com"
TASKS_ACCOUNT = "gorchestrate-tasks@my-project.iam.gserviceaccount.com"
WORKER_URL = f"https://gorchestrate-worker-{PROJECT_NUMBER}.us-central1.run.app"
SECRET_KEYS = f"{PROJECT}/secrets/gorchestrate-secret-keys"
CALLBACK_KEYS = f"{PROJECT}/secrets/gorchestrate-callback-keys"
SESSION_KEYS = f"{PROJECT}/secrets/gorchestrate-session-keys"
BUILD_ACCOUNT = "builder@my-project.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Run:
    """A script that has ended, what it has sent, and what was there when it had."""

    process: subprocess.CompletedProcess[str]
    requests: list[Request]
    resources: dict[str, Any]
    policies: dict[str, dict[str, set[str]]]
    uploads: list[bytes]
    deliveries: list[tuple[str, int]]
    secrets: dict[str, list[str]]

    @property
    def commands(self) -> list[str]:
        """The commands that it has shown."""
        return re.findall(r"^  \$ (.*)$", self.process.stdout, re.MULTILINE)

    def sent(self, method: str, path: str) -> Request:
        """The one request of a method to a path."""
        (request,) = [one for one in self.requests if one.method == method and one.path.endswith(path)]
        return request


def settings_file(directory: Path, **changes: str | None) -> Path:
    """Writes the example's settings with some changed; None leaves one out."""
    changes.setdefault("ACCESS", "open")
    changes.setdefault("SOURCE", str(DEPLOY.parent / "functions"))
    lines = []
    for line in (DEPLOY / "settings.env.example").read_text().splitlines():
        name = line.partition("=")[0]
        if name not in changes:
            lines.append(line)
        elif changes[name] is not None:
            lines.append(f"{name}={changes[name]}")
    file = directory / "settings.env"
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass(frozen=True)
class Desk:
    """Where the scripts are run."""

    google: FakeGoogle
    directory: Path
    programs: Path
    """The folder of the program ``gcloud`` that is run."""
    firestore: str = ""
    """Where the documents are; the fake has none."""

    @property
    def temporary(self) -> Path:
        """The folder in which the scripts, and what they start, make their temporary files."""
        return self.directory / "temporary"

    def settings(self, **changes: str | None) -> Path:
        """The example's settings with some changed; None leaves one out."""
        return settings_file(self.directory, **changes)

    def environment(self) -> dict[str, str]:
        """The variables with which a script reaches this cloud and no other."""
        self.temporary.mkdir(exist_ok=True)
        token = self.directory / "token"
        token.write_text("ya29.not-a-token")
        variables = {
            "TMPDIR": str(self.temporary),
            "PATH": f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
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
        return os.environ | self.google.environment() | variables

    def call(self, lines: str, **changes: str | None) -> Run:
        """Runs lines of bash that call functions of the scripts, with the example's settings and some changed."""
        names = sorted(file.stem for file in DEPLOY.glob("*.sh") if file.stem not in PROGRAMS)
        sources = "".join(f"source '{DEPLOY}/{name}.sh'\n" for name in ("lib", *(n for n in names if n != "lib")))
        settings = f"load_settings '{self.settings(**changes)}'; derive; WORKER_URL={WORKER_URL}\n"
        return self._run(["bash", "-euo", "pipefail", "-c", f"HERE='{DEPLOY}'\n{sources}{settings}{lines}"], "")

    def run(self, script: str, *arguments: str | Path, input: str = "") -> Run:
        return self._run([DEPLOY / script, *arguments], input)

    def _run(self, command: list[str | Path], input: str) -> Run:
        google = self.google
        requests, uploads, deliveries = len(google.requests), len(google.uploads), len(google.deliveries)
        process = subprocess.run(
            command,
            env=self.environment(),
            input=input,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        return Run(
            process,
            google.requests[requests:],
            copy.deepcopy(google.resources),
            {path: google.bindings(path) for path in google.policies},
            google.uploads[uploads:],
            google.deliveries[deliveries:],
            copy.deepcopy(google.secrets),
        )
