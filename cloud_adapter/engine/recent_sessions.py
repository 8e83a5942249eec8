"""Sessions that are kept after their last commit, so that the next decision need not load the instance.

Theory of operation. After a commit, a session is what a load would give (``transaction.py`` relies on this too, while
decisions wait). It stays so until another commit, which gives the instance another version. A kept session is therefore
as good as a load, if the store still has its version. Only a store on the same machine can tell that much faster than
it loads.

Conditions are called after the fields were checked. They must not change them, but one that does, or keeps a value in
the object, must not have other effects than after a load. ``take`` therefore loads the fields anew, from memory.

What breaks this: a session that was changed after its last commit, or that two callers use at the same time. ``take``
therefore removes the session, and it is kept again after the next commit only.
"""

from __future__ import annotations

from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.session import Session
from cloud_adapter.ports import LocalStore

CHARS_MAX = 1_000_000
"""The most characters of the fields and executions of all kept sessions. In memory, they take several times as much."""

CHARS_EACH = 2_000
"""What a session takes at least, in the same unit."""


class RecentSessions:
    """The sessions of the instances that this process has committed last.

    Args:
        committer: it decides whether the workflow's sessions may be kept, and has the store.
    """

    def __init__(self, committer: Committer) -> None:
        self._store = committer.store if isinstance(committer.store, LocalStore) else None
        self._secrets = committer.secrets
        self._sessions: dict[InstanceRef, tuple[Session, int]] = {}
        """The longest unused first."""
        self._chars = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def keep(self, session: Session) -> None:
        """Keeps a session that was just committed and is no longer used, unless the instance is leased or may have
        events in its inbox. Secrets are not kept."""
        ref, instance = session.ref, session.instance
        if self._store is None or instance.lease is not None or session.may_have_events:
            return
        if self._secrets.handles(instance.workflow):
            return
        self._pop(ref)
        chars = CHARS_EACH + session.chars
        self._sessions[ref] = session, chars
        self._chars += chars
        while self._chars > CHARS_MAX:
            self._pop(next(iter(self._sessions)))

    async def take(self, ref: InstanceRef) -> Session | None:
        """Returns the session of an instance, if it is what the store has, and forgets it.

        Raises:
            InvalidFields
            Unavailable
        """
        session = self._pop(ref)
        if session is None or self._store is None:
            return None
        is_current = await self._store.is_current(ref.workflow, ref.id, session.instance.version)
        if not is_current:
            return None
        session.load_fields()
        return session

    def _pop(self, ref: InstanceRef) -> Session | None:
        session, chars = self._sessions.pop(ref, (None, 0))
        self._chars -= chars
        return session
