"""The cases of a select, and the instructions that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from workflow_core.callbacks import Verify
from workflow_core.events import EventHandler
from workflow_core.program.code import Function, Instruction
from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.signatures import HandlerSignature, OfItem
from workflow_core.statements.basic import Delay
from workflow_core.stored_parts import WaitKind

if TYPE_CHECKING:
    from workflow_core.wait_types import AnyWait


@record(frozen=True)
class ActivitySpec:
    """How an activity is run; see ``workflow_core.statements.calls.Activity``."""

    function: Callable[..., Any]
    signature: HandlerSignature
    takes_context: bool
    input: Function | None
    retry: Retry | None
    timeout: timedelta | None
    heartbeat: timedelta | None


@record(frozen=True)
class ChildSpec:
    """How a child is started; see ``workflow_core.statements.calls.Child``."""

    workflow: str
    id: str | Function | None
    input: Function | None
    detached: bool
    cls: Any = None


@record(eq=False)
class WhenCase:
    """A condition that a select waits for. Nothing is stored for it, so one that is added to a select counts for the
    threads that are parked there, too.

    Attributes:
        target: where the thread continues if ``cond`` is true; ``entry`` is the instruction there.
    """

    name: str
    target: int
    cond: Function
    entry: Instruction = field(init=False, repr=False)


@record(eq=False)
class SelectCase:
    """One case that a select waits for.

    Attributes:
        event: the name of the event, the timeout, the activity or the child.
        target: where the thread continues afterwards; ``entry`` is the instruction there.
        signature: the types of the handler; None if there is no handler.
        takes_input: whether the handler takes an input.
        keeps_result: whether what happened is the result of an ``await``; see ``MachineState.awaited``.
    """

    kind: ClassVar[WaitKind]

    event: str
    target: int
    signature: HandlerSignature | None = field(default=None, kw_only=True)
    keeps_result: bool = field(default=False, init=False)
    takes_input: bool = field(init=False)
    entry: Instruction = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.takes_input = self.signature is not None and self.signature.takes_input

    @property
    def wait_type(self) -> type[AnyWait]:
        """The class of its waits."""
        from workflow_core.wait_types import WAITS  # lazy: a definition needs none of them

        return WAITS[self.kind]

    @property
    def from_clients(self) -> bool:
        """Whether clients send the event."""
        return self.wait_type.from_clients


@record(eq=False, kw_only=True)
class ClientCase(SelectCase):
    """An event that clients send.

    Attributes:
        role: the role that a principal needs to send it; None: see ``Access.send``.
        buffered: whether it is kept if it arrives before a thread waits for it.
        max_bytes: the most bytes of a client's input; None: the server's limit.
        verify: decides instead of roles who may send it.
    """

    signature: HandlerSignature
    role: str | None
    buffered: bool = False
    max_bytes: int | None = None
    verify: Verify | None = None


@record(eq=False, kw_only=True)
class HandlerCase(ClientCase):
    """An event with an ``EventHandler`` object."""

    kind = WaitKind.HANDLER

    event_handler: EventHandler


@record(eq=False, kw_only=True)
class EventCase(ClientCase):
    """An event whose handler is a function of the workflow.

    Attributes:
        keywords: the keyword arguments of the handler: ``item``, ``principal``, ``now``.
    """

    kind = WaitKind.EVENT

    handler: Callable[..., Any]
    keywords: tuple[str, ...]


@record(eq=False, kw_only=True)
class TimerCase(SelectCase):
    """A timeout, or the end of a sleep."""

    kind = WaitKind.TIMEOUT

    delay: Delay | OfItem


@record(eq=False, kw_only=True)
class ResultCase(SelectCase):
    """The end of an activity or a child; ``handler`` is its ``then``."""

    handler: Callable[..., Any] | None = None
    keywords: tuple[str, ...] = ()


@record(eq=False, kw_only=True)
class ActivityCase(ResultCase):
    """The end of an activity."""

    kind = WaitKind.ACTIVITY

    activity: ActivitySpec


@record(eq=False, kw_only=True)
class ChildCase(ResultCase):
    """The end of a child."""

    kind = WaitKind.CHILD

    child: ChildSpec


@record(eq=False, kw_only=True)
class SelectOp(Instruction):
    """Park the thread until one of ``cases`` happens.

    Attributes:
        events: if all cases are events with plain handlers, their names and whether they are buffered; otherwise None.
            Set together with ``next``.
    """

    cases: Mapping[str, SelectCase] = field(default_factory=dict)
    events: tuple[tuple[str, bool], ...] | None = field(default=None, init=False, repr=False)


@record(eq=False, kw_only=True)
class WatchOp(SelectOp):
    """If one of ``whens`` is true, continue there. Otherwise park the thread until one is, or one of ``cases``
    happens."""

    whens: tuple[WhenCase, ...] = ()
