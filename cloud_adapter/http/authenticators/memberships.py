"""Gives roles to principals by what their issuers say about them: the ``roles`` of ``Service``."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Final

from cloud_adapter.errors import SettingsError
from cloud_adapter.http.authenticators.claims import ascii_lower, verified_email
from cloud_adapter.http.authenticators.port import RESERVED_ROLES
from workflow_core.principal import Principal

GROUP: Final = "group"
USER: Final = "user"
DOMAIN: Final = "domain"
ID: Final = "id"
KINDS: Final = {
    GROUP: "a role or group that the authenticator found",
    USER: "a verified e-mail address",
    DOMAIN: "the domain of a Google Workspace account",
    ID: "the id of a principal, issuer|subject",
}
"""The kinds of members, with what comes after the colon."""


class Memberships:
    """The roles that are given to members.

    An address or a domain is accepted from every configured issuer. Use ``id:`` if only one of them should decide.

    Args:
        roles: for each role, its members: ``group:NAME``, ``user:ADDRESS``, ``domain:NAME`` or ``id:ISSUER|SUBJECT``.

    Raises:
        SettingsError: a role or a member is wrong.
    """

    def __init__(self, roles: Mapping[str, Collection[str]] | None = None) -> None:
        self._roles: dict[tuple[str, str], set[str]] = {}
        for role, members in (roles or {}).items():
            if not role or role in RESERVED_ROLES:
                raise SettingsError(f"roles: {role!r} is not a role that can be given")
            if isinstance(members, str):
                raise SettingsError(f"roles: the members of {role!r} must be a list: [{members!r}]")
            for member in members:
                self._roles.setdefault(_parsed(role, member), set()).add(role)

    def grant(self, principal: Principal) -> Principal:
        """Returns the principal with the roles that it is given, and without reserved ones."""
        given = principal.roles - RESERVED_ROLES
        if self._roles:
            for member in _members(principal):
                given |= self._roles.get(member, set())
        return principal if given == principal.roles else dataclasses.replace(principal, roles=given)


def _parsed(role: str, member: str) -> tuple[str, str]:
    kind, _, name = member.partition(":")
    if kind not in KINDS or not name:
        kinds = ", ".join(f"{kind}: ({text})" for kind, text in KINDS.items())
        raise SettingsError(f"roles: the member {member!r} of {role!r} must begin with one of {kinds}")
    return kind, ascii_lower(name) if kind in (USER, DOMAIN) else name


def _members(principal: Principal) -> list[tuple[str, str]]:
    members = [(GROUP, role) for role in principal.roles] + [(ID, principal.id)]
    if (email := verified_email(principal.claims)) is not None:
        members.append((USER, email))
    # Not the domain of the address: everyone can register a consumer account under an address of another domain.
    if isinstance(domain := principal.claims.get("hd"), str):
        members.append((DOMAIN, ascii_lower(domain)))
    return members
