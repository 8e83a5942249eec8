"""Waits and teardowns as plain values: one class for each kind.

``kind`` identifies the class in the stored form, and is always stored. The stored names come from the first release,
in which all kinds were one class: ``setup_data`` therefore also stores the task name of a timer, and ``input`` stores
the arguments with which a child is started. Releases that run side by side read each other's instances, so no stored
name may change.

The classes define how the kinds differ. Only ``workflow_core.machine`` changes a state.
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AwareDatetime, Discriminator, Field, GetCoreSchemaHandler, GetPydanticSchema, Tag
from pydantic_core import CoreSchema, core_schema

from workflow_core.records import record
from workflow_core.stored_parts import StoredEnum, WaitKind


class WaitStatus(StoredEnum):
    """The status of one case of a wait, or of its teardown."""

    PENDING_SETUP = "pending_setup"
    SET_UP = "set_up"
    PENDING_TEARDOWN = "pending_teardown"
    SETUP_ERROR = "setup_error"
    TEARDOWN_ERROR = "teardown_error"


# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP

TaskName = Annotated[
    str | None,
    Field(alias="setup_data"),
    # Accepts any JSON data. A value of another type is reported as damage when the instance is loaded.
    GetPydanticSchema(lambda source, handler: core_schema.any_schema()),
]


def _with_kind(schema: CoreSchema) -> CoreSchema:
    """Returns the schema without a default for ``kind``, so that it is stored although default values are omitted."""
    assert schema["type"] == "dataclass"
    arguments = schema["schema"]
    assert arguments["type"] == "dataclass-args"
    for attribute in arguments["fields"]:
        if attribute["name"] == "kind" and attribute["schema"]["type"] == "default":
            attribute["schema"] = attribute["schema"]["schema"]
    return schema


# --- waits -----------------------------------------------------------------------------------


@record(slots=True)
class Wait:
    """One thing that a parked thread waits for. Each kind has a class.

    Attributes:
        event: the name of the event or the timeout; for a condition, the name of its statement.
        id: the wait's id: the thread's id and its pc at entry. All cases of one wait share it.
        known_as: the name at entry, if it was renamed later. Idempotency keys are derived from it.
    """

    noun: ClassVar[str]
    """The name of the kind in error messages."""
    from_clients: ClassVar[bool] = False
    """Whether clients send the event."""
    needs_setup: ClassVar[bool] = False
    """Whether it is set up outside the instance. Leaving it may then create a teardown."""
    may_be_added: ClassVar[bool] = False
    """Whether threads that are parked at a select accept a case of this kind that was added to it later, although they
    have no wait for it."""

    event: str
    kind: WaitKind = field(kw_only=True)
    status: WaitStatus
    id: str

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _with_kind(handler(source))

    def is_pending(self) -> bool:
        """Whether it must still be set up, now or at its next attempt."""
        return False

    def left(self, step: str, event: str | None) -> AnyTeardown | None:
        """Returns the teardown that is needed when a thread at ``step`` leaves the wait because ``event`` happened, or
        for another reason if ``event`` is None; None if no teardown is needed."""
        return None


@record(slots=True)
class EventWait(Wait):
    """A wait for an event with a plain handler.

    Attributes:
        buffered: whether events that arrived earlier are delivered to it.
    """

    noun: ClassVar[str] = "an event"
    from_clients: ClassVar[bool] = True
    may_be_added: ClassVar[bool] = True

    kind: Literal[WaitKind.EVENT] = field(default=WaitKind.EVENT, kw_only=True)
    buffered: bool = False
    known_as: str = ""


@record(slots=True)
class HandlerWait(Wait):
    """A wait for an event with an ``EventHandler``. Leaving it always creates a teardown, because its setup may have
    succeeded even if the response was lost.

    Attributes:
        setup_data: the result of ``setup``, as JSON data.
        attempt: how often ``setup`` has failed.
        retry_at: when ``setup`` is retried.
        error: the error of the last attempt.
    """

    noun: ClassVar[str] = "an event"
    from_clients: ClassVar[bool] = True
    needs_setup: ClassVar[bool] = True

    kind: Literal[WaitKind.HANDLER] = field(default=WaitKind.HANDLER, kw_only=True)
    setup_data: Any = None
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    known_as: str = ""

    def is_pending(self) -> bool:
        """See ``Wait.is_pending``."""
        return self.status is _PENDING_SETUP or (self.status is not _SET_UP and self.retry_at is not None)

    def left(self, step: str, event: str | None) -> AnyTeardown | None:
        """See ``Wait.left``."""
        handled = self.event == event
        return HandlerTeardown(step, self.event, self.id, handled, self.setup_data, known_as=self.known_as)


@record(slots=True)
class TimedWait(Wait):
    """A wait with a deadline.

    Attributes:
        deadline: for a timeout, when it is due; for an activity, when its attempt counts as failed; None if the caller
            passes no time.
        task: the name of the task for the deadline, once it is scheduled.
    """

    deadline: AwareDatetime | None = None
    task: TaskName = None


@record(slots=True)
class TimerWait(TimedWait):
    """A wait for a point in time: the timeout of a select, or a ``Sleep``."""

    noun: ClassVar[str] = "a timeout"

    kind: Literal[WaitKind.TIMEOUT] = field(default=WaitKind.TIMEOUT, kw_only=True)
    known_as: str = ""


@record(slots=True)
class ActivityWait(TimedWait):
    """A wait for the result of an activity.

    Attributes:
        attempt: how often the activity has failed.
        retry_at: when it is retried.
        error: the error of the last attempt.
        input: the input of the activity, as JSON data.
        shown: the input as clients see it, if it contains secrets.
        progress: the last report of the running attempt, as JSON data.
    """

    noun: ClassVar[str] = "an activity"

    kind: Literal[WaitKind.ACTIVITY] = field(default=WaitKind.ACTIVITY, kw_only=True)
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    input: Any = None
    known_as: str = ""
    shown: Any = None
    progress: Any = None


@record(slots=True)
class ChildWait(Wait):
    """A wait for the end of a child. Leaving it before the child has ended creates a teardown, which cancels the child.

    Attributes:
        attempt: how often starting the child has failed.
        retry_at: when starting it is retried.
        error: the error of the last attempt.
        child: the arguments of its start: its workflow, its id, its initial fields, and whether it is detached.
    """

    noun: ClassVar[str] = "a child"
    needs_setup: ClassVar[bool] = True

    kind: Literal[WaitKind.CHILD] = field(default=WaitKind.CHILD, kw_only=True)
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    child: Annotated[dict[str, Any], Field(alias="input")] = field(default_factory=dict)
    known_as: str = ""

    def is_pending(self) -> bool:
        """See ``Wait.is_pending``."""
        return self.status is _PENDING_SETUP or (self.status is not _SET_UP and self.retry_at is not None)

    def left(self, step: str, event: str | None) -> AnyTeardown | None:
        """See ``Wait.left``."""
        if self.event == event:
            return None
        # Once the child is known to have started, its initial fields are no longer needed.
        names = ("workflow", "id") if self.status is _SET_UP else self.child
        return ChildTeardown(step, self.event, self.id, False, {name: self.child[name] for name in names})


@record(slots=True)
class ConditionWait(Wait):
    """A wait for a condition on the fields, or for the end of branches."""

    noun: ClassVar[str] = "a condition"

    kind: Literal[WaitKind.CONDITION] = field(default=WaitKind.CONDITION, kw_only=True)


AnyWait = EventWait | HandlerWait | TimerWait | ActivityWait | ChildWait | ConditionWait
RetriedWait = HandlerWait | ActivityWait | ChildWait
"""Waits with attempts that may fail and are retried."""
AnyTimedWait = TimerWait | ActivityWait
StoredWait = Annotated[AnyWait, Discriminator("kind")]

WAITS: dict[WaitKind, type[AnyWait]] = {
    WaitKind.EVENT: EventWait,
    WaitKind.HANDLER: HandlerWait,
    WaitKind.TIMEOUT: TimerWait,
    WaitKind.CONDITION: ConditionWait,
    WaitKind.ACTIVITY: ActivityWait,
    WaitKind.CHILD: ChildWait,
}
"""The class of each kind."""

# --- teardowns -------------------------------------------------------------------------------


@record(slots=True)
class Teardown:
    """The cleanup that is due after a thread has left a wait. It outlives the thread. Each kind has a class.

    Attributes:
        step: the name of the ``Select`` that the event belongs to, or of the ``Child``.
        id: the id of the wait that was left.
        handled: whether this event was the one that happened.
    """

    step: str
    event: str
    id: str
    handled: bool

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The first release had only teardowns of handlers, and did not store the kind.
        schema = handler(source)
        return _with_kind(schema) if cls is ChildTeardown else schema


@record(slots=True)
class HandlerTeardown(Teardown):
    """An event that must still be torn down.

    Attributes:
        setup_data: the result of ``setup``; None if it never finished.
        status: pending teardown, or teardown error.
        attempt: how often ``teardown`` has failed.
        retry_at: when ``teardown`` is retried.
        error: the error of the last attempt.
        known_as: as for a ``Wait``.
    """

    setup_data: Any = None
    status: WaitStatus = WaitStatus.PENDING_TEARDOWN
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    kind: Literal[WaitKind.HANDLER] = field(default=WaitKind.HANDLER, kw_only=True)
    known_as: str = ""


@record(slots=True)
class ChildTeardown(Teardown):
    """A child that must be canceled.

    Attributes:
        child: its workflow and id; also the other arguments of its start, if it is unknown whether it was started.
        status: pending teardown, or teardown error.
        attempt: how often canceling it has failed.
        retry_at: when canceling it is retried.
        error: the error of the last attempt.
        known_as: as for a ``Wait``.
    """

    child: Annotated[dict[str, Any], Field(alias="setup_data")] = field(default_factory=dict)
    status: WaitStatus = WaitStatus.PENDING_TEARDOWN
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    kind: Literal[WaitKind.CHILD] = field(default=WaitKind.CHILD, kw_only=True)
    known_as: str = ""


def _kind_of_teardown(teardown: Any) -> str:
    # A value that is not a teardown has no kind either, and is rejected like a teardown of an unknown kind.
    kind = teardown.get("kind", WaitKind.HANDLER) if isinstance(teardown, dict) else getattr(teardown, "kind", None)
    return kind if isinstance(kind, str) else repr(kind)


AnyTeardown = HandlerTeardown | ChildTeardown
StoredTeardown = Annotated[
    Annotated[HandlerTeardown, Tag(WaitKind.HANDLER)] | Annotated[ChildTeardown, Tag(WaitKind.CHILD)],
    Discriminator(_kind_of_teardown),
]
