"""What .ci/audit says about the reports of pip-audit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "audit_report.py"
FINE = {"name": "httpx", "version": "0.28.1", "vulns": []}
UNKNOWN = {"name": "starlette", "skip_reason": "Dependency not found on PyPI and could not be audited"}
VULNERABLE = {"name": "h11", "version": "0.1", "vulns": [{"id": "CVE-1", "fix_versions": ["0.2"], "aliases": []}]}
UNFIXED = {"name": "anyio", "version": "4", "vulns": [{"id": "CVE-2", "fix_versions": [], "aliases": []}]}


@pytest.mark.parametrize(
    ("packages", "log", "code", "says"),
    [
        ([FINE, FINE], "", 0, "a.lock: 2 packages without known vulnerabilities\n"),
        ([FINE, UNKNOWN], "", 0, "a.lock: 1 packages without known vulnerabilities; NOT AUDITED: starlette\n"),
        (
            [UNKNOWN, UNKNOWN],
            "No known vulnerabilities found",
            0,
            "NOT AUDITED, the package index here has no advisories",
        ),
        ([FINE, VULNERABLE], "Found 1 known vulnerability", 1, "h11 0.1: CVE-1, fixed in 0.2"),
        ([UNKNOWN, UNFIXED], "", 1, "anyio 4: CVE-2, fixed in no version"),
        (
            None,
            "requests.exceptions.ConnectionError: refused",
            0,
            "NOT AUDITED, no advisories can be reached from here",
        ),
        (None, "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed", 0, "NOT AUDITED"),
        (None, "ERROR: a.lock has no hashes", 1, "a.lock: failed\nERROR: a.lock has no hashes"),
        (None, "", 1, "a.lock: failed"),
    ],
)
def test_findings_and_missing_advisories_are_told_apart(
    packages: Any, log: str, code: int, says: str, tmp_path: Path
) -> None:
    report, written = tmp_path / "report.json", tmp_path / "log.txt"
    written.write_text(log)
    if packages is not None:
        report.write_text(json.dumps({"dependencies": packages, "fixes": []}))
    ended = subprocess.run(
        [sys.executable, str(SCRIPT), "a.lock", str(report), str(written)], capture_output=True, text=True
    )
    assert (ended.returncode, ended.stderr) == (code, "")
    assert says in ended.stdout
