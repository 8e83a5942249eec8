"""Who may do what with the instances of a workflow, as a matrix: a row for each action, a column for each role.

The matrix shows what the roles allow. ``authorize`` may deny more, for single instances.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from workflow_core import ANONYMOUS, ANYONE, AUTHENTICATED, Access, Action, Principal, Workflow
from workflow_core.access import has_role, narrows
from workflow_core.program.cases import ClientCase

YES, NO, NEEDS_READ = "yes", "", "needs read"
"""The values of cells. Who may not read an instance may do nothing else with it."""

_FREE = (Action.CREATE, Action.READ, Action.LIST)
"""What does not need the permission to read an instance."""

Roles = AbstractSet[str] | None


@dataclass(frozen=True, slots=True)
class Row:
    """An action, with a cell for each role.

    Attributes:
        event: the event, for ``Action.SEND``, with its select if the roles of its selects differ.
    """

    action: Action
    event: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """The matrix of one workflow.

    Attributes:
        roles: the roles that the workflow names.
        narrows: whether ``authorize`` of the workflow may deny more.
    """

    workflow: str
    roles: tuple[str, ...]
    rows: tuple[Row, ...]
    narrows: bool

    @classmethod
    def of(cls, workflow: type[Workflow]) -> Matrix:
        """Returns the matrix of a workflow."""
        actions = [action for action in Action if action is not Action.SEND]
        needed: list[tuple[Action, str, Roles]] = [(action, "", workflow.access.roles(action)) for action in actions]
        needed += [(Action.SEND, event, roles) for event, roles in _events(workflow)]
        named: set[str] = set().union(*(roles or () for _, _, roles in needed))
        roles = tuple(sorted(named, key=lambda role: (role not in (ANYONE, AUTHENTICATED), role)))
        rows = tuple(
            Row(action, event, tuple(_cell(workflow, _someone(role), action, needs) for role in roles))
            for action, event, needs in needed
        )
        return cls(workflow.__workflow_name__, roles, rows, narrows(workflow))

    def to_dict(self) -> dict[str, Any]:
        """The matrix as JSON data."""
        rows = [
            {"action": row.action.value, "event": row.event or None}
            | {"roles": [role for role, cell in zip(self.roles, row.cells, strict=True) if cell == YES]}
            for row in self.rows
        ]
        return {"workflow": self.workflow, "rows": rows, "authorize_narrows": self.narrows}

    def table(self) -> Table:
        """The matrix as a table."""
        columns = [Column(escape(role)) for role in self.roles or ("(no role allows anything)",)]
        table = Table(Column(no_wrap=True), *columns, title=escape(self.workflow), title_justify="left")
        for row in self.rows:
            table.add_row(*map(escape, (row.event or row.action.value, *row.cells)))
        return table


def unsendable(workflow: type[Workflow]) -> list[str]:
    """Returns the events that no principal may send in some select: they have no role, ``Access.send`` has none either,
    and no ``verify`` decides. Empty if the workflow says nothing about access: it is not meant for an API with
    authenticators."""
    events = workflow.__program__.events
    if workflow.access == Access() and not any(case.role for cases in events.values() for _, case in cases):
        return []
    return [event for event, cases in events.items() if any(_is_unsendable(workflow, case) for _, case in cases)]


def _is_unsendable(workflow: type[Workflow], case: ClientCase) -> bool:
    return case.verify is None and not workflow.access.roles_to_send(case.role)


def _events(workflow: type[Workflow]) -> list[tuple[str, Roles]]:
    """Returns the events of a workflow with the roles that may send them. No role may send an event with ``verify``."""
    found: list[tuple[str, Roles]] = []
    for event, cases in workflow.__program__.events.items():
        needed = [(select, *_sender(workflow, case)) for select, case in cases]
        if len({(roles, how) for _, roles, how in needed}) == 1:
            _, roles, how = needed[0]
            found.append((f"{event}{how}", roles))
        else:
            found += [(f"{event} ({select}){how}", roles) for select, roles, how in needed]
    return found


def _sender(workflow: type[Workflow], case: ClientCase) -> tuple[Roles, str]:
    """Returns the roles that may send an event, and a text for the event if another rule decides."""
    return (workflow.access.roles_to_send(case.role), "") if case.verify is None else (None, " [verify]")


def _someone(role: str) -> Principal:
    """Returns a principal that has only this role."""
    if role == ANYONE:
        return ANONYMOUS
    return Principal("someone", roles=frozenset(() if role == AUTHENTICATED else (role,)))


def _cell(workflow: type[Workflow], principal: Principal, action: Action, roles: Roles) -> str:
    if not has_role(principal, roles):
        return NO
    return YES if action in _FREE or has_role(principal, workflow.access.read) else NEEDS_READ
