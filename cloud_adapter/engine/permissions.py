"""What a principal may do: the decisions of the engine on behalf of a client.

Theory of operation. A request without a principal comes from code in this process, and nothing is checked. With one,
the decision is made on the state that was loaded for the request, and again after each conflict, so a check and the
commit that relies on it see the same version. A compare-and-set commit then proves that this version was the current
one.

* Roles decide first; ``Workflow.authorize`` only narrows what they allow. If it cannot be asked, because it raises an
  error or the fields cannot be loaded, the answer is no, and operators find the reason in the log.
* Who may not read an instance cannot find out whether it exists: every request gets the error for a missing instance.
  A principal without credentials that has no role for reading gets ``Unauthenticated`` instead, before anything is
  loaded, also for missing instances. The only exception is a creation under an id that is taken.
* Who may read, but not do it, gets ``Forbidden``, which names the roles that may.
* Two kinds of senders of events need no role, and no permission to read. A callback may send the one event to the one
  wait that its token names. A request that ``On(..., verify=...)`` accepts may be sent to that case. ``authorize``
  narrows both.

What breaks this: an answer or an error that depends on the instance and is returned before ``check_read``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from cloud_adapter.document import Instance
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import Forbidden, InstanceNotFound, Unauthenticated
from cloud_adapter.observability import logs
from cloud_adapter.observability.line_limit import LineLimit
from workflow_core import (
    Action,
    Callback,
    InvalidFields,
    NewerVersion,
    Principal,
    UnusableResult,
    WebhookRequest,
    Workflow,
    WorkflowError,
)
from workflow_core.access import has_role, is_authorized, is_everyone, narrows
from workflow_core.accidents import refuse_accident
from workflow_core.error_texts import error_text
from workflow_core.machine.events import Accepted
from workflow_core.program.cases import ClientCase

FAILURES = LineLimit()
"""Limits the lines about an ``authorize`` or a ``verify`` that raises an error: everyone may send such a request."""

NO_CREDENTIALS = "this request needs credentials, and has none"


class Caller:
    """A principal that sends a request about one instance.

    Attributes:
        callback: what it may send if it is a callback; it may then do nothing else.
        refusal: the last error with which the request was denied.
        has_read: whether it was decided last that the principal may read the instance, or the responses to its events.
    """

    __slots__ = ("_is_sender_verified", "_webhook", "callback", "has_read", "principal", "ref", "refusal")

    def __init__(self, principal: Principal, ref: InstanceRef) -> None:
        self.principal = principal
        self.ref = ref
        self.callback = callback_of(principal, ref.workflow)
        self._webhook: WebhookRequest | None = None
        self._is_sender_verified = False
        self.refusal: WorkflowError | None = None
        self.has_read = False

    # --- reading -----------------------------------------------------------------------------

    def check_read_role(self) -> None:
        """Checks before anything is loaded whether the principal may read instances of the workflow at all.

        Raises:
            InstanceNotFound, Unauthenticated: it may not.
        """
        if not has_role(self.principal, self.ref.cls.access.read):
            raise self._refuse(Unauthenticated(NO_CREDENTIALS) if self._is_anonymous else self._not_found())

    def check_read(self, workflow: Workflow) -> None:
        """Checks whether the principal may read this instance.

        Raises:
            InstanceNotFound, Unauthenticated: it may not.
        """
        self.check_read_role()
        if not self._is_authorized(workflow, Action.READ):
            raise self._refuse(self._not_found())
        self.has_read = True

    def check_unreadable(self, error: WorkflowError) -> None:
        """Called if a request failed with an error that may mean that the instance cannot be loaded, so that neither
        ``authorize`` nor a ``verify`` could be asked.

        Raises:
            InstanceNotFound, Unauthenticated: the principal has no role for reading, or the workflow has an
                ``authorize``.
        """
        if self.has_read or self.callback is not None:
            return
        self.check_read_role()
        if isinstance(error, InstanceNotFound | NewerVersion):
            return
        if narrows(self.ref.cls) and not is_everyone(self.principal):
            self._log_failure(error)
            raise self._refuse(self._not_found()) from error

    def may_read(self, workflow: Workflow) -> bool:
        """Whether the principal may read this instance."""
        return self._allows(workflow, Action.READ, self.ref.cls.access.read)

    # --- before anything is loaded or read ---------------------------------------------------

    def check_role(self, action: Action) -> None:
        """Checks whether the roles of the principal allow to read, list or create instances of the workflow.

        Raises:
            InstanceNotFound, Forbidden, Unauthenticated: they do not.
        """
        match action:
            case Action.READ:
                self.check_read_role()
            case Action.LIST:
                self._check_list_role()
            case Action.CREATE:
                self.check_create_role()
            case _:
                raise ValueError(f"{action!r} depends on the instance")

    def _check_list_role(self) -> None:
        roles = self.ref.cls.access.list
        if not has_role(self.principal, roles):
            raise self.refused(f"listing the instances of {self.ref.workflow!r}", roles)

    # --- doing -------------------------------------------------------------------------------

    def may(self, workflow: Workflow, action: Action) -> bool:
        """Whether the principal may do this with the instance; not for ``Action.SEND``."""
        return self._allows(workflow, action, self.ref.cls.access.roles(action))

    def check_create_role(self) -> None:
        """Checks whether the principal may create instances of the workflow.

        Raises:
            Forbidden, Unauthenticated: it may not.
        """
        roles = self.ref.cls.access.create
        if not has_role(self.principal, roles):
            raise self.refused(f"creating an instance of {self.ref.workflow!r}", roles)

    def check_create(self, workflow: Workflow) -> None:
        """Checks whether the principal may create this instance, which has not moved yet.

        Raises:
            Forbidden, Unauthenticated: it may not.
        """
        if not self.may(workflow, Action.CREATE):
            raise self.refused(f"creating this instance of {self.ref.workflow!r}", self.ref.cls.access.create)

    def check_stored(self, instance: Instance, action: Action, what: str) -> None:
        """Checks whether the principal may do this with an instance as it is stored.

        Raises:
            InstanceNotFound, Forbidden, Unauthenticated: it may not.
        """
        self.check_read_role()
        cls, roles = self.ref.cls, self.ref.cls.access.roles(action)
        if not narrows(cls) or is_everyone(self.principal):
            if not has_role(self.principal, roles):
                raise self.refused(what, roles)
            return
        try:
            workflow = cls.load_fields(instance.fields, instance.execution.fields_version)
        except InvalidFields as error:
            self._log_failure(error)
            raise self._refuse(self._not_found()) from error
        self.check_read(workflow)
        if not self.may(workflow, action):
            raise self.refused(what, roles)

    # --- events ------------------------------------------------------------------------------

    def check_sender_role(self, event: str, thread_id: str | None, wait_id: str | None) -> None:
        """Checks before anything is loaded whether the principal may be the sender of an event.

        Raises:
            InstanceNotFound, Unauthenticated: it may not.
        """
        ref, program = self.ref, self.ref.cls.__program__
        if self.callback is not None:
            if not self.callback.is_for(ref.workflow, ref.id, event, thread_id, wait_id):
                raise self._refuse(self._not_found())
        elif program.event(event) not in program.verified:
            self.check_read_role()

    def needs_instance(self, event: str) -> bool:
        """Whether ``check_sender`` may still deny an event that ``check_sender_role`` has not denied."""
        if self.callback is not None or is_everyone(self.principal):
            return False
        program = self.ref.cls.__program__
        return narrows(self.ref.cls) or program.event(event) in program.verified

    def check_sender(self, workflow: Workflow, verified: Sequence[ClientCase], webhook: WebhookRequest | None) -> None:
        """Checks whether the principal may be the sender of an event: whether it may read the instance, or needs not.

        Args:
            verified: the cases of the event that have a ``verify``, in whatever state they are accepted.
            webhook: the request; None if there are no such cases.

        Raises:
            InstanceNotFound, Unauthenticated: it may not.
        """
        self._webhook, self.has_read = webhook, False
        self._is_sender_verified = any(self._is_verified(workflow, case) for case in verified)
        if self.callback is None and not self._is_sender_verified:
            self.check_read(workflow)
        self.has_read = True

    def may_send(self, workflow: Workflow, case: ClientCase) -> bool:
        """Whether the principal may send an event to this case."""
        if case.verify is not None and not self._is_verified(workflow, case):
            return False
        if self.callback is not None:
            # The wait is part of the request; see check_sender_role.
            is_allowed = self.ref.cls.__program__.event(self.callback.event) == case.event
        else:
            is_allowed = case.verify is not None or has_role(
                self.principal, self.ref.cls.access.roles_to_send(case.role)
            )
        return is_allowed and self._is_authorized(workflow, Action.SEND, case.event)

    def has_role_for(self, cases: Iterable[ClientCase]) -> bool:
        """Whether the principal has the role of one of the cases, or needs none. No role replaces a ``verify``."""
        if self.callback is not None or self._is_sender_verified:
            return True
        to_send = self.ref.cls.access.roles_to_send
        return any(case.verify is None and has_role(self.principal, to_send(case.role)) for case in cases)

    def sendable(self, workflow: Workflow, accepted: Iterable[Accepted]) -> tuple[Accepted, ...]:
        """Returns those of the accepted events that the principal may send. For an event with ``verify``, that depends
        on the request, so it is not one of them."""
        return tuple(
            found
            for found in accepted
            if isinstance(found.case, ClientCase) and not found.case.verify and self.may_send(workflow, found.case)
        )

    def refused_event(self, event: str, cases: Iterable[ClientCase]) -> WorkflowError:
        """Returns the error for an event that the principal may send to none of the cases."""
        what = f"sending {event!r}"
        needed = [self.ref.cls.access.roles_to_send(case.role) for case in cases if case.verify is None]
        if not (needed or self._is_sender_verified):
            error = f"{what} is not permitted: verify of {self.ref.workflow!r} did not accept the request"
            return self._refuse(Unauthenticated(error) if self._is_anonymous else Forbidden(error))
        if self.callback is not None or not needed:
            return self._refuse(self._denied(what))
        return self.refused(what, frozenset().union(*(roles for roles in needed if roles is not None)))

    def refused(self, what: str, roles: AbstractSet[str] | None) -> WorkflowError:
        """Returns the error for something that the principal may not do. It names the roles that may."""
        if self._is_anonymous:
            return self._refuse(Unauthenticated(NO_CREDENTIALS))
        if has_role(self.principal, roles):
            return self._refuse(self._denied(what))
        return self._refuse(Forbidden(f"{what} is not permitted: {needed_roles(roles)}"))

    def _denied(self, what: str) -> Forbidden:
        return Forbidden(f"{what} is not permitted: authorize of {self.ref.workflow!r} denies it")

    # --- how it is decided -------------------------------------------------------------------

    @property
    def _is_anonymous(self) -> bool:
        return self.principal.kind == "anonymous"

    def _allows(
        self, workflow: Workflow, action: Action, roles: AbstractSet[str] | None, event: str | None = None
    ) -> bool:
        return has_role(self.principal, roles) and self._is_authorized(workflow, action, event)

    def _is_authorized(self, workflow: Workflow, action: Action, event: str | None = None) -> bool:
        try:
            answer: bool = call(is_authorized, workflow, self.principal, action, event)
            return answer
        except Exception as error:
            self._log_failure(error)
            return False

    def _is_verified(self, workflow: Workflow, case: ClientCase) -> bool:
        if case.verify is None or self._webhook is None:
            return False
        try:
            answer: object = call(case.verify, workflow, self._webhook)
            if answer is True or answer is False:
                return answer
            where = f"verify of {case.event!r}"
            refuse_accident(answer, where)
            raise UnusableResult(f"{where} returned {answer!r:.60}. Return True or False")
        except Exception as error:
            self._log_failure(error, "verify")
            return False

    def _log_failure(self, error: Exception, what: str = "authorize") -> None:
        left_out = FAILURES.next()
        if left_out is not None:
            text = error_text(error)[:500]
            about = self.ref.workflow, self.ref.id
            logs.transition(
                f"{what} failed", *about, level=logging.ERROR, raised=error, error=text, left_out=left_out or None
            )

    def _not_found(self) -> InstanceNotFound:
        return InstanceNotFound.of(self.ref.workflow, self.ref.id)

    def _refuse(self, error: WorkflowError) -> WorkflowError:
        self.refusal = error
        return error


def callback_of(principal: Principal, workflow: str) -> Callback | None:
    """Returns what a principal may send to a workflow if it is a callback for an instance of it."""
    callback = principal.callback if principal.kind == "callback" else None
    return callback if callback is not None and callback.workflow == workflow else None


def needed_roles(roles: AbstractSet[str] | None) -> str:
    """Returns which roles a refused request needs, for its error."""
    needed = " or ".join(map(repr, sorted(roles or ())))
    return f"it needs the role {needed}" if needed else "no role allows it"
