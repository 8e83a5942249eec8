from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import gcloud_client, gcloud_server
from tests.deploy.desk import Desk
from tests.deploy.fake_google import fake_google
from tests.deploy.tools import need


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the program ``gcloud``: the real one, but started once for all commands of the test run."""
    gcloud = need("gcloud")
    folder = tmp_path_factory.mktemp("programs")
    server, socket = folder / "server.py", folder / "socket"
    server.symlink_to(str(gcloud_server.__file__))  # gcloud's script splits the variable at spaces
    command = shlex.join([sys.executable, "-IS", str(gcloud_client.__file__), str(socket)])
    (folder / "gcloud").write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    (folder / "gcloud").chmod(0o755)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDSDK_")}
    variables |= {"CLOUDSDK_PYTHON_ARGS": str(server), "CLOUDSDK_CONFIG": str(folder / "config")}
    with subprocess.Popen(
        [gcloud, str(socket)], env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "gcloud has not started"
        yield folder
        process.stdin.close()


@pytest.fixture
def desk(tmp_path: Path, programs: Path) -> Iterator[Desk]:
    """A desk of the test's own, with an empty cloud."""
    with fake_google() as google:
        yield Desk(google, tmp_path, programs)
