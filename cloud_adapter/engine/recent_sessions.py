"""Sessions that are kept after their last commit, so that the next decision need not load the instance.

Theory of operation. After a commit, a session is what a load would give (``transaction.py`` relies on this too, while
decisions wait). It stays so until another commit, which gives the instance another version. There are two ways to use a
kept session:

* It is *assumed* that nobody has committed since. The next commit shows whether that is true, because it is compared
  like any other. If it is not, or if the commit fails for another reason, everything that was decided is decided again,
  on what is stored. Until then, nothing is answered, not even a refusal. A wrong assumption costs a commit that fails,
  so a session is only assumed if it is probably right: not after a wrong one on the same instance, and if the store is
  shared by many machines, only for ``SHARED``, and only if no work is due, which another process would do.
* If a decision may be answered without a commit, the version is compared first. Only a store on the same machine can
  tell that much faster than it loads.

Conditions are called after the fields were checked. They must not change them, but one that does, or keeps a value in
the object, must not have other effects than after a load. ``take`` therefore loads the fields anew, from memory, unless
no code has got them since the check, which loads them too.

What breaks this: a session that was changed after its last commit, or that two callers use at the same time. ``take``
therefore removes the session, and it is kept again after the next commit only.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile

from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.ports import LocalStore

CHARS_MAX = 1_000_000
"""The most characters of the fields and executions of all kept sessions. In memory, they take several times as much."""

CHARS_EACH = 2_000
"""What a session takes at least, in the same unit."""

SHARED = timedelta(seconds=2)
"""How long after a commit it is assumed that nobody else has committed, if the store is shared by many machines. If it
is on this one, it is assumed as long as the session is kept."""

WRONG = timedelta(minutes=1)
"""How long nothing is assumed of an instance after a wrong assumption."""


_NEVER = datetime.min.replace(tzinfo=UTC)


class RecentSessions:
    """The sessions of the instances that this process has committed last.

    Args:
        committer: it decides whether the workflow's sessions may be kept, and has the store and the clock.
    """

    def __init__(self, committer: Committer) -> None:
        self._store = committer.store if isinstance(committer.store, LocalStore) else None
        self._clock = committer.clock
        self._secrets = committer.secrets
        self._sessions: dict[InstanceRef, tuple[Session, int, datetime | None]] = {}
        """With their sizes, and until when they are assumed; None: without a limit. The longest unused first."""
        self._chars = 0
        self._wrong: dict[InstanceRef, datetime] = {}
        """When assumptions about instances were wrong, the first one first."""

    def __len__(self) -> int:
        return len(self._sessions)

    def keep(self, session: Session) -> None:
        """Keeps a session that was just committed and is no longer used, unless the instance is leased or may have
        events in its inbox. Secrets are not kept."""
        ref, instance = session.ref, session.instance
        if instance.lease is not None or session.may_have_events or self._secrets.handles(instance.workflow):
            return
        until = self._assumed_until(ref)
        if self._store is None and (session.has_due or until is _NEVER):
            return
        if ref in self._sessions:
            self._pop(ref)
        chars = CHARS_EACH + session.chars
        self._sessions[ref] = session, chars, until
        self._chars += chars
        while self._chars > CHARS_MAX:
            self._pop(next(iter(self._sessions)))

    async def take(self, ref: InstanceRef, *, assumes: bool) -> Session | None:
        """Returns the session of an instance, if it is what the store has, and forgets it.

        Args:
            assumes: it may be assumed that nobody has committed since; the session is then ``is_assumed``.

        Raises:
            InvalidFields
            Unavailable
        """
        if (kept := self._pop(ref)) is None:
            return None
        session, _, until = kept
        if assumes and (until is None or self._clock.now() < until):
            session.is_assumed = True
        elif self._store is None or not await self._store.is_current(ref.workflow, ref.id, session.instance.version):
            return None
        if not session.machine.is_unused:
            session.load_fields()
        return session

    def forget(self, ref: InstanceRef) -> None:
        """Forgets the session of an instance, if one is kept."""
        self._pop(ref)

    def was_wrong(self, ref: InstanceRef) -> None:
        """Records that an assumption about an instance was wrong."""
        now = self._clock.now()
        for old in list(takewhile(lambda known: self._wrong[known] <= now - WRONG, self._wrong)):
            del self._wrong[old]
        self._wrong.pop(ref, None)
        self._wrong[ref] = now

    def _assumed_until(self, ref: InstanceRef) -> datetime | None:
        """Returns until when it may be assumed that nobody else commits to an instance; None: without a limit."""
        wrong_at, is_local = self._wrong.get(ref), self._store is not None
        if wrong_at is None and is_local:
            return None  # without a look at the clock
        now = self._clock.now()
        if wrong_at is not None and wrong_at > now - WRONG:
            return _NEVER
        return None if is_local else now + SHARED

    def _pop(self, ref: InstanceRef) -> tuple[Session, int, datetime | None] | None:
        kept = self._sessions.pop(ref, None)
        if kept is not None:
            self._chars -= kept[1]
        return kept
