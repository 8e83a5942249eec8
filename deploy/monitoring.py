"""Writes what gcloud creates of monitoring/: ``monitoring.py FOLDER NAME=VALUE...``.

The files of monitoring/ contain ${name} for each of these values, as Terraform's templates do. For each alert, a file
with an alert policy is written, and one with the dashboard. The filter of the metric is printed. Uses only the standard
library, so that it runs with any python3.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from string import Template
from typing import Any

SOURCE = Path(__file__).parent / "monitoring"


def filled(name: str, values: dict[str, str]) -> str:
    """The text of a file with the values. A name that has no value raises KeyError."""
    return Template((SOURCE / name).read_text(encoding="utf-8")).substitute(values)


def policy(alert: dict[str, Any], values: dict[str, str]) -> dict[str, Any]:
    """An alert policy as the API of Cloud Monitoring has it."""
    threshold = {
        "filter": alert["filter"],
        "comparison": "COMPARISON_GT",
        "thresholdValue": alert["threshold"],
        "duration": alert["duration"],
        "aggregations": [
            {
                "alignmentPeriod": "300s",
                "perSeriesAligner": alert["aligner"],
                "crossSeriesReducer": alert["reducer"],
            }
        ],
    }
    return {
        "displayName": alert["displayName"],
        "combiner": "OR",
        "conditions": [{"displayName": alert["displayName"], "conditionThreshold": threshold}],
        "documentation": {"content": alert["documentation"], "mimeType": "text/markdown"},
        "notificationChannels": [values["channel"]],
        "userLabels": {"gorchestrate": values["worker"], "alert": alert["name"]},
    }


def main() -> None:
    folder, *pairs = sys.argv[1:]
    values = dict(pair.split("=", 1) for pair in pairs)
    for alert in json.loads(filled("alerts.json", values)):
        file = Path(folder) / f"alert-{alert['name']}.json"
        file.write_text(json.dumps(policy(alert, values), indent=2), encoding="utf-8")
    (Path(folder) / "dashboard.json").write_text(filled("dashboard.json", values), encoding="utf-8")
    sys.stdout.write(filled("failed_instances.filter", values).strip())


if __name__ == "__main__":
    main()
