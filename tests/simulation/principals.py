"""Principals: who sends the requests of a run whose workflows have roles.

The rule: what a principal may do has the effect that it has without one, and the history tells who has done it. What it
may not do has none.
"""

from __future__ import annotations

from typing import Any

from cloud_adapter.engine.session import ATTRIBUTED
from cloud_adapter.history import HistoryEntry
from tests.simulation.model.violations import require
from tests.simulation.scenario import Scenario
from tests.simulation.settings import Settings
from workflow_core import EVERYONE, Access, Principal

MEMBER, READER = "member", "reader"

_MEMBERS, _READERS = frozenset((MEMBER,)), frozenset((MEMBER, READER))

ACCESS = Access(create=_MEMBERS, read=_READERS, list=_READERS, send=_MEMBERS, operate=_MEMBERS, repair=_MEMBERS)


def member(scenario: Scenario, settings: Settings, name: str) -> Principal | None:
    """The principal of a client of that name, which may do everything."""
    if not settings.has_principals:
        return None
    if scenario.chance(f"anonymity of {name}", 0.2):
        return EVERYONE
    claims = {"team": len(name)} if scenario.chance(f"claims of {name}", 0.5) else {}
    return Principal(f"simulation|{name}", f"Ms {name}", roles=_MEMBERS, claims=claims)


def check_author(actor: Any, entry: HistoryEntry) -> None:
    """The history tells who has done what a client or an operator does."""
    principal = getattr(actor, "principal", None)
    if principal is not None and principal.id and entry.kind in ATTRIBUTED:
        told, expected = (entry.by, entry.by_id), (principal.name, principal.id)
        require(told == expected, f"{entry.kind} is said to be by {told}, and is by {expected}")
