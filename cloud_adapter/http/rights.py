"""What a principal may do with a workflow, by its roles: decides what documents and pages show.

Decides no request. The engine does, and may also ask the workflow's ``authorize``; see
``cloud_adapter.engine.permissions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.permissions import NO_CREDENTIALS
from cloud_adapter.errors import Unauthenticated, WorkflowNotFound
from workflow_core import ANYONE, AUTHENTICATED, Action, Principal, Workflow
from workflow_core.access import has_role
from workflow_core.program.cases import ClientCase


def may(principal: Principal | None, cls: type[Workflow], action: Action) -> bool:
    """Whether the roles of a principal allow an action; not for ``Action.SEND``. None: trusted code may do all."""
    return principal is None or has_role(principal, cls.access.roles(action))


def may_send(principal: Principal | None, cls: type[Workflow], case: ClientCase) -> bool:
    """Whether the roles of a principal allow to send the event of a case. No role allows it if ``verify`` decides."""
    return principal is None or (case.verify is None and has_role(principal, cls.access.roles_to_send(case.role)))


def described(engine: Engine, name: str, principal: Principal | None) -> type[Workflow]:
    """Returns a workflow whose definition a principal may see: everyone who has a right to do something with it.

    Raises:
        WorkflowNotFound, Unauthenticated: it may not.
    """
    cls = engine.workflow(name, principal)
    if _has_right(cls, principal):
        return cls
    if principal is not None and principal.kind == "anonymous":
        raise Unauthenticated(NO_CREDENTIALS)
    raise WorkflowNotFound(f"unknown workflow {name!r}")


def all_described(engine: Engine, principal: Principal | None) -> dict[str, type[Workflow]]:
    """Returns the workflows whose definition a principal may see, in the order of their names."""
    workflows = engine.workflows if principal is None else engine.addressable
    return {name: cls for name, cls in sorted(workflows.items()) if _has_right(cls, principal)}


def named_roles(workflows: Iterable[type[Workflow]]) -> list[str]:
    """Returns the roles that workflows name and that have to be given to principals, in order."""
    named: set[str] = set().union(*(roles or () for cls in workflows for roles in _all_roles(cls)))
    return sorted(named - {ANYONE, AUTHENTICATED})


def _has_right(cls: type[Workflow], principal: Principal | None) -> bool:
    return principal is None or any(has_role(principal, roles) for roles in _all_roles(cls))


def _all_roles(cls: type[Workflow]) -> Iterator[AbstractSet[str] | None]:
    access = cls.access
    yield from (access.create, access.read, access.list, access.operate, access.repair)
    for cases in cls.__program__.events.values():
        yield from (access.roles_to_send(case.role) for _, case in cases if case.verify is None)
