"""Who acts on an instance, and what for. Knows no HTTP and no cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Any, Final, Literal

from workflow_core.callbacks import Callback
from workflow_core.records import record

ANYONE: Final = "anyone"
"""The role that every principal has, also one without credentials."""

AUTHENTICATED: Final = "authenticated"
"""The role of every principal with credentials, except a ``callback``, whose token is for one event only."""


PrincipalKind = Literal["user", "service", "callback", "anonymous", "system"]


@record(frozen=True, slots=True)
class Principal:
    """Someone who sends requests.

    Attributes:
        id: identifies the principal: ``issuer|subject``. Never an e-mail address, because addresses change hands. Empty
            for an anonymous principal.
        name: the name to show, for example in the history.
        kind: what it is. A ``callback`` may send the one event that its token is for, and has no roles.
        roles: the roles that were given to it, without ``ANYONE`` and ``AUTHENTICATED``.
        claims: what its issuer says about it.
        callback: for a ``callback``, what it may send.
    """

    id: str
    name: str = ""
    kind: PrincipalKind = "user"
    roles: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False)
    callback: Callback | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.callback is not None and self.kind != "callback":
            raise ValueError(f"a principal of kind {self.kind!r} has a callback: only one of kind 'callback' can")

    @property
    def all_roles(self) -> frozenset[str]:
        """The roles, with those that every principal of its kind has."""
        if self.kind == "callback":  # the holder of its token is not known, and may do what the token says, no more
            return frozenset()
        implied = {ANYONE} if self.kind == "anonymous" else {ANYONE, AUTHENTICATED}
        return self.roles | implied


ANONYMOUS: Final = Principal("", "anonymous", "anonymous")
"""A request without credentials."""


class Action(StrEnum):
    """What a principal wants to do with an instance."""

    CREATE = "create"
    READ = "read"
    LIST = "list"
    """List instances. ``authorize`` is not asked for it; see ``Workflow.visible``."""
    SEND = "send"
    """Send an event."""
    OPERATE = "operate"
    """Cancel, pause, unpause, retry or terminate it."""
    REPAIR = "repair"
    """Rewrite its state: ``set`` and ``goto``."""
