"""The words of a plain definition as the library has them."""

from __future__ import annotations

from datetime import timedelta

from workflow_core import Workflow
from workflow_core.plain.vocabulary import (
    activity,
    event,
    gather,
    local,
    parallel,
    section,
    select,
    sleep,
    step,
    until,
)

Base = Workflow

__all__ = [
    "Base",
    "Workflow",
    "activity",
    "event",
    "gather",
    "local",
    "parallel",
    "select",
    "sleep",
    "section",
    "step",
    "timedelta",
    "until",
]
