"""Carries out an operation on an instance: checks who requests it, and makes it a decision."""

from __future__ import annotations

from datetime import datetime

from cloud_adapter.document import Instance
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Decision
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.operations import Operation
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.plan import KEEP, RELEASE
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.user_code import call
from workflow_core import RepairRefused, Workflow


async def operate(lanes: Lanes, ref: InstanceRef, operation: Operation, caller: Caller | None = None) -> Session:
    """Carries out an operation. Returns the instance after it.

    The operation does not wait for a running step. The step's commit will fail. Its lease stays until the step ends or
    the lease expires, and no other step runs before that.

    Raises:
        Busy: other commits came first in every attempt. Nothing was changed.
        RepairRefused: the instance's ``pc`` is not the requested one. Nothing was changed.
        TooLarge, InstanceNotFound, Unavailable
        Forbidden, Unauthenticated: the caller may not request it. Nothing was changed.
        WorkflowError: the operation raised it. Nothing was changed.
    """
    session: Session = await lanes.decide(ref, _Operate(ref.cls, operation, caller))
    return session


class _Operate(Decision):
    """An operation as a decision. The answer is the session."""

    alone = urgent = shows_history = True
    after_events = False

    def __init__(self, cls: type[Workflow], operation: Operation, caller: Caller | None) -> None:
        self.cls = cls
        self.operation = operation
        self.caller = caller
        self.leased = False

    def rewrite(self, instance: Instance) -> Instance:
        """See ``Decision.rewrite``."""
        if self.caller is not None:  # on what is stored: a repair must not permit itself
            self.caller.check_stored(instance, self.operation.permission, repr(self.operation.name))
        return self.operation.rewrite(self.cls, instance)

    def decide(self, session: Session, now: datetime) -> Session:
        """See ``Decision.decide``."""
        if self.caller is not None:
            session.machine.principal = self.caller.principal
        self.leased = session.leased(now)
        id, pc = session.execution.id, session.execution.pc
        if self.operation.pc not in (None, pc):
            raise RepairRefused(f"{id!r} has changed: its pc is {pc}, not {self.operation.pc}: load it again")
        call(self.operation.apply, session, now)
        return session

    async def commit(self, committer: Committer, session: Session) -> None:
        """See ``Decision.commit``."""
        await committer.commit(session, lease=KEEP if self.leased else RELEASE, dry_run=self.operation.dry_run)
