"""Child instances: how they are started and canceled, and how their end is reported to their parent.

A child stores its parent from its first write. Its own resume reports its end, and repeats this until the parent has
accepted it. The end is therefore not lost, even if a process dies.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.decisions import Deferrable, NotListening, check_lease
from cloud_adapter.engine.failures import Failure, result_failed, take_result
from cloud_adapter.engine.inbox import Inbox, entry_name
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.operation_requests import operate
from cloud_adapter.engine.operations import Cancel
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session, begin, settle
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import Busy, InstanceEnded, InstanceExists, InstanceNotFound, Unavailable
from cloud_adapter.history import HistoryKind
from workflow_core import ChildFailed, ErrorInfo, Parent, Status, WaitStatus, Workflow, WorkflowError
from workflow_core.error_texts import error_info
from workflow_core.machine.outside_work import ChildCancel, ChildStart, TellWork
from workflow_core.machine.work import Work
from workflow_core.wait_types import ChildTeardown, ChildWait

_Key = tuple[str, str, str]
"""The workflow and the id of a parent, and the id of the wait for which it started a child."""


class Children:
    """Performs the work of one instance that concerns another instance.

    Args:
        workflow: returns the workflow of a name, or raises ``WorkflowNotFound``.
    """

    def __init__(
        self, committer: Committer, lanes: Lanes, inbox: Inbox, workflow: Callable[[str], type[Workflow]]
    ) -> None:
        self.committer = committer
        self.lanes = lanes
        self.inbox = inbox
        self.workflow = workflow
        inbox.register(_TakeEnd.kind, lambda data: _TakeEnd(End.model_validate(data)))

    async def perform(self, session: Session, work: Work) -> None:
        """Starts a child, cancels a child, or reports an end to the parent.

        Raises:
            ChildFailed: the child cannot be started.
            Busy: the parent is busy; try again later.
            Unavailable: try again.
        """
        match work:
            case ChildStart(wait=wait):
                await self._start(session, wait, wait.child)
            case ChildCancel(teardown=teardown):
                await self._cancel(session, teardown)
            case TellWork(parent=parent):
                await self._tell(session, parent)
            case _:
                raise AssertionError(f"{work} does not concern another instance")

    async def _start(self, session: Session, wait: ChildWait | ChildTeardown, given: Any) -> None:
        parent = session.execution
        link = Parent(parent.workflow, parent.id, wait.id, wait.event, told=given["detached"])
        try:
            ref = InstanceRef.checked(self.workflow(given["workflow"]), given["id"])
            child = begin(ref, json.dumps(given["fields"]), self.committer.clock.now(), link, salt=self.committer.salt)
            await self.committer.create(child)
            self.lanes.wake(ref)  # its first task may have been delivered before the commit
        except Superseded:
            pass  # the child was created, and others have already changed it
        except Unavailable:
            raise
        except InstanceExists as error:
            # Either an earlier attempt has created the child, or the id belongs to another instance.
            other = await self.committer.load(ref)
            if not _is_child_of(other, session, wait):
                raise ChildFailed(f"{error}: give the child another id") from error
        except WorkflowError as error:
            raise ChildFailed(f"{given['workflow']!r} {given['id']!r} could not be started: {error}") from error

    async def _cancel(self, session: Session, teardown: ChildTeardown) -> None:
        child = teardown.child
        if "fields" in child:
            # A start may still be in progress, and may succeed after this code has found no child. Creating the child
            # first makes sure that it is there to be canceled.
            try:
                await self._start(session, teardown, child)
            except ChildFailed:
                return

        ref = InstanceRef(self.workflow(child["workflow"]), child["id"])
        with contextlib.suppress(InstanceNotFound, InstanceEnded):
            await operate(self.lanes, ref, _CancelChild(started_for=_key(session, teardown.id)))

    async def _tell(self, session: Session, parent: Parent) -> None:
        end = _end(session, parent)
        with contextlib.suppress(InstanceNotFound):
            await self.inbox.deliver(InstanceRef(self.workflow(parent.workflow), parent.id), _TakeEnd(end))


class End(BaseModel, defer_build=True):
    """The end of a child.

    Attributes:
        wait_id, event: the wait of the parent.
        result: the child's result as JSON, if it has finished.
        error: the error, if it has not.
        is_secret: whether the result contains secrets.
    """

    wait_id: str
    event: str
    result: str = "null"
    error: ErrorInfo | None = None
    is_secret: bool = False


def _end(session: Session, parent: Parent) -> End:
    child, about = session.execution, {"wait_id": parent.wait_id, "event": parent.event}
    if child.status is Status.FINISHED:
        try:
            packed = call(session.machine.result)
            return End(**about, result=packed.text, is_secret=packed.shown is not None)
        except Exception as error:
            return End(**about, error=error_info(error, parent.event))
    why = f": {child.error.text}" if child.error is not None else ""
    failure = ChildFailed(f"{child.workflow!r} {child.id!r} is {child.status}{why}")
    return End(**about, error=error_info(failure, parent.event))


class _TakeEnd(Deferrable):
    """Delivers the end of a child to its parent, unless the parent no longer waits for it."""

    kind = "end"

    def __init__(self, end: End) -> None:
        self.end = end
        self.statement = end.event
        self.size = len(end.result)
        self.is_secret = end.is_secret

    def name(self) -> str:
        """See ``Deferrable.name``."""
        return entry_name(self.kind, self.end.wait_id, self.end.event)

    def content(self) -> Mapping[str, Any]:
        """See ``Deferrable.content``."""
        return self.end.model_dump(mode="json")

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``.

        Raises:
            Busy: the parent is paused, or has not recorded the start of the child yet.
        """
        machine, end = session.machine, self.end
        session.check()
        accepted = machine.child(end.event, end.wait_id)
        self.stale = accepted is None or accepted.wait is None
        if accepted is None or accepted.wait is None:
            return
        check_lease(session, now)
        id = session.execution.id
        if session.execution.status is Status.PAUSED:
            raise NotListening(f"{id!r} is paused: it cannot process the end of its child; unpause it")
        if not session.execution.live or accepted.wait.status is not WaitStatus.SET_UP:
            raise Busy(f"{id!r} cannot process the end of its child yet; try again")
        # The statement may have been renamed since the child was started.
        self.statement = event = accepted.case.event
        error, raised = end.error, None
        if error is None:
            raised = take_result(session, accepted, end.result, is_secret=end.is_secret)
            error = None if raised is None else error_info(raised, event)
        if error is None:
            session.note(HistoryKind.CHILD, now, thread=accepted.thread.id, statement=event)
            settle(session, accepted)
        else:
            failure = Failure(replace(error, statement=event), None, raised)
            result_failed(session, accepted, failure, HistoryKind.CHILD_FAILED, now)


class _CancelChild(Cancel):
    """Cancels an instance if it was started for the given wait of its parent. An unrelated instance with the same id is
    not canceled."""

    started_for: _Key

    def apply(self, session: Session, now: datetime) -> None:
        if _is_child(session, self.started_for):
            super().apply(session, now)


def _key(parent: Session, wait_id: str) -> _Key:
    return parent.execution.workflow, parent.execution.id, wait_id


def _is_child(session: Session, key: _Key) -> bool:
    parent = session.execution.parent
    return parent is not None and (parent.workflow, parent.id, parent.wait_id) == key


def _is_child_of(session: Session, parent: Session, wait: ChildWait | ChildTeardown) -> bool:
    """Whether an instance was started for a wait, and not for another case of the same select."""
    link = session.execution.parent
    if link is None or not _is_child(session, _key(parent, wait.id)):
        return False
    return parent.machine.program.event(link.event) == wait.event  # it may have been renamed since
