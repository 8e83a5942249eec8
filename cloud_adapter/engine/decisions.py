"""What may come for an instance, as seen by its lane: something that decides on the loaded state, or has to wait.

Each kind of decision stands with what it is about: events, timers, activities, children, operations, leases. Here is
what all of them share, and the one that any of them may end in, ``FailInstance``. How instances are loaded and
committed for them is in ``cloud_adapter.engine.transaction``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.session import Session
from cloud_adapter.errors import Busy, InstanceNotFound
from workflow_core import WorkflowError


class NotNow(Exception):
    """A decision has to wait.

    Attributes:
        error: what is raised if it has waited for too long.
        patience: how long that is; None: as long as the lane lets each wait.
    """

    def __init__(self, error: WorkflowError, patience: timedelta | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience = patience


class ByItself(Exception):
    """A decision takes its time: it is to be made first on what is stored, not behind others that would wait for it."""


class Leased(Busy):
    """The instance was leased all the time.

    Attributes:
        until: when the lease expires.
    """

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Contended(Busy):
    """Another process commits to the instance at the same time."""


class Decision:
    """Something that has come for an instance. It is asked again, on another session, until a commit has landed.

    Attributes:
        alone: it shares no commit, as it changes how the instance is loaded or committed.
        reads: it changes nothing. It is asked before what waits longer, as nobody can tell the difference.
        urgent: it interrupts an asynchronous handler, which is called again after it.
        lax: what its code does to the fields may be checked once for many of its kind; see ``Session.is_lax``.
        key: its idempotency key.
        statement: what it is about, if nobody is told of an error of the workflow's code in it: that fails the
            instance then.
        defers: it does not wait for other processes, but is told ``Contended``.
        taken: what it was made of in the instance's inbox, deleted in the same commit.
        record: what is recorded under an idempotency key in the same commit.
        size: the bytes of its input and its answer.
    """

    alone: ClassVar[bool] = False
    reads: ClassVar[bool] = False
    urgent: ClassVar[bool] = False
    lax: ClassVar[bool] = False
    key: str | None = None
    statement: str | None = None
    defers: bool = False
    taken: Sequence[InboxEntry] = ()
    record: KeyRecord | None = None
    size: int = 0

    def decide(self, session: Session, now: datetime) -> Any:
        """Changes the loaded instance in memory, and gives the answer, or an awaitable of it. Nothing is committed if
        nothing has changed.

        Raises:
            NotNow: it has to wait.
            ByItself: it gives an awaitable, and the session has been changed already.
            Exception: what its caller is told. Whatever was changed is taken back.
        """
        raise NotImplementedError

    def missing(self, error: InstanceNotFound, now: datetime) -> Any:
        """The answer where there is no such instance.

        Raises:
            NotNow, InstanceNotFound
        """
        raise error

    async def before_waiting(self) -> Any:
        """Called before it waits for the first time; an answer other than None ends the wait."""

    def rewrite(self, instance: Instance) -> Instance:
        """The instance as it is to be loaded; for a decision that is ``alone``."""
        return instance

    async def commit(self, committer: Committer, session: Session) -> None:
        """Commits what a decision has changed that is ``alone``; see ``Committer.commit``."""
        await committer.commit(session, keys=() if self.record is None else (self.record,), taken=self.taken)


def check_lease(session: Session, now: datetime) -> None:
    """Lets a decision wait that may not be made while a step runs.

    Raises:
        NotNow: somebody holds a live lease.
    """
    lease = session.instance.lease
    if lease is not None and session.leased(now):
        raise NotNow(Leased(f"{session.execution.id!r} is busy: its steps still run; try again", lease.expires_at))


class FailInstance(Decision):
    """Ends an instance as failed, by an error of its code; nothing is done if it has ended.

    Args:
        lease: the token of the lease under which the error was raised. If somebody else holds a live lease, that one
            finds the error itself, so nothing is done. Without a token it waits for the end of any lease.
    """

    alone = True

    def __init__(
        self, error: Exception, statement: str, *, taken: Sequence[InboxEntry] = (), lease: str | None = None
    ) -> None:
        self.error = error
        self.failed_at = statement
        self.taken = taken
        self.lease = lease

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``."""
        lease = session.instance.lease
        if self.lease is None:
            check_lease(session, now)
        elif lease is not None and lease.token != self.lease and session.leased(now):
            return
        if not session.execution.ended:
            session.machine.fail(self.error, self.failed_at)
            session.raised = self.error
