"""The limits that the docs name, most of them in the tables of docs/reference/limits.md, are those of the code."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cloud_adapter import document, history, names, ports
from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.engine import idempotency, inbox, lanes, transaction
from cloud_adapter.hosting import cloud
from cloud_adapter.http import bodies
from cloud_adapter.options import EngineOptions
from cloud_adapter.queues import cloud_tasks, local, rules
from cloud_adapter.settings import Settings
from cloud_adapter.stores import search
from workflow_core import error_texts, inputs
from workflow_core.machine import endless
from workflow_core.statements import selects
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.statements.fanout import PARALLEL_LIMIT

ROOT = Path(__file__).parents[1]
SECTION = (ROOT / "docs" / "reference" / "limits.md").read_text()
OPTIONS = EngineOptions()
SETTINGS = Settings.model_fields


def minutes(duration: object) -> str:
    return f"{duration.total_seconds() / 60:.0f} minutes"  # type: ignore[attr-defined]


LIMITS = {
    "document of an instance": [f"{document.DOCUMENT_BYTES_MAX:,} bytes"],
    "reserve of that document": [f"{document.RESERVED_BYTES:,} bytes"],
    "history": [f"{history.HISTORY_MAX} entries"],
    "commit tokens (": [f"{document.TOKENS_MAX} commits"],
    "body of a request": [f"{SETTINGS['max_body_bytes'].default:,} bytes", f"to {selects.INPUT_BYTES_MAX:,}"],
    "values in the JSON": [f"{bodies.VALUES_MAX:,} items"],
    "errors in an input": [f"{error_texts.ERRORS_MAX}", f"{inputs.VALUES_OF_ALL_ERRORS:,} values"],
    "body of a task": [f"{ports.TASK_BYTES_MAX:,} bytes"],
    "result that waits": [f"{document.INBOX_ENTRY_BYTES_MAX:,} bytes"],
    "id of an instance": [f"{names.ID_BYTES_MAX} bytes"],
    "idempotency key | 1": [f"{names.KEY_CHARS_MAX} printable"],
    "response that is kept": [f"{idempotency.RESPONSE_BYTES_MAX:,} bytes"],
    "text in a search field": [f"{search.TEXT_BYTES_MAX:,} bytes"],
    "live branches of": [f"| {PARALLEL_LIMIT} |"],
    "buffered events": [f"| {OPTIONS.buffer_max} |"],
    "moves between": [f"{endless.MOVES_MAX:,}"],
    "decisions in one commit": [
        f"| {lanes.BATCH_MAX}, or {transaction.BATCH_BYTES_MAX:,} bytes",
        f"{transaction.BATCH_TIME_MAX / timedelta(milliseconds=1):.0f} ms",
    ],
    "inbox entries read": [f"| {inbox.COLLECT_MAX} |"],
    "steps in one request": [f"{OPTIONS.budget_steps} steps", f"{OPTIONS.budget.total_seconds():.0f} s"],
    "instances in a page": [f"| {ports.PAGE_SIZE_MAX}, or {ports.PAGE_BYTES_MAX:,} bytes |"],
    "attempts of": [f"| {OPTIONS.retry.max_attempts} |"],
    "threads for": [
        f"{local.LOCAL_LIMITS.max_concurrent_dispatches} in an embedded",
        f"{cloud.REQUESTS_MAX:,} in the cloud",
    ],
    "deliveries of the embedded": [
        f"{local.LOCAL_LIMITS.max_concurrent_dispatches} at a time",
        f"{local.LOCAL_SHARES.of_group} of one instance",
    ],
    "tasks in the embedded": [f"{rules.ENTRIES_MAX:,}"],
    "attempt of": [minutes(ACTIVITY_TIMEOUT)],
    "dispatch of a task": [minutes(cloud_tasks.DISPATCH_DEADLINE), minutes(rules.DEADLINE_MAX)],
    "lease": [f"{SETTINGS['lease_seconds'].default} s"],
    "event that waits": [f"{SETTINGS['max_wait_seconds'].default} s"],
    "task that waits": [minutes(OPTIONS.task_age_max)],
    "timer, retry": [f"{OPTIONS.horizon.days} days"],
}


@pytest.mark.parametrize("what", LIMITS)
def test_the_limit_is_that_of_the_code(what: str) -> None:
    (row,) = [line for line in SECTION.splitlines() if line.startswith(f"| {what}")]
    assert all(text in row for text in LIMITS[what]), row


def test_how_early_a_resume_task_may_come_is_that_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "explanation" / "reliability.md").read_text().split())
    assert f"up to {2 * CLOCK_SKEW.total_seconds():.0f} seconds before its time" in text
