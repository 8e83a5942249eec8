"""The workflow language and its interpreter: statements, compiled programs, and how an instance moves.

Does no I/O, reads no clock, uses no random numbers and depends on no cloud. The names in ``__all__`` are public.

A public name is imported when it is first used. ``import workflow_core`` loads nothing, and a program that only defines
workflows does not load the interpreter.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflow_core.access import ANY_ROLE, EVERYONE, Access, CreatedBy
    from workflow_core.callbacks import Callback, WebhookRequest
    from workflow_core.errors import (
        AsyncInSyncCall,
        AttemptOver,
        ChildFailed,
        DefinitionError,
        DuplicateThread,
        EventNotAccepted,
        EventRejected,
        ExecutionError,
        Failure,
        InvalidFields,
        InvalidInput,
        LoopLimitExceeded,
        NewerVersion,
        RepairRefused,
        TerminalError,
        TimedOut,
        UnknownStatement,
        UnusableResult,
        WorkflowError,
    )
    from workflow_core.events import ActivityContext, EventHandler, EventRequest, Selected, StepContext
    from workflow_core.execution import BufferedEvent, Execution, Leave, Parent, Status, Thread, ThreadStatus
    from workflow_core.library import ahandle_event, aresume, handle_event, resume
    from workflow_core.machine.checkpoints import CheckpointKind
    from workflow_core.plain.vocabulary import (
        activity,
        child,
        event,
        gather,
        go,
        local,
        named,
        now,
        parallel,
        race,
        section,
        select,
        sleep,
        step,
        timeout,
        until,
    )
    from workflow_core.principal import ANONYMOUS, ANYONE, AUTHENTICATED, Action, Principal
    from workflow_core.retry import Retry
    from workflow_core.statements.basic import S, Section, Statement
    from workflow_core.statements.calls import Activity, Child
    from workflow_core.statements.control import (
        Break,
        Case,
        Continue,
        Default,
        Do,
        Go,
        If,
        Return,
        Step,
        Switch,
        WaitFor,
        While,
    )
    from workflow_core.statements.failures import Fail, Try
    from workflow_core.statements.fanout import ForEach, Parallel, Race
    from workflow_core.statements.selects import Done, On, Select, Sleep, Timeout, When
    from workflow_core.statements.within import Within
    from workflow_core.stored_parts import ErrorInfo, LeaveKind, WaitKind
    from workflow_core.wait_types import Teardown, Wait, WaitStatus
    from workflow_core.workflow import Workflow

__all__ = [
    "ANONYMOUS",
    "ANYONE",
    "ANY_ROLE",
    "AUTHENTICATED",
    "Access",
    "Action",
    "Activity",
    "ActivityContext",
    "AsyncInSyncCall",
    "AttemptOver",
    "Break",
    "BufferedEvent",
    "Case",
    "Callback",
    "CheckpointKind",
    "Child",
    "ChildFailed",
    "Continue",
    "CreatedBy",
    "Default",
    "DefinitionError",
    "Do",
    "Done",
    "DuplicateThread",
    "EVERYONE",
    "ErrorInfo",
    "EventHandler",
    "EventNotAccepted",
    "EventRejected",
    "EventRequest",
    "Execution",
    "ExecutionError",
    "Fail",
    "Failure",
    "ForEach",
    "Go",
    "If",
    "InvalidFields",
    "InvalidInput",
    "RepairRefused",
    "Leave",
    "LeaveKind",
    "LoopLimitExceeded",
    "NewerVersion",
    "On",
    "Parallel",
    "Parent",
    "Principal",
    "Race",
    "Retry",
    "Return",
    "S",
    "Section",
    "Select",
    "Selected",
    "Sleep",
    "Statement",
    "Status",
    "Step",
    "StepContext",
    "Switch",
    "Teardown",
    "TerminalError",
    "Thread",
    "ThreadStatus",
    "TimedOut",
    "Timeout",
    "Try",
    "UnknownStatement",
    "UnusableResult",
    "Wait",
    "WaitFor",
    "WaitKind",
    "WaitStatus",
    "WebhookRequest",
    "When",
    "While",
    "Within",
    "Workflow",
    "WorkflowError",
    "activity",
    "ahandle_event",
    "aresume",
    "child",
    "event",
    "gather",
    "go",
    "handle_event",
    "local",
    "named",
    "now",
    "parallel",
    "race",
    "resume",
    "section",
    "select",
    "sleep",
    "step",
    "timeout",
    "until",
]

_NAMES = {
    "access": ("ANY_ROLE", "EVERYONE", "Access", "CreatedBy"),
    "callbacks": ("Callback", "WebhookRequest"),
    "errors": (
        "AsyncInSyncCall",
        "AttemptOver",
        "ChildFailed",
        "DefinitionError",
        "DuplicateThread",
        "EventNotAccepted",
        "EventRejected",
        "ExecutionError",
        "Failure",
        "InvalidFields",
        "InvalidInput",
        "LoopLimitExceeded",
        "NewerVersion",
        "RepairRefused",
        "TerminalError",
        "TimedOut",
        "UnknownStatement",
        "UnusableResult",
        "WorkflowError",
    ),
    "events": ("ActivityContext", "EventHandler", "EventRequest", "Selected", "StepContext"),
    "execution": (
        "BufferedEvent",
        "Execution",
        "Leave",
        "Parent",
        "Status",
        "Thread",
        "ThreadStatus",
    ),
    "library": ("ahandle_event", "aresume", "handle_event", "resume"),
    "machine.checkpoints": ("CheckpointKind",),
    "plain.vocabulary": (
        "activity",
        "child",
        "event",
        "gather",
        "go",
        "local",
        "named",
        "now",
        "parallel",
        "race",
        "section",
        "select",
        "sleep",
        "step",
        "timeout",
        "until",
    ),
    "principal": ("ANONYMOUS", "ANYONE", "AUTHENTICATED", "Action", "Principal"),
    "retry": ("Retry",),
    "statements.basic": ("S", "Section", "Statement"),
    "statements.calls": ("Activity", "Child"),
    "statements.control": (
        "Break",
        "Case",
        "Continue",
        "Default",
        "Do",
        "Go",
        "If",
        "Return",
        "Step",
        "Switch",
        "WaitFor",
        "While",
    ),
    "statements.failures": ("Fail", "Try"),
    "statements.fanout": ("ForEach", "Parallel", "Race"),
    "statements.selects": ("Done", "On", "Select", "Sleep", "Timeout", "When"),
    "statements.within": ("Within",),
    "stored_parts": ("ErrorInfo", "LeaveKind", "WaitKind"),
    "wait_types": ("Teardown", "Wait", "WaitStatus"),
    "workflow": ("Workflow",),
}
"""The public names of each module."""

_MODULES = {name: module for module, names in _NAMES.items() for name in names}


if not TYPE_CHECKING:  # type checkers would accept any name

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from workflow_core.garbage import no_collection

        with no_collection():
            value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
