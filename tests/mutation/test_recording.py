"""What the coverage map is made of: which lines each test runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from coverage import CoverageData

from tests.mutation.recording import SECONDS_FILE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

PRODUCT = """
def double(x):
    return 2 * x
"""

TESTS = """
import sys
from product import double

def test_first():
    assert double(1) == 2

def test_a_debugger():
    sys.settrace(None)

def test_last():
    assert double(2) == 4
"""


def test_a_test_that_replaces_the_tracer_hides_no_later_one(tmp_path: Path) -> None:
    (tmp_path / "product.py").write_text(PRODUCT)
    (tmp_path / "test_product.py").write_text(TESTS)
    (tmp_path / "coveragerc").write_text("[run]\nsource = .\ncore = ctrace\nrelative_files = true\n")
    command = "-m coverage run --rcfile=coveragerc -m pytest -q -n 0 -p tests.mutation.recording -p no:cacheprovider"
    environment = os.environ | {SECONDS_FILE: str(tmp_path / "seconds.json"), "PYTHONPATH": f"{ROOT}:{tmp_path}"}
    environment["COVERAGE_FILE"] = str(tmp_path / "coverage")
    subprocess.run([sys.executable, *command.split(), "."], cwd=tmp_path, env=environment, check=True)
    data = CoverageData(str(tmp_path / "coverage"))
    data.read()
    found = data.contexts_by_lineno("product.py")
    assert sorted(test for test in found[3] if test) == ["test_product.py::test_first", "test_product.py::test_last"]
