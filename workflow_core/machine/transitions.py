"""The table: what may happen to a thread and to a wait in which state, and which state follows.

Theory of operation. The status of a thread is stored while it rests. Between two rests it is ``MOVING``, which no save
ever sees: it was taken from its rest by something that has happened, and passes instructions until it lands on a step
or a wait, or ends. A wait is entered and left by a thread; one that an outside system may know of leaves a teardown
behind, which goes on with the same table.

Each report of a caller (``done``, ``failed``, ``handled``, ...) is checked against the table before anything is
changed. What the table does not have raises ``IllegalTransition``. All changes of a status use the functions below,
except in the two hottest places: ``instructions.run`` and ``waits.park`` assign a status themselves, and a test checks
that the table has it.

``docs/states.py`` draws the diagrams in ``docs/reliability.md`` from the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from workflow_core.errors import IllegalTransition
from workflow_core.execution import Thread, ThreadStatus
from workflow_core.wait_types import AnyTeardown, AnyWait, WaitStatus


class Unstored(StrEnum):
    """States that are never stored."""

    START = "start"
    MOVING = "moving"
    """The thread passes instructions."""
    END = "end"


class ThreadHappening(StrEnum):
    """What may happen to a thread."""

    STARTED = "started"
    RESUMED = "resumed"
    STEP_DONE = "step done"
    STEP_FAILED = "attempt of the step failed"
    HAPPENED = "what it waits for happened"
    """An event, a timeout, the result of an activity, the end of a child, or the start of one that is detached."""
    CONDITION = "condition holds"
    """Or its branches have ended, or more of them may be started."""
    GIVEN_UP = "failed for good"
    """A step, an activity, a child, or the handler of a buffered event."""
    CANCELED = "canceled"
    SETUP_REPORTED = "setup done or failed, others due"
    SETUPS_ENDED = "last setup done or failed"
    SETUPS_RETRIED = "failed setups tried again"
    INSTANCE_FAILED = "instance failed"
    PUT = "put before a statement"
    MAIN_ENDED = "main thread ended"

    REACHED_STEP = "reaches a step"
    PARKED = "reaches a wait"
    PARKED_TO_SET_UP = "reaches a wait with setups"
    FAILED_ON_STEP = "error not caught, from a step"
    FAILED = "error not caught"
    ENDED = "ends"


class WaitHappening(StrEnum):
    """What may happen to a wait, and to the teardown that it leaves."""

    ENTERED = "entered"
    ENTERED_TO_SET_UP = "entered, with a setup"
    SETUP_DONE = "setup done"
    SETUP_FAILED = "setup failed"
    RETRIED = "tried again"
    ATTEMPT_FAILED = "attempt of the activity failed"
    LEFT = "left"
    LEFT_WITH_TEARDOWN = "left, with a teardown"
    TEARDOWN_DONE = "teardown done"
    TEARDOWN_FAILED = "teardown failed"


_T, _W = ThreadHappening, WaitHappening
_MOVING = Unstored.MOVING
_RESTS = tuple(ThreadStatus)
_PARKED = (ThreadStatus.SETTING_UP, ThreadStatus.WAITING)
_WAITS = (WaitStatus.PENDING_SETUP, WaitStatus.SETUP_ERROR, WaitStatus.SET_UP)
_TEARDOWNS = (WaitStatus.PENDING_TEARDOWN, WaitStatus.TEARDOWN_ERROR)

ThreadState = ThreadStatus | Unstored
WaitState = WaitStatus | Unstored

THREAD_TABLE: Mapping[tuple[ThreadState, ThreadHappening], ThreadState] = {
    (Unstored.START, _T.STARTED): ThreadStatus.RESUMING,
    # It is taken from where it rests.
    (ThreadStatus.RESUMING, _T.RESUMED): _MOVING,
    (ThreadStatus.EXECUTING, _T.STEP_DONE): _MOVING,
    **{(status, _T.HAPPENED): _MOVING for status in _PARKED},
    (ThreadStatus.WAITING, _T.CONDITION): _MOVING,
    **{(status, _T.GIVEN_UP): _MOVING for status in (ThreadStatus.EXECUTING, *_PARKED)},
    # Canceled in a finally_ section, or while its branches live, it stays and moves when that has ended.
    **{(status, _T.CANCELED): _MOVING for status in _RESTS},
    **{(status, _T.MAIN_ENDED): Unstored.END for status in _RESTS},
    # It stays there, or is put elsewhere.
    (ThreadStatus.EXECUTING, _T.STEP_FAILED): ThreadStatus.EXECUTING,
    (ThreadStatus.SETTING_UP, _T.SETUP_REPORTED): ThreadStatus.SETTING_UP,
    (ThreadStatus.SETTING_UP, _T.SETUPS_ENDED): ThreadStatus.WAITING,
    **{(status, _T.SETUPS_RETRIED): ThreadStatus.SETTING_UP for status in _PARKED},
    **{(status, _T.INSTANCE_FAILED): ThreadStatus.RESUMING for status in (ThreadStatus.RESUMING, *_PARKED)},
    (ThreadStatus.EXECUTING, _T.INSTANCE_FAILED): ThreadStatus.EXECUTING,
    **{(status, _T.PUT): ThreadStatus.RESUMING for status in _RESTS},
    # It lands.
    (_MOVING, _T.REACHED_STEP): ThreadStatus.EXECUTING,
    (_MOVING, _T.PARKED): ThreadStatus.WAITING,
    (_MOVING, _T.PARKED_TO_SET_UP): ThreadStatus.SETTING_UP,
    (_MOVING, _T.FAILED_ON_STEP): ThreadStatus.EXECUTING,
    (_MOVING, _T.FAILED): ThreadStatus.RESUMING,
    (_MOVING, _T.ENDED): Unstored.END,
}

WAIT_TABLE: Mapping[tuple[WaitState, WaitHappening], WaitState] = {
    (Unstored.START, _W.ENTERED): WaitStatus.SET_UP,
    (Unstored.START, _W.ENTERED_TO_SET_UP): WaitStatus.PENDING_SETUP,
    **{(status, _W.SETUP_DONE): WaitStatus.SET_UP for status in _WAITS[:2]},
    **{(status, _W.SETUP_FAILED): WaitStatus.SETUP_ERROR for status in _WAITS[:2]},
    (WaitStatus.SETUP_ERROR, _W.RETRIED): WaitStatus.PENDING_SETUP,
    (WaitStatus.SET_UP, _W.ATTEMPT_FAILED): WaitStatus.SET_UP,
    **{(status, _W.LEFT): Unstored.END for status in _WAITS},
    **{(status, _W.LEFT_WITH_TEARDOWN): WaitStatus.PENDING_TEARDOWN for status in _WAITS},
    **{(status, _W.TEARDOWN_DONE): Unstored.END for status in _TEARDOWNS},
    **{(status, _W.TEARDOWN_FAILED): WaitStatus.TEARDOWN_ERROR for status in _TEARDOWNS},
    **{(status, _W.RETRIED): WaitStatus.PENDING_TEARDOWN for status in _TEARDOWNS},
}


def check_thread(thread: Thread, happening: ThreadHappening) -> ThreadState:
    """Gives the state that follows, and changes nothing.

    Raises:
        IllegalTransition: it cannot happen to the thread as it stands.
    """
    following = THREAD_TABLE.get((thread.status, happening))
    if following is None:
        what = f"thread {thread.id!r} at {thread.step!r}"
        raise IllegalTransition(f"{happening.value!r} cannot happen to {what}: it is {thread.status}")
    return following


def change_thread(thread: Thread, happening: ThreadHappening) -> None:
    """What has happened to a thread leaves it at rest.

    Raises:
        IllegalTransition: it cannot happen to the thread as it stands. Nothing was changed.
    """
    following = check_thread(thread, happening)
    assert isinstance(following, ThreadStatus)
    thread.status = following


def land(thread: Thread, happening: ThreadHappening) -> None:
    """A thread that was moving has come to rest."""
    following = THREAD_TABLE[_MOVING, happening]
    assert isinstance(following, ThreadStatus)
    thread.status = following


def check_wait(wait: AnyWait | AnyTeardown, happening: WaitHappening) -> WaitState:
    """Gives the state that follows, and changes nothing.

    Raises:
        IllegalTransition: it cannot happen to the wait as it stands.
    """
    following = WAIT_TABLE.get((wait.status, happening))
    if following is None:
        what = f"the wait {wait.id!r} for {wait.event!r}"
        raise IllegalTransition(f"{happening.value!r} cannot happen to {what}: it is {wait.status}")
    return following


def change_wait(wait: AnyWait | AnyTeardown, happening: WaitHappening) -> None:
    """What has happened to a wait, or to a teardown, leaves it listed.

    Raises:
        IllegalTransition: it cannot happen to it as it stands. Nothing was changed.
    """
    following = check_wait(wait, happening)
    assert isinstance(following, WaitStatus)
    wait.status = following
