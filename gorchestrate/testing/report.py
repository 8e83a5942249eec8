"""Describes where the instances of an environment stand, for the report of a failed test."""

from __future__ import annotations

from gorchestrate.testing.environment import Environment
from gorchestrate.testing.instances import InstanceHandle
from workflow_core import Workflow

ENTRIES_SHOWN = 8


def describe(environment: Environment) -> str:
    """Returns a text with each instance: its status, its error, its fields, where it stands and what happened last."""
    handles = [handle for workflow in environment.workflows for handle in environment.instances(workflow)]
    return "\n".join([f"{environment.now:%Y-%m-%d %H:%M:%S} UTC", *map(_described, handles)]) if handles else ""


def _described(handle: InstanceHandle[Workflow]) -> str:
    execution = handle.execution
    lines = [f"{handle.workflow.__workflow_name__} {handle.id!r} is {execution.status}"]
    if execution.error is not None:
        error = execution.error
        lines.append(f"error in {error.statement!r}: {error.type}: {error.message}")
    for thread in execution.threads:
        lines.append(f"thread {thread.id!r} stands at {thread.step!r} ({thread.status})")
    if accepted := sorted(handle.accepted_events):
        lines.append(f"accepts: {', '.join(accepted)}")
    lines.append(f"fields: {handle.fields!r}")
    lines += [f"history: {kind} {statement}" for kind, statement in handle.history[-ENTRIES_SHOWN:]]
    return "\n  ".join(lines)
