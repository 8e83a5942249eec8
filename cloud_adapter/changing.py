"""Changes an instance from outside of its steps: load, change in memory, commit, and again if somebody was faster.

This is how timers, results of activities, the end of children and heartbeats reach an instance. Clients' events have
their own way in ``cloud_adapter.engine``, as they are answered, and operators theirs in ``cloud_adapter.operating``, as
they do not wait for steps.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from datetime import datetime

from cloud_adapter import logs, telemetry
from cloud_adapter.committing import Committer, Superseded
from cloud_adapter.document import Instance
from cloud_adapter.errors import Busy, Conflict, InstanceNotFound, NotYet, Unavailable, UserCodeError
from cloud_adapter.names import check_id
from cloud_adapter.session import Session, condition_error
from cloud_adapter.tasks import InstanceTask
from cloud_adapter.user_code import call
from workflow_core import Execution, Parent, Workflow, WorkflowError
from workflow_core.interpreter import Accepted

Apply = Callable[[Session, datetime], bool]
"""Changes a loaded instance; False if there is nothing to change (any more)."""


class Patience:
    """Waits for a busy instance, again and again, but not for ever."""

    def __init__(self, committer: Committer, workflow: str) -> None:
        self.committer = committer
        self.workflow = workflow
        self.until = committer.clock.now() + committer.options.max_wait
        self.attempt = 0

    async def wait(self, what: str) -> None:
        """Waits a little longer than the last time.

        Raises:
            Busy: it has waited for long enough.
        """
        if self.committer.clock.now() >= self.until:
            raise Busy(f"{what} is busy: its steps still run, or many others send events to it; try again")
        telemetry.busy_wait(self.workflow)
        await self.committer.pause(self.attempt)
        self.attempt += 1


class Leased(Busy):
    """The instance was leased all the time.

    Attributes:
        until: when the lease expires.
    """

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


async def arrived(committer: Committer, cls: type[Workflow], body: InstanceTask) -> Session | None:
    """The instance that a task is for; None if the task's commit never came and the task is too old.

    Raises:
        NotYet: the commit that the task belongs to has not landed yet.
    """
    session: Session | None = None
    with contextlib.suppress(InstanceNotFound):
        session = await committer.load(cls, body.id)
    if session is not None and session.execution.pc >= body.pc:
        return session
    if committer.clock.now() - body.created_at > committer.options.task_age_max:
        logs.transition("task given up", body.workflow, body.id, pc=body.pc, level=logging.WARNING)
        return None
    raise NotYet(f"the commit {body.pc} of {body.workflow!r} {body.id!r} has not landed yet")


async def change(
    committer: Committer,
    cls: type[Workflow],
    id: str,
    apply: Apply,
    *,
    loaded: Session | None = None,
    statement: str | None = None,
    keep_fields: bool = False,
) -> bool:
    """Changes an instance. Gives what ``apply`` said at last.

    Args:
        loaded: the instance, if it has just been loaded.
        statement: what the change is about, if nobody is told of an error of the workflow's code in it: that fails the
            instance then.
        keep_fields: see ``Session.prepare``.

    Raises:
        Leased: a step runs, and has not come to its end in time. Nothing was changed.
        Busy: others were faster again and again. Nothing was changed.
        InstanceNotFound, UnknownStatement, Unavailable
        Exception: what ``apply`` raises. Nothing was changed.
    """
    patience = Patience(committer, cls.__workflow_name__)
    while True:
        session, loaded = loaded or await committer.load(cls, id), None
        session.machine.check()
        now = committer.clock.now()
        lease = session.instance.lease if session.leased(now) else None
        if lease is not None:
            try:
                await patience.wait(repr(id))
            except Busy as error:
                raise Leased(str(error), lease.expires_at) from None
            continue
        try:
            if not call(apply, session, now):
                return False
            await committer.commit(session, keep_fields=keep_fields)
            return True
        except Superseded:
            return True
        except Conflict:
            await patience.wait(repr(id))
        except (Busy, Unavailable):
            raise
        except Exception as error:
            if statement is None:
                raise
            # What a condition has raised is kept as it is, like what a step has raised.
            cause = error.__cause__ if isinstance(error, UserCodeError) else None
            await committer.fail(cls, id, cause if isinstance(cause, Exception) else error, statement)
            return True


def settle(session: Session, happened: Accepted | None = None) -> None:
    """Moves every thread on, in memory, until it rests; first the one that an event has happened to.

    Raises:
        UserCodeError: a condition of the workflow raised.
    """
    try:
        if happened is not None:
            call(session.machine.handled, happened)
        call(session.machine.settle)
    except WorkflowError:
        raise
    except Exception as error:
        raise condition_error(session.cls, error) from error


def begin(cls: type[Workflow], id: str, fields: bytes | str, now: datetime, parent: Parent | None = None) -> Session:
    """A new instance, moved on to where its threads rest; not stored yet.

    Raises:
        InvalidInput, InvalidRequest
        UserCodeError: a condition of the workflow raised.
    """
    first = cls.new(fields)
    execution = Execution.start(check_id(id), cls, now=now)
    execution.parent = parent
    session = Session(cls, Instance(cls.__workflow_name__, id, execution, first.dump_fields()), now)
    settle(session)
    session.note("created", now)
    return session
