"""The programs of others that these tests need: without them they are skipped, but on a CI they fail."""

from __future__ import annotations

import os
import shutil

import pytest

HOW_TO_GET = {
    "gcloud": "https://cloud.google.com/sdk/docs/install, or apt-get install google-cloud-cli",
    "docker-compose": "apt-get install docker-compose",
    "terraform": "https://developer.hashicorp.com/terraform/install",
    "shellcheck": "apt-get install shellcheck",
}


def need(name: str) -> str:
    """The path of a program; ends the test if it is not installed."""
    path = shutil.which(name)
    if path is not None:
        return path
    message = f"{name} is not installed: {HOW_TO_GET[name]}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
