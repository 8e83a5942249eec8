"""Operations on instances (cancel, pause, ...): one class each, with all its texts. ``operation_requests.py``
carries one out.

To add an operation, write a class under ``@register``, and a test. The API's routes, the OpenAPI document, the commands
and the forms on the pages are generated from ``ACTIONS`` and ``REPAIRS``. The docstring of an action is its description
in the OpenAPI document.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from cloud_adapter.document import Instance
from cloud_adapter.engine.session import Session, settle
from cloud_adapter.errors import InstanceEnded
from workflow_core import Action as Permission
from workflow_core import (
    Execution,
    InvalidInput,
    RepairRefused,
    Status,
    UnknownStatement,
    Workflow,
    WorkflowError,
)
from workflow_core.error_texts import field_errors
from workflow_core.inputs import refuse_repeated_keys
from workflow_core.machine.operations import set_fields
from workflow_core.stored_parts import MAIN_THREAD

DETAIL_CHARS_MAX = 500
"""The most characters of the changes that the history keeps."""


class Operation(BaseModel):
    """A request of an operator: an ``Action`` or a ``Repair``. Its JSON is the body of the request.

    A field of a subclass must be a text, a number, a boolean, or a ``dict`` of values for the workflow's fields.

    Attributes:
        name: the last part of the URL, the name of the command, and the kind of the entry in the history.
        command: the help text of the command.
        permission: the action that a principal needs the permission for.
    """

    name: ClassVar[str]
    command: ClassVar[str]
    permission: ClassVar[Permission]

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    by: str = Field("", max_length=200, description="The name of the operator; stored in the history.")
    reason: str = Field("", max_length=500, description="The reason; stored in the history.")
    dry_run: bool = Field(False, description="If true, returns the instance as it would be, and saves nothing.")
    pc: int | None = Field(None, description="If given, rejects the operation unless ``meta.pc`` still has this value.")

    @classmethod
    def arguments(cls) -> dict[str, FieldInfo]:
        """Returns the fields of this class, without the fields that every operation has."""
        return {name: field for name, field in cls.model_fields.items() if name not in Operation.model_fields}

    @classmethod
    def from_json(cls, body: bytes) -> Operation:
        """Parses the body of a request. An empty body means no arguments.

        Raises:
            InvalidInput: the body is invalid.
        """
        try:
            operation = cls.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise InvalidInput("the body of the request", field_errors(error)) from None
        refuse_repeated_keys("the body of the request", body)
        return operation

    def rewrite(self, cls: type[Workflow], instance: Instance) -> Instance:
        """Changes the stored instance before it is loaded.

        Raises:
            RepairRefused: the repair is not possible.
        """
        return instance

    def apply(self, session: Session, now: datetime) -> None:
        """Changes the loaded instance in memory, if there is anything to do.

        Raises:
            InstanceEnded, RepairRefused: the operation is not possible in the instance's state.
            UnknownStatement: the instance is at a statement that the definition does not have.
            UserCodeError: a condition of the workflow raised.
        """
        raise NotImplementedError

    def note(self, session: Session, now: datetime, **details: Any) -> None:
        """Adds the operation to the instance's history."""
        session.note(self.name, now, by=self.by, reason=self.reason, **details)


class Action(Operation):
    """An operation that every caller of the API may request, at ``/wf/{workflow}/{id}/{name}``.

    Attributes:
        title: the title of the form. Followed by "an instance", it is the summary in the OpenAPI document.
        button: the label of the button that sends the form.
        confirmation: the text above the button, which tells the consequences.
        result: the text that the page shows afterwards.
        past: the past participle, as in "it can no longer be paused".
    """

    permission = Permission.OPERATE

    title: ClassVar[str]
    button: ClassVar[str]
    confirmation: ClassVar[str]
    result: ClassVar[str]
    past: ClassVar[str]

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """Whether the page of an instance in this state shows the form."""
        return not execution.ended

    @classmethod
    def refusal(cls, id: str) -> WorkflowError:
        """Returns an example of a refusal, for the OpenAPI document."""
        return _ended(id, Status.FINISHED, cls.past)

    def refuse_ended(self, execution: Execution) -> None:
        """Refuses an instance that has ended.

        Raises:
            InstanceEnded: the instance is finished, failed or canceled.
        """
        if execution.ended:
            raise _ended(execution.id, execution.status, self.past)


class Repair(Operation):
    """An operation that rewrites the stored state. The API serves it only where every caller may write to the database.
    Its command shows the changes and asks before it makes them; no page offers it."""

    permission = Permission.REPAIR


ACTIONS: dict[str, type[Action]] = {}
"""All actions, by name, in the order of the OpenAPI document and of the commands."""

REPAIRS: dict[str, type[Repair]] = {}
"""All repairs, by name."""

_Kind = TypeVar("_Kind", bound=type[Action] | type[Repair])


def register(kind: _Kind) -> _Kind:
    """Adds an action or a repair to the API, the command line and the pages."""
    if issubclass(kind, Action):
        ACTIONS[kind.name] = kind
    else:
        REPAIRS[kind.name] = kind
    return kind


@register
class Cancel(Action):
    """Cancels an instance. Its waits are torn down, and its ``finally_`` sections run. The result of a running step is
    discarded. If the instance is already canceled or being canceled, nothing happens."""

    name = "cancel"
    command = "Cancels an instance: its cleanup runs, and then it is canceled."
    title = "Cancel"
    button = "Cancel this instance"
    confirmation = "Waits are torn down, and cleanup runs. This cannot be undone."
    result = "Canceled."
    past = "canceled"

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """See ``Action.is_offered``."""
        return not execution.ended and not execution.canceling

    def apply(self, session: Session, now: datetime) -> None:
        session.machine.check()
        execution = session.execution
        if execution.status is Status.CANCELED or (execution.canceling and not execution.ended):
            return
        self.refuse_ended(execution)
        session.machine.cancel()
        self.note(session, now)
        settle(session)


@register
class Terminate(Action):
    """Ends an instance at once, for example if its cleanup always fails. No ``finally_`` section runs, and its events
    are not torn down, so outside systems may keep registrations. Its children are canceled. If the instance has already
    ended, what is left of its cleanup is given up, including the cancellation of children. If nothing is left of a
    canceled instance, nothing happens."""

    name = "terminate"
    command = "Ends an instance at once, without its cleanup."
    title = "Terminate"
    button = "Terminate this instance"
    confirmation = "No cleanup runs: outside systems may keep what was registered there. This cannot be undone."
    result = "Terminated."
    past = "terminated"

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """Whether a cleanup is left, as a cancellation is better before that. See ``Action.is_offered``."""
        return execution.canceling or bool(execution.teardowns)

    def apply(self, session: Session, now: datetime) -> None:
        execution = session.execution
        if execution.ended and not execution.teardowns:
            if execution.status is Status.CANCELED:
                return
            self.refuse_ended(execution)
        session.machine.terminate()
        self.note(session, now)


@register
class Pause(Action):
    """Pauses an instance. Until it is unpaused, no step runs and no event is accepted. The result of a running step is
    discarded, and the step runs again after the pause."""

    name = "pause"
    command = "Pauses an instance: no step runs, and no event is accepted."
    title = "Pause"
    button = "Pause this instance"
    confirmation = "Until the instance is unpaused, no step runs and no event is accepted."
    result = "Paused."
    past = "paused"

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """See ``Action.is_offered``."""
        return not execution.ended and execution.status is not Status.PAUSED

    def apply(self, session: Session, now: datetime) -> None:
        session.machine.check()
        self.refuse_ended(session.execution)
        if session.execution.status is Status.PAUSED:
            return
        session.machine.pause()
        self.note(session, now)


@register
class Unpause(Action):
    """Continues a paused instance. Timeouts that passed during the pause fire now."""

    name = "unpause"
    command = "Continues a paused instance."
    title = "Unpause"
    button = "Unpause this instance"
    confirmation = "Timeouts that passed during the pause fire now."
    result = "Unpaused."
    past = "unpaused"

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """See ``Action.is_offered``."""
        return execution.status is Status.PAUSED

    def apply(self, session: Session, now: datetime) -> None:
        session.check()
        self.refuse_ended(session.execution)
        if session.execution.status is not Status.PAUSED:
            return
        session.machine.unpause()
        self.note(session, now)
        settle(session)


@register
class RetryFailed(Action):
    """Continues a failed instance from the point of failure. The count of attempts starts again, and its waits are
    entered again."""

    name = "retry"
    command = "Continues a failed instance from the point of failure."
    title = "Retry"
    button = "Retry this instance"
    confirmation = "The instance continues from the point of failure. The count of attempts starts again."
    result = "Retried."
    past = "retried"

    @classmethod
    def is_offered(cls, execution: Execution) -> bool:
        """See ``Action.is_offered``."""
        return execution.status is Status.FAILED

    @classmethod
    def refusal(cls, id: str) -> WorkflowError:
        """See ``Action.refusal``."""
        return RepairRefused(f"{id!r} is waiting: only failed instances can be {cls.past}")

    def apply(self, session: Session, now: datetime) -> None:
        session.machine.retry()
        session.check()
        self.note(session, now)
        settle(session)


@register
class Goto(Repair):
    """Moves a thread to one of its steps or waits, as if it had just reached it. The result of a running step is
    discarded. A failed or paused instance stays failed or paused."""

    name = "goto"
    command = "Repairs an instance: moves a thread to one of its steps or waits."

    statement: str = Field(description="The name of the step or wait.")
    thread: str = Field(MAIN_THREAD, description="The id of the thread.")

    def apply(self, session: Session, now: datetime) -> None:
        thread = session.execution.thread(self.thread)
        before = "" if thread is None else thread.step
        session.machine.goto(self.thread, self.statement)
        self.note(session, now, statement=self.statement, thread=self.thread, detail=f"from {before!r}")
        _settle_if_known(session)


@register
class SetFields(Repair):
    """Sets fields to new values, even if the stored values no longer match their types. The result of a running step is
    discarded."""

    name = "set"
    command = "Repairs an instance: sets fields to new values, which must match their types."

    fields: dict[str, Any] = Field(min_length=1, description="The new values, by field name.")

    def rewrite(self, cls: type[Workflow], instance: Instance) -> Instance:
        execution = instance.execution
        fields = set_fields(cls, instance.fields, execution.fields_version, self.fields)
        return replace(instance, fields=fields, execution=replace(execution, fields_version=cls.__workflow_version__))

    def apply(self, session: Session, now: datetime) -> None:
        given: dict[str, Any] = self.fields
        if session.cls.__form__.has_secrets:
            shown = session.cls.shown_fields(session.instance.fields)
            given = {name: shown[name] for name in given}
        detail = json.dumps(given, ensure_ascii=False)
        session.machine.tick()
        self.note(session, now, detail=detail[:DETAIL_CHARS_MAX])
        _settle_if_known(session)


def _ended(id: str, status: Status, past: str) -> InstanceEnded:
    return InstanceEnded(f"{id!r} is {status}: it can no longer be {past}")


def _settle_if_known(session: Session) -> None:
    """Moves the threads on. If a thread is at a statement that the definition does not have, or has stored a value that
    the code cannot use, nothing can move yet."""
    try:
        session.check()
    except UnknownStatement:
        return
    settle(session)
