"""One instance, as a test sees it: its fields, where it stands, and the events that it is sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic, Never, Protocol, TypeVar

from pydantic_core import from_json

from cloud_adapter.document import Instance
from cloud_adapter.engine.operations import Cancel, Operation
from cloud_adapter.engine.view import View
from gorchestrate.testing.mistakes import check_event
from workflow_core import ErrorInfo, Execution, Principal, Status, Workflow

W = TypeVar("W", bound=Workflow)


class Host(Protocol):
    """The environment of an instance. See ``Environment``."""

    def load(self, workflow: type[Workflow], id: str, *, history: bool = False) -> Instance: ...
    def view(self, workflow: type[Workflow], id: str) -> View: ...
    def send(self, workflow: type[Workflow], id: str, event: str, input: Any, principal: Principal | None) -> Any: ...
    def operate(self, workflow: type[Workflow], id: str, operation: Operation) -> None: ...


class InstanceHandle(Generic[W]):
    """An instance in an environment. Each property reads what is stored now.

    Attributes:
        workflow: its class.
        id: its id.
    """

    def __init__(self, environment: Host, workflow: type[W], id: str) -> None:
        self.workflow = workflow
        self.id = id
        self._environment = environment

    def __repr__(self) -> str:
        return f"<{self.workflow.__workflow_name__} {self.id!r}>"

    @property
    def fields(self) -> W:
        """The fields. Changing them does not change the instance."""
        stored = self._environment.load(self.workflow, self.id)
        return self.workflow.load_fields(stored.fields, stored.execution.fields_version)

    @property
    def execution(self) -> Execution:
        """The state of the instance apart from its fields: threads, waits and errors."""
        return self._environment.load(self.workflow, self.id).execution

    @property
    def status(self) -> Status:
        """Whether it runs, waits or has ended."""
        return self.execution.status

    @property
    def is_finished(self) -> bool:
        """Whether it has reached its end."""
        return self.status == Status.FINISHED

    @property
    def error(self) -> ErrorInfo | None:
        """The error with which it failed."""
        return self.execution.error

    @property
    def result(self) -> Any:
        """Its result as JSON data: what its parent would get. See ``Child``."""
        return from_json(self.fields.result_json())

    @property
    def places(self) -> set[str]:
        """The names of the statements at which its threads stand."""
        return {thread.step for thread in self.execution.threads}

    @property
    def accepted_events(self) -> set[str]:
        """The names of the events that it accepts now, from anybody."""
        return {accepted.case.event for accepted in self._view().accepted}

    @property
    def history(self) -> list[tuple[str, str]]:
        """What happened to it, oldest first: kind and statement, such as ``("event", "approve")``."""
        stored = self._environment.load(self.workflow, self.id, history=True)
        return [(entry.kind, entry.statement) for entry in stored.history]

    def send(
        self,
        event: str,
        input: Any = None,
        *,
        roles: Collection[str] | None = None,
        principal: Principal | None = None,
        **unknown: Never,
    ) -> Any:
        """Sends an event, and runs all instances until they wait.

        Args:
            input: a pydantic model, or JSON data.
            roles: sends it as a user with only these roles. By default, the sender may do everything.
            principal: sends it as this principal.

        Returns:
            The response of the handler as JSON data; None if the event was buffered.

        Raises:
            EventNotAccepted, EventRejected, InvalidInput, Forbidden, UserCodeError, ...: see ``Engine.handle_event``.
                The instance is unchanged.
        """
        check_event(event, unknown)
        return self._environment.send(self.workflow, self.id, event, input, sender(roles, principal))

    def operate(self, operation: Operation) -> None:
        """Carries out an operation, such as ``Pause()``, and runs all instances until they wait."""
        self._environment.operate(self.workflow, self.id, operation)

    def cancel(self) -> None:
        """Cancels it, and runs all instances until they wait."""
        self.operate(Cancel())

    def _view(self) -> View:
        return self._environment.view(self.workflow, self.id)


def sender(roles: Collection[str] | None, principal: Principal | None) -> Principal | None:
    """Returns who sends a request; None: code of this process, which may do everything."""
    if roles is None:
        return principal
    if principal is not None:
        raise TypeError("pass roles or principal, not both")
    if isinstance(roles, str):
        raise TypeError(f"roles is {roles!r}: pass a set of roles, such as {{{roles!r}}}")
    return Principal("test|user", "user", roles=frozenset(roles))
