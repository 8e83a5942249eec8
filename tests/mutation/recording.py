"""A pytest plugin (``-p tests.mutation.recording``) that records which lines each test runs, and how long it takes.

It switches the context of a coverage measurement that is under way, see ``tests.mutation.coverage_map``. What a test
runs in other threads counts for it too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

SECONDS_FILE = "MUTATION_SECONDS_FILE"
"""The environment variable that names the file for the duration of each test. With the prefix of settings, it would be
an unknown one."""

_seconds: dict[str, float] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    measurement = coverage.Coverage.current()
    assert measurement is not None, "run this by tests.mutation.coverage_map"
    measurement.switch_context(item.nodeid)
    tracer = sys.gettrace()
    try:
        return (yield)
    finally:
        measurement.switch_context("")
        if sys.gettrace() is not tracer:  # a test of a debugger has replaced it; nothing more would be recorded
            sys.settrace(tracer)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] = _seconds.get(report.nodeid, 0.0) + report.duration


def pytest_sessionfinish() -> None:
    Path(os.environ[SECONDS_FILE]).write_text(json.dumps(_seconds))
