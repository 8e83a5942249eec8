"""Says what pip-audit has found: exit code 1 for a vulnerability, or for an error other than missing advisories."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

UNREACHABLE = re.compile(
    r"ConnectionError|Could not connect|ConnectTimeout|ReadTimeout|ProxyError|SSLError|HTTPError", re.I
)
"""What pip-audit writes if the advisories cannot be read."""


def summary(lock: str, report: str, log: str) -> tuple[int, str]:
    """Returns the exit code and the text for a report and a log of pip-audit; the report may be empty."""
    if not report:
        if UNREACHABLE.search(log):
            return 0, f"pip-audit: {lock}: NOT AUDITED, no advisories can be reached from here"
        return 1, f"pip-audit: {lock}: failed\n{log}"
    packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    found = [
        f"  {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed_in(vulnerability)}"
        for package in packages
        for vulnerability in package.get("vulns", [])
    ]
    if found:
        return 1, "\n".join([f"pip-audit: {lock}: vulnerable packages. Run deploy/lock.sh", *found])
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    if len(skipped) == len(packages):
        return 0, f"pip-audit: {lock}: NOT AUDITED, the package index here has no advisories"
    text = f"pip-audit: {lock}: {len(packages) - len(skipped)} packages without known vulnerabilities"
    return 0, text + (f"; NOT AUDITED: {', '.join(skipped)}" if skipped else "")


def fixed_in(vulnerability: dict[str, Any]) -> str:
    return ", ".join(vulnerability["fix_versions"]) or "no version"


def main() -> None:
    lock, report, log = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    code, text = summary(lock, report.read_text() if report.exists() else "", log.read_text())
    sys.stdout.write(text + "\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
