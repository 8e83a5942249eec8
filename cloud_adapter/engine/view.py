"""The view of an instance that clients get."""

from __future__ import annotations

from dataclasses import dataclass

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


def view_of(session: Session) -> View:
    """Returns the view of a loaded instance."""
    instance, machine = session.instance, session.machine
    try:
        machine.check()
    except UnknownStatement as error:
        return View(instance, machine.workflow, (), str(error))
    return View(instance, machine.workflow, tuple(event for event in machine.accepted() if event.case.from_clients))
