from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.desk import Desk
from tests.deploy.fake_google import fake_google
from tests.deploy.tools import need


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk of the test's own, with an empty cloud."""
    need("gcloud")
    with fake_google() as google:
        yield Desk(google, tmp_path)
