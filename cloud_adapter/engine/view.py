"""The view of an instance that clients get."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.session import Session
from workflow_core import Action, UnknownStatement, Workflow
from workflow_core.machine.events import Accepted
from workflow_core.outputs import with_finite_numbers
from workflow_core.records import record


@record(frozen=True, slots=True)
class View:
    """A view of an instance: its stored state, its typed fields, and the events that it accepts now.

    Attributes:
        accepted: of these events, the ones that the client may send.
        problem: why the instance cannot move, if it is at a statement that the definition no longer has, or has stored
            a value that the code cannot use.
        operator: whether the client may operate the instance, and see how it works inside: the inputs of its
            activities and children, its errors, its threads and its history.
        readable: whether the client may read the instance. Only the creator of an instance gets a view of one that
            it may not read, which has no fields.
    """

    instance: Instance
    workflow: Workflow
    accepted: tuple[Accepted, ...]
    problem: str = ""
    operator: bool = True
    readable: bool = True

    @property
    def state(self) -> dict[str, Any]:
        """The fields as clients see them: as they are stored, with masked secrets and without numbers that JSON does
        not have. Empty if the client may not read them."""
        if not self.readable:
            return {}
        fields = self.instance.fields
        state = type(self.workflow).shown_fields(fields)
        return with_finite_numbers(state) if "NaN" in fields or "Infinity" in fields else state


def view_of(session: Session, caller: Caller | None = None) -> View:
    """Returns the view of a loaded instance, for a principal or for code in this process."""
    instance, machine = session.instance, session.machine
    workflow = machine.workflow
    is_readable = caller is None or caller.may_read(workflow)
    is_operator = is_readable and (caller is None or caller.may(workflow, Action.OPERATE))
    try:
        session.check()
    except UnknownStatement as error:
        return View(instance, workflow, (), str(error), operator=is_operator, readable=is_readable)
    accepted: Iterable[Accepted] = (found for found in machine.accepted() if found.case.from_clients)
    if caller is not None:
        accepted = caller.sendable(workflow, accepted) if is_readable else ()
    return View(instance, workflow, tuple(accepted), operator=is_operator, readable=is_readable)
