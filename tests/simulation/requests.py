"""What clients want, and their attempts at it: calls, of which those with one key count once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.simulation.actors import Actor
from tests.simulation.model.instance import Model
from tests.simulation.model.violations import require
from workflow_core import Principal

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model

LOST = object()
"""The answer that never came."""


@dataclass(eq=False)
class Group:
    """Calls that must take effect once: all calls with one key, or one call without a key. Once a key has expired, it
    is a new one.

    Attributes:
        earlier: the effects of calls before the key had expired.
        known_until: when it expires.
    """

    commits: list[tuple[Call, Any]] = field(default_factory=list)
    requests: int = 0
    earlier: list[tuple[Call, Any]] = field(default_factory=list)
    known_until: datetime | None = None

    def recorded(self, known_until: datetime, now: datetime) -> None:
        """A call has taken effect, and its key is recorded. An earlier record must have expired."""
        if self.known_until is not None:
            require(self.known_until <= now, f"a key is used anew that is known until {self.known_until}")
            self.earlier += self.commits
            self.commits.clear()
        self.known_until = known_until

    def may_have_expired(self, now: datetime) -> bool:
        return self.known_until is not None and self.known_until <= now


@dataclass(eq=False)
class Request:
    """What a client wants; ``event`` is empty for the creation."""

    model: Model
    event: str
    body: bytes
    thread_id: str | None = None
    wait_id: str | None = None
    key: str | None = None
    outcome: str = ""
    group: Group = field(default_factory=Group)

    @property
    def what(self) -> str:
        return f"{self.event or 'the creation'} {self.body.decode(errors='replace')} {self.key or ''}".strip()


@dataclass(eq=False, kw_only=True)
class Call(Actor):
    """One attempt at a request.

    Attributes:
        refused: the response was an error that promises that nothing was changed.
    """

    request: Request
    started: float
    seen_pc: int
    refused: bool = False
    principal: Principal | None = None
