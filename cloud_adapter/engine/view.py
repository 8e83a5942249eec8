"""The view of an instance that clients get."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.engine.session import Session
from workflow_core import UnknownStatement, Workflow
from workflow_core.machine.events import Accepted


@dataclass(frozen=True, slots=True)
class View:
    """A view of an instance: its stored state, its typed fields, and the events that it accepts now.

    Attributes:
        problem: why the instance cannot move, if it is at a statement that the definition no longer has.
    """

    instance: Instance
    workflow: Workflow
    accepted: tuple[Accepted, ...]
    problem: str = ""

    @property
    def state(self) -> dict[str, Any]:
        """The fields as clients see them: as they are stored, with masked secrets and without numbers that JSON does
        not have."""
        fields = self.instance.fields
        state = type(self.workflow).shown_fields(fields)
        return _with_finite_numbers(state) if "NaN" in fields or "Infinity" in fields else state


def view_of(session: Session) -> View:
    """Returns the view of a loaded instance."""
    instance, machine = session.instance, session.machine
    try:
        machine.check()
    except UnknownStatement as error:
        return View(instance, machine.workflow, (), str(error))
    return View(instance, machine.workflow, tuple(event for event in machine.accepted() if event.case.from_clients))


def _with_finite_numbers(data: Any) -> Any:
    """Replaces the numbers that pydantic writes for ``ser_json_inf_nan='constants'`` by their names."""
    if isinstance(data, dict):
        return {key: _with_finite_numbers(part) for key, part in data.items()}
    if isinstance(data, list):
        return list(map(_with_finite_numbers, data))
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    return data
