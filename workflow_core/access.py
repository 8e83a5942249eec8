"""Who may do what with the instances of a workflow: ``Access``, ``CreatedBy``, and the checks of both at import.

Roles decide first. ``Workflow.authorize`` then only narrows what they allow. Nothing here depends on a cloud: the
engine asks these functions on the state that it is about to commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields
from typing import Any, Final, Protocol, TypeVar

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import from_json

from workflow_core.error_texts import ERRORS_MAX, limited
from workflow_core.errors import DefinitionError, InvalidInput, UnusableResult
from workflow_core.principal import Action, Principal
from workflow_core.records import record
from workflow_core.signatures import is_async, parameters

ANY_ROLE: Final = "*"
"""The role of ``EVERYONE``. A principal with an id gets no rights from it, whatever its issuer calls its groups."""

EVERYONE: Final = Principal("", "everyone", "anonymous", frozenset((ANY_ROLE,)))
"""The principal of every request to an API that is open: without authenticators. It may do everything. ``authorize``
and ``visible`` are not asked, because it is nobody in particular."""


class CreatedBy:
    """Marks a field that is filled with the id of the principal that creates the instance, never from the request.

    Example (``docs/guides/identity.md`` has a whole workflow)::

        class Order(Workflow):
            customer: Annotated[str, CreatedBy] = ""
    """


@record(frozen=True)
class Access:
    """The roles that a principal needs. An action without roles is denied.

    Args:
        create: the roles that may create an instance.
        read: the roles that may read one. For all others, the instance does not exist, whatever they may do otherwise.
        list: the roles that may list instances; see also ``Workflow.visible``.
        send: the roles for events without a role of their own: ``On(..., role=...)``.
        operate: the roles that may cancel, pause, unpause and retry an instance, and see how it works inside.
        repair: the roles that may rewrite its state with ``set`` and ``goto``.

    Raises:
        DefinitionError: an argument is not a set of roles.
    """

    create: AbstractSet[str] | None = None
    read: AbstractSet[str] | None = None
    list: AbstractSet[str] | None = None
    send: AbstractSet[str] | None = None
    operate: AbstractSet[str] | None = None
    repair: AbstractSet[str] | None = None

    def __post_init__(self) -> None:
        for argument in fields(self):
            roles = getattr(self, argument.name)
            if roles is None:
                continue
            if not isinstance(roles, (AbstractSet, Sequence)) or isinstance(roles, str | bytes):
                raise DefinitionError(
                    "Access",
                    f"{argument.name} is {roles!r}, not a set of roles",
                    f"Write {argument.name}={{{roles if isinstance(roles, str) else 'a role'!r}}}.",
                )
            for role in roles:
                check_role(f"Access({argument.name}=...)", role)
            object.__setattr__(self, argument.name, frozenset(roles))

    def roles(self, action: Action) -> AbstractSet[str] | None:
        """Returns the roles for an action; for ``SEND``, those for events without a role of their own."""
        found: AbstractSet[str] | None = getattr(self, action.value)
        return found

    def roles_to_send(self, role: str | None) -> AbstractSet[str] | None:
        """Returns the roles for an event with this role; None: it has no role of its own."""
        return self.send if role is None else frozenset((role,))


def check_role(where: str, role: object) -> None:
    """Raises ``DefinitionError`` if a role is not a text, or one that no principal can be given."""
    if not isinstance(role, str) or not role or role == ANY_ROLE:
        raise DefinitionError(
            where, f"{role!r} is not a role", "Use a text such as 'manager', or ANYONE or AUTHENTICATED."
        )


def is_everyone(principal: Principal) -> bool:
    """Whether a principal is nobody in particular, and may do everything: ``EVERYONE``."""
    return not principal.id and ANY_ROLE in principal.roles


def has_role(principal: Principal, roles: AbstractSet[str] | None) -> bool:
    """Whether a principal has one of the roles. None: nobody has, except ``EVERYONE``."""
    if is_everyone(principal):
        return True
    return roles is not None and not roles.isdisjoint(principal.all_roles)


class Authorizing(Protocol):
    """A workflow, as this module sees it."""

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None: ...


F = TypeVar("F", bound=Callable[..., Any])

_NARROWS_NOTHING = "__narrows_nothing__"


def narrows_nothing(method: F) -> F:
    """Marks the ``authorize`` of ``Workflow``, which classes override."""
    setattr(method, _NARROWS_NOTHING, True)
    return method


def narrows(cls: type[Authorizing]) -> bool:
    """Whether a workflow has an ``authorize`` of its own, which has to be asked. A test may replace it at any time."""
    return getattr(cls.authorize, _NARROWS_NOTHING, False) is not True


def is_authorized(workflow: Authorizing, principal: Principal, action: Action, event: str | None = None) -> bool:
    """Whether ``authorize`` leaves it to the roles.

    Raises:
        UnusableResult: it returned something other than a truth value or None.
        Exception: it raised it.
    """
    if is_everyone(principal) or not narrows(type(workflow)):
        return True
    answer: object = workflow.authorize(principal, action, event)
    if answer is None or answer is True or answer is False:
        return answer is not False
    from workflow_core.accidents import refuse_accident  # only mistakes need it

    where = f"authorize of {type(workflow).__name__}"
    refuse_accident(answer, where)
    raise UnusableResult(f"{where} returned {answer!r:.60}. Return True, False or None")


# --- what a creator may set ------------------------------------------------------------------


def creation(cls: Any, body: bytes, principal: Principal) -> bytes:
    """Returns the initial fields of an instance that a principal creates: those of the request, and its id in the
    fields that are marked with ``CreatedBy``.

    Raises:
        InvalidInput: the request sets a field that is not in ``create_fields``.
    """
    # What cannot be checked here must not reach the validators of the workflow, which may read more than JSON objects.
    what = f"the initial fields of workflow {cls.__workflow_name__!r}"
    try:
        given = from_json(body.strip() or b"{}")
    except ValueError as error:
        raise InvalidInput(what, [_error("", f"Invalid JSON: {error}", "json_invalid")]) from None
    if not isinstance(given, dict):
        raise InvalidInput(what, [_error("", "Input should be an object", "model_type")])
    allowed = creator_names(cls)
    if refused := [key for key in given if key not in allowed]:
        errors = [_not_settable(cls, key) for key in refused[:ERRORS_MAX]]
        raise InvalidInput(what, limited(errors, len(refused)))
    if not (filled := _filled(cls, principal)):
        return body
    # As text, because parsing and writing the body would lose digits of its numbers.
    rest = body.strip().removeprefix(b"{") or b"}"
    return json.dumps(filled).encode().removesuffix(b"}") + (b"," if given else b"") + rest


def creator_names(cls: Any) -> frozenset[str]:
    """Returns the names, with aliases, under which a creator may set a field. A name may belong to several fields; all
    of them must then be in ``create_fields``."""
    owners: dict[str, set[str]] = {}
    for name, field in cls.model_fields.items():
        for key in (name, *_aliases(field)):
            owners.setdefault(key, set()).add(name)
    return frozenset(key for key, names in owners.items() if names <= set(cls.create_fields))


def _filled(cls: Any, principal: Principal) -> dict[str, str]:
    fields: dict[str, FieldInfo] = cls.model_fields
    return {name: principal.id for name in cls.__created_by__ if principal.id or fields[name].is_required()}


def _not_settable(cls: Any, key: str) -> dict[str, Any]:
    may = ", ".join(map(repr, cls.create_fields)) or "none"
    message = f"this field is not in create_fields, so a creator cannot set it. In create_fields: {may}"
    return _error(key, message, "not_in_create_fields")


def _error(field: str, message: str, type: str) -> dict[str, Any]:
    return {"field": field, "message": message, "type": type}


def _aliases(field: FieldInfo) -> Iterator[str]:
    """Returns the keys of a JSON object in which a field is looked for."""
    alias = field.validation_alias or field.alias
    for choice in alias.choices if isinstance(alias, AliasChoices) else (alias,):
        first = choice.path[0] if isinstance(choice, AliasPath) else choice
        if isinstance(first, str):
            yield first


# --- checks at import ------------------------------------------------------------------------


def check_access(where: str, cls: type[BaseModel]) -> None:
    """Checks what a workflow class says about access, and sets ``__created_by__``.

    Raises:
        DefinitionError: something about it is wrong.
    """
    workflow: Any = cls
    if not isinstance(workflow.access, Access):
        raise DefinitionError(where, f"its access is {workflow.access!r:.60}", "Write access = Access(...).")
    created_by = tuple(name for name, field in cls.model_fields.items() if _is_created_by(field))
    for name in created_by:
        if cls.model_fields[name].annotation is not str:
            raise DefinitionError(
                where, f"its field {name!r} is CreatedBy, but not a text", f"Write {name}: Annotated[str, CreatedBy]."
            )
    _check_create_fields(where, workflow, created_by)
    for name, takes in (("authorize", "(self, principal, action, event)"), ("visible", "(cls, principal)")):
        _check_method(f"the method {name!r} of {where}", getattr(cls, name), takes, is_own=name == "authorize")
    workflow.__created_by__ = created_by


def _is_created_by(field: FieldInfo) -> bool:
    return any(part is CreatedBy or isinstance(part, CreatedBy) for part in field.metadata)


def _check_create_fields(where: str, cls: Any, created_by: Sequence[str]) -> None:
    if not isinstance(cls.create_fields, tuple) or not all(isinstance(name, str) for name in cls.create_fields):
        names = (cls.create_fields if isinstance(cls.create_fields, str) else "a",)
        raise DefinitionError(
            where, f"its create_fields is {cls.create_fields!r}", f"Write a tuple of names: create_fields = {names}."
        )
    for name in cls.create_fields:
        if name not in cls.model_fields:
            raise DefinitionError(where, f"{name!r} in its create_fields is not a field", "Name fields of the model.")
        if name in created_by:
            raise DefinitionError(
                where,
                f"{name!r} in its create_fields is CreatedBy, so it is filled with the id of the creator",
                "Remove it from create_fields.",
            )


def _check_method(where: str, method: Any, takes: str, *, is_own: bool) -> None:
    count = takes.count(",") + is_own
    if not callable(method):
        raise DefinitionError(where, f"it is {method!r:.60}", f"Write a method {takes}.")
    if not is_own and not hasattr(method, "__self__"):
        raise DefinitionError(where, "it is not a class method", "Put @classmethod above it.")
    parameters(where, method, count, count, takes)
    if is_async(method):
        raise DefinitionError(where, "it is async, but is asked between a load and a commit", "Make it a plain method.")
