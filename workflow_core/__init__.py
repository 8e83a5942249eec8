"""The workflow language and its interpreter: statements, compiled programs, and how an instance moves.

Does no I/O, reads no clock, uses no random numbers and depends on no cloud. The names in ``__all__`` are public.
"""

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
    InvalidInput,
    LoopLimitExceeded,
    NewerVersion,
    RepairRefused,
    TerminalError,
    TimedOut,
    UnknownStatement,
    WorkflowError,
)
from workflow_core.events import ActivityContext, EventHandler, EventRequest, StepContext
from workflow_core.execution import (
    BufferedEvent,
    ErrorInfo,
    Execution,
    Leave,
    LeaveKind,
    Parent,
    Status,
    Thread,
    ThreadStatus,
)
from workflow_core.library import ahandle_event, aresume, handle_event, resume
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.retry import Retry
from workflow_core.statements.basic import S, Section, Statement
from workflow_core.statements.calls import Activity, Child
from workflow_core.statements.control import (
    Break,
    Case,
    Continue,
    Default,
    Go,
    If,
    Return,
    Step,
    Switch,
    WaitFor,
    While,
)
from workflow_core.statements.failures import Fail, Try
from workflow_core.statements.fanout import ForEach, Parallel
from workflow_core.statements.selects import On, Select, Sleep, Timeout
from workflow_core.wait_types import Teardown, Wait, WaitKind, WaitStatus
from workflow_core.workflow import InvalidFields, Workflow

__all__ = [
    "Activity",
    "ActivityContext",
    "AsyncInSyncCall",
    "AttemptOver",
    "Break",
    "BufferedEvent",
    "Case",
    "CheckpointKind",
    "Child",
    "ChildFailed",
    "Continue",
    "Default",
    "DefinitionError",
    "DuplicateThread",
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
    "Retry",
    "Return",
    "S",
    "Section",
    "Select",
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
    "Wait",
    "WaitFor",
    "WaitKind",
    "WaitStatus",
    "While",
    "Workflow",
    "WorkflowError",
    "ahandle_event",
    "aresume",
    "handle_event",
    "resume",
]
