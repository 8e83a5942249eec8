"""Checks of what a test passes, so that a natural mistake gets an error that says what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from workflow_core import Workflow


def check_workflow(workflow: object, call: str) -> None:
    """Checks that a workflow class is passed.

    Args:
        call: an example of the right call.
    """
    if isinstance(workflow, type) and issubclass(workflow, Workflow):
        return
    if isinstance(workflow, Workflow):
        given = f"an object of the class {type(workflow).__name__}: pass the class itself"
    elif isinstance(workflow, (list, tuple, set)):
        given = f"a {type(workflow).__name__}: pass the classes one by one, without brackets"
    else:
        given = f"{workflow!r}: pass the class of a workflow"
    raise TypeError(f"got {given}, such as {call}")


def check_id(id: object, workflow: type[Workflow]) -> None:
    """Checks the id of an instance."""
    if not isinstance(id, str):
        fields = "pass fields by their names, " if isinstance(id, Mapping) else ""
        raise TypeError(f"the id is {id!r}, not a text: {fields}such as create({workflow.__name__}, field=value)")


def check_time(time: object) -> None:
    """Checks the time by which a test moves the clock."""
    if not isinstance(time, timedelta):
        raise TypeError(f"advance({time!r}) has no unit: write advance(seconds={time!r}), or pass a timedelta")


def check_event(event: object, unknown: Mapping[str, Any]) -> None:
    """Checks the arguments of ``send``."""
    if not isinstance(event, str):
        name = getattr(event, "__name__", "") or getattr(getattr(event, "function", None), "__name__", "decide")
        raise TypeError(f"the event is {event!r}: pass its name, such as send({name!r}, input)")
    if unknown:
        given = ", ".join(f"{name}=..." for name in unknown)
        values = ", ".join(f"{name!r}: ..." for name in unknown)
        raise TypeError(
            f"send({event!r}, {given}): an event has one input. Pass it without a name: send({event!r}, value), "
            f"or if it has fields, send({event!r}, {{{values}}})"
        )
