"""What operators do with an instance: each is an ``Operation``, and ``operate`` carries one out.

A new one is written here; the engine, the API and the command line take it from ``ACTIONS`` and ``REPAIRS``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cloud_adapter.document import HistoryKind, Instance
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Decision
from cloud_adapter.engine.session import Session, settle
from cloud_adapter.engine.transaction import Lanes
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import InstanceEnded
from workflow_core import Execution, InvalidInput, RepairRefused, Status, UnknownStatement, Workflow
from workflow_core.execution import MAIN_THREAD
from workflow_core.machine import repair
from workflow_core.signatures import field_errors

DETAIL_CHARS_MAX = 500
"""How much of what was changed the history keeps."""


class Operation(BaseModel):
    """What an operator asks for. The base class of all; as JSON, it is the body of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    by: str = Field("", max_length=200, description="Who asks for it; kept in the history.")
    reason: str = Field("", max_length=500, description="Why; kept in the history.")
    dry_run: bool = Field(False, description="Only tell what the instance would be like: nothing is saved.")
    pc: int | None = Field(None, description="Only if nothing has happened since ``meta.pc`` was this.")

    @classmethod
    def from_json(cls, body: bytes) -> Operation:
        """The operation of a request; an empty body is one without arguments.

        Raises:
            InvalidInput: it does not fit.
        """
        try:
            return cls.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise InvalidInput("the body of the request", field_errors(error)) from None

    def mend(self, cls: type[Workflow], instance: Instance) -> Instance:
        """The instance as it is to be loaded.

        Raises:
            RepairRefused: it cannot be mended so.
        """
        return instance

    def apply(self, session: Session, now: datetime) -> bool:
        """Changes the loaded instance in memory; False if there is nothing to be done any more.

        Raises:
            InstanceEnded, RepairRefused: it cannot be done with the instance as it is.
            UnknownStatement: the instance stands on what the definition does not have.
            UserCodeError: a condition of the workflow raised.
        """
        raise NotImplementedError

    def note(self, session: Session, now: datetime, kind: HistoryKind, **details: Any) -> None:
        """Adds it to the instance's history."""
        session.note(kind, now, by=self.by, reason=self.reason, **details)


class Cancel(Operation):
    """Tears down what an instance waits for, and runs its ``finally_`` sections; then it is canceled. A step that runs
    no longer counts. Nothing is done if it is canceled already, or on the way to it."""

    def apply(self, session: Session, now: datetime) -> bool:
        session.machine.check()
        execution = session.execution
        if execution.status is Status.CANCELED or (execution.canceling and not execution.ended):
            return False
        _refuse_ended(execution, "canceled")
        session.machine.cancel()
        self.note(session, now, HistoryKind.CANCEL)
        settle(session)
        return True


class Pause(Operation):
    """Lets nothing in an instance move, and no event in, until it is unpaused. A step that runs no longer counts: it is
    run again then."""

    def apply(self, session: Session, now: datetime) -> bool:
        session.machine.check()
        _refuse_ended(session.execution, "paused")
        if session.execution.status is Status.PAUSED:
            return False
        session.machine.pause()
        self.note(session, now, HistoryKind.PAUSE)
        return True


class Unpause(Operation):
    """Lets a paused instance go on; timeouts that have passed meanwhile happen now."""

    def apply(self, session: Session, now: datetime) -> bool:
        session.machine.check()
        _refuse_ended(session.execution, "unpaused")
        if session.execution.status is not Status.PAUSED:
            return False
        session.machine.unpause()
        self.note(session, now, HistoryKind.UNPAUSE)
        settle(session)
        return True


class RetryFailed(Operation):
    """Lets a failed instance go on from where it failed, with all its attempts; its waits are entered anew."""

    def apply(self, session: Session, now: datetime) -> bool:
        repair.retry(session.machine)
        self.note(session, now, HistoryKind.RETRY)
        settle(session)
        return True


class Goto(Operation):
    """Puts a thread before a step or a wait of its own, as if it had just come there. A step that runs no longer
    counts. A failed or paused instance stays so."""

    statement: str = Field(description="The name of the step or wait.")
    thread: str = Field(MAIN_THREAD, description="The id of the thread.")

    def apply(self, session: Session, now: datetime) -> bool:
        thread = session.execution.thread(self.thread)
        before = "" if thread is None else thread.step
        repair.goto(session.machine, self.thread, self.statement)
        self.note(
            session, now, HistoryKind.GOTO, statement=self.statement, thread=self.thread, detail=f"from {before!r}"
        )
        _settle_if_known(session)
        return True


class SetFields(Operation):
    """Gives fields other values, also where the stored ones do not fit their types any more. A step that runs no longer
    counts."""

    fields: dict[str, Any] = Field(min_length=1, description="The new values, by the fields' names.")

    def mend(self, cls: type[Workflow], instance: Instance) -> Instance:
        execution = instance.execution
        fields = repair.set_fields(cls, instance.fields, execution.fields_version, self.fields)
        return replace(instance, fields=fields, execution=replace(execution, fields_version=cls.__workflow_version__))

    def apply(self, session: Session, now: datetime) -> bool:
        detail = json.dumps(self.fields, ensure_ascii=False)
        session.machine.tick()
        self.note(session, now, HistoryKind.SET, detail=detail[:DETAIL_CHARS_MAX])
        _settle_if_known(session)
        return True


ACTIONS: Mapping[str, type[Operation]] = {"cancel": Cancel, "pause": Pause, "unpause": Unpause, "retry": RetryFailed}
"""What can be done with every instance, at ``/wf/{name}/{id}/{action}``."""

REPAIRS: Mapping[str, type[Operation]] = {"goto": Goto, "set": SetFields}
"""What can be done there too by those who could as well write to the database."""


async def operate(lanes: Lanes, cls: type[Workflow], id: str, operation: Operation) -> Session:
    """Carries an operation out; gives the instance as it is then. It does not wait for a step that runs: that one's
    commit will fail, and its lease stays until it has come to its end or the lease expires; nothing else runs before.

    Raises:
        Busy: others were faster again and again. Nothing was changed.
        RepairRefused: it is not at the ``pc`` that was asked for. Nothing was changed.
        TooLarge, InstanceNotFound, Unavailable
        WorkflowError: what the operation raises. Nothing was changed.
    """
    session: Session = await lanes.decide(cls, id, _Operate(cls, operation))
    return session


class _Operate(Decision):
    """An operation as a decision. The answer is the session."""

    alone = urgent = True

    def __init__(self, cls: type[Workflow], operation: Operation) -> None:
        self.cls = cls
        self.operation = operation
        self.leased = False

    def mend(self, instance: Instance) -> Instance:
        """See ``Decision.mend``."""
        return self.operation.mend(self.cls, instance)

    def decide(self, session: Session, now: datetime) -> Session:
        """See ``Decision.decide``."""
        self.leased = session.leased(now)
        id, pc = session.execution.id, session.execution.pc
        if self.operation.pc not in (None, pc):
            raise RepairRefused(f"{id!r} has moved on: its pc is {pc}, not {self.operation.pc}: look at it again")
        call(self.operation.apply, session, now)
        return session

    async def commit(self, committer: Committer, session: Session) -> None:
        """See ``Decision.commit``."""
        await committer.commit(session, keep_lease=self.leased, dry_run=self.operation.dry_run)


def _refuse_ended(execution: Execution, what: str) -> None:
    if execution.ended:
        raise InstanceEnded(f"{execution.id!r} is {execution.status}: it can no longer be {what}")


def _settle_if_known(session: Session) -> None:
    """Moves the threads on, unless one stands on what the definition does not have: then nothing can move yet."""
    try:
        session.machine.check()
    except UnknownStatement:
        return
    settle(session)
