"""Decisions: everything that arrives for an instance, as its lane sees it. A decision changes the loaded state, or
waits.

The kinds of decisions are in the modules of their topics: events, timers, activities, children, operations, leases.
This module has what all of them share, and ``FailInstance``, which can replace any of them. ``transaction.py`` loads
and commits instances for decisions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        error: the error to raise if it has waited for too long.
        patience: how long it may wait; None: the default of the lane.
    """

    def __init__(self, error: WorkflowError, patience: timedelta | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.patience = patience


class ByItself(Exception):
    """A decision may take long. It has to be made first, on the stored state, so that earlier decisions of a batch do
    not wait for it."""


class Leased(Busy):
    """The instance was leased during the whole wait.

    Attributes:
        until: when the lease expires.
    """

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Contended(Busy):
    """Another process commits to the instance at the same time, or others in this process take long. The decision was
    not made."""


class NotListening(Busy):
    """The instance is paused and processes nothing. Its inbox is collected when it is unpaused."""


class Decision:
    """Something that has arrived for an instance. It is made again, on another session, until a commit succeeds.

    Attributes:
        after_events: it is made after the events of clients that are kept in the inbox.
        wants_events: the inbox is read for such events even if nothing says that there are any.
        alone: it does not share a commit, because it changes how the instance is loaded or committed.
        shows_history: its answer contains the history, which is loaded for it.
        reads: it changes nothing. It may be made before decisions that have waited longer, because the order makes no
            observable difference.
        urgent: it interrupts an asynchronous handler, which is called again after it.
        lax: the changes that its code makes to the fields may be checked once for many decisions of this kind; see
            ``Session.is_lax``.
        key: its idempotency key.
        statement: the statement to which it belongs, if an error of the workflow's code in it has no receiver. Such an
            error fails the instance.
        patience: how long it waits behind others of this process; None: the default of the lane.
        defers: it does not wait for other processes, nor for long behind others in this one, but raises ``Contended``.
        taken: the inbox entries from which it was created; they are deleted in the same commit.
        records: what is recorded under keys in the same commit.
        size: the bytes of its input and its answer.
        is_unchecked: ``check`` may refuse it before it decides.
    """

    after_events: ClassVar[bool] = True
    wants_events: bool = False
    alone: ClassVar[bool] = False
    shows_history: ClassVar[bool] = False
    reads: ClassVar[bool] = False
    urgent: ClassVar[bool] = False
    lax: ClassVar[bool] = False
    key: str | None = None
    statement: str | None = None
    patience: ClassVar[timedelta | None] = None
    defers: bool = False
    taken: Sequence[InboxEntry] = ()
    records: Sequence[KeyRecord] = ()
    size: int = 0
    is_unchecked: bool = False

    def check(self, session: Session) -> None:
        """Called on the stored state if it waits for a handler. Only an error counts: it decides on the state that is
        committed.

        Raises:
            WorkflowError: its caller may not make it.
        """

    def decide(self, session: Session, now: datetime) -> Any:
        """Changes the loaded instance in memory. Returns the answer, or a coroutine that returns it. If nothing has
        changed, nothing is committed.

        Raises:
            NotNow: it has to wait.
            ByItself: it would return a coroutine, but the session was already changed.
            Exception: the error for its caller. All its changes are undone.
        """
        raise NotImplementedError

    def missing(self, error: InstanceNotFound, now: datetime) -> Any:
        """Returns the answer if there is no such instance.

        Raises:
            NotNow, InstanceNotFound
        """
        raise error

    def refusal(self, error: BaseException) -> BaseException:
        """Returns the error for its caller, if it gets ``error`` instead of an answer."""
        return error

    async def before_waiting(self) -> Any:
        """Called before it waits for the first time. An answer other than None ends the wait."""

    def rewrite(self, instance: Instance) -> Instance:
        """Changes the stored instance before it is loaded. Used only if the decision is ``alone`` and
        ``shows_history``, because the instance is then always loaded."""
        return instance

    async def commit(self, committer: Committer, session: Session) -> None:
        """Commits the changes of a decision that is ``alone``. See ``Committer.commit``."""
        await committer.commit(session, keys=self.records, taken=self.taken)


class Deferrable(Decision):
    """A decision that can wait in the inbox.

    Attributes:
        kind: selects the opener that creates it again.
        stale: whether the instance did not wait for it, or no longer waited.
        is_secret: whether its content contains secrets, even if its workflow handles none.
    """

    kind: str
    stale: bool = False
    is_secret: bool = False

    def name(self) -> str:
        """Returns its name in the inbox of its instance. If it is posted twice, there is one entry."""
        raise NotImplementedError

    def content(self) -> Mapping[str, Any]:
        """Returns the JSON data from which it is created again."""
        raise NotImplementedError


def check_lease(session: Session, now: datetime) -> None:
    """Makes a decision wait while a step runs.

    Raises:
        NotNow: the instance has a live lease.
    """
    lease = session.instance.lease
    if lease is not None and session.leased(now):
        raise NotNow(Leased(f"{session.execution.id!r} is busy: a step is running; try again", lease.expires_at))


class FailInstance(Decision):
    """Ends an instance as failed, because of an error of its code. Does nothing if the instance has already ended.

    Args:
        lease: the token of the lease under which the error was raised. If another process holds a live lease, that
            process finds the error itself, so nothing is done. Without a token, the decision waits for the end of any
            lease.
    """

    alone = True
    after_events = False

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
