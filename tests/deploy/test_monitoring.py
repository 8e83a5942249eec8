"""The alerts and the dashboard, with the real gcloud."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.deploy.desk import DEPLOY, PROJECT, Desk, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHANNEL = "projects/my-project/notificationChannels/1"
METRIC = f"{PROJECT}/metrics/gorchestrate-worker-failed-instances"
CREATE = "TOOLS=$(mktemp -d); create_alerts"


def of(kind: str, run: Run) -> dict[str, Any]:
    return {path: body for path, body in run.resources.items() if path.startswith(f"{PROJECT}/{kind}/")}


def test_alerts_are_created_updated_and_deleted(desk: Desk) -> None:
    run = desk.call(CREATE, ALERTS=CHANNEL)
    assert run.process.returncode == 0, run.process.stderr
    policies = of("alertPolicies", run)
    assert sorted(one["userLabels"]["alert"] for one in policies.values()) == sorted(
        alert["name"] for alert in json.loads((DEPLOY / "monitoring/alerts.json").read_text())
    )
    assert all(one["notificationChannels"] == [CHANNEL] for one in policies.values())
    assert "$" not in json.dumps(list(policies.values())), "all values are filled in"
    assert len(of("dashboards", run)) == 1
    filter = run.resources[METRIC]["filter"]
    assert 'severity=ERROR AND jsonPayload.kind="failed"' in filter
    assert 'service_name="gorchestrate-api" OR resource.labels.service_name="gorchestrate-worker"' in filter

    run = desk.call(CREATE, ALERTS=CHANNEL, QUEUES="2")
    assert run.process.returncode == 0, run.process.stderr
    assert set(of("alertPolicies", run)) == set(policies)
    assert len(of("dashboards", run)) == 1
    assert 'full_match("gorchestrate|gorchestrate-2")' in str(of("alertPolicies", run).values()).replace("\\'", "'")

    run = desk.call("delete_alerts", ALERTS=CHANNEL)
    assert run.process.returncode == 0, run.process.stderr
    assert run.resources == {}


def test_without_a_channel_there_is_nothing(desk: Desk) -> None:
    run = desk.call(CREATE)
    assert run.process.returncode == 0, run.process.stderr
    assert run.commands == []
